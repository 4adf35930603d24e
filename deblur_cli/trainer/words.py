"""What all training commands make of the words that they share: the plan of the run, its description, its preview."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from deblur_cli import __version__
from deblur_cli.errors import UsageError
from deblur_cli.files.sheet import write_sheet
from deblur_cli.trainer import machine
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.data import Data, preview
from deblur_cli.trainer.events import Previewed
from deblur_cli.trainer.plan import Plan

T = TypeVar("T")

_SHEETS = 4
_NOT_THE_RUN = frozenset(
    {"out", "resume", "max_time", "workers", "profile", "preview", "tensorboard", "device", "threads"}
)
"""Words that change nothing of what a run computes."""
_PATHS = frozenset({"data", "val", "init", "prior_weights", "teacher_weights", "perceptual", "kernels"})
"""Words that may name a place on somebody's disk."""


class Recipe(Protocol):
    """What a paper says of the numbers that nobody said."""

    @property
    def batch(self) -> int:
        """Crops per step."""
        ...

    @property
    def crop(self) -> int:
        """Side of a crop in pixels."""
        ...

    @property
    def rate(self) -> float:
        """Learning rate of the first step."""
        ...

    @property
    def final_rate(self) -> float:
        """Learning rate of the last step."""
        ...

    @property
    def epochs(self) -> int:
        """Passes through the data."""
        ...


def unpacked(kind: type[T], words: Any) -> T:
    """The dataclass ``kind``, each field from the word of its name."""
    return kind(**{field.name: getattr(words, field.name) for field in fields(kind)})  # pyright: ignore[reportArgumentType]


def crop_of(words: Any, recipe: Recipe, multiple: int) -> int:
    """The side of a crop in pixels.

    Raises:
        UsageError: it is no multiple of ``multiple``.
    """
    crop: int = words.crop or recipe.crop
    if crop % multiple:
        raise UsageError(
            f"--crop {crop} is not a multiple of {multiple}, as the net needs.",
            f"Say --crop {max(1, crop // multiple) * multiple}.",
        )
    return crop


def plan_of(words: Any, recipe: Recipe, *, count: int, device: torch.device) -> Plan:
    """The numbers of the run.

    Args:
        words: the options of a training command.
        recipe: where they say nothing.
        count: photographs or pairs, what an epoch passes through.
        device: where the run computes.
    """
    batch = words.batch or recipe.batch
    return Plan(
        steps=words.steps or (words.epochs or recipe.epochs) * max(1, count // batch),
        batch=batch,
        seed=words.seed,
        rate=recipe.rate if words.lr is None else words.lr,
        final_rate=recipe.final_rate if words.final_lr is None else words.final_lr,
        warmup=words.warmup,
        hold=words.hold,
        optimiser=words.optimiser,
        weight_decay=words.weight_decay,
        clip=words.clip,
        average=words.ema,
        precision=machine.precision_of(words.precision, device),
        compile=words.compile,
        log_every=words.log_every,
        validate_every=words.val_every,
        save_minutes=words.save_minutes,
    )


def made_with(command: str, words: Any) -> str:
    """What a label says of how its checkpoint was made: version, command, and the words that change what a run computes.

    Of files and folders it says the name alone: where they lay means nothing to anybody else.
    """
    said = [
        _said(field.name, getattr(words, field.name))
        for field in fields(words)
        if field.default is not MISSING
        and getattr(words, field.name) != field.default
        and field.name not in _NOT_THE_RUN | {"save_every", "log_every"}
    ]
    return f"deblur {__version__}: {' '.join([command, *said])}"


def _said(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    if name in _PATHS:
        value = Path(value).resolve().name
    return f"--{flag} {shlex.quote(str(value))}"


def described(words: Any, data: Data) -> Mapping[str, str]:
    """What a resumed run is compared with, beside its plan."""
    left_out = _NOT_THE_RUN | {field.name for field in fields(Plan)}
    said = {field.name: str(getattr(words, field.name)) for field in fields(words) if field.name not in left_out}
    return {"pairs": str(data), "scored": "blurred views", **said}


def write_preview(words: Any, recipe: Recipe, data: Data, crew: Crew) -> Previewed:
    """Sheets of pairs to look at, in the folder of ``--preview``."""
    folder = Path(words.preview)
    pairs = data.source(batch=words.batch or recipe.batch, seed=words.seed, crew=crew)
    try:
        for index, rows in enumerate(preview(pairs, _SHEETS)):
            write_sheet(folder / f"pairs-{index}.png", rows)
    finally:
        pairs.close()
    return Previewed(path=folder, sheets=_SHEETS)
