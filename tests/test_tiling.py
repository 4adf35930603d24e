"""Tiles: laws of the geometry, and of the blending."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.pixels import tiling

PLANS = st.tuples(
    st.integers(1, 97), st.integers(1, 97), st.sampled_from([1, 2, 4, 8]), st.integers(0, 12), st.integers(0, 40)
)


def _plan(height: int, width: int, multiple_of: int, overlap: int, extra: int) -> tiling.TilePlan:
    tile = tiling.smallest_tile(overlap, multiple_of) + extra
    return tiling.plan(height, width, tile=tile, overlap=overlap, multiple_of=multiple_of)


def _reader(photo: Tensor):
    def read(tile: tiling.Tile) -> Tensor:
        return photo[:, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]

    return read


def _restore(photo: Tensor, plan: tiling.TilePlan, net, **more) -> Tensor:
    bands = list(tiling.run(net, _reader(photo), plan, **more))
    row = more.get("start", 0)
    for top, band in bands:
        assert top == row, "the bands leave a gap"
        row += band.shape[1]
    assert row == photo.shape[2]
    return torch.cat([band for _, band in bands], dim=1)[None]


@settings(deadline=None, max_examples=150)
@given(PLANS)
def test_an_identity_comes_back_whole(sizes) -> None:
    plan = _plan(*sizes)
    photo = torch.randn(1, 3, plan.height, plan.width)
    before = photo.clone()
    assert torch.equal(_restore(photo, plan, lambda tile: tile), photo)
    assert torch.equal(photo, before), "the photo itself was written to"


@pytest.mark.parametrize("size", [(1, 1), (1, 97), (97, 1), (3, 5), (683, 1023), (17, 4001), (4001, 17)])
@pytest.mark.parametrize("tile", [0, 64, 200])
def test_an_identity_comes_back_whole_at_odd_sizes(size: tuple[int, int], tile: int) -> None:
    photo = torch.rand(1, 3, *size)
    plan = tiling.plan(*size, tile=tile, overlap=24, multiple_of=8)
    assert torch.equal(_restore(photo, plan, lambda tile: tile.clone()), photo)


@settings(deadline=None, max_examples=300)
@given(PLANS)
def test_tiles_are_legal_cover_the_photo_and_share_enough(sizes) -> None:
    plan = _plan(*sizes)
    for starts, size, length, photo in (
        (plan.rows, plan.tile_height, plan.height, sizes[0]),
        (plan.columns, plan.tile_width, plan.width, sizes[1]),
    ):
        assert length == photo
        assert starts[0] == 0
        assert length <= starts[-1] + size < length + plan.multiple_of
        assert not size % plan.multiple_of
        assert not any(start % plan.multiple_of for start in starts)
        assert all(first + size - second >= plan.overlap for first, second in itertools.pairwise(starts))
        assert all(first < second for first, second in itertools.pairwise(starts))
        assert size <= tiling.smallest_tile(sizes[3], sizes[2]) + sizes[4]


@settings(deadline=None, max_examples=200)
@given(st.integers(600, 40_000), st.integers(600, 40_000), st.sampled_from([4, 8, 16]), st.sampled_from([16, 32, 64]))
def test_a_tile_of_sixteen_overlaps_costs_at_most_fifteen_percent(
    height: int, width: int, multiple_of: int, overlap: int
) -> None:
    plan = tiling.plan(height, width, tile=16 * overlap, overlap=overlap, multiple_of=multiple_of)
    padding = (1 + multiple_of / height) * (1 + multiple_of / width)
    steps = (1 + multiple_of * len(plan.rows) / height) * (1 + multiple_of * len(plan.columns) / width)
    assert plan.work <= (16 / 15) ** 2 * padding * steps


def _local(tile: Tensor) -> Tensor:
    """Sees 3 pixels around each; zero padding makes it wrong at every border of a tile."""
    return F.avg_pool2d(tile, 7, stride=1, padding=3)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 40))
def test_tiled_equals_whole_for_a_filter_narrower_than_a_quarter_of_the_overlap(
    height: int, width: int, extra: int
) -> None:
    photo = torch.rand(1, 3, height, width)
    whole = tiling.plan(height, width, tile=0, overlap=12, multiple_of=4)
    tiled = _plan(height, width, 4, 12, extra)
    assert torch.allclose(_restore(photo, tiled, _local), _restore(photo, whole, _local), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(PLANS, st.floats(0, 0.999))
def test_a_later_start_gives_the_same_rows(sizes, part: float) -> None:
    plan = _plan(*sizes)
    photo = torch.rand(1, 3, plan.height, plan.width)
    start = int(part * plan.height)
    everything = _restore(photo, plan, _local)
    assert torch.allclose(_restore(photo, plan, _local, start=start), everything[:, :, start:], atol=1e-6)


def test_beyond_the_photo_a_tile_continues_by_reflection() -> None:
    seen: list[Tensor] = []
    plan = tiling.plan(3, 1, tile=0, overlap=0, multiple_of=8)
    photo = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1)
    _restore(photo, plan, lambda tile: seen.append(tile) or tile)
    assert seen[0].shape == (1, 1, 8, 8)
    assert seen[0][0, 0, :, 5].tolist() == [1, 2, 3, 2, 1, 2, 3, 2]


def test_a_seam_is_a_ramp_and_not_a_step() -> None:
    photo = torch.zeros(1, 1, 8, 40)
    plan = tiling.plan(8, 40, tile=24, overlap=8, multiple_of=8)
    values = iter(range(plan.count))
    row = _restore(photo, plan, lambda tile: torch.full_like(tile, next(values)))[0, 0, 0]
    assert plan.columns == (0, 16)
    assert row[:18].eq(0).all()
    assert row[22:].eq(1).all()
    assert torch.allclose(row[18:22], torch.tensor([0.125, 0.375, 0.625, 0.875]))


def test_progress_counts_every_tile_once() -> None:
    told: list[tuple[int, int]] = []
    plan = tiling.plan(70, 50, tile=24, overlap=8, multiple_of=8)
    _restore(torch.rand(1, 3, 70, 50), plan, _local, progress=lambda done, of: told.append((done, of)))
    assert told == [(done + 1, plan.count) for done in range(plan.count)]


def test_no_more_than_one_row_of_tiles_is_held_back() -> None:
    read: list[int] = []
    plan = tiling.plan(4000, 8, tile=40, overlap=8, multiple_of=8)
    photo = torch.rand(1, 3, 4000, 8)
    for top, _ in tiling.run(lambda tile: read.append(1) or tile, _reader(photo), plan):
        assert plan.rows[len(read) - 1] == top


@pytest.mark.parametrize(
    "wrong", [{"tile": 8}, {"tile": -8}, {"overlap": -1}, {"height": 0}, {"width": 0}, {"multiple_of": 0}]
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    sizes = {"height": 50, "width": 50, "tile": 32, "overlap": 8, "multiple_of": 4} | wrong
    with pytest.raises(ValueError, match=r"no plan for|smaller than"):
        tiling.plan(sizes.pop("height"), sizes.pop("width"), **sizes)
