"""Tiles: a photo of any size through a net that takes only certain sizes, within the memory of one row of tiles.

The geometry (:func:`plan`) stands apart from the work (:func:`run`). All tiles have one size, so that a net meets one shape
and none of them is a thin remainder. They begin and end on multiples of the net's stride: a tile is then restored on the
same grid as the whole photo would be, and the two differ only by what the net sees beyond the tile's border.
Nothing here knows a library of arrays; ``tiling`` does this with tensors, ``arrays`` with NumPy and without torch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the photo in pixels, what it shares with its neighbours included."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan:
    """Where the tiles of one photo lie. All numbers are pixels."""

    height: int
    """Of the photo."""
    width: int
    """Of the photo."""
    tile_height: int
    """Of every tile; the last ones may reach beyond the photo, by less than ``multiple_of`` if the size is not exact."""
    tile_width: int
    """Of every tile, likewise."""
    overlap: int
    """Neighbours share at least this."""
    rows: tuple[int, ...]
    """Top of every row of tiles, ascending from 0."""
    columns: tuple[int, ...]
    """Left of every column of tiles, ascending from 0."""
    multiple_of: int
    """Of which sides and corners of every tile are multiples."""

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    @property
    def work(self) -> float:
        """Pixels that the net sees for each pixel of the photo."""
        return self.count * self.tile_height * self.tile_width / (self.height * self.width)


def smallest_tile(overlap: int, multiple_of: int) -> int:
    """The smallest legal tile in pixels: one that its neighbours do not cover altogether."""
    return multiple_of * max(1, 2 * -(-overlap // multiple_of))


def plan(height: int, width: int, *, tile: int, overlap: int, multiple_of: int, exact: bool = False) -> TilePlan:
    """Lay equal tiles over a photo: count first, divide after.

    Args:
        height: of the photo, at least 1 pixel.
        width: of the photo, at least 1 pixel.
        tile: longest side of a tile in pixels, rounded down to a legal size; 0 takes the photo whole.
        overlap: pixels that neighbours share at least; rounded up to a legal size.
        multiple_of: sides and corners of every tile are multiples of this.
        exact: every tile is a square of just this side, for a net that takes no other; it may reach far beyond the photo.

    Raises:
        ValueError: a size is not positive, an exact tile is no multiple, or the tile is smaller than :func:`smallest_tile`.
    """
    if min(height, width, multiple_of) < 1 or min(tile, overlap) < 0:
        raise ValueError(f"no plan for {height=}, {width=}, {tile=}, {overlap=}, {multiple_of=}")
    if tile and tile < smallest_tile(overlap, multiple_of):
        raise ValueError(f"a tile of {tile} is smaller than the smallest legal, {smallest_tile(overlap, multiple_of)}")
    if exact and (not tile or tile % multiple_of):
        raise ValueError(f"an exact tile of {tile} is no multiple of {multiple_of}")
    tile_height, rows = _divide(height, tile, overlap, multiple_of, exact=exact)
    tile_width, columns = _divide(width, tile, overlap, multiple_of, exact=exact)
    return TilePlan(
        height=height,
        width=width,
        tile_height=tile_height,
        tile_width=tile_width,
        overlap=overlap,
        rows=rows,
        columns=columns,
        multiple_of=multiple_of,
    )


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

    def blend(self, old: Any, new: Any, *, dim: int) -> Any:
        """Two views of the same pixels mixed, ``old`` by one minus :func:`ramp` and ``new`` by the ramp, along ``dim``.

        Where both are equal they stay so to the last bit, and at both ends it is exactly one of them.
        """
        ...

    def pad(self, piece: Any, height: int, width: int) -> Any:
        """(1, C, h, w) to (1, C, height, width), continued below and to the right by :func:`reflected`."""
        ...


def run(
    arrays: Arrays,
    restore: Callable[[Any], Any],
    read: Callable[[Tile], Any],
    plan: TilePlan,
    *,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Restore a photo tile by tile and deliver it in finished bands, top to bottom.

    Holds one row of tiles, and of the row above what it shares with it, however tall the photo is.

    Args:
        arrays: the library that ``read`` and ``restore`` speak.
        restore: maps (1, C, tile_height, tile_width) to the same shape.
        read: gives a rectangle of the photo as (1, C, height, width) float32, any range.
        plan: from :func:`plan`.
        start: first row of the photo that is wanted; rows of tiles that lie above it are left out.
        progress: called after each tile with the number of those done and of all.

    Yields:
        The top of a band and the band, (C, rows, width) float32. The bands follow one another without a gap from ``start``
        to the photo's height. An identity ``restore`` gives the photo back, bit for bit.
    """
    above: Any = None
    for index, top in enumerate(plan.rows):
        bottom = min(top + plan.tile_height, plan.height)
        if bottom <= start:
            continue
        done = index * len(plan.columns)
        band = _band(
            arrays, restore, read, plan, top, lambda count, done=done: progress and progress(done + count, plan.count)
        )
        if above is not None:
            head = band[:, : above.shape[1]]
            head[:] = arrays.blend(above, head, dim=1)
        finished = plan.rows[index + 1] if index + 1 < len(plan.rows) else plan.height
        above = arrays.copy(band[:, finished - top :])
        if finished > start:
            first = max(start, top)
            yield first, band[:, first - top : finished - top]


