"""The deblurrer without torch: an exported net that takes the pixels of photos of any size, through ONNX Runtime.

It restores as ``deblurrer`` does, in the same tiles; only the library beneath is another one. Importing torch takes longer
than restoring a small photo: hence nothing here, nor what it imports, may do so.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from deblur_cli.errors import DeviceError, InputError, UsageError, WeightsError
from deblur_cli.files import exported, graph, memory, weights
from deblur_cli.pixels import arrays, samples, tiles

__all__ = ["OnnxDeblurrer"]

_Array = np.ndarray[Any, Any]
_Progress = Callable[[int, int], None]

_SHARE = 0.5
"""Of the free memory that a tile may take, as for torch on the CPU."""
_LONGEST = 512
"""Side of a tile in pixels beyond which nothing gets faster."""
_OVERLAPS = 8
"""Sides of a tile in overlaps: the net then sees each pixel of a large photo 1.3 times at most."""
_HELD = 3
"""Times the numbers that the net counts, measured: the runtime frees a map later than torch, and overwrites fewer of them."""
_TILE_BYTES = 4 * 3 * 5
"""Bytes per pixel besides the net's own."""


class OnnxDeblurrer:
    """A loaded graph. Made by :meth:`open`; not to be shared between threads."""

    device = "cpu (onnx)"

    def __init__(
        self,
        path: Path,
        net: graph.Graph,
        facts: exported.Facts,
        *,
        tile: int | None,
        overlap: int | None,
        strength: float,
        tta: bool,
    ) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}, not between 0 and 1")
        if min(tile or 0, overlap or 0) < 0:
            raise ValueError(f"{tile=} and {overlap=} must not be negative")
        self.label = facts.label
        self.precision = facts.precision
        self._path = path
        self._net = net
        self._facts = facts
        self._tile = facts.tile or tile
        self._limit = 0
        self._overlap = facts.overlap if overlap is None else overlap
        self._strength = strength
        self._tta = tta
        self._plan: tiles.TilePlan | None = None
        if facts.tile and tile not in {None, facts.tile}:
            raise UsageError(
                f"--tile {tile} is not what '{path}' was exported for: tiles of {facts.tile} pixels.",
                "Leave --tile out, or export it anew with another one.",
            )
        if self._tile and self._tile < self._smallest:
            raise UsageError(
                f"--tile {self._tile} is too small for this net: its tiles share {self._overlap} pixels.",
                "Say a smaller --overlap." if facts.tile else f"Say --tile {self._smallest} or more.",
            )

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        strength: float = 1.0,
        tta: bool = False,
    ) -> Self:
        """Load an ``.onnx`` file of ``deblur export``.

        Args:
            path: of the file.
            device: ``auto`` or ``cpu``.
            precision: ``auto``, or the one that the file was exported in.
            tile: longest side of a tile in pixels; 0 takes the photo whole; None chooses from the free memory.
            overlap: pixels that neighbouring tiles share; None takes what the net needs.
            strength: 0 to 1, the share of the correction that is applied.
            tta: average over the eight turned and mirrored views of each tile, for eight times the work.

        Raises:
            WeightsError: the file is missing, torn, or not made by ``deblur export``.
            DeviceError: another device than the CPU.
            UsageError: ONNX Runtime is not installed, or precision or tile are not those of the file.
        """
        if device not in {"auto", "cpu"}:
            raise DeviceError(
                f"An .onnx file runs on the CPU, not on {device}.", "Say --device cpu, or give the checkpoint instead."
            )
        place = weights.locate(str(path))
        net = graph.load(place)
        facts = exported.from_texts(place, net.metadata)
        if precision not in {"auto", facts.precision}:
            raise UsageError(
                f"--precision {precision} is not that of '{place}', which was exported in {facts.precision}.",
                "Say --precision auto, or export it anew.",
            )
        return cls(place, net, facts, tile=tile, overlap=overlap, strength=strength, tta=tta)

    def restore(self, pixels: _Array, *, progress: _Progress | None = None) -> _Array:
        """Restore the pixels of a photo.

        Args:
            pixels: (H, W, 1 or 3), uint8, uint16 or float32 in [0, 1]; floats beyond that range keep what is beyond.
            progress: called after each tile with the number of those done and of all.

        Returns:
            A new array of the same shape and number format.

        Raises:
            InputError: the photo holds values that are not numbers.
            DeviceError: the memory does not suffice even for the smallest tile.
        """
        samples.check(pixels)
        height, width, channels = pixels.shape
        peak = samples.PEAKS[pixels.dtype.name]
        try:
            restored = np.empty(pixels.shape, pixels.dtype)
        except MemoryError as error:
            raise DeviceError("The memory does not suffice for the restored photo.", "Close other programs.") from error

        def read(tile: tiles.Tile) -> _Array:
            part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            return part.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(peak)

        for top, correction in self._corrections(height, width, read, progress):
            rows = slice(top, top + correction.shape[1])
            change = correction if channels == 3 else correction.mean(0, keepdims=True)
            change = change.transpose(1, 2, 0) * np.float32(self._strength * peak)
            restored[rows] = samples.corrected(pixels[rows], change)
        return restored

    def plan_for(self, height: int, width: int) -> tiles.TilePlan:
        """The tiles of a photo of this size: those that it was restored in, if it was the last one."""
        if self._plan is not None and (self._plan.height, self._plan.width) == (height, width):
            return self._plan
        return self._new_plan(height, width)

    @property
    def _smallest(self) -> int:
        return tiles.smallest_tile(self._overlap, self._facts.multiple_of)

    def _new_plan(self, height: int, width: int) -> tiles.TilePlan:
        side = self._auto_tile() if self._tile is None else self._tile
        if self._limit:
            side = min(side or self._limit, self._limit)
        return tiles.plan(
            height,
            width,
            tile=side,
            overlap=self._overlap,
            multiple_of=self._facts.multiple_of,
            exact=bool(self._facts.tile),
        )

    def _auto_tile(self) -> int:
        """The side of a square that fits into the free memory, if there is need for one so large."""
        bytes_each = (
            _HELD * self._facts.values_per_pixel * 4 + _TILE_BYTES
        )  # half precision is computed in float32, too
        longest = max(_LONGEST, _OVERLAPS * self._overlap)
        return max(self._smallest, min(longest, math.isqrt(int(memory.free_bytes() * _SHARE / bytes_each))))

    def _corrections(
        self, height: int, width: int, read: Callable[[tiles.Tile], _Array], progress: _Progress | None
    ) -> Iterator[tuple[int, _Array]]:
        """Bands of corrections, (3, rows, width) float32; a shortage of memory halves the tiles on the way."""
        start = 0
        while start < height:
            self._plan = self._new_plan(height, width)
            try:
                for top, band in arrays.run(self._correct, read, self._plan, start=start, progress=progress):
                    yield top, band
                    start = top + band.shape[1]
            except MemoryError as error:
                self._shrink(self._plan, error)

    def _shrink(self, plan: tiles.TilePlan, error: Exception) -> None:
        side = max(plan.tile_height, plan.tile_width)
        if side <= self._smallest or self._facts.tile:
            raise DeviceError(
                f"The memory does not suffice even for tiles of {side} pixels, the smallest of this net.",
                "Close other programs, or export it with a smaller --tile."
                if self._facts.tile
                else "Close other programs.",
            ) from error
        self._limit = max(self._smallest, side // 2)

    def _correct(self, tile: _Array) -> _Array:
        """The correction of one tile: (1, 1 or 3, H, W) float32 to (1, 3, H, W) float32."""
        if not _finite(tile):
            raise InputError("The photo holds values that are not numbers.", "Replace them first.")
        blurred = np.broadcast_to(np.clip(tile, 0, 1), (1, 3, *tile.shape[2:]))
        correction = self._views(blurred)
        if not _finite(correction):
            hint = "Use other weights." if self.precision == "fp32" else "Export it anew in fp32."
            raise WeightsError(f"The net of '{self._path}' gives values that are not numbers.", hint)
        return correction

    def _views(self, blurred: _Array) -> _Array:
        """The correction, averaged over the eight views if wanted."""
        if not self._tta:
            return self._run(blurred)
        total = np.zeros_like(blurred)
        for mirrored in (False, True):
            for turns in range(4):
                view = np.rot90(blurred[..., ::-1] if mirrored else blurred, turns, (-2, -1))
                back = np.rot90(self._run(view), -turns, (-2, -1))
                total += back[..., ::-1] if mirrored else back
        return total / 8

    def _run(self, view: _Array) -> _Array:
        view = np.ascontiguousarray(view)
        return self._net(view) - view


def _finite(values: _Array) -> bool:
    # One number tells: whatever is not finite stays so in a sum.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum(dtype=np.float64)))
