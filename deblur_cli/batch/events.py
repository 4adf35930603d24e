"""What happens to the photos of a run, told as it happens."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from deblur_cli.errors import DeblurError
from deblur_cli.files.routes import Route

T = TypeVar("T")

_STREAM = "-"
_Status = Literal["restored", "skipped", "planned", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The photos are found and every result has its name."""

    photos: int
    others: int
    """Files in folders that are no photos."""
    earlier: int
    """Results of earlier runs, left out."""
    elsewhere: int = 0
    """Photos of other shards, left to them."""

    def __str__(self) -> str:
        parts = [_count(self.photos, "photo")]
        if self.elsewhere:
            parts.append(f"{self.elsewhere} in other shards")
        if self.others:
            parts.append(f"{_count(self.others, 'other file')} ignored")
        if self.earlier:
            parts.append(f"{_count(self.earlier, 'result')} of earlier runs left out")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The net is loaded."""

    weights: str
    net: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"weights {self.weights} ({self.net}) on {self.device} in {self.precision}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """The net starts on a photo."""

    input: str

    def __str__(self) -> str:
        return self.input


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one photo; exactly one for each."""

    input: str
    output: str
    status: _Status
    compare: str | None = None
    width: int | None = None
    """Pixels, as seen upright."""
    height: int | None = None
    seconds: float | None = None
    """Of the net; reading and writing go on beside it."""
    device: str | None = None
    precision: str | None = None
    tile: tuple[int, int] | None = None
    """Width and height of a tile in pixels."""
    weights: str | None = None
    damaged: bool = False
    """Whether parts of the photo were lost before; it was restored as it decodes."""
    notices: tuple[str, ...] = ()
    """Sentences on what the photo's file holds and the result does not."""
    error: str | None = None
    hint: str | None = None
    exit_code: int = 0
    cause: DeblurError | None = field(default=None, repr=False)
    """What was raised, with its traceback; ``error`` and ``hint`` are its words."""

    def __str__(self) -> str:
        size = "" if self.width is None else f"  {self.width} x {self.height}"
        match self.status:
            case "failed":
                said = self.error or ""
                return said if self.input == _STREAM or Path(self.input).name in said else f"'{self.input}': {said}"
            case "skipped":
                return f"{self.output} is there already; skipped"
            case "planned":
                return f"{self.input} -> {self.output}{size}"
            case "restored":
                return f"{self.input} -> {self.output}{size}  {self.seconds:.1f} s"


def begun(route: Route) -> Begun:
    """Told of the photo of this route."""
    return Begun(input=_input(route))


def outcome(route: Route, status: _Status) -> Outcome:
    """Told of the photo of this route, with nothing but its names."""
    compare = None if route.compare is None else str(route.compare)
    output = _STREAM if route.target is None else str(route.target)
    return Outcome(input=_input(route), output=output, status=status, compare=compare)


def failed(route: Route, error: DeblurError) -> Outcome:
    """Told of the photo of this route, and why."""
    told = outcome(route, "failed")
    return replace(told, error=error.message, hint=error.hint or None, exit_code=error.exit_code, cause=error)


def last_words(events: Generator[T], stop: KeyboardInterrupt) -> Iterator[T]:
    """All that a run has yet to tell when ``stop`` fell between two of its events: a GPU has several photos written at once."""
    with suppress(KeyboardInterrupt, StopIteration):
        yield events.throw(stop)
        yield from events


def _input(route: Route) -> str:
    return _STREAM if route.source is None else str(route.source)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
