"""``deblur train --phases-alone``: the phases of a movement learn beside a net that stays as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_motion import TINY, one_step, only, source_of

from deblur_cli import nets
from deblur_cli.commands import train
from deblur_cli.errors import UsageError
from deblur_cli.files import checkpoint
from deblur_cli.movement import Movement, PhaseObjective, astray
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.options.distill_motion import DistillMotionOptions
from deblur_cli.options.train import TrainOptions
from deblur_cli.pixels import shaking
from deblur_cli.trainer.events import Step

CONFIG = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY, phases=True)


@pytest.fixture(autouse=True)
def _preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, "motion-unet-phases-sp": ("motion-unet", CONFIG)})


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A net that was trained without phases."""
    torch.manual_seed(0)
    plain = replace(CONFIG, phases=False)
    label = checkpoint.Label(
        net="motion-unet", config=nets.to_mapping(plain), made_with="a test", licence="CC0-1.0", trained_on="nothing"
    )
    path = tmp_path / "trained.safetensors"
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=MotionUNet(plain).state_dict()), path)
    return path


def alone(options: DistillMotionOptions, trained: Path, **said: object) -> TrainOptions:
    given = {
        "preset": "motion-unet-phases-sp",
        "init": str(trained),
        "phases_alone": True,
        "shaken": 1.0,
        "crop": 128,
        "batch": 2,
        "steps": 3,
        "lr": 3e-3,
        "warmup": 0,
    }
    return one_step(options, **(given | said))


def test_nothing_but_the_phases_learns_and_the_licence_stays(options: DistillMotionOptions, trained: Path) -> None:
    said = alone(options, trained)
    *_, last = only(Step, list(train.run(said)))
    assert list(last.losses)[:3] == ["total", "motion", "odd"]
    found = checkpoint.load(Path(said.out) / "last.safetensors")
    before = checkpoint.load(trained).tensors
    assert all(torch.equal(found.tensors[name], value) for name, value in before.items())
    new = {name: value for name, value in found.tensors.items() if name not in before}
    assert new
    assert all(name.startswith("phases.") for name in new)
    assert new["phases.lean.weight"].abs().max() > 0
    assert found.label.licence == "CC0-1.0"
    assert found.label.config["phases"] is True


def test_a_resumed_run_ends_where_an_unbroken_one_does(options: DistillMotionOptions, trained: Path) -> None:
    even = {"lr": 3e-3, "final_lr": 3e-3, "steps": 4}
    whole = alone(options, trained, **even)
    list(train.run(whole))
    broken = replace(whole, out=f"{options.out}-broken")
    list(train.run(replace(broken, steps=2)))
    list(train.run(replace(broken, resume=True, init=None)))
    one, other = (checkpoint.load(Path(each.out) / "last.safetensors").tensors for each in (whole, broken))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_objective_is_the_movement_and_the_squares_of_what_is_odd(photographs: Path) -> None:
    torch.manual_seed(0)
    net = MotionUNet(CONFIG)
    blurred, sharp, kernels, midway = source_of(photographs, side=128).pairs(0)
    torch.manual_seed(1)
    far = Movement()(net.moved(blurred), *kernels.unbind(-2)).total
    torch.manual_seed(1)
    found = PhaseObjective()(net, blurred, sharp, kernels, midway)
    torch.testing.assert_close(found.terms["motion"], far.detach())
    torch.testing.assert_close(found.total.detach(), found.terms["motion"] + 20 * found.terms["odd"])
    assert float(found.terms["odd"]) > 0
    found.total.backward()
    assert net.phases.lean.weight.grad.abs().max() > 0
    assert net.conv1.weight.grad is None


def test_a_net_that_tells_mid_exposure_learns_that_too(photographs: Path) -> None:
    torch.manual_seed(0)
    net = MotionUNet(replace(CONFIG, midway=True))
    torch.nn.init.normal_(net.phases.lean.weight)
    blurred, sharp, kernels, midway = source_of(photographs, side=128).pairs(0)
    found = PhaseObjective()(net, blurred, sharp, kernels, midway)
    assert list(found.terms) == ["motion", "odd", "astray"]
    torch.testing.assert_close(found.terms["astray"], astray(torch.zeros_like(midway), midway, kernels[..., 0, :]))
    parts = found.terms["motion"] + 20 * found.terms["odd"] + found.terms["astray"]
    torch.testing.assert_close(found.total.detach(), parts)
    found.total.backward()
    assert net.midway.weigh[-1].bias.grad.abs().max() > 0


def test_a_net_that_moves_to_mid_exposure_is_not_asked_for_the_mean(
    options: DistillMotionOptions, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = ("motion-unet", replace(CONFIG, midway=True))
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, "motion-unet-midway-sp": further})
    given = {"preset": "motion-unet-midway-sp", "init": str(trained), "shaken": 1.0, "crop": 128}
    said = one_step(options, **given)
    with pytest.raises(UsageError, match="mid-exposure") as refused:
        list(train.run(said))
    assert "--sharp-at middle" in str(refused.value.hint)
    assert only(Step, list(train.run(replace(said, sharp_at="middle"))))


def test_astray_is_told_in_widths_of_the_movement() -> None:
    path = torch.tensor([[[-3.0, 0.0], [3.0, 0.0]]])
    even = shaking.even_kernels(path, 5)[:, None, None]
    nowhere = torch.zeros(1, 1, 1, 2)
    assert float(astray(nowhere + torch.tensor([1.0, -2.0]), nowhere, even)) == pytest.approx(5 / 9.25)
    still = shaking.even_kernels(torch.zeros(1, 2, 2), 5)[:, None, None]
    assert float(astray(nowhere + 0.5, nowhere, still)) == pytest.approx(2)


def test_what_was_trained_with_phases_begins_with_mid_exposure_in_the_mean(
    options: DistillMotionOptions, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = alone(options, trained)
    list(train.run(first))
    before = Path(first.out) / "last.safetensors"
    further = ("motion-unet", replace(CONFIG, midway=True))
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, "motion-unet-midway-sp": further})
    said = alone(options, before, preset="motion-unet-midway-sp", out=f"{options.out}-midway")
    *_, last = only(Step, list(train.run(said)))
    assert list(last.losses)[:4] == ["total", "motion", "odd", "astray"]
    found, known = (checkpoint.load(path).tensors for path in (Path(said.out) / "last.safetensors", before))
    new = {name: value for name, value in found.items() if name not in known}
    assert new
    assert all(name.startswith("midway.") for name in new)
    assert new["midway.weigh.2.bias"].any()
    assert not torch.equal(found["phases.lean.weight"], known["phases.lean.weight"])
    assert torch.equal(found["conv1.weight"], known["conv1.weight"])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"init": None}, "untrained net"),
        ({"shaken": 0.5}, "known of shaken crops alone"),
        ({"motion_truth": 1.0}, "--motion-truth means nothing"),
        ({"tutor": "default"}, "--tutor means nothing"),
    ],
)
def test_what_does_not_go_with_phases_alone_is_refused(said: dict, message: str) -> None:
    given = {"phases_alone": True, "shaken": 1.0, "init": "a", "dataset": "photos", "data": "d"}
    with pytest.raises(UsageError, match=message):
        TrainOptions(**(given | said))


def test_a_net_that_sees_no_phases_is_refused(options: DistillMotionOptions, trained: Path) -> None:
    with pytest.raises(UsageError, match="does not see the phases"):
        list(train.run(alone(options, trained, preset="motion-unet")))
