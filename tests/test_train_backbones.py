"""``deblur train --backbone NAME`` for every name, and beginnings from what the authors published; on tiny dials."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deblur_cli import foreign, nets
from deblur_cli.commands import train
from deblur_cli.errors import WeightsError
from deblur_cli.files import checkpoint
from deblur_cli.nets.bdirnet import BDIRNetConfig
from deblur_cli.nets.deepdeblur import DeepDeblurConfig
from deblur_cli.nets.dmphn import DMPHNConfig
from deblur_cli.nets.hinet import HINetConfig
from deblur_cli.nets.mimo_unet import MIMOUNetConfig
from deblur_cli.nets.mprnet import MPRNetConfig
from deblur_cli.nets.mssnet import MSSNetConfig
from deblur_cli.nets.nafnet import NAFNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.srn import SRNConfig
from deblur_cli.nets.unet import UNetConfig
from deblur_cli.options.train import TrainOptions
from deblur_cli.trainer import state, words
from deblur_cli.trainer.events import Started, Step, Stopped

PRIOR = PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1))
_MPRNET = MPRNetConfig(width=4, growth=2, original_growth=2, original_blocks=1, reduction=2)
TINY: dict[str, Any] = {
    "unet": UNetConfig(width=4, blocks=(1, 1, 1)),
    "deepdeblur": DeepDeblurConfig(blocks=2, width=4),
    "mprnet": _MPRNET,
    "mprnet-stage1": replace(_MPRNET, stages=1),
    "mimo-unet": MIMOUNetConfig(width=4, blocks=1),
    "mimo-unet-plus": MIMOUNetConfig(width=4, blocks=20, dropout=0.1),
    "mssnet": MSSNetConfig(widths=(4, 5, 6)),
    "srn": SRNConfig(width=4, blocks=1),
    "dmphn-1-2-4-8": DMPHNConfig(width=4),
    "hinet-half": HINetConfig(width=4),
    "nafnet-64": NAFNetConfig(width=4, encoder=(1, 1, 1, 1)),
    "bdirnet": BDIRNetConfig(width=4, blocks=(1, 0, 1)),
}
RATE = 1e-3


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The names of the presets, with dials that are quick; a thread, since nets this small lose by being shared out."""
    small = dict(nets.PRESETS)
    for name, config in TINY.items():
        small[name] = (small[name][0], config)
        small[f"{name}-sp"] = (small[name][0], replace(config, prior=PRIOR))
    monkeypatch.setattr(nets, "PRESETS", small)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def options(folder: Path, out: Path, **more: Any) -> TrainOptions:
    said = {"data": str(folder), "dataset": "pairs", "batch": 2, "crop": 32, "workers": 1, "device": "cpu"}
    paced = {"steps": 2, "log_every": 1, "ema": 0.0, "precision": "fp32", "perceptual": "none", "distill": False}
    return TrainOptions(**said | paced | {"out": str(out), "val_count": 0} | more)


@pytest.mark.parametrize("prior", [False, True], ids=["plain", "guided"])
@pytest.mark.parametrize("backbone", TINY)
def test_every_backbone_trains_by_its_name(backbone: str, prior: bool, folder: Path, tmp_path: Path) -> None:
    events = list(train.run(options(folder, tmp_path / "run", backbone=backbone, prior=prior)))
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.skipped for step in steps] == [0, 0]
    assert all(np.isfinite(list(step.losses.values())).all() for step in steps)
    assert isinstance(events[-1], Stopped)
    assert events[-1].reason == "finished"
    label = checkpoint.read_label(tmp_path / "run" / "last.safetensors")
    assert (label.net, (label.config["prior"] is not None)) == (nets.PRESETS[backbone][0], prior)


@pytest.mark.parametrize(
    ("backbone", "precision"), [("mimo-unet", "bf16"), ("deepdeblur", "fp32"), ("bdirnet", "fp32")]
)
def test_auto_takes_no_precision_that_a_net_does_not_stand(
    backbone: str, precision: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words.machine, "precision_of", lambda said, device: "bf16")
    first = next(iter(train.run(options(folder, tmp_path / "run", backbone=backbone, precision="auto", prior=False))))
    assert isinstance(first, Started)
    assert first.precision == precision


def published(path: Path, net: torch.nn.Module) -> Path:
    """A file as MIMO-UNet's authors write it."""
    torch.save({"model": net.state_dict()}, path)
    return path


def built(backbone: str) -> Any:
    name, config = nets.PRESETS[backbone]
    torch.manual_seed(5)
    return nets.build(name, nets.to_mapping(config))


def run_of(out: Path, **more: Any) -> dict[str, Any]:
    """The learner's state after the run."""
    *_, last = train.run(options(out=out, **more))
    assert isinstance(last, Stopped)
    label = checkpoint.read_label(out / "last.safetensors")
    return dict(state.load(out, net=label.net, config=label.config).learner)


