"""Tiles of NumPy arrays: the laws of tiles without torch, and the same numbers as with it."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.pixels import arrays, tiles, tiling

PLANS = st.tuples(
    st.integers(1, 97), st.integers(1, 97), st.sampled_from([1, 2, 4, 8]), st.integers(0, 12), st.integers(0, 40)
)


def _plan(height: int, width: int, multiple_of: int, overlap: int, extra: int, *, exact: bool) -> tiles.TilePlan:
    tile = tiles.smallest_tile(overlap, multiple_of) + extra // multiple_of * multiple_of
    return tiles.plan(height, width, tile=tile, overlap=overlap, multiple_of=multiple_of, exact=exact)


def _restore(photo: np.ndarray, plan: tiles.TilePlan, net) -> np.ndarray:
    def read(tile: tiles.Tile) -> np.ndarray:
        return photo[:, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]

    bands = []
    for top, band in arrays.run(net, read, plan):
        assert top == sum(each.shape[1] for each in bands), "the bands leave a gap"
        bands.append(band.copy())
    return np.concatenate(bands, axis=1)[None]


def _local(tile: np.ndarray) -> np.ndarray:
    """Sees 2 pixels around each; what it takes for black makes it wrong at every border of a tile."""
    wide = np.pad(tile, ((0, 0), (0, 0), (2, 2), (2, 2)))
    height, width = tile.shape[2:]
    shifts = [wide[:, :, y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return sum(shifts) / np.float32(25)


@settings(deadline=None, max_examples=150)
@given(PLANS, st.booleans())
def test_an_identity_comes_back_whole(sizes, exact: bool) -> None:
    plan = _plan(*sizes, exact=exact)
    photo = np.random.default_rng(0).normal(size=(1, 3, plan.height, plan.width)).astype(np.float32)
    before = photo.copy()
    assert np.array_equal(_restore(photo, plan, lambda tile: tile), photo)
    assert np.array_equal(photo, before), "the photo itself was written to"


@settings(deadline=None, max_examples=60)
@given(PLANS, st.booleans())
def test_arrays_and_tensors_are_tiled_alike(sizes, exact: bool) -> None:
    plan = _plan(*sizes, exact=exact)
    photo = np.random.default_rng(1).normal(size=(1, 2, plan.height, plan.width)).astype(np.float32)

    def read(tile: tiles.Tile) -> torch.Tensor:
        rows, columns = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
        return torch.from_numpy(photo)[:, :, rows, columns]

    bands = tiling.run(lambda tile: torch.from_numpy(_local(tile.numpy())), read, plan)
    expected = torch.cat([band for _, band in bands], dim=1)[None].numpy()
    assert np.allclose(_restore(photo, plan, _local), expected, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 40), st.booleans())
def test_tiled_equals_whole_for_a_filter_narrower_than_a_quarter_of_the_overlap(
    height: int, width: int, extra: int, exact: bool
) -> None:
    photo = np.random.default_rng(2).random((1, 3, height, width), np.float32)
    tiled = _restore(photo, _plan(height, width, 4, 12, extra, exact=exact), _local)
    whole = _restore(photo, tiles.plan(height, width, tile=0, overlap=12, multiple_of=4), _local)
    # Beyond the photo an exact tile continues where the whole photo ends: its border belongs to the net, not to the tiles.
    inner = (
        slice(None),
        slice(None),
        slice(None, height - 2 if exact else None),
        slice(None, width - 2 if exact else None),
    )
    assert np.allclose(tiled[inner], whole[inner], atol=1e-6)


@settings(deadline=None, max_examples=200)
@given(PLANS)
def test_exact_tiles_are_squares_of_one_side_that_cover_the_photo_and_share_enough(sizes) -> None:
    plan = _plan(*sizes, exact=True)
    side = tiles.smallest_tile(sizes[3], sizes[2]) + sizes[4] // sizes[2] * sizes[2]
    assert plan.tile_height == plan.tile_width == side
    for starts, length in ((plan.rows, plan.height), (plan.columns, plan.width)):
        assert starts[0] == 0
        assert starts[-1] + side >= length
        assert not any(start % plan.multiple_of for start in starts)
        assert all(0 < after - before <= side - plan.overlap for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize("tile", [0, 30])
def test_an_exact_tile_that_the_net_does_not_take_is_refused(tile: int) -> None:
    with pytest.raises(ValueError, match="no multiple"):
        tiles.plan(50, 50, tile=tile, overlap=4, multiple_of=4, exact=True)
