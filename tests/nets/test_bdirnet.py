"""BDIRNet: one net for both images, disturbed in training alone, and a golden."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from deblur_cli.nets.bdirnet import BDIRNet, BDIRNetConfig, StatisticalDistilling, statistics
from deblur_cli.nets.prior import PriorConfig

TINY = BDIRNetConfig(width=4, blocks=(1, 0, 1))
PRIOR = PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1))


def net(config: BDIRNetConfig = TINY) -> BDIRNet:
    torch.manual_seed(0)
    made = BDIRNet(config)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return made.eval()


def pair() -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, 16, 24, generator=dice), torch.rand(3, 3, 16, 24, generator=dice)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("prior", [None, PRIOR])
def test_a_pair_goes_through_the_nets_that_one_image_goes_through(prior: PriorConfig | None, residual: bool) -> None:
    made = net(replace(TINY, prior=prior, residual=residual))
    blurred, sharp = pair()
    with torch.no_grad():
        found = made.forward_pair(blurred, sharp)
        assert torch.equal(found.restored[0], made(blurred)[0])
        assert all(torch.equal(a, b) for a, b in zip(found.blurred, made.distill(blurred), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(found.sharp, made.distill(sharp), strict=True))
        if prior is None:
            # What is rebuilt from the sharp image's latents has nothing of the sharp image added.
            torch.testing.assert_close(found.rebuilt, made(sharp)[0] - (sharp if residual else 0))
        assert (found.maps is None) == (prior is None)
    assert [tuple(each.shape) for each in found.blurred] == [(3, 4, 16, 24), (3, 8, 8, 12), (3, 16, 4, 6)]


def test_the_maps_of_a_pair_are_those_of_the_blurred_image() -> None:
    made = net(replace(TINY, prior=PRIOR))
    blurred, sharp = pair()
    with torch.no_grad():
        maps = made.forward_pair(blurred, sharp).maps
        assert maps is not None
        assert all(
            torch.equal(a, b) for a, b in zip(maps.f_pri, made.forward_with_prior(blurred)[1].f_pri, strict=True)
        )


def test_training_disturbs_and_evaluation_does_not() -> None:
    made = net()
    blurred, _ = pair()
    with torch.no_grad():
        assert torch.equal(made(blurred)[0], made(blurred)[0])
        made.train()
        assert not torch.equal(made(blurred)[0], made(blurred)[0])


def test_a_gate_that_is_open_takes_the_statistics_away() -> None:
    said = StatisticalDistilling(4).eval()
    seen: list[Any] = []
    said.c1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    image = 3 + 2 * torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for bias in (50.0, -50.0):
        said.gate[2].weight.data.zero_()
        said.gate[2].bias.data.fill_(bias)
        said(image)
    bare, whole = seen
    mean, deviation = statistics(bare)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=1e-4, rtol=0)
    torch.testing.assert_close(whole, image)


def test_a_single_image_in_training_has_no_other_statistics_to_take() -> None:
    said = StatisticalDistilling(4)
    image = torch.rand(1, 4, 8, 8)
    assert torch.equal(said.train()(image), said.eval()(image))


@pytest.mark.parametrize("dials", [{"width": 0}, {"blocks": (1, 1)}, {"blocks": (1, -1, 1)}])
def test_dials_that_fit_no_net_are_refused(dials: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="positive"):
        BDIRNetConfig(**dials)
