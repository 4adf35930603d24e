"""The phases of a movement: what a restored image tells of a kernel's odd part, and what a net makes of it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets import grid_of, phases, wiener
from deblur_cli.nets.motion import Motion, MotionConfig
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.nets.phases import PhasePrior
from deblur_cli.pixels import shaking

TINY = MotionConfig(width=8, blocks=1, radius=6, steer=6)
SMALL = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY, phases=True)
ONCE = 6, 6
"""Cells of what is restored here, 192 px across and down."""


def boxes(side, seed=0):
    """(1, 3, side, side): rectangles one over another, edges everywhere."""
    dice = torch.Generator().manual_seed(seed)
    image = torch.full((1, 3, side, side), 0.5)
    for _ in range(side * side // 500):
        top, left = torch.randint(0, side, (2,), generator=dice).tolist()
        tall, wide = torch.randint(8, 48, (2,), generator=dice).tolist()
        image[:, :, top : top + tall, left : left + wide] = torch.rand(1, 3, 1, 1, generator=dice)
    return image


def lopsided(length=12.0):
    """A path (1, 48, 2) to the right that dwells at its beginning, about its mean."""
    time = torch.linspace(0, 1, 48) ** 3
    path = torch.stack([time * length, 0.3 * time * length], dim=1)[None]
    return path - path.mean(1, keepdim=True)


def shaken(side, path, seed=0):
    """A blurred image of ``side`` px, and the same sharp."""
    sharp = boxes(side + 2 * shaking.MARGIN, seed)
    edge = shaking.MARGIN
    return shaking.expose(sharp, path), sharp[:, :, edge:-edge, edge:-edge]


def everywhere(path, cells, *, odd=True, noise=1e-3):
    """The true movement of a path in all cells."""
    even, leaning = (
        of(path, 20)[:, None, None].expand(1, *cells, -1) for of in (shaking.even_kernels, shaking.odd_kernels)
    )
    return Motion(even, torch.full((1, *cells, 1), noise), torch.zeros(1, *cells, 8), leaning if odd else None)


def inner_error(image, sharp):
    return float((image - sharp)[..., 40:-40, 40:-40].square().mean())


def test_a_wiener_filter_that_knows_the_odd_part_restores_better():
    blurred, sharp = shaken(192, lopsided())
    both = inner_error(wiener.deconvolve(blurred, everywhere(lopsided(), ONCE)), sharp)
    even = inner_error(wiener.deconvolve(blurred, everywhere(lopsided(), ONCE, odd=False)), sharp)
    turned = inner_error(wiener.deconvolve(blurred, everywhere(-lopsided(), ONCE)), sharp)
    assert both < 0.01 * min(even, turned)


def test_an_odd_part_of_nothing_changes_nothing():
    blurred, _ = shaken(192, lopsided())
    even = everywhere(lopsided(), ONCE, odd=False)
    nothing = replace(even, odd=torch.zeros_like(even.kernels))
    assert torch.equal(wiener.deconvolve(blurred, even), wiener.deconvolve(blurred, nothing))
    torch.testing.assert_close(wiener.middle(blurred, even), wiener.middle(blurred, nothing))


def test_the_mean_of_the_guesses_is_the_middle_with_an_odd_part_too():
    blurred, _ = shaken(192, lopsided())
    motion = everywhere(lopsided(), ONCE)
    two = replace(motion, noise=torch.tensor([0.01, 0.1]).expand(1, *ONCE, 2))
    guesses = wiener.deconvolve(blurred, two)
    torch.testing.assert_close((guesses[:, :3] + guesses[:, 3:]) / 2, wiener.middle(blurred, two), atol=2e-5, rtol=1e-4)


def test_the_sharp_image_tells_the_odd_part():
    path = lopsided(20.0)
    blurred, sharp = shaken(384, path)
    grey = [F.avg_pool2d(each.mean(1, keepdim=True), 2) for each in (blurred, sharp)]
    _, odd = phases.evidence(*grey)
    found = odd.view(*odd.shape[:3], 4, 312)[0, 2, 2]
    true = shaking.odd_kernels(path / 2, 12)[0, :-1]
    assert (F.cosine_similarity(found, true[None], dim=1) > 0.9).all()


def test_upside_down_what_is_odd_turns_its_sign_and_what_is_even_stays():
    path = lopsided(20.0)
    grey = [F.avg_pool2d(each.mean(1, keepdim=True), 2) for each in shaken(384, path)]
    even, odd = phases.evidence(*grey)
    turned_even, turned_odd = phases.evidence(*(each.flip(2, 3) for each in grey))
    # Not to the bit: slopes look ahead, and so the windows lie one pixel elsewhere.
    assert F.cosine_similarity(turned_odd.flip(1, 2).flatten(), -odd.flatten(), dim=0) > 0.98
    assert F.cosine_similarity(turned_even.flip(1, 2).flatten(), even.flatten(), dim=0) > 0.98


def test_no_place_weighs_less_than_nothing():
    torch.manual_seed(0)
    prior = PhasePrior(TINY)
    torch.nn.init.normal_(prior.lean.weight)
    kernels = torch.rand(1, 6, 6, 85).softmax(-1)
    motion = Motion(kernels, torch.ones(1, 6, 6, 1), torch.rand(1, 6, 6, 8))
    with torch.no_grad():
        found = prior(*(torch.rand(2, 1, 1, 96, 96)), motion)
    assert found.odd.shape == kernels.shape
    assert torch.equal(found.odd[..., -1], torch.zeros(1, 6, 6))
    assert (found.odd.abs() <= kernels).all()
    assert found.odd.abs().max() > 0


@pytest.mark.parametrize("turn", [0.0, 0.7, 1.6])
def test_the_odd_part_shifts_no_image(turn):
    torch.manual_seed(0)
    along = torch.tensor([torch.tensor(turn).sin(), torch.tensor(turn).cos()])
    kernels = shaking.even_kernels(torch.linspace(-9, 9, 64)[None, :, None] * along, 12)
    leaning = F.pad(0.2 + 0.2 * torch.rand(1, 312), (0, 1))
    ahead = torch.cartesian_prod(torch.arange(-12.0, 13), torch.arange(-12.0, 13))[:313]
    before, after = (odd @ ahead for odd in (leaning * kernels, phases._centred(leaning, kernels)))
    assert before.abs().max() > 0.05
    assert after.abs().max() < 0.05 * before.abs().max()


def test_a_kernel_that_is_in_its_middle_already_is_left_as_it_is():
    path = lopsided()
    even, odd = (of(path, 12)[0] for of in (shaking.even_kernels, shaking.odd_kernels))
    leaning = odd / even.clamp_min(1e-9)
    torch.testing.assert_close(phases._centred(leaning, even), odd, atol=2e-3, rtol=0)


def test_a_fresh_phase_prior_changes_nothing():
    torch.manual_seed(0)
    once = MotionUNet(replace(SMALL, phases=False)).eval()
    torch.manual_seed(0)
    twice = MotionUNet(SMALL).eval()
    image = torch.rand(1, 3, 128, 256)
    for name, value in once.state_dict().items():
        assert torch.equal(twice.state_dict()[name], value)
    with torch.no_grad():
        assert torch.equal(once(image)[0], twice(image)[0])


def test_half_the_size_need_not_lie_on_the_grid():
    torch.manual_seed(0)
    net = MotionUNet(SMALL).eval()
    torch.nn.init.normal_(net.phases.lean.weight, std=0.1)
    torch.nn.init.normal_(net.look.weight, std=0.1)
    assert SMALL.multiple_of == 64
    with torch.no_grad():
        for sides in ((64, 64), (64, 192), (192, 320)):
            image = torch.rand(1, 3, *sides)
            moved = net.moved(image)
            assert moved.odd.shape == moved.kernels.shape
            assert moved.odd.abs().max() > 0
            assert net(image)[0].isfinite().all()


def test_half_the_size_of_a_tile_lies_on_the_grid_where_the_corner_does():
    torch.manual_seed(0)
    net = MotionUNet(SMALL).eval()
    torch.nn.init.normal_(net.phases.lean.weight, std=0.1)
    assert grid_of(SMALL) == 128
    assert grid_of(replace(SMALL, phases=False)) == 64
    blurred, _ = shaken(1024, lopsided(20.0))
    image = blurred[:, :, :128]
    with torch.no_grad():
        whole = net.moved(image).odd
        on, off = (
            (net.moved(image[..., corner:]).odd - whole[:, :, corner // 32 :])[:, :, -4:] for corner in (128, 64)
        )
    assert on.abs().max() < 0.1 * off.abs().max()


def test_a_phase_prior_learns_from_the_restored_image():
    torch.manual_seed(0)
    net = MotionUNet(SMALL)
    torch.nn.init.normal_(net.phases.lean.weight, std=0.1)
    torch.nn.init.normal_(net.look.weight, std=0.1)
    net(torch.rand(1, 3, 128, 128))[0].square().mean().backward()
    assert net.phases.enter.weight.grad.abs().sum() > 0
    assert net.motion.kernel.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("soft", [None, torch.tensor([[1.0, 2.0, 0.5]])])
def test_even_and_odd_kernels_are_the_kernel_that_blurs(soft):
    path = lopsided()
    even, odd = (of(path, 12, soft)[0] for of in (shaking.even_kernels, shaking.odd_kernels))
    assert odd[-1] == 0
    ahead, behind = (even + odd)[:-1] / 2, (even - odd)[:-1] / 2
    kernel = torch.cat([ahead, even[-1:], behind.flip(0)]).view(25, 25)
    assert kernel.min() >= -1e-4
    point = torch.zeros(1, 1, 65 + 2 * shaking.MARGIN, 65 + 2 * shaking.MARGIN)
    point[..., 32 + shaking.MARGIN, 32 + shaking.MARGIN] = 1
    seen = shaking.expose(point, path, soft)[0, 0, 20:45, 20:45]
    torch.testing.assert_close(seen, kernel, atol=2e-3, rtol=0)
    assert (seen - kernel.flip(0, 1)).abs().max() > 0.02


def test_waves_of_odd_kernels_are_those_that_blur():
    path, waves = lopsided(), torch.tensor([[0.0, 0.05], [0.1, 0.02], [-0.05, 0.1]])
    real = shaking.even_kernels(path, 12) @ shaking.cosines(12, waves)
    # What lies between pixels is taken for linear: that is the little that is left.
    imaginary = -shaking.odd_kernels(path, 12) @ shaking.sines(12, waves)
    turns = 2 * torch.pi * path[0].flip(1) @ waves.T
    torch.testing.assert_close(real[0], turns.cos().mean(0), atol=3e-2, rtol=0)
    torch.testing.assert_close(imaginary[0], turns.sin().mean(0), atol=3e-2, rtol=0)
