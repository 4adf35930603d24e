"""Coarse to fine: what is taken from smaller images, and where."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets import grid_of, unpadded_of
from deblur_cli.nets.coarse import filled
from deblur_cli.nets.motion import MotionConfig, half_plane
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

RADIUS = 20
TINY = MotionUNetConfig(
    width=4,
    blocks=(1, 1, 1),
    motion=MotionConfig(width=8, blocks=1, radius=6, steer=6),
    phases=True,
    midway=True,
    coarse=True,
)


def kernels(far, cells=(4, 4)):
    """Even kernels of two points that lie ``far`` to the left and to the right: so wide are they."""
    one = torch.zeros(half_plane(RADIUS))
    # The middle comes last; before it lies what is left of it.
    one[-1 - int(far)] = 1
    return one.expand(1, *cells, -1)


def of_two_widths(left, right):
    return torch.cat([kernels(left, (4, 2)), kernels(right, (4, 2))], dim=2)


def image(side=128, seed=0):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def smooth(side=128, seed=0):
    """The same without fine waves."""
    return F.interpolate(image(side // 16, seed), (side, side), mode="bicubic")


def test_where_movement_is_short_an_image_stays_to_the_bit():
    restored = image()
    for far in (0, 1, 2, 3):
        assert torch.equal(filled(restored, image(64, seed=1), kernels(far)), restored)


def test_where_the_smaller_image_says_the_same_nothing_changes():
    restored = image()
    assert torch.equal(filled(restored, F.avg_pool2d(restored, 2), kernels(10)), restored)


def test_where_movement_is_long_long_waves_come_from_the_smaller_image_and_fine_ones_stay():
    here, there = smooth(), smooth(seed=1)
    fine = 0.1 * (torch.arange(128) % 2 * 2 - 1).expand(1, 3, 128, 128)
    found = filled(here + fine, F.avg_pool2d(there, 2), kernels(12))
    torch.testing.assert_close(found, there + fine, atol=0.03, rtol=0)
    assert (here - there).abs().max() > 0.3


def test_the_longer_a_movement_the_more_is_taken():
    restored, smaller = torch.zeros(1, 3, 128, 128), torch.ones(1, 3, 64, 64)
    taken = [float(filled(restored, smaller, kernels(far)).mean()) for far in range(21)]
    assert taken == sorted(taken)
    assert taken[3] == 0
    assert 0.3 < taken[4] < 0.5
    assert taken[7:] == [1.0] * 14


def test_what_moved_far_is_taken_where_it_moved():
    found = filled(torch.zeros(1, 3, 128, 128), torch.ones(1, 3, 64, 64), of_two_widths(1, 12))
    assert not found[..., :40].any()
    assert (found[..., 88:] == 1).all()


def net_of(far, *, coarse):
    """A net that says of every cell that it moved ``far``."""
    torch.manual_seed(0)
    net = MotionUNet(replace(TINY, coarse=coarse)).eval()
    with torch.no_grad():
        net.motion.kernel.weight.zero_()
        net.motion.kernel.bias.fill_(-30)
        net.motion.kernel.bias[-1 - far] = 0
    return net


@torch.no_grad()
def test_a_net_takes_them_from_half_the_size_and_that_from_a_quarter():
    plain, net = (net_of(6, coarse=coarse) for coarse in (False, True))
    whole = image(256)
    half = F.avg_pool2d(whole, 2)
    quarter = F.avg_pool2d(half, 2)
    told = [plain.moved(each).kernels for each in (whole, half)]
    expected = filled(plain(half)[0], plain(quarter)[0], told[1])
    torch.testing.assert_close(net.moved(whole).smaller, expected)
    expected = filled(plain(whole)[0], expected, told[0])
    torch.testing.assert_close(net(whole)[0], expected)
    assert (expected - plain(whole)[0]).abs().max() > 0.01


@torch.no_grad()
def test_a_net_whose_movement_is_short_is_the_net_without():
    plain, net = (net_of(2, coarse=coarse) for coarse in (False, True))
    assert torch.equal(net(image())[0], plain(image())[0])


@torch.no_grad()
@pytest.mark.parametrize("sides", [(64, 64), (64, 192), (192, 320)])
def test_a_net_takes_all_multiples_of_its_grid(sides):
    found = net_of(6, coarse=True)(torch.rand(1, 3, *sides))[0]
    assert found.shape == (1, 3, *sides)
    assert found.isfinite().all()


def test_sides_that_a_quarter_of_the_size_need_not_fill_up_are_multiples_of_four_times_its_grid():
    assert [of(TINY) for of in (grid_of, unpadded_of)] == [128, 256]
    assert [of(replace(TINY, coarse=False)) for of in (grid_of, unpadded_of)] == [128, 128]


def test_without_phases_there_is_no_smaller_image_to_take_from():
    with pytest.raises(ValueError, match="coarse"):
        replace(TINY, phases=False, midway=False)
