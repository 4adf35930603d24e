"""What all training commands make of the words that they share: the plan of the run, its description, its preview."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from deblur_cli import __version__
from deblur_cli.errors import DeblurError, UsageError
from deblur_cli.files import checkpoint
from deblur_cli.files.sheet import write_sheet
from deblur_cli.trainer import machine
from deblur_cli.trainer.data import Data, preview
from deblur_cli.trainer.events import Previewed
from deblur_cli.trainer.plan import Plan
from deblur_cli.trainer.sources import PairSource

T = TypeVar("T")

_SHEETS = 4
_NOT_THE_RUN = frozenset(
    {"out", "resume", "max_time", "workers", "profile", "preview", "tensorboard", "device", "threads"}
)
"""Words that change nothing of what a run computes."""
_BEGINNINGS = ("init", "init_rate", "prior_weights", "motion_weights", "motion_rate")
"""Words of what a run begins with, which the same run need not say again when it is resumed."""
_PATHS = frozenset(
    {"data", "val", "init", "prior_weights", "motion_weights", "teacher_weights", "tutor", "perceptual", "kernels"}
)
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
        """Learning rate after the warm-up."""
        ...

    @property
    def final_rate(self) -> float:
        """Learning rate of the last step."""
        ...

    @property
    def warmup(self) -> float:
        """Share of the steps over which the learning rate rises."""
        ...

    @property
    def drops(self) -> tuple[float, ...]:
        """Where the learning rate drops, as shares of the steps; empty: it falls smoothly."""
        ...

    @property
    def power(self) -> float:
        """By which it falls; 0: along half a cosine."""
        ...

    @property
    def epochs(self) -> int:
        """Passes through the data."""
        ...

    @property
    def steps(self) -> int | None:
        """Length of the whole run, in place of :attr:`epochs`."""
        ...

    @property
    def optimiser(self) -> str:
        """``adamw`` or ``adam``."""
        ...

    @property
    def betas(self) -> tuple[float, float]:
        """Of the optimiser."""
        ...

    @property
    def weight_decay(self) -> float:
        """Of the optimiser."""
        ...

    @property
    def clip(self) -> float:
        """Largest norm of the gradient; 0 clips nothing."""
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
    an_epoch = max(1, count // batch)
    if words.epochs is None and recipe.steps is not None:
        steps: int = words.steps or recipe.steps
    else:
        steps = words.steps or (words.epochs or recipe.epochs) * an_epoch
    return Plan(
        steps=steps,
        batch=batch,
        seed=words.seed,
        rate=recipe.rate if words.lr is None else words.lr,
        final_rate=recipe.final_rate if words.final_lr is None else words.final_lr,
        warmup=round(recipe.warmup * steps) if words.warmup is None else words.warmup,
        hold=words.hold,
        drops=recipe.drops,
        power=recipe.power,
        optimiser=words.optimiser or recipe.optimiser,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay if words.weight_decay is None else words.weight_decay,
        clip=recipe.clip if words.clip is None else words.clip,
        average=words.ema,
        precision=machine.precision_of(words.precision, device),
        compile=words.compile,
        log_every=words.log_every,
        validate_every=words.val_every,
        save_minutes=words.save_minutes,
    )


def made_with(command: str, words: Any) -> str:
    """What a label says of how its checkpoint was made: version, command, and the words that change what a run computes.

    Of files and folders it says the name alone: where they lay means nothing to anybody else. A run that is resumed keeps
    what it began with.
    """
    said = {
        field.name: _said(field.name, getattr(words, field.name))
        for field in fields(words)
        if field.default is not MISSING
        and getattr(words, field.name) != field.default
        and field.name not in _NOT_THE_RUN | {"save_every", "log_every"}
    }
    begun = _begun(Path(words.out) / "last.safetensors") if words.resume else {}
    return f"deblur {__version__}: {' '.join([command, *(begun | said).values()])}"


def _begun(path: Path) -> dict[str, str]:
    """What the run whose weights are in ``path`` began with; a run stands in its state alone, so they may be missing."""
    try:
        earlier = shlex.split(checkpoint.read_label(path).made_with)
    except (DeblurError, ValueError):
        return {}
    flags = {f"--{name.replace('_', '-')}": name for name in _BEGINNINGS}
    return {flags[flag]: f"{flag} {shlex.quote(value)}" for flag, value in pairwise(earlier) if flag in flags}


def _said(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    if name in _PATHS:
        value = Path(value).resolve().name
    return f"--{flag} {shlex.quote(str(value))}"


def described(words: Any, data: Data) -> Mapping[str, str]:
    """What a resumed run is compared with, beside its plan."""
    left_out = _NOT_THE_RUN | {field.name for field in fields(Plan)} | set(_BEGINNINGS if words.resume else ())
    said = {field.name: str(getattr(words, field.name)) for field in fields(words) if field.name not in left_out}
    return {"pairs": str(data), "scored": "blurred views", **said}


def write_preview(words: Any, pairs: PairSource) -> Previewed:
    """Sheets of ``pairs`` to look at, in the folder of ``--preview``; the source is closed."""
    folder = Path(words.preview)
    try:
        for index, rows in enumerate(preview(pairs, _SHEETS)):
            write_sheet(folder / f"pairs-{index}.png", rows)
    finally:
        pairs.close()
    return Previewed(path=folder, sheets=_SHEETS)
