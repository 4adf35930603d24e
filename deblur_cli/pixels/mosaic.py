"""Tiles to a photo: the work that ``tiles`` plans, within the memory of one row of tiles.

What restores a tile is a lane: it is handed all tiles of the photo one after another, takes as many at once as it likes, and
gives them back in their order. Nothing here knows a library of arrays; ``tiling`` does this with tensors, ``arrays`` with
NumPy and without torch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from deblur_cli.pixels.tiles import Tile, TilePlan

_COLUMNS = 1024

Lane = Callable[[Iterator[Any]], Iterator[Any]]
"""Tiles (1, C, tile_height, tile_width) to as many results of that size, one for each, in their order."""


class Arrays(Protocol):
    """What the work asks of a library of arrays; (C, height, width) all of them, but for what is padded."""

    def room(self, like: Any, rows: int, width: int) -> Any:
        """New and not filled: (C, rows, width), channels, type and device those of ``like``.

        Its memory has the channels last, as photos have them: every copy then runs straight through it.
        """
        ...

    def copy(self, part: Any) -> Any:
        """The same values in memory of their own."""
        ...

    def blend(self, old: Any, new: Any, share: list[float], *, dim: int) -> Any:
        """Two views of the same pixels mixed, ``old`` by one minus ``share`` and ``new`` by ``share``, along ``dim``.

        Where both are equal they stay so to the last bit, and at both ends it is exactly one of them.
        """
        ...

    def pad(self, piece: Any, height: int, width: int) -> Any:
        """(1, C, h, w) to (1, C, height, width), continued below and to the right by :func:`tiles.reflected`."""
        ...


def run(
    arrays: Arrays,
    lane: Lane,
    read: Callable[[Tile], Any],
    plan: TilePlan,
    *,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Restore a photo tile by tile and deliver it in finished bands, top to bottom.

    Holds one row of tiles, and of the row above what it shares with it, however tall the photo is, and what the lane holds.

    Args:
        arrays: the library that ``read`` and ``lane`` speak.
        lane: restores tiles.
        read: gives a rectangle of the photo as (1, C, height, width), any range.
        plan: from :func:`tiles.plan`.
        start: first row of the photo that is wanted; rows of tiles that lie above it are left out.
        progress: called after each tile with the number of those done and of all.

    Yields:
        The top of a band and the band, (C, rows, width) of the lane's type. The bands follow one another without a gap from
        ``start`` to the photo's height. A lane that changes nothing gives the photo back, bit for bit.
    """
    rows = [place for place, top in enumerate(plan.rows) if min(top + plan.tile_height, plan.height) > start]
    restored = lane(_pieces(arrays, read, plan, [plan.rows[place] for place in rows]))
    above: Any = None
    for index in rows:
        top = plan.rows[index]
        done = index * len(plan.columns)
        band = _band(
            arrays, restored, plan, top, lambda count, done=done: progress and progress(done + count, plan.count)
        )
        if above is not None:
            shared = above.shape[1]
            share = ramp(shared, soft=plan.soft)
            for left in range(0, plan.width, _COLUMNS):  # or what is mixed would be in memory three times
                part = slice(left, left + _COLUMNS)
                band[:, :shared, part] = arrays.blend(above[:, :, part], band[:, :shared, part], share, dim=1)
            above = None
        finished = plan.rows[index + 1] if index + 1 < len(plan.rows) else plan.height
        above = arrays.copy(band[:, finished - top :])
        if finished > start:
            first = max(start, top)
            yield first, band[:, first - top : finished - top]
        del band  # or it would stay in memory while the next one is made


def ramp(shared: int, *, soft: bool = True) -> list[float]:
    """How much of the new tile there is at each of ``shared`` pixels: 0, then linear over the middle, then 1.

    The outer parts belong to one tile alone, because next to its border a net is worst: a quarter on each side if ``soft``,
    else seven sixteenths.
    """
    single = shared // 4 if soft else 7 * shared // 16
    return [min(1.0, max(0.0, (place - single + 0.5) / (shared - 2 * single))) for place in range(shared)]


def _pieces(arrays: Arrays, read: Callable[[Tile], Any], plan: TilePlan, tops: Sequence[int]) -> Iterator[Any]:
    """The tiles in their order, each read when it is asked for; none is held here meanwhile."""
    for top in tops:
        for left in plan.columns:
            yield _piece(arrays, read, plan, top, left)


def _piece(arrays: Arrays, read: Callable[[Tile], Any], plan: TilePlan, top: int, left: int) -> Any:
    rows, columns = min(plan.tile_height, plan.height - top), min(plan.tile_width, plan.width - left)
    piece = read(Tile(top, left, rows, columns))
    if (rows, columns) == (plan.tile_height, plan.tile_width):
        return piece
    return arrays.pad(piece, plan.tile_height, plan.tile_width)


def _band(arrays: Arrays, restored: Iterator[Any], plan: TilePlan, top: int, progress: Callable[[int], object]) -> Any:
    """One row of tiles, blended from left to right: (C, rows, width), cut to the photo."""
    rows = min(plan.tile_height, plan.height - top)
    band: Any = None
    end = 0
    for index, left in enumerate(plan.columns):
        columns = min(plan.tile_width, plan.width - left)
        piece = next(restored)[0, :, :rows, :columns]
        if band is None:
            band = arrays.room(piece, rows, plan.width)
        if left < end:
            share = ramp(end - left, soft=plan.soft)
            band[:, :, left:end] = arrays.blend(band[:, :, left:end], piece[:, :, : end - left], share, dim=2)
        band[:, :, end : left + columns] = piece[:, :, end - left :]
        end = left + columns
        del piece  # or it would stay in memory while the next one is made
        progress(index + 1)
    if band is None:
        raise ValueError("a plan without tiles")
    return band
