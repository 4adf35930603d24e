"""Which way the loss of a run goes: whether it has climbed so far that the run is lost, though all its numbers are finite."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

_STEPS = 50
"""Over which a mean is taken, at least."""
_TIMES = 4.0
"""A mean so many times the best one is too high: single means of 50 steps differ by far less."""
_DECIBELS = 12.0
"""The same of losses that are logarithms, and may be negative: four times the error."""
_ROW = 3
"""Means in a row that are too high, until the run is given up."""


@dataclass(slots=True)
class Course:
    """The means of the loss so far. It only watches: what the run computes does not depend on it."""

    total: float = 0.0
    """Of the losses since the last mean."""
    steps: int = 0
    """Steps since then."""
    first: float | None = None
    best: float | None = None
    last: float = 0.0
    row: int = 0
    """Means in a row that were too high."""

    def note(self, loss: float, steps: int) -> None:
        """Take the mean loss of so many steps, all of them behind the warm-up."""
        self.total += loss * steps
        self.steps += steps
        if self.steps < _STEPS:
            return
        self.last = self.total / self.steps
        self.total, self.steps = 0.0, 0
        self.row = self.row + 1 if self.high(self.last) else 0
        self.first = self.last if self.first is None else self.first
        self.best = self.last if self.best is None else min(self.best, self.last)

    def high(self, mean: float) -> bool:
        """Whether a mean is far above the best one, and not just the unrest of a loss that has come close to nothing."""
        if self.best is None or self.first is None:
            return False
        if self.best <= 0:
            return mean > self.best + _DECIBELS
        return mean > _TIMES * self.best and mean > self.first / _TIMES

    @property
    def climbing(self) -> bool:
        """Whether the last mean was too high."""
        return self.row > 0

    @property
    def lost(self) -> bool:
        """Whether as many means in a row were too high as a run may have."""
        return self.row >= _ROW

    def state(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Course":
        """The course of :meth:`state`; a new one from nothing, as runs of before have it."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})
