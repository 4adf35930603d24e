"""What a benchmark tells while it runs. ``str(event)`` is the human line."""

from collections.abc import Sequence
from dataclasses import dataclass

from deblur_cli.scorer.record import Weights
from deblur_cli.scorer.reported import Reported
from deblur_cli.scorer.scores import Row, Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The images are found and the nets are loaded."""

    title: str
    protocol: str
    images: int
    """To be scored."""
    known: int
    """Of the whole set."""
    earlier: int
    """Scores of an earlier run, left out."""
    work: int
    """Scores that this process will make."""
    weights: Sequence[Weights]

    def __str__(self) -> str:
        part = f"{self.images:,}" if self.images == self.known else f"{self.images:,} of {self.known:,}"
        line = f"{part} images of {self.title}; {self.protocol}"
        for each in self.weights:
            line += f"\nweights {each.name} ({each.net}) on {each.device} in {each.precision}"
        return line + (f"\nscores of an earlier run: {self.earlier:,}" if self.earlier else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """Something that the reader of the table should know."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One image has been scored with one set of weights."""

    score: Score

    def __str__(self) -> str:
        score = self.score
        return f"{score.weights}  {score.name}  {score.told}  {score.seconds:.2f} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """All images have been scored."""

    title: str
    protocol: str
    lpips: str
    """What was asked for: ``none``, ``alex`` or ``vgg``."""
    rows: Sequence[Row]
    reported: Sequence[Reported] = ()
    """Rows of a paper, marked as such wherever they are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """The speed of one set of weights on random images, by our path or by another."""

    weights: Weights
    by: str
    """``deblur``, or a rival of :mod:`deblur_cli.scorer.rivals`."""
    width: int
    height: int
    tile: tuple[int, int]
    """Width and height in pixels."""
    seconds: float
    """Median of :attr:`times`."""
    times: Sequence[float]
    memory: int | None
    """Peak in bytes: of the GPU, or of this process; None where it would be that of another row, too."""
    ratio: float | None = None
    """Seconds of the plain loop over the same net, divided by these; None where there is no such row."""
    limit: float | None = None
    """What the device can do in this precision, in Gflop/s."""
    share: float | None = None
    """Of the limit, that the net's own arithmetic for the pixels of the image reaches; None where it cannot be counted."""

    @property
    def megapixels_per_second(self) -> float:
        """Pixels over the median time."""
        return self.width * self.height / 1e6 / self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A file is there."""

    path: str

    def __str__(self) -> str:
        return f"wrote {self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetching:
    """The data set is on its way."""

    step: str
    """``downloading``, ``checking`` or ``unpacking``."""
    done: int
    """Bytes."""
    total: int

    def __str__(self) -> str:
        return f"{self.step} {self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB"


Event = Fetching | Started | Noted | Scored | Measured | Pace | Written
