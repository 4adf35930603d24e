"""The maths of shaken photographs: paths, their kernels, what they do to a crop, and what moves by itself."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from deblur_cli.nets.motion import half_plane, transfer
from deblur_cli.pixels import blurring, shaking

pytestmark = pytest.mark.usefixtures("one_thread")

RADIUS = 20
CALM = shaking.Shaking(linear=0.0, noise=0.0, jpeg=0.0)


def _paths(count: int = 64, **recipe: float) -> Tensor:
    return shaking.draw(count, shaking.Shaking(**recipe), torch.Generator().manual_seed(3), radius=RADIUS)


def _plane(kernels: Tensor) -> Tensor:
    half = kernels.clone()
    half[:, :-1] /= 2
    side = 2 * RADIUS + 1
    return torch.cat([half, half[:, :-1].flip(1)], dim=1).view(-1, side, side)


def _scene(count: int = 1, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side + 2 * shaking.MARGIN, side + 2 * shaking.MARGIN, generator=torch.Generator())


def test_a_steady_sweep_has_the_kernel_of_a_box() -> None:
    steps = torch.arange(-3.0, 4.0)
    box = _plane(shaking.even_kernels(torch.stack([steps, torch.zeros(7)], -1)[None], RADIUS))[0]
    expected = torch.zeros(2 * RADIUS + 1, 2 * RADIUS + 1)
    expected[RADIUS, RADIUS - 3 : RADIUS + 4] = 1 / 7
    torch.testing.assert_close(box, expected)


def test_kernels_are_folded_as_the_prior_folds_them() -> None:
    kernels = shaking.even_kernels(_paths(), RADIUS)
    assert kernels.shape == (64, half_plane(RADIUS))
    assert bool((kernels >= 0).all())
    torch.testing.assert_close(kernels.sum(1), torch.ones(64))
    still = shaking.even_kernels(torch.zeros(1, 5, 2), RADIUS)
    assert float(still[0, -1]) == 1.0


def test_a_path_and_its_mirror_image_have_one_kernel() -> None:
    paths = _paths()
    torch.testing.assert_close(shaking.even_kernels(paths, RADIUS), shaking.even_kernels(-paths, RADIUS))


def test_paths_lie_about_their_mean_within_reach() -> None:
    paths = _paths(400, still=0.2, longest=60.0)
    torch.testing.assert_close(paths.mean(1), torch.zeros(400, 2), atol=1e-4, rtol=0)
    assert float(paths.abs().max()) <= RADIUS + 1e-3
    lengths = paths.diff(dim=1).norm(dim=2).sum(1)
    assert 0.1 < float((lengths == 0).float().mean()) < 0.3
    assert float((lengths > 16).float().mean()) > 0.1
    assert float(_paths(400, longest=5.0).diff(dim=1).norm(dim=2).sum(1).max()) <= 5 + 1e-3


def test_the_transfer_function_of_a_kernel_is_the_mean_cosine_along_the_path() -> None:
    paths = _paths().round()  # between pixels a kernel has to spread its weight, and is a little softer
    kernels = shaking.even_kernels(paths, RADIUS)
    turns = [math.pi * turn / 12 for turn in range(12)]
    waves = torch.tensor(
        [[w * math.sin(t), w * math.cos(t)] for w in (1 / 40, 1 / 20, 1 / 10, 1 / 6, 1 / 4) for t in turns]
    )
    expected = torch.cos(2 * math.pi * paths.flip(-1) @ waves.T).mean(1)
    torch.testing.assert_close(transfer(kernels), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(kernels @ shaking.cosines(RADIUS, waves), expected, atol=1e-4, rtol=0)


def test_blurring_by_spectra_is_blurring_by_the_kernel() -> None:
    steps = torch.arange(-4.0, 5.0)
    path = torch.stack([steps, steps.sign() * (steps.abs() > 2)], -1)[None]  # its own mirror image
    sharp = _scene()
    kernel = _plane(shaking.even_kernels(path, RADIUS))[0]
    edge = shaking.MARGIN
    expected = blurring.blur_with_kernel(sharp, kernel)[:, :, edge:-edge, edge:-edge]
    torch.testing.assert_close(shaking.expose(sharp, path), expected, atol=1e-5, rtol=0)


def test_a_crop_is_the_mean_of_the_bilinear_looks_along_its_path() -> None:
    scene = _scene(2)
    paths = torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(0)) * 12 - 6
    side = scene.shape[-1]
    there = torch.arange(64.0) + shaking.MARGIN + 0.5
    y, x = torch.meshgrid(there, there, indexing="ij")
    looks = []
    for step in paths.unbind(1):
        where = torch.stack([x + step[:, 0, None, None], y + step[:, 1, None, None]], -1) / side * 2 - 1
        looks.append(torch.nn.functional.grid_sample(scene, where, mode="bilinear", align_corners=False))
    torch.testing.assert_close(shaking.expose(scene, paths), torch.stack(looks).mean(0), atol=1e-5, rtol=0)


def test_each_crop_moves_along_its_own_path() -> None:
    sharp = _scene(2)
    paths = torch.tensor([[[3.0, 0.0]], [[0.0, -2.0]]])
    moved = shaking.expose(sharp, paths)
    edge = shaking.MARGIN
    torch.testing.assert_close(moved[0], sharp[0, :, edge:-edge, edge + 3 : 3 - edge], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[1], sharp[1, :, edge - 2 : -edge - 2, edge:-edge], atol=1e-5, rtol=0)


def test_a_spread_point_is_a_gaussian_of_its_covariance() -> None:
    soft = torch.tensor([[4.0, 2.0, 0.0], [2.0, 4.0, 0.0], [3.0, 3.0, 1.2], [0.0, 0.0, 0.0]])
    planes = _plane(shaking.even_kernels(torch.zeros(4, 5, 2), RADIUS, soft)).double()
    there = torch.arange(-RADIUS, RADIUS + 1.0).double()
    y, x = torch.meshgrid(there, there, indexing="ij")
    for plane, wanted in zip(planes, soft.double(), strict=True):
        found = torch.stack([(plane * x * x).sum(), (plane * y * y).sum(), (plane * x * y).sum()])
        torch.testing.assert_close(found, wanted, atol=2e-2, rtol=0)
    across = torch.exp(-there.square() / 8)
    down = torch.exp(-there.square() / 4)
    expected = down[:, None] * across / (down.sum() * across.sum())
    torch.testing.assert_close(planes[0], expected, atol=1e-5, rtol=0)


def test_what_is_spread_and_moves_is_blurred_by_its_kernel() -> None:
    sharp = _scene()
    steps = torch.arange(-4.0, 5.0)
    path = torch.stack([steps, 0 * steps], -1)[None]
    soft = torch.tensor([[2.25, 1.5, -0.7]])
    kernel = _plane(shaking.even_kernels(path, RADIUS, soft))[0]
    edge = shaking.MARGIN
    expected = blurring.blur_with_kernel(sharp, kernel)[:, :, edge:-edge, edge:-edge]
    torch.testing.assert_close(shaking.expose(sharp, path, soft), expected, atol=1e-4, rtol=0)


def test_a_share_of_crops_is_spread_as_far_as_is_said() -> None:
    lot = torch.Generator().manual_seed(2)
    assert shaking.spread(4, shaking.Shaking(), lot) is None
    soft = shaking.spread(1000, shaking.Shaking(soft=0.4), lot)
    assert soft is not None
    some = soft[soft.any(1)]
    assert 350 < len(some) < 450
    across, down, both = some.double().unbind(1)
    middle, apart = (across + down) / 2, (((across - down) / 2).square() + both.square()).sqrt()
    assert float((middle - apart).min().sqrt()) + 1e-4 >= 0.5
    assert float((middle + apart).max().sqrt()) <= 2.5 + 1e-4
    round_ones = (apart < 1e-3).double().mean()
    assert 0.4 < float(round_ones) < 0.8


def test_a_hand_that_trembles_comes_back_in_half_of_its_paths() -> None:
    """Paths that never tremble are drawn as they were before there were any that swing: sets once made stay the same."""

    def straightness(paths: Tensor) -> Tensor:
        return (paths[:, -1] - paths[:, 0]).norm(dim=1) / paths.diff(dim=1).norm(dim=2).sum(1)

    swinging, sweeping = (straightness(_paths(400, still=0.0, trembling=share)) for share in (1.0, 0.0))
    assert float((swinging < 0.4).float().mean()) > 0.3
    assert float((sweeping < 0.4).float().mean()) < 0.15
    first = _paths(2, still=0.0, trembling=0.0)[:, 0]
    expected = torch.tensor([[1.6779, 0.2801], [0.4399, 0.7135]])
    torch.testing.assert_close(first, expected, atol=1e-3, rtol=1e-3)


def test_what_stands_still_is_photographed_as_it_is() -> None:
    sharp = _scene(2).mul(255).round().div(255)
    seen = shaking.photograph(sharp, torch.zeros(2, 4, 2), replace(CALM, linear=0.5), torch.Generator())
    edge = shaking.MARGIN
    torch.testing.assert_close(seen, sharp[:, :, edge:-edge, edge:-edge], atol=1e-6, rtol=0)


def test_light_noise_and_jpeg_change_what_is_photographed() -> None:
    sharp, paths = _scene(), _paths(1, still=0.0)
    calm, *others = (
        shaking.photograph(sharp, paths, recipe, torch.Generator().manual_seed(1))
        for recipe in (CALM, replace(CALM, linear=1.0), replace(CALM, noise=1.0), replace(CALM, jpeg=1.0))
    )
    for other in (calm, *others):
        assert float(other.min()) >= 0
        assert float(other.max()) <= 1
        torch.testing.assert_close(other * 255, (other * 255).round(), atol=1e-3, rtol=0)
    assert all(not torch.equal(calm, other) for other in others)


def _intruded(share: float, cell: int = 16) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two plain crops, their kernels, and both after :func:`shaking.intrude`."""
    crops = torch.stack([torch.zeros(3, 64, 96), torch.ones(3, 64, 96)])
    kernels = torch.eye(2)
    lot = torch.Generator().manual_seed(1)
    return crops, kernels, *shaking.intrude(crops, kernels, shaking.Shaking(objects=share), lot, cell=cell)


def test_where_nothing_intrudes_every_cell_has_the_kernel_of_its_crop() -> None:
    crops, kernels, mixed, cells = _intruded(0)
    assert torch.equal(mixed, crops)
    assert torch.equal(cells, kernels[:, None, None].expand(2, 4, 6, 2))


def test_what_intrudes_brings_its_pixels_and_its_kernel() -> None:
    _, _, mixed, cells = _intruded(1)
    shares = torch.nn.functional.avg_pool2d(mixed[:, :1], 16)[:, 0]
    # The second crop is white and its kernel is the second: what is white has come from it.
    torch.testing.assert_close(cells[..., 1], shares)
    torch.testing.assert_close(cells.sum(-1), torch.ones(2, 4, 6))
    assert bool((mixed.flatten(1).amax(1) == 1).all())
    assert bool((mixed.flatten(1).amin(1) == 0).all())


def test_a_crop_alone_has_nobody_to_intrude() -> None:
    crop, kernel = torch.rand(1, 3, 64, 64), torch.ones(1, 1)
    lot = torch.Generator().manual_seed(1)
    mixed, _ = shaking.intrude(crop, kernel, shaking.Shaking(objects=1), lot, cell=32)
    torch.testing.assert_close(mixed, crop)
