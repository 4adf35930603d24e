"""Tiles of tensors; see ``tiles`` for what they are."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from deblur_cli.pixels import mosaic, tiles
from deblur_cli.pixels.tiles import Room, Tile, TilePlan, fit, plan, smallest_tile

__all__ = ["TENSORS", "Room", "Tile", "TilePlan", "fit", "plan", "run", "smallest_tile"]


def run(
    restore: Callable[[Tensor], Tensor],
    read: Callable[[Tile], Tensor],
    plan: TilePlan,
    *,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Restore a photo one tile after another, and deliver it in finished bands of tensors: :func:`mosaic.run`."""
    return mosaic.run(TENSORS, partial(map, restore), read, plan, start=start, progress=progress)


class _Tensors:
    """The library is torch."""

    def room(self, like: Tensor, rows: int, width: int) -> Tensor:
        return like.new_empty(rows, width, like.shape[0]).permute(2, 0, 1)

    def copy(self, part: Tensor) -> Tensor:
        return part.clone()

    def blend(self, old: Tensor, new: Tensor, share: list[float], *, dim: int) -> Tensor:
        # ``lerp`` keeps what is equal, and is exact at both ends.
        shape = [1] * new.dim()
        shape[dim] = new.shape[dim]
        # Pinned, or a GPU would have to finish all that it was given before the host goes on.
        weights = torch.tensor(share, dtype=new.dtype, pin_memory=new.is_cuda).to(new.device, non_blocking=True)
        return torch.lerp(old, new, weights.view(shape))

    def pad(self, piece: Tensor, height: int, width: int) -> Tensor:
        for dim, size in ((-2, height), (-1, width)):
            places = torch.tensor(tiles.reflected(piece.shape[dim], size), device=piece.device)
            piece = piece.index_select(dim, places)
        return piece


TENSORS = _Tensors()
"""The library, for :func:`mosaic.run`."""
