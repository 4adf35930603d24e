"""Losses: zero at the truth, positive elsewhere, differentiable, and equation 2 in its three readings."""

import math

import pytest
import torch
from torch import Tensor

from deblur_cli.pixels import losses

READINGS = pytest.mark.parametrize("reading", ["mse", "literal", "reviewkd"])


def _maps(seed: int, *, dtype: torch.dtype = torch.float32, grad: bool = False) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    shapes = [(2, 3, 8, 12), (2, 4, 4, 6), (2, 5, 2, 3)]
    return [torch.randn(shape, generator=chance, dtype=dtype).requires_grad_(grad) for shape in shapes]


def test_l1_is_the_mean_absolute_difference() -> None:
    assert losses.l1(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 0.0])).item() == 1.5


@pytest.mark.parametrize("difference", [0.0, 0.3])
def test_charbonnier_has_a_closed_form(difference: float) -> None:
    loss = losses.charbonnier(torch.full((2, 3), difference), torch.zeros(2, 3), eps=1e-3)
    assert loss.item() == pytest.approx(math.hypot(difference, 1e-3), rel=1e-6)


@READINGS
def test_distillation_is_zero_for_equal_maps_only(reading) -> None:
    total, levels = losses.distillation(_maps(0), _maps(0), reading=reading)
    assert total == 0
    assert levels == (0, 0, 0)
    total, levels = losses.distillation(_maps(0), _maps(1), reading=reading)
    assert all(level > 0 for level in levels)
    torch.testing.assert_close(total, sum(levels) / 3)


@pytest.mark.parametrize(("reading", "expected"), [("mse", 0.75), ("reviewkd", 0.25)])
def test_distillation_of_a_constant_difference_has_a_closed_form(reading, expected: float) -> None:
    total, _ = losses.distillation([torch.full((2, 3, 8, 8), 0.5)], [torch.zeros(2, 3, 8, 8)], reading=reading)
    assert total.item() == pytest.approx(expected)


def test_the_literal_reading_sums_norms_and_divides_by_the_area() -> None:
    # 4 channels of 8 x 8 that differ by 1/2: norms 8, 4 and 2 at the three poolings.
    total, _ = losses.distillation([torch.full((3, 4, 8, 8), 0.5)], [torch.zeros(3, 4, 8, 8)], reading="literal")
    assert total.item() == pytest.approx((8 + 4 + 2) / 64)


def test_pooling_both_maps_gives_what_pooling_their_difference_gives() -> None:
    ours, theirs = _maps(0)[0], _maps(1)[0]
    pooled = [
        (torch.nn.functional.avg_pool2d(ours, k) - torch.nn.functional.avg_pool2d(theirs, k)).square().mean()
        for k in (1, 2, 4)
    ]
    _, (level,) = losses.distillation([ours], [theirs])
    torch.testing.assert_close(level, torch.stack(pooled).sum())


def test_a_window_at_the_border_counts_only_what_lies_inside() -> None:
    # A constant stays the same constant under every pooling, whatever the size of the map.
    total, _ = losses.distillation([torch.ones(1, 2, 5, 7)], [torch.zeros(1, 2, 5, 7)])
    assert total.item() == pytest.approx(3.0)


@READINGS
def test_distillation_has_the_gradient_that_it_says(reading) -> None:
    student = _maps(0, dtype=torch.float64, grad=True)
    teacher = _maps(1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *maps: losses.distillation(maps, teacher, reading=reading)[0], student)


@READINGS
def test_distillation_has_a_finite_gradient_at_the_truth(reading) -> None:
    student = _maps(0, grad=True)
    losses.distillation(student, _maps(0), reading=reading)[0].backward()
    assert all(level.grad is not None and level.grad.isfinite().all() for level in student)


@pytest.mark.parametrize("loss", [losses.l1, losses.charbonnier])
def test_a_loss_has_the_gradient_that_it_says(loss) -> None:
    chance = torch.Generator().manual_seed(0)
    restored = torch.rand(1, 3, 4, 4, generator=chance, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(loss, (restored, torch.rand(1, 3, 4, 4, generator=chance, dtype=torch.float64)))


def test_the_perceptual_distance_reaches_the_restored_image_only() -> None:
    restored = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    sharp = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(5, 3, 3, 3, dtype=torch.float64)

    def features(image: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(image, kernel)

    loss = losses.perceptual(features, restored, sharp)
    loss.backward()
    assert loss > 0
    assert restored.grad is not None
    assert sharp.grad is None
    assert losses.perceptual(features, sharp, sharp) == 0
    assert torch.autograd.gradcheck(lambda image: losses.perceptual(features, image, sharp.detach()), (restored,))


def test_half_precision_maps_are_compared_in_float32() -> None:
    # 300² overflows float16; a mean of many small bfloat16 squares stalls.
    ours, theirs = torch.full((1, 8, 64, 64), 300.0).half(), torch.zeros(1, 8, 64, 64).half()
    total, _ = losses.distillation([ours], [theirs])
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(3 * 300.0**2)
    assert losses.l1(ours.bfloat16(), theirs.bfloat16()).item() == pytest.approx(300.0)


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="the student's maps are"):
        losses.distillation(_maps(0), _maps(0)[:2])
