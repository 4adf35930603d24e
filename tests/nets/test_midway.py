"""Where the scene was at mid-exposure: what lopsided kernels tell of it, and images that are moved there."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets.midway import Midway, midway_through
from deblur_cli.nets.motion import Motion, MotionConfig
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.pixels import shaking

CONFIG = MotionConfig(width=8, blocks=1, radius=20, steer=6)
TINY = MotionUNetConfig(
    width=4, blocks=(1, 1, 1), motion=MotionConfig(width=8, blocks=1, radius=6, steer=6), phases=True, midway=True
)


def moved(paths):
    """The true movement of each path (N, K, 2), in one cell."""
    even, odd = (of(paths, CONFIG.radius)[:, None, None] for of in (shaking.even_kernels, shaking.odd_kernels))
    return Motion(even, torch.ones(len(paths), 1, 1, 1), torch.zeros(len(paths), 1, 1, CONFIG.width), odd)


def by_all_alike():
    """What goes by the pull of all places alike."""
    torch.manual_seed(0)
    midway = Midway(CONFIG).eval()
    with torch.no_grad():
        midway.weigh[-1].bias[0] = 0.25  # four times of which is 1
    return midway


def learnt():
    """Some weights or other."""
    torch.manual_seed(1)
    midway = Midway(CONFIG).eval()
    with torch.no_grad():
        for each in midway.parameters():
            each.normal_(0, 0.1)
    return midway


@pytest.fixture(scope="module")
def paths():
    return shaking.draw(
        400, shaking.Shaking(longest=32, still=0, trembling=0), torch.Generator().manual_seed(3), radius=20
    )


def test_with_fresh_weights_mid_exposure_is_the_mean_of_the_movement(paths):
    assert not Midway(CONFIG)(moved(paths)).any()


@torch.no_grad()
def test_much_of_where_mid_exposure_lies_is_told_by_how_lopsided_kernels_are(paths):
    true = paths[:, paths.shape[1] // 2]
    found = by_all_alike()(moved(paths))[:, 0, 0]
    width = paths.square().sum(-1).mean(1, keepdim=True).sqrt() + 0.5
    left, there = (((each / width).square().sum()) for each in (found - true, true))
    assert float(left / there) < 0.6


@torch.no_grad()
def test_a_movement_turned_about_has_its_mid_exposure_on_the_other_side(paths):
    midway = learnt()
    one, other = (midway(moved(each)) for each in (paths, -paths))
    assert one.abs().max() > 0.1
    torch.testing.assert_close(other, -one)


@torch.no_grad()
def test_mid_exposure_is_never_further_off_than_a_movement_is_wide(paths):
    midway = learnt()
    midway.point.weight.mul_(1000)
    wide = (paths.square().sum(-1).mean(1) + 0.6).sqrt()
    found = midway(moved(paths))[:, 0, 0].abs().amax(-1)
    assert (found <= wide).all()
    assert (found > 0.8 * wide).any()


@torch.no_grad()
def test_cells_that_are_near_are_moved_alike(paths):
    midway = learnt()
    across = midway(moved(paths))[:, 0, 0, 0]
    apart = moved(paths[torch.stack([across.argmin(), across.argmax()])])
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    mixed = Motion(*(each[board, 0, 0][None] for each in (apart.kernels, apart.noise, apart.features, apart.odd)))
    one, other = midway(apart)[:, 0, 0]
    found = midway(mixed)[0]
    assert (one - other).abs().max() > 0.3
    torch.testing.assert_close(found[4, 4], (12 * other + 13 * one) / 25)
    assert (found.diff(dim=0).abs().amax() / (one - other).abs().max()) < 0.3


def test_without_an_odd_part_it_is_refused(paths):
    with pytest.raises(ValueError, match="odd part"):
        Midway(CONFIG)(replace(moved(paths), odd=None))


def smooth(side):
    return F.interpolate(
        torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)), (side, side), mode="bicubic"
    )


def test_an_image_is_moved_to_where_the_scene_was():
    # What a path (x, y) sees of an image in its mean, it sees at mid-exposure as from further along.
    image = smooth(192)
    path = torch.tensor([[[4.0, -2.5]]]).expand(1, 48, 2)
    there = shaking.expose(image, path)
    edge = shaking.MARGIN
    here = image[:, :, edge:-edge, edge:-edge]
    found = midway_through(here, torch.tensor([4.0, -2.5]).expand(1, 4, 4, 2))
    torch.testing.assert_close(found[..., 8:-8, 8:-8], there[..., 8:-8, 8:-8], atol=0.03, rtol=0)
    back = midway_through(here, torch.tensor([-4.0, 2.5]).expand(1, 4, 4, 2))
    assert (back - there)[..., 8:-8, 8:-8].abs().max() > 0.5


def test_images_are_moved_as_opencv_moves_them():
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    far = torch.tensor([1.3, -2.6])
    x, y = np.meshgrid(np.arange(128, dtype=np.float32), np.arange(96, dtype=np.float32))
    # To OpenCV, which counts parts of pixels in 32nds, places are given that it can tell.
    far = (far * 32).round() / 32
    seen = cv2.remap(
        image[0].permute(1, 2, 0).numpy(),
        x + far[0].item(),
        y + far[1].item(),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    found = midway_through(image, far.expand(1, 3, 4, 2))[0].permute(1, 2, 0)
    torch.testing.assert_close(found, torch.from_numpy(seen), atol=1e-4, rtol=0)


def test_an_image_that_is_in_its_place_stays_as_it_is():
    image = torch.rand(1, 3, 192, 128)
    assert torch.equal(midway_through(image, torch.zeros(1, 6, 4, 2)), image)
    assert midway_through(image.bfloat16(), torch.zeros(1, 6, 4, 2)).dtype == torch.bfloat16


def net_of(config):
    torch.manual_seed(0)
    return MotionUNet(config).eval()


@torch.no_grad()
def test_a_fresh_net_restores_what_it_restored_without():
    net, without = net_of(TINY), net_of(replace(TINY, midway=False))
    without.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("midway.")})
    image = torch.rand(1, 3, 128, 192)
    assert torch.equal(net(image)[0], without(image)[0])
    assert net.moved(image).midway.shape == (1, 4, 6, 2)


@torch.no_grad()
def test_half_the_size_is_looked_at_in_the_mean_of_its_movement():
    net = net_of(TINY)
    image = torch.rand(1, 3, 128, 128)
    before = net.moved(image)
    net.midway.point.weight.normal_()
    after = net.moved(image)
    torch.testing.assert_close(after.odd, before.odd)


def test_mid_exposure_learns_from_the_restored_image():
    net = net_of(TINY).train()
    for each in (net.phases.lean.weight, net.midway.point.weight):
        torch.nn.init.normal_(each)
    image = smooth(128)
    (net(image)[0] - image.roll(1, -1)).square().mean().backward()
    assert net.midway.weigh[-1].bias.grad.abs().max() > 0
    assert net.phases.lean.weight.grad.abs().max() > 0


def test_a_net_that_sees_no_phases_cannot_be_asked_for_it():
    with pytest.raises(ValueError, match="phases"):
        MotionUNetConfig(midway=True)
