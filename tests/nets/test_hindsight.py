"""Mid-exposure told once more: what the slopes of a restored image say of it, and what follows from the way it is weighed."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets import hindsight
from deblur_cli.nets.hindsight import Hindsight
from deblur_cli.nets.motion import Motion, MotionConfig
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.pixels import shaking

RADIUS = 20
TINY = MotionUNetConfig(
    width=4,
    blocks=(1, 1, 1),
    motion=MotionConfig(width=8, blocks=1, radius=6, steer=6),
    phases=True,
    midway=True,
    hindsight=True,
)
SIDE = 256
"""Of the images, in pixels: several windows across."""


def picture():
    """Things with sharp edges, (1, 3, side, side), and the border that a movement takes."""
    chance = torch.Generator().manual_seed(5)
    side = SIDE + 2 * shaking.MARGIN
    image = torch.full((1, 3, side, side), 0.5)
    for _ in range(120):
        top, left = (torch.randint(side - 8, (2,), generator=chance)).tolist()
        high, wide = (torch.randint(8, 60, (2,), generator=chance)).tolist()
        image[:, :, top : top + high, left : left + wide] = torch.rand(3, 1, 1, generator=chance)
    return image


def shaken(path):
    """A blurred image, the same sharp in the mean of the movement, and its movement, of which no odd part is known."""
    sharp = picture()
    blurred = shaking.expose(sharp, path[None])
    edge = shaking.MARGIN
    cells = SIDE // 32
    even = shaking.even_kernels(path[None], RADIUS)[:, None, None].expand(1, cells, cells, -1)
    nothing = torch.zeros(1, cells, cells, 2)
    told = Motion(even, nothing + 0.02, torch.zeros(1, cells, cells, 8), torch.zeros_like(even), nothing)
    return blurred, sharp[:, :, edge:-edge, edge:-edge], told


def learnt():
    """Some weights or other."""
    torch.manual_seed(1)
    part = Hindsight().eval()
    with torch.no_grad():
        for each in part.parameters():
            each.normal_(0, 0.1)
    return part


def pulling():
    """Chance pulls, (1, 6, 7, pulls, 2), what is known beside them, and widths."""
    chance = torch.Generator().manual_seed(2)
    sizes = Hindsight()
    pulls = torch.randn(1, 6, 7, len(sizes.length), 2, generator=chance) * 0.2
    known = torch.randn(1, 6, 7, len(sizes.usual), generator=chance)
    return pulls, known, 1 + 3 * torch.rand(1, 6, 7, 1, generator=chance)


@pytest.fixture(scope="module")
def paths():
    recipe = shaking.Shaking(longest=16, still=0, trembling=0)
    return shaking.draw(24, recipe, torch.Generator().manual_seed(3), radius=11)


@torch.no_grad()
def test_with_fresh_weights_mid_exposure_stays_where_it_was_told_to_be():
    blurred, sharp, motion = shaken(torch.zeros(48, 2))
    told = torch.randn(motion.midway.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    torch.testing.assert_close(Hindsight()(blurred, sharp, replace(motion, midway=told)), told)


@torch.no_grad()
def test_much_of_where_mid_exposure_lies_is_told_by_the_slopes_of_the_restored_image(paths):
    part = Hindsight()
    powers = len(hindsight._POWERS)
    part.weigh.bias[1 + powers] = 0.25  # of plain slopes, near by: the pull of all places alike
    left = there = 0.0
    for path in paths:
        true = path[len(path) // 2]
        width = path.square().sum(-1).mean().sqrt() + 0.5
        found = part(*shaken(path))[0, 2:-2, 2:-2]
        left += float((((found - true) / width).square()).sum(-1).mean())
        there += float((true / width).square().sum())
    assert left < 0.75 * there


@torch.no_grad()
def test_pulls_that_are_turned_tell_mid_exposure_turned_alike():
    part = learnt()
    pulls, known, width = pulling()

    def turned(each):
        return torch.stack([-each[..., 1], each[..., 0]], dim=-1)

    found = part.told(pulls, known, width)
    assert (found - pulls[..., 0, :] * width).abs().max() > 0.1
    torch.testing.assert_close(part.told(turned(pulls), known, width), turned(found))


@torch.no_grad()
def test_it_is_moved_by_a_kernels_width_at_most():
    part = learnt()
    pulls, known, width = pulling()
    part.weigh.bias.fill_(1000)
    moved = part.told(pulls, known, width) - pulls[..., 0, :] * width
    assert (moved.abs() <= width * 1.0001).all()
    assert (moved.abs() > 0.99 * width).any()


@torch.no_grad()
def test_cells_that_are_near_pull_together():
    pulls = torch.zeros(1, 18, 18, 2, 2)
    pulls[0, 8, 8] = 81.0
    found = hindsight.around(pulls)[0]
    torch.testing.assert_close(found[4:13, 4:13], torch.ones(9, 9, 2, 2))
    assert not found[:4].any()
    assert not found[:, 13:].any()
    # At the border the mean is of the cells that are there.
    torch.testing.assert_close(hindsight.around(torch.ones(1, 3, 4, 2, 2)), torch.ones(1, 3, 4, 2, 2))


@pytest.mark.parametrize("without", ["odd", "midway"])
def test_where_mid_exposure_was_not_told_before_it_is_not_told_anew(without):
    blurred, sharp, motion = shaken(torch.zeros(48, 2))
    with pytest.raises(ValueError, match="told before"):
        Hindsight()(blurred, sharp, replace(motion, **{without: None}))


def nets():
    """A net that moves what it restores, and the same with hindsight, new."""
    torch.manual_seed(0)
    plain = MotionUNet(replace(TINY, hindsight=False)).eval()
    with torch.no_grad():
        for each in plain.parameters():
            each.add_(torch.randn_like(each) * 0.05)
    later = MotionUNet(TINY).eval()
    later.load_state_dict(plain.state_dict(), strict=False)
    return plain, later


def test_in_a_net_it_changes_nothing_until_it_has_learnt_to():
    plain, later = nets()
    image = F.interpolate(torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)), (128, 128))
    with torch.no_grad():
        one, other = (net(image)[0] for net in (plain, later))
        torch.testing.assert_close(other, one)
        later.hindsight.weigh.bias.fill_(0.3)
        assert (later(image)[0] - one).abs().max() > 1e-3


def test_it_learns_from_the_image_that_it_moves():
    _, later = nets()
    image = F.interpolate(torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)), (128, 128))
    later(image)[0].square().mean().backward()
    assert later.hindsight.weigh.weight.grad.abs().max() > 0


def test_a_net_that_does_not_tell_mid_exposure_cannot_tell_it_once_more():
    with pytest.raises(ValueError, match="hindsight"):
        replace(TINY, midway=False)
