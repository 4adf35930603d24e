"""What the motion prior learns for, and how it is told whether it sees anything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_motion import CALM, RADIUS, TINY, scene, source_of
from torch import Tensor

from deblur_cli.movement import MotionObjective
from deblur_cli.nets.motion import spectra
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.pixels import shaking
from deblur_cli.trainer import sources
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.shaken import Insight, ShakenPhotos, acquaint
from deblur_cli.trainer.validation import View


def test_a_prior_gets_to_know_what_is_usual(photographs: Path) -> None:
    prior = MotionPrior(TINY)
    source = source_of(photographs)
    acquaint(prior, source, 2)
    seen = torch.cat([spectra(source.batch(step)[0]).flatten(0, 2) for step in range(2)])
    torch.testing.assert_close(prior.usual, seen.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prior.spread, seen.std(0, correction=0), atol=1e-3, rtol=1e-3)
    flat = torch.full((1, 3, 64, 64), 0.5)

    class Flat(ShakenPhotos):
        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            return flat, flat

    acquaint(prior, Flat.__new__(Flat), 1)
    assert float(prior.spread.min()) == pytest.approx(1e-3)


def test_the_loss_falls_and_is_nothing_for_who_knows_the_truth(photographs: Path) -> None:
    torch.manual_seed(0)
    source = source_of(photographs, range(8))
    prior, aim = MotionPrior(TINY), MotionObjective()
    acquaint(prior, source, 2)
    pair = source.batch(0)

    class Knowing(torch.nn.Module):
        def forward(self, blurred: Tensor) -> Any:
            motion = prior(blurred)
            return replace(motion, kernels=pair[1])

    assert float(aim(Knowing(), *pair).total) < 1e-6
    optimiser = torch.optim.AdamW(prior.parameters(), lr=1e-2)
    before = aim(prior, *pair).total.item()
    for _ in range(40):
        optimiser.zero_grad()
        aim(prior, *pair).total.backward()
        optimiser.step()
    after = aim(prior, *pair)
    assert list(after.terms) == ["transfer", "anywhere"]
    assert after.total.item() < 0.6 * before
    fixed, more = (float(value) for value in after.terms.values())
    assert after.total.item() == pytest.approx((60 * fixed + 100 * more) / 160)


def test_losses_are_exact_under_autocast(photographs: Path) -> None:
    blurred, kernels = source_of(photographs).batch(0)

    class Found(torch.nn.Module):
        def forward(self, blurred: Tensor) -> Any:
            return prior_of_truth

    motion = MotionPrior(TINY)(blurred)
    prior_of_truth = replace(motion, kernels=motion.kernels.detach())
    torch.manual_seed(1)
    exact = MotionObjective()(Found(), blurred, kernels).total
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = MotionObjective()(Found(), blurred, kernels).total
    assert torch.equal(exact, found)


def test_who_knows_the_truth_sees_everything_and_who_says_the_mean_sees_nothing() -> None:
    sharp = np.ascontiguousarray(scene()[0].permute(1, 2, 0).mul(255).byte().numpy())
    insight = Insight([View("one", sharp, sharp)] * 2, CALM, radius=RADIUS, crew=Crew(torch.device("cpu")))
    truths: list[Tensor] = []
    paths_of = shaking.even_kernels

    class Says(torch.nn.Module):
        def __init__(self, kernels: list[Tensor]) -> None:
            super().__init__()
            self.kernels = kernels

        def forward(self, blurred: Tensor) -> Any:
            truths.append(blurred)
            return replace(known, kernels=self.kernels[len(truths) - 1][:, None, None].expand(-1, 2, 2, -1))

    known = MotionPrior(TINY)(torch.rand(1, 3, 64, 64))
    kernels = [
        paths_of(shaking.draw(8, CALM, sources.generator(0, index), radius=RADIUS), RADIUS) for index in range(2)
    ]
    scores = insight(Says(kernels))
    assert list(scores) == ["seen", "r2_1", "r2_2", "r2_3", "r2_4", "r2_5"]
    assert all(value == pytest.approx(1.0) for value in scores.values())
    truths.clear()
    mean = torch.cat(kernels).mean(0).expand(8, -1)
    assert insight(Says([mean, mean]))["seen"] == pytest.approx(0.0, abs=1e-4)
