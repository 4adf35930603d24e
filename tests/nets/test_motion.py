"""The motion prior: what it sees in spectra, how kernels become filters, and the net that is steered by it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets import PRESETS, build, to_mapping, wiener
from deblur_cli.nets.motion import (
    CELL,
    NODE,
    Motion,
    MotionConfig,
    half_plane,
    spectra,
    transfer,
)
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.steering import steered
from deblur_cli.nets.unet import UNet
from deblur_cli.nets.wiener import deconvolve, middle

TINY = MotionConfig(width=8, blocks=1, radius=6, steer=6)


def folded(plane):
    """The half-plane weights of an even kernel, (side, side)."""
    half = plane.flatten()[: half_plane(plane.shape[0] // 2)].clone()
    half[:-1] *= 2
    return half


def bar(length, radius=6):
    """A horizontal movement of odd ``length``."""
    plane = torch.zeros(2 * radius + 1, 2 * radius + 1)
    plane[radius, radius - length // 2 : radius + length // 2 + 1] = 1 / length
    return plane


def moved(half, height, width, noise):
    """The same movement everywhere in an image."""
    cells = (1, height // CELL, width // CELL)
    return Motion(half.expand(*cells, -1), torch.tensor(noise).expand(*cells, -1), torch.zeros(*cells, 8))


def scene(height, width):
    """Something with edges: the sign of a smooth random field, slightly softened."""
    dice = torch.Generator().manual_seed(3)
    field = F.interpolate(torch.randn(1, 3, height // 8, width // 8, generator=dice), (height, width), mode="bicubic")
    return F.avg_pool2d(F.pad((field > 0).float() * 0.6 + 0.2, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def test_the_transfer_function_of_standing_still_is_one():
    still = torch.zeros(half_plane(6))
    still[-1] = 1
    torch.testing.assert_close(transfer(still), torch.ones(60))


@pytest.mark.parametrize("length", [3, 7])
def test_the_transfer_function_of_a_bar_is_the_sine_ratio_of_textbooks(length):
    seen = transfer(folded(bar(length))).view(5, 12)
    for index, wave in enumerate((1 / 40, 1 / 20, 1 / 10, 1 / 6, 1 / 4)):
        along = math.sin(math.pi * wave * length) / (length * math.sin(math.pi * wave))
        assert float(seen[index, 0]) == pytest.approx(along, abs=1e-5)
        assert float(seen[index, 6]) == pytest.approx(1, abs=1e-5), "across a movement nothing is lost"


def test_spectra_are_those_of_numpy_and_move_with_the_image():
    image = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    seen = spectra(image)
    assert seen.shape == (1, 4, 6, 64 * 33)
    window = image.mean(1)[0].numpy()[48:112, 80:144].astype(np.float64)  # around the cell in row 2, column 3
    bell = 0.5 - 0.5 * np.cos(np.arange(64) * np.pi / 32)
    power = np.abs(np.fft.rfft2(window * bell * bell[:, None])) ** 2
    np.testing.assert_allclose(seen[0, 2, 3].numpy().reshape(64, 33), np.log(power + 1e-3), atol=2e-3)
    later = spectra(image.roll(CELL, 3))
    torch.testing.assert_close(later[:, :, 2:5], seen[:, :, 1:4])


def test_a_filter_for_no_movement_and_no_noise_gives_the_image_back():
    image = scene(128, 192)
    still = torch.zeros(half_plane(6))
    still[-1] = 1
    found = deconvolve(image, moved(still, 128, 192, (1e-9, 1e-9)))
    torch.testing.assert_close(found, image.repeat(1, 2, 1, 1), atol=1e-5, rtol=0)


def test_a_known_movement_is_undone():
    sharp = scene(256, 256)
    plane = bar(7)
    blurred = F.conv2d(F.pad(sharp, (6, 6, 6, 6), mode="reflect"), plane.expand(3, 1, -1, -1), groups=3)
    found = deconvolve(blurred, moved(folded(plane), 256, 256, (1e-3, 0.3)))
    before, fine, cautious = (
        float((each - sharp)[..., 32:-32, 32:-32].square().mean()) for each in (blurred, found[:, :3], found[:, 3:])
    )
    assert fine < 0.3 * before, "5 dB"
    assert fine < cautious < before


def test_windows_are_filtered_as_numpy_does_and_blended_by_a_bell_that_adds_up():
    image = torch.rand(1, 3, NODE, NODE, generator=torch.Generator().manual_seed(1))
    plane, noise = bar(5), (0.02, 0.2)
    found = deconvolve(image, moved(folded(plane), NODE, NODE, noise))[0].numpy()
    response = np.fft.rfft2(np.roll(np.pad(plane.numpy(), (0, 2 * NODE - 13)), (-6, -6), (0, 1))).real
    down = np.fft.fftfreq(2 * NODE)[:, None]
    fine = down**2 + np.fft.rfftfreq(2 * NODE) ** 2
    rise = np.sqrt(0.5 - 0.5 * np.cos(np.arange(2 * NODE) * np.pi / NODE))
    bell = rise * rise[:, None]
    wide = np.pad(np.pad(image[0].numpy(), ((0, 0), (63, 63), (63, 63)), "reflect"), ((0, 0), (1, 1), (1, 1)), "edge")
    for guess, doubt in enumerate(noise):
        wiener = response / (response**2 + doubt * (0.05 + 20 * fine)) * (1 + 0.05 * doubt)
        total = np.zeros((3, 3 * NODE, 3 * NODE))
        for top in (0, NODE):
            for left in (0, NODE):
                part = np.s_[:, top : top + 2 * NODE, left : left + 2 * NODE]
                total[part] += np.fft.irfft2(np.fft.rfft2(wide[part] * bell) * wiener, s=(2 * NODE,) * 2) * bell
        np.testing.assert_allclose(found[3 * guess : 3 * guess + 3], total[:, NODE:-NODE, NODE:-NODE], atol=1e-4)


def test_many_rows_of_windows_give_what_one_alone_does():
    """Rows are filtered a few at a time; a tall image must not show where one batch ends."""
    image = scene(9 * NODE, NODE)
    half = folded(bar(5))
    whole = deconvolve(image, moved(half, 9 * NODE, NODE, (0.02, 0.2)))
    part = deconvolve(image[:, :, 3 * NODE : 7 * NODE], moved(half, 4 * NODE, NODE, (0.02, 0.2)))
    torch.testing.assert_close(part[:, :, NODE : 3 * NODE], whole[:, :, 4 * NODE : 6 * NODE], atol=1e-5, rtol=0)


def everywhere_else(height, width, count=1):
    """Other movements in each cell, as a prior that was trained finds them."""
    dice = torch.Generator().manual_seed(4)
    cells = (count, height // CELL, width // CELL)
    kernels = torch.softmax(3 * torch.randn(*cells, half_plane(6), generator=dice), -1)
    return Motion(kernels, 0.01 + 0.2 * torch.rand(*cells, 2, generator=dice), torch.zeros(*cells, 8))


def windows_one_by_one(image, motion):
    """The definition of the first guesses: each window for itself, its filter from the transform of its whole kernel."""

    def at_nodes(cells):
        return F.avg_pool2d(F.pad(cells.permute(0, 3, 1, 2), (1,) * 4, mode="replicate"), 2).permute(0, 2, 3, 1)

    kernels, noise = at_nodes(motion.kernels), at_nodes(motion.noise)
    across = torch.arange(NODE + 1) / (2 * NODE)
    fine = torch.cat([across, across[1:-1].flip(0)])[:, None].square() + across.square()
    rise = (0.5 - 0.5 * torch.cos(torch.arange(2 * NODE) * (math.pi / NODE))).clamp_min(0).sqrt()
    bell = rise * rise[:, None]
    wide = F.pad(F.pad(image, (NODE - 1,) * 4, mode="reflect"), (1,) * 4, mode="replicate")
    total = torch.zeros(image.shape[0], 6, *wide.shape[2:])
    for index in range(image.shape[0]):
        for row in range(kernels.shape[1]):
            for column in range(kernels.shape[2]):
                half = kernels[index, row, column]
                plane = (torch.cat([half, half.new_zeros(84)]) + torch.cat([half.new_zeros(84), half.flip(0)])) / 2
                centred = F.pad(plane.view(13, 13), (0, 2 * NODE - 13) * 2).roll((-6, -6), (0, 1))
                response = torch.fft.rfft2(centred).real
                top, left = row * NODE, column * NODE
                part = wide[index, :, top : top + 2 * NODE, left : left + 2 * NODE] * bell
                for guess, doubt in enumerate(noise[index, row, column]):
                    wiener = response / (response.square() + doubt * (0.05 + 20 * fine)) * (1 + 0.05 * doubt)
                    found = torch.fft.irfft2(torch.fft.rfft2(part) * wiener, s=(2 * NODE, 2 * NODE)) * bell
                    colours = slice(3 * guess, 3 * guess + 3)
                    total[index, colours, top : top + 2 * NODE, left : left + 2 * NODE] += found
    return total[:, :, NODE:-NODE, NODE:-NODE]


@pytest.mark.parametrize(("height", "width", "count"), [(64, 64, 1), (256, 192, 2)])
def test_sharing_transforms_between_windows_changes_nothing(height, width, count):
    image = scene(height, width).repeat(count, 1, 1, 1) + 0.1 * torch.rand(count, 3, height, width)
    motion = everywhere_else(height, width, count)
    expected = windows_one_by_one(image, motion)
    torch.testing.assert_close(deconvolve(image, motion), expected, atol=1e-5, rtol=0)
    last = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(deconvolve(last, motion), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width", "count"), [(64, 64, 1), (256, 192, 2)])
def test_the_middle_of_the_guesses_is_their_mean(height, width, count):
    image = scene(height, width).repeat(count, 1, 1, 1) + 0.1 * torch.rand(count, 3, height, width)
    motion = everywhere_else(height, width, count)
    mean = deconvolve(image, motion).unflatten(1, (-1, 3)).mean(1)
    torch.testing.assert_close(middle(image, motion), mean, atol=1e-6, rtol=0)
    grey = middle(image.mean(1, keepdim=True), motion)
    torch.testing.assert_close(grey, mean.mean(1, keepdim=True), atol=1e-6, rtol=0)


@pytest.mark.parametrize("ends", [[7], [3, 7], [4, 6, 7], [6, 7]])
def test_windows_are_filtered_alike_however_many_rows_of_them_are_taken_at_once(ends, monkeypatch):
    image, motion = scene(320, 128), everywhere_else(320, 128)
    expected = deconvolve(image, motion)
    monkeypatch.setattr(wiener, "_ends", lambda bands, device: ends)
    torch.testing.assert_close(deconvolve(image, motion), expected, atol=1e-6, rtol=0)


def test_guesses_teach_kernels_and_noise_as_their_definition_does():
    image = scene(128, 128)
    gradients = []
    for formula in (deconvolve, windows_one_by_one):
        motion = everywhere_else(128, 128)
        leaves = [each.requires_grad_() for each in (motion.kernels, motion.noise)]
        weights = torch.rand(1, 6, 128, 128, generator=torch.Generator().manual_seed(2))
        (formula(image, motion) * weights).mean().backward()
        gradients.append([each.grad for each in leaves])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-3)


def test_guesses_are_exact_under_autocast():
    image, motion = scene(128, 128), everywhere_else(128, 128)
    with torch.autocast("cpu", torch.bfloat16):
        found = deconvolve(image, motion)
    assert torch.equal(found, deconvolve(image, motion))


@pytest.mark.parametrize("factor", [(2, 2), (4, 8), (3, 2), (1, 1)])
@pytest.mark.parametrize("cells", [(1, 1), (5, 3)])
def test_strips_are_steered_as_the_whole(factor, cells):
    dice = torch.Generator().manual_seed(5)
    told = torch.randn(2, 12, *cells, generator=dice)
    size = [cell * times for cell, times in zip(cells, factor, strict=True)]
    features = torch.randn(2, 6, *size, generator=dice).contiguous(memory_format=torch.channels_last)
    scale, shift = F.interpolate(told, size=size, mode="bilinear").double().chunk(2, 1)
    expected = F.leaky_relu(features * (1 + scale) + shift, 0.2).float()
    torch.testing.assert_close(steered(features, told, 0.2), expected, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(steered(features.clone(), told, 0.2), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(steered(features.contiguous(), told, 0.2), expected, atol=1e-5, rtol=1e-5)


def test_what_is_trained_with_is_what_is_restored_with():
    """The strips and layouts that inference alone takes give what the plain formulae do that gradients need."""
    torch.manual_seed(0)
    net = MotionUNet(MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY))
    for values in net.parameters():
        torch.nn.init.normal_(values, std=0.2)
    net = net.to(memory_format=torch.channels_last)
    blurred = scene(192, 128).contiguous(memory_format=torch.channels_last)
    trained = net(blurred)[0]
    with torch.inference_mode():
        restored = net(blurred)[0]
    trained.square().mean().backward()
    assert all(values.grad is not None and values.grad.isfinite().all() for values in net.parameters())
    changed = (trained.detach() - blurred).abs().max()
    assert (restored - trained.detach()).abs().max() < 2e-5 * changed


def test_a_prior_that_does_not_listen_to_the_second_size_is_one_that_does_not_see_it():
    torch.manual_seed(0)
    near, both = MotionPrior(TINY), MotionPrior(replace(TINY, scales=2))
    state = near.state_dict()
    bins = near.usual.shape[0]
    for name, rest in (("usual", torch.zeros(bins)), ("spread", torch.ones(bins))):
        state[name] = torch.cat([state[name], rest])
    state["enter.weight"] = torch.cat([state["enter.weight"], torch.zeros(8, bins)], 1)
    both.load_state_dict(state)
    image = scene(64, 192)
    one, other = near(image), both(image)
    torch.testing.assert_close(other.kernels, one.kernels)
    torch.testing.assert_close(other.features, one.features, atol=1e-5, rtol=1e-4)
    torch.nn.init.normal_(both.enter.weight, std=0.01)
    assert not torch.allclose(both(image).features, one.features, atol=1e-3)


def test_the_second_size_is_the_image_at_half_its_size():
    prior = MotionPrior(replace(TINY, scales=2))
    image = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(6))
    near, far = prior.look(image).chunk(2, -1)
    torch.testing.assert_close(near, spectra(image))
    halved = spectra(F.interpolate(image, scale_factor=0.5, mode="bilinear"))
    assert halved.shape[1:3] == (1, 2)
    for row, column in np.ndindex(2, 4):
        torch.testing.assert_close(far[:, row, column], halved[:, row // 2, column // 2], atol=2e-3, rtol=1e-3)


def test_two_sizes_survive_a_label_and_work_on_the_smallest_image():
    config = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=replace(TINY, scales=2))
    net = build("motion-unet", json.loads(json.dumps(to_mapping(config))))
    assert net.config == config
    with torch.inference_mode():
        assert net(torch.rand(1, 3, 64, 64))[0].shape == (1, 3, 64, 64)
    before = to_mapping(config)
    del before["motion"]["scales"]
    assert build("motion-unet", before).config.motion.scales == 1
    with pytest.raises(ValueError, match="scales is 3"):
        MotionConfig(scales=3)


def test_kernels_are_shares_and_noise_begins_as_the_config_says():
    torch.manual_seed(0)
    motion = MotionPrior(TINY)(torch.rand(2, 3, 64, 128))
    assert motion.kernels.shape == (2, 2, 4, half_plane(6))
    torch.testing.assert_close(motion.kernels.sum(-1), torch.ones(2, 2, 4))
    assert (motion.kernels >= 0).all()
    torch.testing.assert_close(motion.noise, torch.tensor(TINY.noise).expand(2, 2, 4, 2))


@pytest.mark.parametrize("prior", [None, PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1))])
def test_a_new_motion_prior_changes_nothing_bit_for_bit(prior):
    config = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY, prior=prior)
    torch.manual_seed(0)
    plain, guided = UNet(config.unet).eval(), MotionUNet(config).eval()
    missing = guided.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    parts = {key.split(".")[0] for key in missing.missing_keys if ".steer." not in key}
    assert parts == {"look", "motion", "tell"}
    blurred = torch.rand(1, 3, 64, 128)
    with torch.inference_mode():
        assert torch.equal(guided(blurred)[0], plain(blurred)[0])


def test_a_learnt_motion_prior_changes_the_image_by_the_guesses_and_by_the_steering():
    torch.manual_seed(0)
    net = MotionUNet(MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY)).eval()
    blurred = torch.rand(1, 3, 64, 128)
    with torch.inference_mode():
        before = net(blurred)[0]
        torch.nn.init.normal_(net.look.weight)
        looked = net(blurred)[0]
        assert not torch.equal(looked, before)
        net.get_parameter("enc3.0.steer.bias").add_(0.5)
        assert not torch.equal(net(blurred)[0], looked)


@pytest.mark.parametrize("dial", [{"width": 0}, {"noise": (0.1, 0)}, {"steer": -1}])
def test_dials_that_cannot_be_are_refused(dial):
    with pytest.raises(ValueError, match="positive numbers"):
        MotionConfig(**dial)


def test_movements_must_fit_their_windows():
    with pytest.raises(ValueError, match="radius is 33"):
        MotionConfig(radius=33)
    assert MotionConfig(radius=32).radius == 32


def test_the_preset_takes_over_the_narrow_unet():
    assert PRESETS["motion-unet-sp"][1].unet == PRESETS["unet-narrow-sp"][1]
    assert PRESETS["motion-unet"][1].unet == PRESETS["unet-narrow"][1]
