"""``deblur distill-teacher``: from a folder of photographs and a teacher's file to a prior that a net starts from."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import typer
from PIL import Image
from safetensors.torch import save_file

from deblur_cli import nets
from deblur_cli.cli import distill_teacher as words
from deblur_cli.commands import distill_teacher
from deblur_cli.errors import UsageError, WeightsError
from deblur_cli.files import checkpoint
from deblur_cli.nets.prior import PriorConfig, SemanticPrior
from deblur_cli.nets.unet import UNetConfig
from deblur_cli.options.distill_teacher import DistillTeacherOptions
from deblur_cli.options.train import TrainOptions
from deblur_cli.trainer import start
from deblur_cli.trainer.events import Step, Validated


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    chance = np.random.default_rng(0)
    for index in range(4):
        coarse = chance.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((192, 192), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "tiny.safetensors"
    save_file(timm.create_model("mobilenetv2_035").state_dict(), path, metadata={"timm": "mobilenetv2_035"})
    return path


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = PriorConfig(widths=(16, 24, 32), channels=(4, 6, 8), blocks=(1, 1, 1), sat_width=4)
    tiny = UNetConfig(width=4, blocks=(1, 1, 1), stem=2, prior=prior)
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, "unet-tiny-sp": ("unet", tiny)})


@pytest.fixture
def options(photographs: Path, teacher: Path, tmp_path: Path) -> DistillTeacherOptions:
    return DistillTeacherOptions(
        preset="unet-tiny-sp",
        teacher="timm:mobilenetv2_035",
        teacher_weights=str(teacher),
        dataset="photos",
        data=str(photographs),
        max_blur=4.0,
        hold_out=1,
        steps=4,
        batch=2,
        crop=16,
        lr=3e-3,
        val_every=2,
        val_crop=32,
        log_every=2,
        workers=0,
        pool_size=4,
        device="cpu",
        precision="fp32",
        out=str(tmp_path / "out"),
    )


def _only(kind: type, events: Iterator[object]) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_a_run_reports_the_levels_and_how_near_the_prior_comes(options: DistillTeacherOptions) -> None:
    events = list(distill_teacher.run(options))
    assert all(set(step.losses) == {"total", "level_1", "level_2", "level_3"} for step in _only(Step, iter(events)))
    for event in _only(Validated, iter(events)):
        assert list(event.scores) == ["closer", "ratio_1", "ratio_2", "ratio_3"]
        ratios = [event.scores[f"ratio_{level}"] for level in (1, 2, 3)]
        assert event.scores["closer"] == pytest.approx(1 - sum(ratios) / 3)
        assert min(ratios) > 0
    assert len(_only(Validated, iter(events))) == 2
    assert events[-1].reason == "finished"


def test_the_checkpoint_is_a_prior_that_a_net_starts_from(options: DistillTeacherOptions) -> None:
    list(distill_teacher.run(options))
    path = Path(options.out) / "last.safetensors"
    found = checkpoint.load(path)
    assert (found.label.kind, found.label.net) == ("prior", "prior")
    assert "--teacher timm:mobilenetv2_035" in found.label.made_with
    assert not any("teacher" in name or "trunk" in name for name in found.tensors)

    guided = replace(nets.PRESETS["unet-tiny-sp"][1], prior=PriorConfig(fusion="add", mla=False))
    config = start.with_prior_of(guided, found, str(path))
    assert config.prior.widths == (8, 8, 16)
    assert (config.prior.fusion, config.prior.mla) == ("add", False)
    net = nets.build("unet", nets.to_mapping(config))
    start.fill_prior(net, found, str(path))
    alone = SemanticPrior(replace(config.prior, fusion="sat"), stem=2)
    alone.load_state_dict(dict(found.tensors))
    image = torch.rand(1, 3, 32, 32)
    for ours, theirs in zip(net.prior(image).f_pri, alone(image).f_pri, strict=True):
        assert torch.equal(ours, theirs)


def test_a_resumed_run_goes_on_where_it_stood(options: DistillTeacherOptions) -> None:
    list(distill_teacher.run(replace(options, steps=2, val_count=0)))
    events = list(distill_teacher.run(replace(options, steps=4, val_count=0, resume=True)))
    assert events[0].step == 2
    assert "steps" in events[0].changed
    assert [event.step for event in _only(Step, iter(events))] == [4]
    assert events[-1].step == 4


def test_the_same_seed_gives_the_same_prior(options: DistillTeacherOptions) -> None:
    list(distill_teacher.run(options))
    again = replace(options, out=f"{options.out}-again")
    list(distill_teacher.run(again))
    first, second = (checkpoint.load(Path(each.out) / "last.safetensors").tensors for each in (options, again))
    assert all(torch.equal(values, second[name]) for name, values in first.items())


def test_without_cross_level_connection_the_prior_has_none(options: DistillTeacherOptions) -> None:
    list(distill_teacher.run(replace(options, clc=False, steps=1, val_count=0)))
    found = checkpoint.load(Path(options.out) / "last.safetensors")
    assert found.label.config["clc"] is False
    assert not any(name.startswith("connect.") for name in found.tensors)


@pytest.mark.parametrize("preset", ["unet", "no-such"])
def test_a_preset_without_a_prior_is_refused(options: DistillTeacherOptions, preset: str) -> None:
    with pytest.raises(UsageError, match="unet-sp") as caught:
        list(distill_teacher.run(replace(options, preset=preset)))
    assert f"--preset {preset}" in caught.value.message


def test_a_crop_that_the_prior_cannot_take_is_refused(options: DistillTeacherOptions) -> None:
    with pytest.raises(UsageError, match="--crop 36 is not a multiple of 8"):
        list(distill_teacher.run(replace(options, crop=36)))


def test_without_words_the_papers_teacher_is_wanted(options: DistillTeacherOptions) -> None:
    bare = replace(options, preset="unet-sp", teacher=None, teacher_weights=None)
    with pytest.raises(WeightsError, match="asl:tresnet_l") as caught:
        list(distill_teacher.run(bare))
    assert "--teacher-weights FILE" in caught.value.hint


def test_a_wrong_reading_is_refused() -> None:
    with pytest.raises(UsageError, match="--reading l7 is not one of"):
        DistillTeacherOptions(reading="l7")


def test_a_teacher_of_no_family_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="--teacher resnet50 is of none of timm, torchvision, asl") as caught:
        DistillTeacherOptions(teacher="resnet50")
    assert "timm:NAME" in caught.value.hint


def test_every_option_has_a_word() -> None:
    app = typer.Typer()
    words.register(app)
    words.register(app)  # a group of two shows the command's own name
    command = typer.main.get_command(app).commands["distill-teacher"]
    names = {parameter.name for parameter in command.params}
    assert {field.name for field in fields(DistillTeacherOptions)} <= names


def test_train_and_distill_teacher_share_their_words() -> None:
    shared = {"data", "dataset", "steps", "epochs", "batch", "crop", "lr", "seed", "out", "resume", "max_time", "val"}
    shared |= {"device", "precision", "teacher", "teacher_weights", "preset", "clc", "reading"}
    assert shared <= {field.name for field in fields(DistillTeacherOptions)} & {
        field.name for field in fields(TrainOptions)
    }
