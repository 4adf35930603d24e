"""Coarse to fine: what is taken from smaller images, and where."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets import grid_of, unpadded_of
from deblur_cli.nets.coarse import Coarse, seen
from deblur_cli.nets.motion import Motion, MotionConfig, Smaller, half_plane
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


def moved(far, restored=None, smaller_far=None):
    """A movement of 4 x 4 cells, and what was made of it at half the size: of one cell more than there is."""
    noise, features = torch.full((1, 4, 4, 2), 0.1), torch.zeros(1, 4, 4, 8)
    there = Motion(kernels(far if smaller_far is None else smaller_far, (3, 3)), noise[:, :3, :3], features[:, :3, :3])
    return Motion(kernels(far), noise, features, smaller=None if restored is None else Smaller(restored, there))


def taking(some, more=0.0):
    """One that takes these shares everywhere."""
    part = Coarse()
    with torch.no_grad():
        part.take.bias.copy_(torch.atanh(torch.tensor([some, more]) / 1.2))
    return part.eval()


def image(side=128, seed=0):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def smooth(side=128, seed=0):
    """The same without fine waves."""
    return F.interpolate(image(side // 16, seed), (side, side), mode="bicubic")


@torch.no_grad()
def test_with_fresh_weights_an_image_stays_to_the_bit():
    restored = image()
    assert torch.equal(Coarse()(image(seed=1), restored, moved(8, image(64, seed=2))), restored)


@torch.no_grad()
def test_where_the_smaller_image_says_the_same_nothing_changes():
    restored = image()
    assert torch.equal(taking(1.0)(image(seed=1), restored, moved(8, F.avg_pool2d(restored, 2))), restored)


@torch.no_grad()
def test_long_waves_come_from_the_smaller_image_and_fine_ones_stay():
    blurred, here, there = smooth(seed=2), smooth(), smooth(seed=1)
    fine = 0.1 * (torch.arange(128) % 2 * 2 - 1).expand(1, 3, 128, 128)
    # Far more is changed there than here, so that it is trusted.
    blurred = 0.2 * blurred + 0.8 * here
    found = taking(1.0)(blurred, here + fine, moved(8, F.avg_pool2d(there, 2)))
    torch.testing.assert_close(found, there + fine, atol=0.03, rtol=0)
    assert (here - there).abs().max() > 0.3


@torch.no_grad()
def test_of_the_finest_waves_more_is_taken_than_was_changed():
    blurred = torch.full((1, 3, 128, 128), 0.5)
    fine = 0.1 * (torch.arange(128) % 2 * 2 - 1).expand(1, 3, 128, 128)
    restored = blurred + fine
    found = taking(0.0, 0.5)(blurred, restored, moved(8, F.avg_pool2d(restored, 2)))
    torch.testing.assert_close(found, blurred + 1.5 * fine, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("changed", "taken"), [(0.3, 0.0), (0.7, 0.0), (1.0, 1.0), (2.0, 1.0)])
def test_a_smaller_image_that_changed_too_little_has_not_seen_the_movement_and_nothing_is_taken(changed, taken):
    blurred, change = smooth(), 0.2 * smooth(seed=1)
    restored, smaller = blurred + change, F.avg_pool2d(blurred + changed * change, 2)
    # The squares of 0.7 are less than half; of two that changed the same there is nothing to take.
    part = taking(1.0)
    shares = part.shares(seen(blurred, F.avg_pool2d(restored, 2), moved(8, smaller)))
    torch.testing.assert_close(shares[:, 0], torch.full((1, 4, 4), taken), atol=0.02, rtol=0)


@torch.no_grad()
def test_what_changed_too_little_is_left_out_where_it_did():
    blurred, change = smooth(side=512), 0.2 * smooth(side=512, seed=1)
    smaller = F.avg_pool2d(blurred + 2 * change * (torch.arange(512) < 256), 2)
    noise, features = torch.full((1, 16, 16, 2), 0.1), torch.zeros(1, 16, 16, 8)
    there = Motion(kernels(4, (8, 8)), noise[:, :8, :8], features[:, :8, :8])
    motion = Motion(kernels(8, (16, 16)), noise, features, smaller=Smaller(smaller, there))
    shares = taking(1.0).shares(seen(blurred, F.avg_pool2d(blurred + change, 2), motion))[:, 0]
    assert (shares[..., :5] > 0.95).all()
    assert not shares[..., 11:].any()


@torch.no_grad()
def test_a_movement_that_both_sizes_tell_alike_is_seen_as_the_same():
    blurred = image()
    known = seen(blurred, F.avg_pool2d(image(seed=1), 2), moved(8, image(64, seed=2), smaller_far=4))[0]
    torch.testing.assert_close(known[:2], torch.full((2, 4, 4), math.log(8)), atol=0.003, rtol=0)
    torch.testing.assert_close(known[6:8], known[8:10])
    torch.testing.assert_close(known[10:12], torch.full((2, 4, 4), math.log(1e-4)), atol=0.01, rtol=0)
    other = seen(blurred, F.avg_pool2d(image(seed=1), 2), moved(8, image(64, seed=2), smaller_far=1))[0]
    assert (other[10:12] > math.log(0.01)).all()


@torch.no_grad()
def test_sizes_that_change_an_image_alike_are_seen_to():
    blurred, change = smooth(), 0.2 * smooth(seed=1)
    half = F.avg_pool2d(blurred + change, 2)
    alike, against = (
        seen(blurred, half, moved(8, F.avg_pool2d(blurred + share * change, 2)))[0, 14] for share in (0.5, -0.5)
    )
    torch.testing.assert_close(alike, torch.ones(4, 4), atol=0.01, rtol=0)
    torch.testing.assert_close(against, -torch.ones(4, 4), atol=0.01, rtol=0)


def net_of(far, *, coarse, some=0.0, more=0.0):
    """A net that says of every cell that it moved ``far``, and takes these shares."""
    torch.manual_seed(0)
    net = MotionUNet(replace(TINY, coarse=coarse)).eval()
    with torch.no_grad():
        net.motion.kernel.weight.zero_()
        net.motion.kernel.bias.fill_(-30)
        net.motion.kernel.bias[-1 - far] = 0
        if coarse:
            net.coarse.load_state_dict(taking(some, more).state_dict())
    return net


@torch.no_grad()
def test_a_net_takes_them_from_half_the_size_and_that_from_a_quarter():
    plain, net = net_of(6, coarse=False), net_of(6, coarse=True, some=0.6, more=0.1)
    whole = image(256)
    sizes = [whole, F.avg_pool2d(whole, 2), F.avg_pool2d(whole, 4)]
    restored, told = [plain(each)[0] for each in sizes], [plain.moved(each) for each in sizes]
    middle = net.coarse(sizes[1], restored[1], replace(told[1], smaller=Smaller(restored[2], told[2])))
    torch.testing.assert_close(net.moved(whole).smaller.restored, middle)
    expected = net.coarse(whole, restored[0], replace(told[0], smaller=Smaller(middle, told[1])))
    torch.testing.assert_close(net(whole)[0], expected)
    assert (expected - restored[0]).abs().max() > 0.001


@torch.no_grad()
def test_a_net_with_fresh_weights_for_it_is_the_net_without():
    plain, net = (net_of(6, coarse=coarse) for coarse in (False, True))
    assert torch.equal(net(image())[0], plain(image())[0])


def test_how_much_is_taken_is_learnt_when_all_is():
    net = net_of(6, coarse=True)
    (net(image())[0] - image(seed=1)).square().mean().backward()
    assert net.coarse.take.weight.grad.abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("sides", [(64, 64), (64, 192), (192, 320)])
def test_a_net_takes_all_multiples_of_its_grid(sides):
    found = net_of(6, coarse=True, some=1.0)(torch.rand(1, 3, *sides))[0]
    assert found.shape == (1, 3, *sides)
    assert found.isfinite().all()


def test_sides_that_a_quarter_of_the_size_need_not_fill_up_are_multiples_of_four_times_its_grid():
    assert [of(TINY) for of in (grid_of, unpadded_of)] == [128, 256]
    assert [of(replace(TINY, coarse=False)) for of in (grid_of, unpadded_of)] == [128, 128]


def test_without_phases_there_is_no_smaller_image_to_take_from():
    with pytest.raises(ValueError, match="coarse"):
        replace(TINY, phases=False, midway=False)


def test_without_a_smaller_image_nothing_can_be_taken():
    with pytest.raises(ValueError, match="half the size"):
        Coarse()(image(), image(), moved(8))
