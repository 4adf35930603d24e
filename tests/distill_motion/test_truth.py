"""``deblur train --motion-truth``: a net whose motion prior is told what it should have seen, wherever that is known."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_motion import RADIUS, TINY, one_step, only, source_of
from torch import Tensor

from deblur_cli.commands import train
from deblur_cli.errors import UsageError
from deblur_cli.files import checkpoint
from deblur_cli.movement import Movement, astray
from deblur_cli.nets.motion import Motion
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.objective import DeblurObjective
from deblur_cli.options.distill_motion import DistillMotionOptions
from deblur_cli.options.train import TrainOptions
from deblur_cli.pixels import shaking
from deblur_cli.trainer.events import Step
from deblur_cli.trainer.shaken import PartlyShaken


def net_of(**dials: object) -> MotionUNet:
    torch.manual_seed(0)
    return MotionUNet(MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY, **dials))


def moved(even: Tensor, odd: Tensor | None = None) -> Motion:
    """Nothing but these kernels."""
    return Motion(even, torch.ones(0), torch.ones(0), odd)


def test_a_pair_has_the_kernels_that_the_prior_alone_learns(photographs: Path) -> None:
    source = source_of(photographs)
    even, odd = source.pairs(4)[2].unbind(-2)
    assert torch.equal(even, source.batch(4)[1])
    assert (odd.abs() <= even + 1e-6).all()
    assert odd.abs().max() > 0.01


def test_kernels_come_with_the_batches_whose_movement_is_known(photographs: Path) -> None:
    scenes, shaken = source_of(photographs, seed=1), source_of(photographs)
    told = PartlyShaken(scenes, shaken, share=0.5, kernels_too=True)
    untold = PartlyShaken(scenes, shaken, share=0.5)
    is_shaken = [torch.equal(told.batch(step)[0], shaken.pairs(step)[0]) for step in range(6)]
    assert sum(is_shaken) == 3
    for step in range(6):
        assert len(untold.batch(step)) == 2
        assert torch.equal(untold.batch(step)[0], told.batch(step)[0])
    [found] = [told.batch(step) for step in range(2) if is_shaken[step]]
    assert torch.equal(found[2], shaken.pairs(is_shaken.index(True))[2])


def test_kernels_of_another_radius_are_the_same_movement() -> None:
    paths = shaking.draw(4, shaking.Shaking(longest=10), torch.Generator().manual_seed(3), radius=RADIUS)
    near, far = (
        [of(paths, radius)[:, None, None] for of in (shaking.even_kernels, shaking.odd_kernels)]
        for radius in (RADIUS, shaking.MARGIN)
    )
    assert near[0].shape != far[0].shape
    known = moved(*near)
    assert float(Movement()(known, far[0]).total) < 1e-6
    assert float(Movement()(known, *far).total) < 2e-3
    assert float(Movement()(known, far[0].roll(1, 0)).total) > 0.01
    assert float(Movement()(known, far[0], -far[1]).total) > 0.01
    # Of an odd part that one of the two does not know nothing is said.
    torch.manual_seed(0)
    untold = Movement()(moved(near[0]), *far).total
    torch.manual_seed(0)
    assert torch.equal(untold, Movement()(moved(near[0]), far[0]).total)


@pytest.mark.parametrize("prior", [None, PriorConfig(widths=(4, 4, 4))])
@pytest.mark.parametrize("phases", [False, True])
def test_what_is_told_on_the_way_is_what_forward_says(prior: PriorConfig | None, phases: bool) -> None:
    net = net_of(prior=prior, phases=phases).eval()
    blurred = torch.rand(1, 3, 128, 128)
    assert (net.forward_with_motion(blurred).motion.odd is not None) == phases
    told = net.forward_with_motion(blurred)
    assert torch.equal(told.restored[0], net(blurred)[0])
    assert torch.equal(told.motion.kernels, net.motion(blurred).kernels)
    assert (told.maps is None) == (prior is None)
    if told.maps is not None:
        _, maps = net.forward_with_prior(blurred)
        assert all(torch.equal(one, other) for one, other in zip(told.maps.f_pri, maps.f_pri, strict=True))


def test_the_truth_is_one_term_of_the_loss_and_nothing_where_it_is_not_known(photographs: Path) -> None:
    net = net_of()
    blurred, sharp, kernels, _ = source_of(photographs).pairs(0)
    torch.manual_seed(2)
    far = Movement()(net.motion(blurred), *kernels.unbind(-2)).total
    plain = DeblurObjective()(net, blurred, sharp)
    torch.manual_seed(2)
    told = DeblurObjective(truth=3.0)(net, blurred, sharp, kernels)
    assert list(told.terms) == ["reconstruction", "motion"]
    torch.testing.assert_close(told.terms["motion"], far)
    torch.testing.assert_close(told.total, plain.total + 3 * far)
    untold = DeblurObjective(truth=3.0)(net, blurred, sharp)
    assert torch.equal(untold.total, plain.total)
    assert list(untold.terms) == list(told.terms)  # what is averaged over steps has the same names in all of them
    assert float(untold.terms["motion"]) == 0


def test_mid_exposure_is_part_of_the_truth_for_a_net_that_tells_it(photographs: Path) -> None:
    net = net_of(phases=True, midway=True)
    blurred, sharp, *known = source_of(photographs, side=128).pairs(0)
    plain = DeblurObjective()(net, blurred, sharp)
    told = DeblurObjective(truth=3.0)(net, blurred, sharp, *known)
    assert list(told.terms) == ["reconstruction", "motion", "astray"]
    torch.testing.assert_close(told.terms["astray"], astray(torch.zeros_like(known[1]), known[1], known[0][..., 0, :]))
    torch.testing.assert_close(told.total, plain.total + 3 * (told.terms["motion"] + told.terms["astray"]))
    untold = DeblurObjective(truth=3.0)(net, blurred, sharp)
    assert list(untold.terms) == list(told.terms)
    assert float(untold.terms["astray"]) == 0


def test_a_prior_that_is_told_the_truth_sees_more_of_it(options: DistillMotionOptions) -> None:
    def far(truth: float) -> float:
        out = f"{options.out}-{truth:g}"
        said = one_step(options, shaken=1.0, steps=12, batch=4, lr=3e-3, warmup=0, motion_truth=truth, out=out)
        *_, last = only(Step, list(train.run(said)))
        assert ("motion" in last.losses) == bool(truth)
        net = net_of()
        net.load_state_dict(checkpoint.load(Path(out) / "last.safetensors").tensors)
        blurred, kernels = source_of(Path(options.data or ""), range(16), seed=11).batch(0)
        torch.manual_seed(0)
        return float(Movement()(net.motion(blurred), kernels).total.detach())

    assert far(30.0) < far(0.0)


def test_a_resumed_run_that_is_told_the_truth_ends_where_an_unbroken_one_does(options: DistillMotionOptions) -> None:
    even = {"lr": 3e-3, "final_lr": 3e-3, "warmup": 0}
    whole = one_step(options, shaken=0.5, steps=4, motion_truth=10.0, **even)
    list(train.run(whole))
    broken = replace(whole, out=f"{options.out}-broken")
    list(train.run(replace(broken, steps=2)))
    list(train.run(replace(broken, resume=True)))
    one, other = (checkpoint.load(Path(each.out) / "last.safetensors").tensors for each in (whole, broken))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"motion_truth": 1.0}, "known of shaken crops alone"),
        ({"motion_truth": -1.0}, "negative"),
        (
            {
                "motion_truth": 1.0,
                "shaken": 0.5,
                "dataset": "photos",
                "data": "d",
                "freeze_motion": True,
                "motion_weights": "a",
            },
            "means nothing with --freeze-motion",
        ),
    ],
)
def test_a_truth_that_is_not_known_or_not_heard_is_refused(said: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainOptions(**said)


def test_a_net_without_a_motion_prior_cannot_be_told(options: DistillMotionOptions) -> None:
    with pytest.raises(UsageError, match="no motion prior"):
        list(train.run(one_step(options, backbone="unet-fast", shaken=0.5, motion_truth=1.0)))
