"""A run from a folder of sharp photographs to a motion prior that a net starts from."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_motion import RADIUS, TINY, one_step, only
from torch import Tensor

from deblur_cli import nets
from deblur_cli.commands import distill_motion, train
from deblur_cli.files import checkpoint, photos
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.nets.motion_unet import MotionUNetConfig
from deblur_cli.options.distill_motion import DistillMotionOptions
from deblur_cli.pixels import shaking
from deblur_cli.trainer import state
from deblur_cli.trainer.events import Step, Validated
from deblur_cli.trainer.shaken import ShakenPhotos, acquaint

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_reports_what_is_seen(options: DistillMotionOptions) -> None:
    events = list(distill_motion.run(options))
    assert all(set(step.losses) == {"total", "transfer", "anywhere"} for step in only(Step, events))
    validated = only(Validated, events)
    assert [event.step for event in validated] == [2, 4]
    assert all(next(iter(event.scores)) == "seen" for event in validated)
    seen, *waves = validated[-1].scores.values()
    assert seen == pytest.approx(sum(waves) / 5)
    assert events[-1].reason == "finished"


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "muon"])
def test_every_optimiser_moves_a_prior_without_filters(options: DistillMotionOptions, optimiser: str) -> None:
    moved: list[Tensor] = []
    for steps in (1, 2):
        out = f"{options.out}-{steps}"
        list(distill_motion.run(replace(options, optimiser=optimiser, ema=0.0, val_count=0, steps=steps, out=out)))
        moved.append(checkpoint.load(Path(out, "last.safetensors")).tensors["kernel.weight"])
    assert not torch.equal(*moved)


def test_a_resumed_run_ends_where_an_unbroken_one_does(options: DistillMotionOptions) -> None:
    list(distill_motion.run(replace(options, val_count=0)))
    broken = replace(options, val_count=0, out=f"{options.out}-broken")
    list(distill_motion.run(replace(broken, steps=2)))
    events = list(distill_motion.run(replace(broken, resume=True)))
    assert events[0].step == 2
    one, other = (state.load(Path(each.out), net="motion", config=nets.to_mapping(TINY)) for each in (options, broken))
    assert one.step == other.step == 4
    for part in ("net", "average"):
        assert all(torch.equal(value, other.learner[part][name]) for name, value in one.learner[part].items())


def test_a_crew_of_two_begins_with_the_same_numbers_as_one_alone(photographs: Path, tmp_path: Path) -> None:
    said = "--crop 64 --batch 2 --steps 1 --val-count 2 --val-crop 64 --hold-out 1 --max-blur 16 --precision fp32 --threads 1"
    where = ["--device", "cpu", "--data", str(photographs), "--out", str(tmp_path / "two")]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "deblur_cli"]
    done = subprocess.run(
        [sys.executable, *launcher, "distill-motion", *said.split(), *where],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = checkpoint.load(tmp_path / "two" / "last.safetensors").tensors
    alone = MotionPrior(MotionConfig(scales=2))
    album = photos.load(photographs, smallest=128)
    album = album.part([0, 1, 3])  # the third is held out
    recipe = shaking.Shaking(longest=16.0)
    place = torch.device("cpu")
    source = ShakenPhotos(album, recipe, crop=64, radius=RADIUS, slots=range(2), seed=0, device=place)
    acquaint(alone, source, 128)
    torch.testing.assert_close(found["usual"], alone.usual)
    torch.testing.assert_close(found["spread"], alone.spread)


def test_the_checkpoint_is_a_motion_prior_that_a_net_starts_from(options: DistillMotionOptions) -> None:
    list(distill_motion.run(replace(options, val_count=0)))
    path = Path(options.out) / "last.safetensors"
    found = checkpoint.load(path)
    assert (found.label.kind, found.label.net) == ("prior", "motion")
    assert found.label.config == nets.to_mapping(TINY)
    assert "deblur" in found.label.made_with
    assert "distill-motion" in found.label.made_with
    assert bool((found.tensors["usual"] != 0).all())
    said = one_step(options, motion_weights=str(path), freeze_motion=True)
    list(train.run(said))
    net = checkpoint.load(Path(said.out) / "last.safetensors")
    assert f"--motion-weights {path.name}" in net.label.made_with
    for name, value in found.tensors.items():
        assert torch.equal(value, net.tensors[f"motion.{name}"])
    learns = one_step(options, motion_weights=str(path), steps=3, lr=1e-2, out=f"{options.out}-learns")
    list(train.run(learns))
    net = checkpoint.load(Path(learns.out) / "last.safetensors")
    assert torch.equal(found.tensors["usual"], net.tensors["motion.usual"])
    assert not torch.equal(found.tensors["kernel.weight"], net.tensors["motion.kernel.weight"])
    slow = replace(learns, motion_rate=0.0, out=f"{options.out}-slow")
    list(train.run(slow))
    net = checkpoint.load(Path(slow.out) / "last.safetensors")
    assert torch.equal(found.tensors["kernel.weight"], net.tensors["motion.kernel.weight"])


def test_a_motion_prior_that_looked_once_learns_to_look_again(options: DistillMotionOptions) -> None:
    list(distill_motion.run(options))
    first = Path(options.out) / "last.safetensors"
    again = replace(TINY, looks=2)
    nets.PRESETS["motion-unet"] = ("motion-unet", MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=again))  # type: ignore[index]
    twice = replace(options, motion_weights=str(first), out=f"{options.out}-2")
    list(distill_motion.run(twice))
    before, after = (checkpoint.load(Path(each.out) / "last.safetensors") for each in (options, twice))
    assert after.label.config["looks"] == 2
    assert before.tensors.keys() < after.tensors.keys()
    assert bool(after.tensors["again.more.weight"].any())


def test_a_run_goes_on_from_a_motion_prior(options: DistillMotionOptions) -> None:
    list(distill_motion.run(options))
    first = Path(options.out) / "last.safetensors"
    stays = replace(options, motion_weights=str(first), out=f"{options.out}-2", steps=1, lr=1e-9, final_lr=1e-9)
    # Its dials come from the file: the preset has others by now.
    nets.PRESETS["motion-unet"] = ("motion-unet", MotionUNetConfig(width=4, blocks=(1, 1, 1)))  # type: ignore[index]
    list(distill_motion.run(stays))
    before, after = (checkpoint.load(each) for each in (first, Path(stays.out) / "last.safetensors"))
    assert {**before.label.config, "steer": 96} == after.label.config  # how a net is told stays the net's
    for name, tensor in before.tensors.items():
        torch.testing.assert_close(after.tensors[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_a_run_goes_on_from_the_motion_prior_of_a_net(options: DistillMotionOptions) -> None:
    said = one_step(options)
    list(train.run(said))
    net = Path(said.out) / "last.safetensors"
    stays = replace(options, motion_weights=str(net), out=f"{options.out}-2", steps=1, lr=1e-9, final_lr=1e-9)
    list(distill_motion.run(stays))
    whole, alone = (checkpoint.load(each) for each in (net, Path(stays.out) / "last.safetensors"))
    assert alone.label.config == whole.label.config["motion"]
    for name, tensor in alone.tensors.items():
        torch.testing.assert_close(tensor, whole.tensors[f"motion.{name}"], atol=1e-6, rtol=0, msg=name)
    other = replace(said, motion_weights=str(net), freeze_motion=True, seed=5, out=f"{options.out}-3")
    list(train.run(other))
    again = checkpoint.load(Path(other.out) / "last.safetensors")
    assert torch.equal(again.tensors["motion.kernel.weight"], whole.tensors["motion.kernel.weight"])
    assert not torch.equal(again.tensors["conv1.weight"], whole.tensors["conv1.weight"])


def test_the_licence_of_a_net_goes_with_its_motion_prior(options: DistillMotionOptions) -> None:
    said = one_step(options)
    list(train.run(said))
    path = Path(said.out) / "last.safetensors"
    net = checkpoint.load(path)
    checkpoint.save(replace(net, label=replace(net.label, licence="CC BY-NC 4.0")), path)
    list(distill_motion.run(replace(options, motion_weights=str(path), val_count=0, steps=1)))
    other = replace(said, motion_weights=str(path), out=f"{options.out}-2")
    list(train.run(other))
    for out in (options.out, other.out):
        assert checkpoint.read_label(Path(out) / "last.safetensors").licence == "CC BY-NC 4.0"


def test_a_net_takes_the_size_of_the_motion_prior(
    options: DistillMotionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(distill_motion.run(replace(options, val_count=0, steps=1)))
    wider = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=replace(TINY, width=24, steer=6))
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, "motion-unet": ("motion-unet", wider)})
    said = one_step(options, motion_weights=f"{options.out}/last.safetensors")
    list(train.run(said))
    motion = checkpoint.read_label(Path(said.out) / "last.safetensors").config["motion"]
    assert (motion["width"], motion["steer"]) == (16, 6)
