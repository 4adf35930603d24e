"""What a training run tells while it runs. ``str(event)`` is the human line, ``asdict(event)`` the line of the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run is ready to take its first step."""

    step: int
    """Steps already taken: 0, or where the resumed run stood."""
    steps: int
    """Steps of the whole run."""
    net: str
    parameters: int
    """Numbers that are trained."""
    device: str
    precision: str
    pairs: str
    """Where the pairs come from."""
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Dials that differ from those of the resumed run: name to (before, now)."""

    def __str__(self) -> str:
        line = f"{self.net}, {self.parameters:,} parameters, {self.precision} on {self.device}; {self.pairs}"
        if self.step:
            line += f"; resumed at step {self.step:,}"
        if self.changed:
            line += "; changed: " + ", ".join(f"{name} {old} -> {new}" for name, (old, new) in self.changed.items())
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The mean over the steps since the last such event."""

    step: int
    """Steps taken so far."""
    steps: int
    losses: Mapping[str, float]
    """``total`` and every term, without the steps that were skipped."""
    gradient: float
    """Norm of the gradient over all parameters, before clipping."""
    rate: float
    """Learning rate of the last step."""
    crops_per_second: float
    waiting: float
    """Share of the time spent waiting for data, 0 to 1."""
    seconds_left: float
    """Until the last step, at this pace."""
    skipped: int
    """Steps of the whole run whose gradient was not finite and that were therefore not taken."""

    def __str__(self) -> str:
        terms = (
            "" if len(self.losses) < 2 else " (" + _named({k: v for k, v in self.losses.items() if k != "total"}) + ")"
        )
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return (
            f"step {self.step:,}/{self.steps:,}  loss {self.losses['total']:.5f}{terms}  lr {self.rate:.2e}"
            f"  {self.crops_per_second:.1f} crops/s, {self.waiting:.0%} waiting{skipped}  {_clock(self.seconds_left)} left"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """The averaged weights were scored."""

    step: int
    scores: Mapping[str, float]
    """The first one decides which weights are the best: higher is better."""
    best: bool
    """The best so far; its checkpoint is kept as ``best.safetensors``."""

    def __str__(self) -> str:
        return f"step {self.step:,}  validation: {_named(self.scores)}{'  (best so far)' if self.best else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The state and the checkpoint of this step are on the disk, whole."""

    step: int
    path: Path

    def __str__(self) -> str:
        return f"step {self.step:,}  saved {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaved:
    """The disk refused; the earlier files are untouched and the run goes on."""

    step: int
    reason: str

    def __str__(self) -> str:
        return f"step {self.step:,}  NOT saved: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """How fast the run would be; nothing was saved."""

    steps: int
    crops_per_second: float
    waiting: float
    """Share of the time spent waiting for data, 0 to 1."""
    plain_crops_per_second: float
    """The same net in a plain float32 NCHW loop on ready data."""

    def __str__(self) -> str:
        ratio = self.crops_per_second / self.plain_crops_per_second
        return (
            f"{self.crops_per_second:.2f} crops/s over {self.steps} steps, {self.waiting:.1%} of the time waiting for data: "
            f"{ratio:.2f} times the {self.plain_crops_per_second:.2f} crops/s of a plain float32 loop on ready data"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """Sheets of pairs were written; nothing was trained."""

    path: Path
    sheets: int

    def __str__(self) -> str:
        return f"{self.sheets} sheets of pairs, blurred beside sharp, in {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The run ended cleanly."""

    step: int
    steps: int
    reason: str
    """``finished``, ``time`` (the time allowed is up) or the name of a signal."""
    path: Path
    """The folder that ``--resume`` continues."""

    def __str__(self) -> str:
        if self.reason == "finished":
            return f"finished {self.steps:,} steps; checkpoints in {self.path}"
        why = "the time is up" if self.reason == "time" else f"stopped by {self.reason}"
        return f"{why} at step {self.step:,} of {self.steps:,}; go on with --resume --out {self.path}"


def _named(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
