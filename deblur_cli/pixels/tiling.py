"""Tiles of tensors; see ``tiles`` for what they are."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deblur_cli.pixels import tiles
from deblur_cli.pixels.tiles import Room, Tile, TilePlan, fit, plan, smallest_tile

__all__ = ["Room", "Tile", "TilePlan", "fit", "plan", "run", "smallest_tile"]


def run(
    restore: Callable[[Tensor], Tensor],
    read: Callable[[Tile], Tensor],
    plan: TilePlan,
    *,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Restore a photo tile by tile and deliver it in finished bands of tensors: :func:`tiles.run`."""
    return tiles.run(_Tensors(), restore, read, plan, start=start, progress=progress)


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
        return torch.lerp(old, new, torch.tensor(share).to(new).view(shape))

    def pad(self, piece: Tensor, height: int, width: int) -> Tensor:
        for dim, size in ((-2, height), (-1, width)):
            places = torch.tensor(tiles.reflected(piece.shape[dim], size), device=piece.device)
            piece = piece.index_select(dim, places)
        return piece
