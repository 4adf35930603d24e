"""Scores of images, and what they come to: over all, by severity of the blur, and by class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MOST_CLASSES = 24
SEVERITIES = ("severe", "medium", "mild")
"""Thirds of the images by the PSNR of the input, the lowest first."""


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

    @property
    def gain(self) -> float:
        """By how many dB PSNR rose; 0 where both are infinite."""
        before, after = self.before["psnr"], self.after["psnr"]
        return 0.0 if before == after else after - before


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The mean over a group of images, for one set of weights."""

    weights: str
    group: str
    """``all``, one of :data:`SEVERITIES`, or ``class NAME``."""
    images: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    gain: float
    """In dB."""
    worse: float
    """Share of the images whose PSNR fell."""
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


def _by_severity(scores: Sequence[Score]) -> list[tuple[str, list[Score]]]:
    count = len(scores)
    if count < len(SEVERITIES):
        return []
    order = sorted(scores, key=lambda score: (score.before["psnr"], score.name))
    edges = [index * count // len(SEVERITIES) for index in range(len(SEVERITIES) + 1)]
    return [(name, order[low:high]) for name, low, high in zip(SEVERITIES, edges, edges[1:], strict=False)]


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
        gain=math.fsum(score.gain for score in scores) / count,
        worse=sum(score.gain < 0 for score in scores) / count,
        unaligned=sum(score.after["aligned"] == 0 for score in scores) if aligns else None,
        seconds=seconds / count,
        megapixels_per_second=sum(score.width * score.height for score in scores) / 1e6 / seconds if seconds else 0.0,
        memory=max(memory) if memory else None,
    )


def _means(measures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in measures) / len(measures) for name in measures[0] if name != "aligned"}
