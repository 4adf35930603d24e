"""Tiles of NumPy arrays, without torch; see ``tiles`` for what they are."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from deblur_cli.pixels import mosaic, tiles
from deblur_cli.pixels.tiles import Tile, TilePlan

_Array = np.ndarray[Any, Any]


def run(
    restore: Callable[[_Array], _Array],
    read: Callable[[Tile], _Array],
    plan: TilePlan,
    *,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, _Array]]:
    """Restore a photo one tile after another, and deliver it in finished bands of arrays: :func:`mosaic.run`."""
    return mosaic.run(NUMPY, partial(map, restore), read, plan, start=start, progress=progress)


class _Numpy:
    """The library is NumPy."""

    def room(self, like: _Array, rows: int, width: int) -> _Array:
        return np.empty((rows, width, like.shape[0]), like.dtype).transpose(2, 0, 1)

    def copy(self, part: _Array) -> _Array:
        return part.copy()

    def blend(self, old: _Array, new: _Array, share: list[float], *, dim: int) -> _Array:
        shape = [1] * new.ndim
        shape[dim] = new.shape[dim]
        weight = np.asarray(share, new.dtype).reshape(shape)
        change = new - old
        # From the nearer end, or rounding would not give that end itself.
        return np.where(weight < 0.5, old + weight * change, new - (1 - weight) * change)

    def pad(self, piece: _Array, height: int, width: int) -> _Array:
        rows, columns = (tiles.reflected(*sizes) for sizes in zip(piece.shape[-2:], (height, width), strict=True))
        return piece[:, :, rows][:, :, :, columns]


NUMPY = _Numpy()
"""The library, for :func:`mosaic.run`."""
