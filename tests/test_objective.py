"""Objectives: the weighted sum of equation 7, who gets which gradient, and what never reaches a checkpoint."""

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.nets import teacher as teaching
from deblur_cli.nets.prior import PriorConfig, SemanticPrior
from deblur_cli.nets.teacher import Teacher
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.nets.vgg import VGG19Features
from deblur_cli.objective import DeblurObjective, DistillObjective
from deblur_cli.pixels import losses


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    return teaching.build(teaching.parse("timm:test_resnet"), stem=2)


def _prior(teacher: Teacher) -> PriorConfig:
    return PriorConfig(widths=teacher.widths, channels=(4, 6, 8), blocks=(1, 1, 1), sat_width=4)


def _net(prior: PriorConfig | None) -> UNet:
    torch.manual_seed(1)
    return UNet(UNetConfig(width=4, blocks=(1, 1, 1), stem=2, prior=prior))


def _pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    sharp = torch.rand(2, 3, 32, 32, generator=chance)
    return nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2, count_include_pad=False), sharp


def test_the_total_is_the_weighted_sum_of_its_terms(teacher: Teacher) -> None:
    score = DeblurObjective(features=VGG19Features(), teacher=teacher, alpha=0.01, beta=0.1)
    found = score(_net(_prior(teacher)), *_pair())
    assert set(found.terms) == {"reconstruction", "perceptual", "prior"}
    assert all(value > 0 and not value.requires_grad for value in found.terms.values())
    expected = found.terms["reconstruction"] + 0.01 * found.terms["perceptual"] + 0.1 * found.terms["prior"]
    torch.testing.assert_close(found.total.detach(), expected)


def test_without_teacher_and_features_the_loss_is_the_reconstruction(teacher: Teacher) -> None:
    blurred, sharp = _pair()
    for prior in (None, _prior(teacher)):  # Net0 and Net0* of the ablation
        net = _net(prior)
        found = DeblurObjective()(net, blurred, sharp)
        assert set(found.terms) == {"reconstruction"}
        torch.testing.assert_close(found.total, losses.l1(net(blurred)[0], sharp))


def test_another_reconstruction_sees_all_images_of_a_net() -> None:
    seen: list[int] = []

    def reconstruction(restored, sharp: Tensor) -> Tensor:
        seen.append(len(restored))
        return losses.charbonnier(restored[0], sharp)

    found = DeblurObjective(reconstruction=reconstruction)(_net(None), *_pair())
    assert seen == [1]
    assert found.terms["reconstruction"] == found.total


def test_distillation_moves_the_prior_and_nothing_else(teacher: Teacher) -> None:
    net = _net(_prior(teacher))
    blurred, sharp = _pair()
    score = DeblurObjective(reconstruction=lambda restored, _: 0 * restored[0].sum(), teacher=teacher)
    score(net, blurred, sharp).total.backward()
    moved = {name for name, values in net.named_parameters() if values.grad is not None and values.grad.abs().sum() > 0}
    assert moved == {name for name, _ in net.named_parameters() if name.startswith("prior.")}


def test_the_teacher_is_no_part_of_the_net(teacher: Teacher) -> None:
    net = _net(_prior(teacher))
    before = set(net.state_dict())
    score = DeblurObjective(features=VGG19Features(), teacher=teacher)
    score(net, *_pair()).total.backward()
    assert set(net.state_dict()) == before
    assert not any("teacher" in name or "features" in name for name in before)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_losses_are_float32_under_autocast(teacher: Teacher) -> None:
    net = _net(_prior(teacher))
    score = DeblurObjective(features=VGG19Features(), teacher=teacher)
    exact = score(net, *_pair())
    with torch.autocast("cpu", torch.bfloat16):
        found = score(net, *_pair())
    found.total.backward()
    assert found.total.dtype == torch.float32
    for name, value in found.terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact.terms[name], rtol=0.05, atol=1e-3)
    assert all(values.grad is not None and values.grad.isfinite().all() for values in net.prior.parameters())


def test_distilling_reports_the_levels_whose_mean_it_minimises(teacher: Teacher) -> None:
    torch.manual_seed(0)
    prior = SemanticPrior(_prior(teacher), stem=2)
    found = DistillObjective(teacher)(prior, *_pair())
    assert list(found.terms) == ["level_1", "level_2", "level_3"]
    torch.testing.assert_close(found.total.detach(), torch.stack(list(found.terms.values())).mean())


@pytest.mark.parametrize("clc", [True, False])
def test_distilling_reaches_every_parameter_of_the_prior(teacher: Teacher, clc: bool) -> None:
    torch.manual_seed(0)
    config = PriorConfig(widths=teacher.widths, channels=(4, 6, 8), blocks=(1, 1, 1), clc=clc)
    prior = SemanticPrior(config, stem=2)
    DistillObjective(teacher)(prior, *_pair()).total.backward()
    assert all(values.grad is not None and values.grad.abs().sum() > 0 for values in prior.parameters())


def test_a_prior_that_says_what_its_teacher_says_of_the_blurred_image_has_the_ratio_one(teacher: Teacher) -> None:
    class Parrot(nn.Module):
        def forward(self, blurred: Tensor):
            from deblur_cli.nets.prior import PriorMaps

            maps = teacher(blurred)
            return PriorMaps(maps, maps)

    ours, theirs = DistillObjective(teacher).distances(Parrot(), *_pair())
    assert torch.equal(ours, theirs)
    assert (ours > 0).all()


def test_a_prior_learns_what_its_teacher_says_of_the_sharp_image(teacher: Teacher) -> None:
    torch.manual_seed(0)
    prior = SemanticPrior(PriorConfig(widths=teacher.widths, channels=(12, 16, 16), blocks=(1, 1, 1)), stem=2)
    score = DistillObjective(teacher)
    blurred, sharp = _pair()
    before, _ = score.distances(prior, blurred, sharp)
    optimiser = torch.optim.Adam(prior.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        score(prior, blurred, sharp).total.backward()
        optimiser.step()
    after, _ = score.distances(prior, blurred, sharp)
    assert (after < 0.8 * before).all()
