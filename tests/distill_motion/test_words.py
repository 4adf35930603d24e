"""What is refused, and what a label and a sheet tell."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from small_motion import TINY, one_step

from deblur_cli import nets
from deblur_cli.cli import distill_motion as words
from deblur_cli.commands import distill_motion, train
from deblur_cli.errors import DeblurError, InputError, UsageError, WeightsError
from deblur_cli.files import checkpoint
from deblur_cli.options.distill_motion import MEANINGLESS, DistillMotionOptions


def test_priors_are_told_from_each_other(options: DistillMotionOptions, tmp_path: Path) -> None:
    list(distill_motion.run(replace(options, val_count=0, steps=1)))
    motion = f"{options.out}/last.safetensors"
    with pytest.raises(WeightsError, match="is a motion prior, not a semantic one") as caught:
        list(train.run(one_step(options, prior=True, prior_weights=motion)))
    assert "--motion-weights" in caught.value.hint
    with pytest.raises(UsageError, match="no motion prior"):
        list(train.run(one_step(options, backbone="unet-fast", motion_weights=motion)))
    semantic = tmp_path / "semantic.safetensors"
    label = checkpoint.Label(
        kind="prior", net="prior", config={}, made_with="a test", licence="none", trained_on="nothing"
    )
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors={"one": torch.ones(1)}), semantic)
    with pytest.raises(WeightsError, match="is a semantic prior, not a motion prior") as caught:
        list(train.run(one_step(options, motion_weights=str(semantic))))
    assert "--prior-weights" in caught.value.hint
    checkpoint.save(
        checkpoint.Checkpoint(label=replace(label, kind="net", net="unet"), tensors={"one": torch.ones(1)}), semantic
    )
    with pytest.raises(WeightsError, match="is the net unet, which has no motion prior"):
        list(train.run(one_step(options, motion_weights=str(semantic))))
    config = nets.to_mapping(TINY)
    checkpoint.save(
        checkpoint.Checkpoint(label=replace(label, net="motion", config=config), tensors={"one": torch.ones(1)}),
        semantic,
    )
    with pytest.raises(WeightsError, match="is not whole"):
        list(train.run(one_step(options, motion_weights=str(semantic))))


def test_a_label_tells_how_long_the_movements_were(options: DistillMotionOptions) -> None:
    list(distill_motion.run(replace(options, val_count=0, steps=1)))
    label = checkpoint.read_label(Path(options.out) / "last.safetensors")
    assert label.trained_on.startswith("4 sharp photographs")
    assert label.trained_on.endswith("blur of up to 16 px")


def test_views_that_are_all_margin_are_refused(options: DistillMotionOptions, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    Image.new("RGB", (120, 120)).save(tmp_path / "val" / "small.png")
    with pytest.raises(InputError, match="has 128 x 128 pixels"):
        list(distill_motion.run(replace(options, val=str(tmp_path / "val"))))


def test_an_untrained_motion_prior_is_not_frozen(options: DistillMotionOptions) -> None:
    with pytest.raises(UsageError, match="--freeze-motion would keep an untrained"):
        one_step(options, freeze_motion=True)


def test_a_sheet_shows_crops_and_kernels(options: DistillMotionOptions, tmp_path: Path) -> None:
    list(distill_motion.run(replace(options, preview=str(tmp_path / "sheets"))))
    with Image.open(tmp_path / "sheets" / "pairs-0.png") as sheet:
        assert sheet.size == (2 * 64 + 4, 2 * 64 + 4)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"crop": 96}, "--crop 96 is not a multiple of 64"),
        ({"preset": "unet-sp"}, "--preset unet-sp is none with a motion prior: motion-unet"),
        ({"preset": "no-such"}, "--preset no-such is none with a motion prior"),
        ({"max_blur": 50.0}, "--max-blur 50 is more than this prior can see: 40 px"),
        ({"crop": 192}, "photograph"),
    ],
)
def test_what_does_not_fit_is_refused(options: DistillMotionOptions, said: dict[str, Any], message: str) -> None:
    with pytest.raises(DeblurError, match=message):
        list(distill_motion.run(replace(options, **said)))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"dataset": "gopro", "data": "somewhere"}, "--dataset gopro holds pairs"),
        ({}, "photographs are not named"),
        ({"data": "somewhere", "objects": 1.5}, "--objects 1.5 is not between 0 and 1"),
        ({"data": "somewhere", "reuse": 3}, "--reuse means nothing"),
        ({"data": "somewhere", "trembling": 1.5}, "--trembling 1.5 is not between 0 and 1"),
    ],
)
def test_what_means_nothing_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DistillMotionOptions(**said)


def test_every_option_has_a_word() -> None:
    app = typer.Typer()
    words.register(app)
    words.register(app)  # a group of two shows the command's own name
    command = typer.main.get_command(app).commands["distill-motion"]
    names = {parameter.name for parameter in command.params}
    assert {field.name for field in fields(DistillMotionOptions)} - MEANINGLESS.keys() == names - {"help"}
