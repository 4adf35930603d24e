"""Corrections to the samples of the restored photo, band by band, in the photo's own number format."""

from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblur_cli.deblurrer.lanes import Landing, Lane
from deblur_cli.pixels import samples

_Array = np.ndarray[Any, Any]


class Painter:
    """One photo on its way back; while one part of it comes down, the next is computed."""

    def __init__(self, pixels: _Array, restored: _Array, lane: Lane, *, strength: float) -> None:
        """From ``pixels`` (H, W, 1 or 3) to ``restored``, of the same shape and number format."""
        self._pixels = pixels
        self._restored = restored
        self._lane = lane
        self._white = samples.PEAKS[pixels.dtype.name]
        self._share = strength * self._white
        self._landing: deque[tuple[slice, Landing]] = deque()

    def paint(self, top: int, correction: Tensor) -> None:
        """Add a band, (3, rows, W) float32 for white 1, to the rows from ``top`` on: now or when its turn comes."""
        for first in range(0, correction.shape[1], self._lane.rows):
            part = correction[:, first : first + self._lane.rows]
            rows = slice(top + first, top + first + part.shape[1])
            blurred = np.array(self._pixels[rows])
            # Of unsigned 16 bits torch knows only a few operations; float32 holds them exactly.
            if blurred.dtype == np.uint16:
                blurred = blurred.astype(np.float32)
            there = self._lane.up([torch.from_numpy(blurred).permute(2, 0, 1)[None]])[0]
            self._landing.append((rows, self._lane.down(self._corrected(there, part))))
            while len(self._landing) >= self._lane.depth:
                self._settle()

    def finish(self) -> None:
        """Wait for what is still on its way."""
        while self._landing:
            self._settle()

    def _settle(self) -> None:
        rows, landing = self._landing.popleft()
        self._restored[rows] = landing().permute(1, 2, 0).numpy()

    def _corrected(self, blurred: Tensor, part: Tensor) -> Tensor:
        """See :func:`samples.corrected`, whose results these are to the last bit."""
        change = channels(part, len(blurred)) * self._share
        change += blurred
        if self._white != 1:
            change.round_().clamp_(0, self._white)
        return change.to(torch.uint8) if self._white == samples.PEAKS["uint8"] else change


def channels(correction: Tensor, count: int) -> Tensor:
    """(3, H, W) as it is, or averaged to (1, H, W) for gray."""
    return correction if count == 3 else correction.mean(0, keepdim=True)