def test_the_authors_weights_learn_slowly_beside_a_new_prior(folder: Path, tmp_path: Path) -> None:
    theirs = built("mimo-unet-plus").state_dict()
    file = published(tmp_path / "MIMO-UNetPlus.pkl", built("mimo-unet-plus"))
    out = tmp_path / "run"
    learner = run_of(out, folder=folder, backbone="mimo-unet-plus", init=str(file), lr=RATE, steps=1)
    factors = learner["factors"]
    assert {key for key, factor in factors.items() if factor == 0.1} == set(theirs)
    assert {key.partition(".")[0] for key, factor in factors.items() if factor == 1.0} == {"prior", "embed"}
    # The first step of Adam moves what has a gradient by the rate itself.
    now = learner["net"]
    ours = max(float((now[key] - value).abs().max()) for key, value in theirs.items())
    assert ours == pytest.approx(0.1 * RATE, rel=0.05)
    fresh = [float(value.abs().max()) for key, value in now.items() if key.endswith("mu.2.weight")]
    assert max(fresh) == pytest.approx(RATE, rel=0.05)
    label = checkpoint.read_label(out / "last.safetensors")
    assert label.config["prior"] is not None
    assert "--init MIMO-UNetPlus.pkl" in label.made_with
    assert label.licence != "that of whoever trained it"


@pytest.mark.parametrize(
    ("said", "factor"), [({"prior": False}, 1.0), ({"init_rate": 0.5}, 0.5), ({"init_rate": 1.0}, 1.0)]
)
def test_the_factor_is_one_without_a_new_prior_and_what_was_said(
    said: dict[str, Any], factor: float, folder: Path, tmp_path: Path
) -> None:
    file = published(tmp_path / "MIMO-UNet.pkl", built("mimo-unet"))
    learner = run_of(tmp_path / "run", folder=folder, backbone="mimo-unet", init=str(file), steps=1, **said)
    brought = {learner["factors"][key] for key in learner["factors"] if not key.startswith(("prior.", "embed."))}
    assert brought == {factor}


def test_a_resumed_run_still_says_what_it_began_from(folder: Path, tmp_path: Path) -> None:
    file = published(tmp_path / "the authors' own.pkl", built("mimo-unet"))
    out = tmp_path / "run"
    said = {"folder": folder, "backbone": "mimo-unet", "prior": False}
    run_of(out, **said, init=str(file), init_rate=0.5, steps=1)
    before = checkpoint.read_label(out / "last.safetensors").made_with
    for steps in (2, 3):
        events = list(train.run(options(**said, out=out, steps=steps, resume=True)))
        started = next(event for event in events if isinstance(event, Started))
        assert not {"init", "init_rate"} & started.changed.keys()
        after = checkpoint.read_label(out / "last.safetensors").made_with
        assert {"--init", "the authors' own.pkl", "--init-rate", "0.5", f"{steps}"} <= set(shlex.split(after))
        assert sorted(shlex.split(after)) == sorted(shlex.split(before.replace("--steps 1", f"--steps {steps}")))


def test_a_checkpoint_of_ours_that_has_its_prior_learns_at_the_whole_rate(folder: Path, tmp_path: Path) -> None:
    run_of(tmp_path / "first", folder=folder, backbone="mimo-unet", steps=1)
    file = tmp_path / "first" / "last.safetensors"
    learner = run_of(tmp_path / "second", folder=folder, backbone="mimo-unet", init=str(file), steps=1)
    assert set(learner["factors"].values()) == {1.0}


@pytest.mark.parametrize(
    ("backbone", "hint"), [("mimo-unet", "--backbone mimo-unet-plus"), ("srn", "--backbone mimo-unet")]
)
def test_weights_of_another_net_say_which_backbone_they_are(
    backbone: str, hint: str, folder: Path, tmp_path: Path
) -> None:
    file = published(tmp_path / "MIMO-UNetPlus.pkl", built("mimo-unet-plus"))
    with pytest.raises(WeightsError) as caught:
        list(train.run(options(folder, tmp_path / "run", backbone=backbone, init=str(file))))
    assert hint in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_the_licence_goes_with_the_weights_through_conversion_and_resumption(folder: Path, tmp_path: Path) -> None:
    theirs = foreign.convert(published(tmp_path / "MIMO-UNet.pkl", built("mimo-unet")), tmp_path / "ours.safetensors")
    said = {"folder": folder, "backbone": "mimo-unet", "prior": False}
    run_of(tmp_path / "run", **said, init=str(tmp_path / "ours.safetensors"), steps=1)
    file = tmp_path / "run" / "last.safetensors"
    assert checkpoint.read_label(file).licence == theirs.label.licence == "none stated by the authors"
    run_of(tmp_path / "run", **said, resume=True, steps=2)
    assert checkpoint.read_label(file).licence == theirs.label.licence
    run_of(tmp_path / "anew", **said, steps=1)
    assert checkpoint.read_label(tmp_path / "anew" / "last.safetensors").licence == "that of whoever trained it"


def test_a_teacher_that_nobody_named_and_nobody_has_is_told_with_the_ways_out(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="asl:tresnet_l are on no hub") as caught:
        list(train.run(options(folder, tmp_path / "run", backbone="nafnet", distill=True)))
    for way in ("--teacher-weights FILE", "--teacher timm:mobilenetv2_100", "--no-prior"):
        assert way in caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("backbone", ["mimo-unet", "bdirnet"])
def test_the_command_takes_a_step_of_the_whole_net(backbone: str, folder: Path, tmp_path: Path) -> None:
    said = f"--backbone {backbone} --no-prior --dataset pairs --steps 1 --batch 1 --crop 32 --device cpu --val-count 0"
    done = subprocess.run(
        [sys.executable, "-m", "deblur_cli", "train", *said.split(), "--data", folder, "--out", tmp_path / "run"],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kept = checkpoint.load(tmp_path / "run" / "last.safetensors")
    count = {"mimo-unet": 6_807_171, "bdirnet": 3_463_843}[backbone]
    assert sum(value.numel() for value in kept.tensors.values()) == count
