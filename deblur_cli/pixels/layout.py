"""How the photos of one net are laid out in tiles, and how a shortage of memory is lived with.

Memory can end in the middle of a photo, on any device and for reasons of other programs. Then first fewer tiles at once are
tried, after that smaller ones; what was finished stays, and what was learnt holds for the photos that follow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from deblur_cli.errors import DeviceError
from deblur_cli.pixels import mosaic, tiles
from deblur_cli.pixels.tiles import Room, Tile, TilePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Dials:
    """What the tiles of a net have in common. Sizes are pixels."""

    overlap: int
    """Neighbours share at least this."""
    multiple_of: int
    """Of which sides are multiples, and corners too unless :attr:`grid` says more."""
    local: bool
    """Whether the net's tiles equal the whole photo."""
    tile: int | None = None
    """Longest side; 0: the photo whole; None: by the memory."""
    exact: bool = False
    """Every tile is a square of just :attr:`tile`, however little memory there is."""
    longest: int = 0
    """Side that tiles by the memory do not exceed; 0: any."""
    at_once: int | None = None
    """Tiles that the net gets at once; None: by the memory and :attr:`fill`."""
    fill: int = 0
    """Pixels that occupy the device fully: more tiles at once gain nothing. 0: each tile does."""
    grid: int = 0
    """Of which corners and sides are multiples wherever there are several tiles; 0: :attr:`multiple_of`."""

    @property
    def smallest(self) -> int:
        """Side of the smallest legal tile."""
        return tiles.smallest_tile(self.overlap, self.grid or self.multiple_of)


class Memory(Protocol):
    """What the layout asks of whoever has the memory."""

    def room(self) -> Room:
        """What tiles may take now."""
        ...

    def check(self, plan: TilePlan, room: Room) -> None:
        """Refuse tiles that would break a promise; raises DeviceError."""
        ...

    def is_shortage(self, error: Exception) -> bool:
        """Whether memory ran out."""
        ...

    def rest(self) -> None:
        """Give back what the failed tiles took; they are gone by now."""
        ...

    def ended(self, side: int) -> DeviceError:
        """What the user is told when not even tiles of this side fit."""
        ...


class Layout:
    """The tiles of one photo after another. Not to be shared between threads."""

    def __init__(self, dials: Dials, memory: Memory) -> None:
        """``memory`` is asked whenever a photo begins."""
        self.dials = dials
        self._memory = memory
        self._side = 0
        """Longest side that a shortage has left; 0: there was none."""
        self._pixels = 0
        """Pixels at once that a shortage has left, likewise."""
        self._last: tuple[TilePlan, int] | None = None

    def plan_for(self, height: int, width: int) -> TilePlan:
        """The tiles of a photo of this size: those that it was restored in, if it was the last one."""
        if self._last is not None and (self._last[0].height, self._last[0].width) == (height, width):
            return self._last[0]
        return self._plan(height, width)[0]

    def run(
        self,
        arrays: mosaic.Arrays,
        lane: Callable[[Iterator[Any], int], Iterator[Any]],
        read: Callable[[Tile], Any],
        height: int,
        width: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Restore a photo: :func:`mosaic.run`, again and again where memory ends, from where it had come to.

        Args:
            arrays: as there.
            lane: likewise, and how many tiles it may take at once.
            read: as there.
            height: of the photo, in pixels.
            width: of the photo, in pixels.
            progress: as there; after a shortage the number of all tiles is another one.

        Raises:
            DeviceError: the memory does not suffice even for the smallest tile.
        """
        start = 0
        while start < height:
            plan, batch = self._last = self._plan(height, width)

            def batched(pieces: Iterator[Any], batch: int = batch) -> Iterator[Any]:
                return lane(pieces, batch)

            try:
                for top, band in mosaic.run(arrays, batched, read, plan, start=start, progress=progress):
                    start = top + band.shape[1]
                    yield top, band
                    del band
            except (MemoryError, RuntimeError) as error:
                if not self._memory.is_shortage(error):
                    raise
                self._shrink(plan, batch, error)
            else:
                return
            # Only here, with the error gone, is the memory of the failed tiles free.
            self._memory.rest()

    def _plan(self, height: int, width: int) -> tuple[TilePlan, int]:
        """The tiles of a photo, and how many of them go into the net at once."""
        dials = self.dials
        shape: dict[str, Any] = {
            "overlap": dials.overlap,
            "multiple_of": dials.grid or dials.multiple_of,
            "soft": not dials.local,
        }
        if dials.tile is not None:
            side = min(dials.tile or self._side, self._side) if self._side else dials.tile
            plan = self._trimmed(tiles.plan(height, width, tile=side, exact=dials.exact, **shape))
            return plan, self._batch(plan, None)
        room = self._memory.room()
        alike = dials.longest and max(dials.longest, dials.smallest)
        longest = min((each for each in (self._side, alike) if each), default=0)
        plan = self._trimmed(tiles.fit(height, width, room=room, longest=longest, **shape))
        self._memory.check(plan, room)
        return plan, self._batch(plan, room)

    def _trimmed(self, plan: TilePlan) -> TilePlan:
        """``plan``, or a tile that takes a photo whole on no wider a grid than it must: what it adds is mirrored, and shows."""
        dials = self.dials
        if plan.count > 1 or dials.exact or not dials.grid:
            return plan
        return tiles.plan(
            plan.height, plan.width, tile=0, overlap=dials.overlap, multiple_of=dials.multiple_of, soft=not dials.local
        )

    def _batch(self, plan: TilePlan, room: Room | None) -> int:
        """Tiles at once: as many as occupy the device and fit into its memory, evenly divided."""
        size = plan.tile_height * plan.tile_width
        wanted = self.dials.at_once or self.dials.fill // size
        if self._pixels:
            wanted = min(wanted, self._pixels // size)
        wanted = min(wanted, plan.count)
        if wanted > 1 and self.dials.at_once is None:
            wanted = min(wanted, (room or self._memory.room()).batch(plan))
        if wanted <= 1:
            return 1
        return -(-plan.count // -(-plan.count // wanted))

    def _shrink(self, plan: TilePlan, batch: int, error: Exception) -> None:
        size = plan.tile_height * plan.tile_width
        if batch > 1:
            self._pixels = batch // 2 * size
            return
        side = max(plan.tile_height, plan.tile_width)
        if side <= self.dials.smallest or self.dials.exact:
            raise self._memory.ended(side) from error
        self._side = max(self.dials.smallest, side // 2)
        self._pixels = min(size, self._side**2)
