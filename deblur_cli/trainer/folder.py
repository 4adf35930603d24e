"""Crops of the pairs of a data set, read while the net trains."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import InputError
from deblur_cli.files import pairs, photos
from deblur_cli.trainer import sources
from deblur_cli.trainer.validation import read_pair

_Pixels = NDArray[np.uint8]
_EPOCH = 3
"""Stream of chance of the order of an epoch."""


class FolderPairs:
    """Every pair once per epoch in an order of the seed's, the rest of an epoch that fills no batch left out."""

    on_device = False

    def __init__(
        self,
        found: Sequence[pairs.Pair],
        *,
        crop: int,
        batch: int,
        slots: range,
        seed: int,
        threads: int = 2,
        megabytes: float = 0.0,
        turns: str = "all",
    ) -> None:
        self._turns = turns
        self.threads = max(1, threads)
        self._pairs = found
        self._crop = crop
        self._batch = batch
        self._slots = slots
        self._seed = seed
        self._room = megabytes * 1e6
        self._held: dict[int, tuple[_Pixels, _Pixels]] = {}
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp, (N, 3, crop, crop) float32 in [0, 1].

        Raises:
            InputError: an image cannot be read, is smaller than a crop, or is not of the size of its counterpart.
        """
        blurred: list[_Pixels] = []
        sharp: list[_Pixels] = []
        for slot in self._slots:
            pair = self._pair(self._index(step, slot))
            turn = sources.Turn.draw(
                pair[1].shape, self._crop, sources.item_chance(self._seed, step, slot), self._turns
            )
            blurred.append(turn.of(pair[0], self._crop))
            sharp.append(turn.of(pair[1], self._crop))
        return sources.stack(blurred), sources.stack(sharp)

    def close(self) -> None:
        """Nothing to end."""

    def _index(self, step: int, slot: int) -> int:
        batches = len(self._pairs) // self._batch
        if batches == 0:
            return int(sources.chance(self._seed, _EPOCH, step, slot).integers(len(self._pairs)))
        epoch, place = divmod(step, batches)
        return int(self._order(epoch)[place * self._batch + slot])

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return sources.chance(self._seed, _EPOCH, epoch).permutation(len(self._pairs))

    def _pair(self, index: int) -> tuple[_Pixels, _Pixels]:
        held = self._held.get(index)
        if held is not None:
            return held
        pair = read_pair(self._pairs[index])
        if min(pair[1].shape[:2]) < self._crop:
            raise too_small(self._pairs[index], pair[1].shape[1], pair[1].shape[0], self._crop)
        size = pair[0].nbytes + pair[1].nbytes
        if size <= self._room:
            self._room -= size
            self._held[index] = pair
        return pair


def check_sizes(found: Sequence[pairs.Pair], crop: int) -> None:
    """Look at the headers of the images before the run begins.

    Raises:
        InputError: a crop is larger than an image.
    """
    for pair in found:
        width, height = photos.size(pair.sharp)
        if min(width, height) < crop:
            raise too_small(pair, width, height, crop)


def too_small(pair: pairs.Pair, width: int, height: int, crop: int) -> InputError:
    """The sentence for a crop that is larger than an image."""
    return InputError(
        f"A crop of {crop} pixels is larger than '{pair.sharp}' ({width} x {height}).",
        f"Choose --crop {min(width, height) // 16 * 16} or less, or leave the image out.",
    )