def ramp(shared: int) -> list[float]:
    """How much of the new tile there is at each of ``shared`` pixels: 0, then linear over the middle half, then 1.

    The outer quarters belong to one tile alone, because next to its border a net is worst.
    """
    single = shared // 4
    return [min(1.0, max(0.0, (place - single + 0.5) / (shared - 2 * single))) for place in range(shared)]


def reflected(length: int, size: int) -> list[int]:
    """Indices 0 .. length - 1, back to 0, and so on, as often as it takes: ``size`` of them; a single one is repeated."""
    period = max(1, 2 * (length - 1))
    return [min(place % period, period - place % period) if length > 1 else 0 for place in range(size)]


def _divide(length: int, tile: int, overlap: int, multiple_of: int, *, exact: bool) -> tuple[int, tuple[int, ...]]:
    """Size and starts of equal tiles along one side; everything is counted in units of ``multiple_of``."""
    whole = -(-length // multiple_of)
    limit = tile // multiple_of or whole
    if whole <= limit:
        return (limit if exact else whole) * multiple_of, (0,)
    shared = -(-overlap // multiple_of)
    count = -(-(whole - shared) // (limit - shared))
    size = limit if exact else -(-(whole + (count - 1) * shared) // count)
    starts = (place * (whole - size) // (count - 1) for place in range(count))
    return size * multiple_of, tuple(start * multiple_of for start in starts)


def _band(
    arrays: Arrays,
    restore: Callable[[Any], Any],
    read: Callable[[Tile], Any],
    plan: TilePlan,
    top: int,
    progress: Callable[[int], object],
) -> Any:
    """One row of tiles, restored and blended from left to right: (C, rows, width), cut to the photo."""
    rows = min(plan.tile_height, plan.height - top)
    band: Any = None
    end = 0
    for index, left in enumerate(plan.columns):
        columns = min(plan.tile_width, plan.width - left)
        piece = read(Tile(top, left, rows, columns))
        if (rows, columns) != (plan.tile_height, plan.tile_width):
            piece = arrays.pad(piece, plan.tile_height, plan.tile_width)
        piece = restore(piece)[0, :, :rows, :columns]
        if band is None:
            band = arrays.room(piece, rows, plan.width)
        if left < end:
            band[:, :, left:end] = arrays.blend(band[:, :, left:end], piece[:, :, : end - left], dim=2)
        band[:, :, end : left + columns] = piece[:, :, end - left :]
        end = left + columns
        progress(index + 1)
    if band is None:
        raise ValueError("a plan without tiles")
    return band
