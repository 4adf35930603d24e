"""The second look: what edges tell of a movement, and what a motion prior makes of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets import build, edges, to_mapping
from deblur_cli.nets.edges import EVIDENCE, evidence, slopes_of, window_spectra
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig

TINY = MotionConfig(width=8, blocks=1, radius=6, steer=6, looks=2)
WAVES = 33 * 17


def boxes(height, width, seed=0):
    """Grey rectangles one over another: edges in two directions, and steps everywhere."""
    dice = np.random.default_rng(seed)
    image = torch.full((1, 1, height, width), 0.5)
    for _ in range(height * width // 800):
        top, left = dice.integers(0, height), dice.integers(0, width)
        tall, wide = dice.integers(8, 60, 2)
        image[..., top : top + tall, left : left + wide] = float(dice.random())
    return image


def path(across, down):
    """(17, 17): a straight movement of constant speed."""
    plane = torch.zeros(17, 17)
    for time in np.linspace(-0.5, 0.5, 200):
        plane[round(8 + time * down), round(8 + time * across)] += 1 / 200
    return plane


def under(image, plane):
    kernel = plane.flip(0, 1)[None, None]
    return F.conv2d(F.pad(image, (8, 8, 8, 8), mode="reflect"), kernel)


def waves_of(told):
    return told[..., :WAVES].unflatten(-1, (33, 17))


@pytest.mark.parametrize(("across", "down"), [(14, 0), (0, 14), (9, 9), (9, -9), (5, 0)])
def test_edges_tell_how_the_image_moved(across, down):
    sharp, plane = boxes(256, 256), path(across, down)
    still = waves_of(evidence(sharp, sharp))[0, 1, 1]
    waves = waves_of(evidence(under(sharp, plane), sharp))[0, 1, 1]
    there = torch.arange(17.0) - 8
    y, x = (each.flatten() for each in torch.meshgrid(torch.arange(-8, 9), torch.arange(9), indexing="ij"))
    turns = 2 * math.pi * (y[:, None, None] * there[:, None] + x[:, None, None] * there) / 64
    truth = (plane * turns.cos()).sum((1, 2))
    # Steps are steeper than the sharp image's edges: what stands still is a little soft beside them.
    told = waves[16 + y, x] / still[16 + y, x]
    assert float(torch.corrcoef(torch.stack([told, truth]))[0, 1]) > 0.9
    assert float((told - truth).abs().mean()) < 0.16


def test_a_movement_is_told_about_its_own_middle():
    """Where that lies cannot be known, and does not matter."""
    sharp = boxes(256, 256)
    moved = under(sharp, path(12, 0))
    here, there = (waves_of(evidence(blurred, sharp))[0, 1, 1] for blurred in (moved, moved.roll(4, 3)))
    assert float(here[16, 0]) == pytest.approx(1)
    assert float(here[16, 6]) < 0.5
    torch.testing.assert_close(here, there, atol=0.12, rtol=0)


def test_evidence_is_local():
    """What is further off than five windows reach has no say."""
    image, guess = boxes(256, 1024), boxes(256, 1024, seed=1)
    other = guess.clone()
    other[..., :256] = 0
    one, two = evidence(image, guess), evidence(image, other)
    assert torch.equal(one[:, :, 10:], two[:, :, 10:])
    assert not torch.equal(one[:, :, :5], two[:, :, :5])


def test_a_part_of_an_image_is_told_what_the_whole_is():
    image, guess = boxes(256, 1024), boxes(256, 1024, seed=1)
    whole, part = evidence(image, guess), evidence(image[..., 128:896], guess[..., 128:896])
    # What is faint is left out: a last digit may decide what is.
    assert float((part[:, :, 4:-4] - whole[:, :, 6:-6]).abs().mean()) < 1e-3


def test_kernels_are_those_of_numpy():
    response = torch.randn(1, 2, 1, 2, 64, 33, generator=torch.Generator().manual_seed(3))
    both = torch.complex(response[:, 0], response[:, 1]).numpy()
    expected = np.roll(np.fft.irfft2(both, s=(64, 64)), (12, 12), (-2, -1))[..., :25, :25]
    np.testing.assert_allclose(edges.kernels_of(response).numpy(), expected, atol=1e-6)


def test_a_shock_filter_makes_steps_of_slopes_and_leaves_what_is_flat():
    flat = torch.full((1, 1, 16, 32), 0.3)
    assert torch.equal(edges.shocked(flat), flat)
    slope = torch.sigmoid((torch.arange(32.0) - 15.5) / 3).expand(1, 1, 16, 32).contiguous()
    steep = edges.shocked(slope)
    assert float(steep.diff(dim=3).amax()) > 1.3 * float(slope.diff(dim=3).amax())
    torch.testing.assert_close(edges.shocked(slope.flip(3)), steep.flip(3))
    torch.testing.assert_close(edges.shocked(slope.mT), steep.mT)


def test_evidence_is_exact_under_autocast_and_finite_on_nothing():
    sharp = boxes(128, 64)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = evidence(sharp, sharp)
    assert torch.equal(mixed, evidence(sharp, sharp))
    for value in (0.0, 1.0):
        nothing = torch.full((1, 1, 64, 64), value)
        told = evidence(nothing, nothing)
        assert told.shape == (1, 1, 1, EVIDENCE)
        assert told.isfinite().all()


def test_a_fresh_second_look_changes_nothing_bit_for_bit():
    torch.manual_seed(0)
    once = MotionPrior(replace(TINY, looks=1))
    torch.manual_seed(0)
    twice = MotionPrior(TINY)
    image = torch.rand(2, 3, 64, 128)
    first, second = once(image), twice(image)
    assert torch.equal(first.kernels, second.kernels)
    assert torch.equal(first.noise, second.noise)
    assert torch.equal(first.features, second.features)
    torch.nn.init.normal_(twice.get_parameter("again.more.weight"))
    changed = twice(image)
    assert not torch.allclose(changed.kernels, first.kernels)
    torch.testing.assert_close(changed.kernels.sum(-1), torch.ones(2, 2, 4))


def test_every_part_of_both_looks_learns():
    torch.manual_seed(0)
    prior = MotionPrior(TINY)
    torch.nn.init.normal_(prior.get_parameter("again.more.weight"))
    motion = prior(boxes(64, 128).expand(-1, 3, -1, -1) + 0.01 * torch.rand(1, 3, 64, 128))
    (motion.kernels.square().sum() + motion.noise.sum() + motion.features.square().sum()).backward()
    for name, values in prior.named_parameters():
        assert values.grad is not None, name
        assert values.grad.isfinite().all(), name
        assert values.grad.any(), name


def test_looks_survive_a_label_and_work_on_the_smallest_image():
    config = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY)
    net = build("motion-unet", json.loads(json.dumps(to_mapping(config))))
    assert isinstance(net, MotionUNet)
    assert net.config == config
    with torch.inference_mode():
        assert net(torch.rand(1, 3, 64, 64))[0].shape == (1, 3, 64, 64)
    before = to_mapping(config)
    del before["motion"]["looks"]
    earlier = build("motion-unet", before)
    assert isinstance(earlier, MotionUNet)
    assert earlier.config.motion.looks == 1
    with pytest.raises(ValueError, match="looks is 3"):
        MotionConfig(looks=3)


def test_windows_apart_are_every_other_one_of_those_that_overlap():
    slopes = slopes_of(boxes(128, 192))
    torch.testing.assert_close(window_spectra(slopes, apart=True), window_spectra(slopes)[:, :, ::2, ::2])
