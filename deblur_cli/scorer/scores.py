"""Scores of images, and what they come to: over all, by severity of the blur, and by class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_MOST_CLASSES = 24
_SEVERITIES = ("severe", "medium", "mild")
"""Thirds of the images by how blurred the input is: by its PSNR, or by its blur score where there is no PSNR."""
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "psnr": "PSNR",
        "ssim": "SSIM",
        "ssim2d": "SSIM 2-D",
        "psnr unaligned": "PSNR unaligned",
        "blur": "Blur",
        "lpips alex": "LPIPS alex",
        "lpips vgg": "LPIPS vgg",
    }
)
"""What a table calls each measure; ``blur`` and LPIPS are the better the lower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One image, restored with one set of weights."""

    name: str
    kind: str
    """Class by its name; empty where names tell none."""
    weights: str
    width: int
    height: int
    before: Mapping[str, float]
    """What the protocol measures of the blurred image."""
    after: Mapping[str, float]
    """The same of the restored one."""
    seconds: float
    """Of the net, from pixels to pixels."""
    tile: tuple[int, int]
    """Width and height of a tile, in pixels."""
    memory: int | None
    """Peak while it worked, in bytes: of the GPU, or of this process."""
    source: str = ""
    """What tells the image from another one of its name; see :meth:`deblur_cli.scorer.samples.Sample.source`."""

    @property
    def gain(self) -> float:
        """By how many dB PSNR rose, 0 where both are infinite; by how much the blur score fell where there is no PSNR."""
        after = _severity(self.after)
        return 0.0 if after == self.severity else self.severity - after

    @property
    def severity(self) -> float:
        """The larger, the more blurred is the input; comparable only with scores of the same protocol."""
        return _severity(self.before)

    @property
    def told(self) -> str:
        """What was gained, in words."""
        name = main(self.before)
        before, after = (shown(name, side[name]) for side in (self.before, self.after))
        unit = " dB" if name == "psnr" else ""
        return f"{MEASURES[name]} {before} -> {after}{unit} ({gained(name, self.gain)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The mean over a group of images, for one set of weights."""

    weights: str
    group: str
    """``all``, ``severe``, ``medium``, ``mild``, or ``class NAME``."""
    images: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    gain: float
    """As of a score."""
    worse: float
    """Share of the images whose gain is negative."""
    unaligned: int | None
    """Results for which no alignment was found, which were compared in place; None where the protocol aligns nothing."""
    seconds: float
    """Per image."""
    megapixels_per_second: float
    memory: int | None
    """Peak in bytes."""


def rows(scores: Sequence[Score]) -> list[Row]:
    """A row for all images, three by severity, one for each class, for each set of weights in its order."""
    found: list[Row] = []
    for weights in dict.fromkeys(score.weights for score in scores):
        mine = [score for score in scores if score.weights == weights]
        found.append(_row(weights, "all", mine))
        found += [_row(weights, group, part) for group, part in [*_by_severity(mine), *_by_class(mine)]]
    return found


def main(measures: Mapping[str, float]) -> str:
    """The measure that severity and gain are told in: ``psnr``, or ``blur`` where there is none."""
    return "psnr" if "psnr" in measures else "blur"


def shown(name: str, value: float) -> str:
    """A value of the measure ``name`` with as many places as mean something."""
    return f"{value:.{_places(name)}f}"


def gained(name: str, gain: float) -> str:
    """A gain in the measure ``name``, with its sign."""
    return f"{gain:+.{_places(name)}f}"


def _places(name: str) -> int:
    return 2 if name.startswith("psnr") else 4


def _severity(measures: Mapping[str, float]) -> float:
    name = main(measures)
    return -measures[name] if name == "psnr" else measures[name]


def _by_severity(scores: Sequence[Score]) -> list[tuple[str, list[Score]]]:
    count = len(scores)
    if count < len(_SEVERITIES):
        return []
    order = sorted(scores, key=lambda score: (-score.severity, score.name))
    edges = [index * count // len(_SEVERITIES) for index in range(len(_SEVERITIES) + 1)]
    return [(name, order[low:high]) for name, low, high in zip(_SEVERITIES, edges, edges[1:], strict=False)]


def _by_class(scores: Sequence[Score]) -> list[tuple[str, list[Score]]]:
    """Nothing where the names tell no classes, or so many that they are no classes."""
    kinds = list(dict.fromkeys(score.kind for score in scores))
    if len(kinds) < 2 or len(kinds) > min(_MOST_CLASSES, len(scores) // 2) or "" in kinds:
        return []
    return [(f"class {kind}", [score for score in scores if score.kind == kind]) for kind in kinds]


def _row(weights: str, group: str, scores: Sequence[Score]) -> Row:
    count = len(scores)
    seconds = math.fsum(score.seconds for score in scores)
    memory = [score.memory for score in scores if score.memory is not None]
    aligns = "aligned" in scores[0].after
    return Row(
        weights=weights,
        group=group,
        images=count,
        before=_means([score.before for score in scores]),
        after=_means([score.after for score in scores]),
        gain=sum(score.gain for score in scores) / count,  # fsum refuses infinite gains of both signs
        worse=sum(score.gain < 0 for score in scores) / count,
        unaligned=sum(score.after["aligned"] == 0 for score in scores) if aligns else None,
        seconds=seconds / count,
        megapixels_per_second=sum(score.width * score.height for score in scores) / 1e6 / seconds if seconds else 0.0,
        memory=max(memory) if memory else None,
    )


def _means(measures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in measures) / len(measures) for name in measures[0] if name != "aligned"}
