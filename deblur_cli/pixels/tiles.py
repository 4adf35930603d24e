"""Tiles: a photo of any size cut for a net that takes only certain sizes.

This is the geometry; the work is that of ``mosaic``. All tiles have one size, so that a net meets one shape and none of them is
a thin remainder. They begin and end on multiples of the net's stride: a tile is then restored on the same grid as the whole
photo would be, and the two differ only by what the net sees beyond the tile's border.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_SHAPES = 8
"""Widths that are looked at for each height."""


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
    soft: bool = True
    """Blend over half of what neighbours share, to hide a step between them; else over an eighth, far from all borders."""

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


def plan(
    height: int,
    width: int,
    *,
    tile: int,
    overlap: int,
    multiple_of: int,
    exact: bool = False,
    soft: bool = True,
) -> TilePlan:
    """Lay equal tiles over a photo: count first, divide after.

    Args:
        height: of the photo, at least 1 pixel.
        width: of the photo, at least 1 pixel.
        tile: longest side of a tile in pixels, rounded down to a legal size; 0 takes the photo whole.
        overlap: pixels that neighbours share at least; rounded up to a legal size.
        multiple_of: sides and corners of every tile are multiples of this.
        exact: every tile is a square of just this side, for a net that takes no other; it may reach far beyond the photo.
        soft: for a net whose tiles differ from the whole photo wherever they end; see :class:`TilePlan`.

    Raises:
        ValueError: a size is not positive, an exact tile is no multiple, or the tile is smaller than :func:`smallest_tile`.
    """
    if min(height, width, multiple_of) < 1 or min(tile, overlap) < 0:
        raise ValueError(f"no plan for {height=}, {width=}, {tile=}, {overlap=}, {multiple_of=}")
    if tile and tile < smallest_tile(overlap, multiple_of):
        raise ValueError(f"a tile of {tile} is smaller than the smallest legal, {smallest_tile(overlap, multiple_of)}")
    if exact and (not tile or tile % multiple_of):
        raise ValueError(f"an exact tile of {tile} is no multiple of {multiple_of}")
    return _laid(height, width, (tile, tile), overlap, multiple_of, exact=exact, soft=soft)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The memory that tiles may take, and what they take of it. All numbers are bytes."""

    size: float
    """What there is."""
    tile: float
    """Of each pixel of the tile at hand, in the net."""
    band: float
    """Of each pixel of the row of tiles at hand, in finished corrections."""

    def taken(self, plan: TilePlan, batch: int = 1) -> float:
        """What the tiles of ``plan`` need, ``batch`` of them in the net at once."""
        return plan.tile_height * (batch * plan.tile_width * self.tile + plan.width * self.band)

    def batch(self, plan: TilePlan) -> int:
        """How many tiles of ``plan`` may be in the net at once, at least one."""
        left = self.size - plan.tile_height * plan.width * self.band
        return max(1, int(left / (plan.tile_height * plan.tile_width * self.tile)))


def fit(
    height: int,
    width: int,
    *,
    room: Room,
    overlap: int,
    multiple_of: int,
    soft: bool = True,
    longest: int = 0,
    work: float = 1.12,
) -> TilePlan:
    """The tiles that need the least memory of those that cost at most ``work``; if none does, those that cost the least.

    Tiles that fit are of any shape: long ones pay for what they share in one direction only.

    Args:
        height: of the photo, at least 1 pixel.
        width: of the photo, at least 1 pixel.
        room: what the tiles must fit in. If none do, it is the smallest legal tile.
        overlap: as for :func:`plan`.
        multiple_of: likewise.
        soft: likewise.
        longest: side of a tile in pixels, a legal size, that none may exceed; 0: there is none.
        work: pixels that the net sees for each pixel of the photo, below which memory counts for more than time.
    """
    smallest = smallest_tile(overlap, multiple_of)
    best: tuple[tuple[float, float], tuple[int, int]] | None = None
    for tile_height, rows in _divisions(height, longest, overlap, multiple_of):
        if best is not None and rows * tile_height / height > best[0][0]:
            break  # lower ones cost still more
        left = room.size / tile_height - width * room.band
        widest = min(int(max(0, left) / room.tile), longest or width + multiple_of)
        if widest < min(smallest, width):
            continue
        for tile_width, columns in islice(_divisions(width, widest, overlap, multiple_of), _SHAPES):
            cost = rows * tile_height / height * columns * tile_width / width
            rank = (max(work, cost), tile_height * (tile_width * room.tile + width * room.band))
            if best is None or rank < best[0]:
                best = rank, (tile_height, tile_width)
    sides = best[1] if best else (smallest, smallest)
    return _laid(height, width, sides, overlap, multiple_of, soft=soft)


def _divisions(length: int, longest: int, overlap: int, multiple_of: int) -> Iterator[tuple[int, int]]:
    """Sizes of equal tiles along one side and their number, from the largest that is at most ``longest`` downwards."""
    smallest = smallest_tile(overlap, multiple_of)
    tile = longest
    while True:
        size, count = _division(length, tile, overlap, multiple_of)
        yield size, count
        tile = size - multiple_of
        if tile < smallest:
            return


def reflected(length: int, size: int) -> list[int]:
    """Indices 0 .. length - 1, back to 0, and so on, as often as it takes: ``size`` of them; a single one is repeated."""
    period = max(1, 2 * (length - 1))
    return [min(place % period, period - place % period) if length > 1 else 0 for place in range(size)]


def _laid(
    height: int,
    width: int,
    tile: tuple[int, int],
    overlap: int,
    multiple_of: int,
    *,
    exact: bool = False,
    soft: bool = True,
) -> TilePlan:
    tile_height, rows = _divide(height, tile[0], overlap, multiple_of, exact=exact)
    tile_width, columns = _divide(width, tile[1], overlap, multiple_of, exact=exact)
    return TilePlan(
        height=height,
        width=width,
        tile_height=tile_height,
        tile_width=tile_width,
        overlap=overlap,
        rows=rows,
        columns=columns,
        multiple_of=multiple_of,
        soft=soft,
    )


def _divide(length: int, tile: int, overlap: int, multiple_of: int, *, exact: bool) -> tuple[int, tuple[int, ...]]:
    """Size and starts of equal tiles along one side."""
    size, count = _division(length, tile, overlap, multiple_of)
    if exact:
        size = tile
    if count == 1:
        return size, (0,)
    spare = (-(-length // multiple_of) * multiple_of - size) // multiple_of
    return size, tuple(place * spare // (count - 1) * multiple_of for place in range(count))


def _division(length: int, tile: int, overlap: int, multiple_of: int) -> tuple[int, int]:
    """Size of equal tiles along one side and their number; everything is counted in units of ``multiple_of``."""
    whole = -(-length // multiple_of)
    limit = tile // multiple_of or whole
    if whole <= limit:
        return whole * multiple_of, 1
    shared = -(-overlap // multiple_of)
    count = -(-(whole - shared) // (limit - shared))
    return -(-(whole + (count - 1) * shared) // count) * multiple_of, count
