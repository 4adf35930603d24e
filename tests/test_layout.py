"""How photos are laid out: the memory of a batch is counted, and a shortage teaches for the photos that follow."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.errors import DeviceError
from deblur_cli.pixels import arrays, layout, tiles
from deblur_cli.pixels.tiles import Room


class Memory:
    """So many bytes, of which each pixel takes one, and a wall that is met at so many pixels at once."""

    def __init__(self, size: float = 1e6, wall: float = float("inf")) -> None:
        self.size = size
        self.wall = wall
        self.seen: list[tuple[int, int]] = []
        self.rested = 0

    def room(self) -> Room:
        return Room(size=self.size, tile=1, band=0.1)

    def check(self, plan: tiles.TilePlan, room: Room) -> None:
        assert (plan.height, room.size) > (0, 0)

    def is_shortage(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def rest(self) -> None:
        self.rested += 1

    def ended(self, side: int) -> DeviceError:
        return DeviceError(f"not even {side}")

    def lane(self, pieces: Iterator[Any], batch: int) -> Iterator[Any]:
        """Takes what it may at once, unless that is beyond the wall."""
        while group := list(islice(pieces, batch)):
            pixels = group[0].shape[2] * group[0].shape[3]
            self.seen.append((batch, pixels))
            if batch * pixels > self.wall:
                raise MemoryError
            yield from group


def _dials(**more: Any) -> layout.Dials:
    return layout.Dials(**({"overlap": 8, "multiple_of": 4, "local": True} | more))


def _restore(laid: layout.Layout, memory: Memory, photo: np.ndarray) -> np.ndarray:
    def read(tile: tiles.Tile) -> np.ndarray:
        return photo[None, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]

    bands = laid.run(arrays.NUMPY, memory.lane, read, *photo.shape[1:])
    return np.concatenate([band.copy() for _, band in bands], axis=1)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([None, 0, 16, 40]),
    st.sampled_from([None, 1, 2, 7]),
    st.sampled_from([256, 600, 2000, 10_000, 10**6]),
)
def test_wherever_the_wall_is_nothing_is_lost_and_it_is_met_only_once(
    height: int, width: int, tile: int | None, at_once: int | None, wall: int
) -> None:
    memory = Memory(wall=wall)
    laid = layout.Layout(_dials(tile=tile, at_once=at_once, fill=4000), memory)
    photo = np.random.default_rng(0).random((3, height, width), np.float32)
    assert np.array_equal(_restore(laid, memory, photo), photo)
    assert memory.rested == sum(batch * pixels > wall for batch, pixels in memory.seen)
    memory.seen.clear()
    assert np.array_equal(_restore(laid, memory, photo), photo)
    assert all(batch * pixels <= wall for batch, pixels in memory.seen)


@settings(deadline=None, max_examples=100)
@given(st.integers(200, 4000), st.integers(200, 4000), st.integers(20_000, 10**6), st.sampled_from([0, 10**5, 10**7]))
def test_all_tiles_at_once_fit_into_the_memory_together(height: int, width: int, size: int, fill: int) -> None:
    memory = Memory(size=size)
    laid = layout.Layout(_dials(fill=fill), memory)
    plan, batch = laid._plan(height, width)
    assert 1 <= batch <= plan.count
    assert batch == 1 or memory.room().taken(plan, batch) <= size
    assert batch == 1 or batch * plan.tile_height * plan.tile_width <= fill
    batches = -(-plan.count // batch)
    assert batches * batch - plan.count < batches, "the last batch is a thin remainder"


def test_at_the_smallest_tile_it_ends() -> None:
    memory = Memory(wall=10)
    laid = layout.Layout(_dials(at_once=4, tile=40), memory)
    with pytest.raises(DeviceError, match="not even 16"):
        _restore(laid, memory, np.zeros((3, 90, 90), np.float32))
    sizes = [batch * pixels for batch, pixels in memory.seen]
    assert sizes == sorted(sizes, reverse=True)


def test_tiles_of_one_size_are_not_made_smaller() -> None:
    memory = Memory(wall=10)
    with pytest.raises(DeviceError, match="not even 40"):
        _restore(layout.Layout(_dials(tile=40, exact=True), memory), memory, np.zeros((3, 90, 90), np.float32))
    assert len(memory.seen) == 1


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([None, 0, 16, 24, 40]), st.integers(64, 40_000))
@settings(deadline=None)
def test_several_tiles_lie_on_their_grid_and_one_alone_adds_no_more_than_it_must(
    height: int, width: int, tile: int | None, size: int
) -> None:
    laid = layout.Layout(_dials(grid=8, tile=tile), Memory(size))
    plan = laid.plan_for(height, width)
    if plan.count == 1:
        assert (plan.tile_height, plan.tile_width) == tuple(-(-side // 4) * 4 for side in (height, width))
    else:
        assert all(corner % 8 == 0 for corner in (*plan.rows, *plan.columns))
        assert plan.tile_height % 8 == plan.tile_width % 8 == 0


def test_other_errors_are_no_shortage() -> None:
    memory = Memory()
    laid = layout.Layout(_dials(), memory)

    def read(_tile: tiles.Tile) -> np.ndarray:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        list(laid.run(arrays.NUMPY, memory.lane, read, 50, 50))
    assert not memory.rested
