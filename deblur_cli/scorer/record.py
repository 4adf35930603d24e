"""All that was measured as a file: JSON with everything, CSV with a line per image; and JSON back, to go on from it."""

import csv
import hashlib
import importlib.metadata
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from deblur_cli import __version__
from deblur_cli.errors import InputError
from deblur_cli.files import disk
from deblur_cli.scorer.scores import Row, Score

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One set of weights and what it ran on."""

    name: str
    sha256: str
    """Of the checkpoint file."""
    net: str
    device: str
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run of the benchmark, finished or not."""

    settings: Mapping[str, Any]
    """All that a score depends on besides weights and images."""
    images: int
    """How many are to be scored."""
    known: int
    """How many the data set has; more than ``images`` where a part of it is scored."""
    weights: Sequence[Weights]
    scores: Sequence[Score]

    @property
    def part(self) -> str:
        """How many images of how many, in words."""
        return f"{self.images:,} of {self.known:,}" if self.images != self.known else f"{self.images:,}"

    @property
    def complete(self) -> bool:
        """Whether every image has been scored with all weights."""
        return len(self.scores) == self.images * len(self.weights)


def versions() -> dict[str, str]:
    """What computed the scores."""
    found = {"deblur": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    opencv = next((each for each in map(_version, ("opencv-python", "opencv-python-headless")) if each), "")
    return found | {"opencv": opencv, "numpy": _version("numpy"), "pillow": _version("pillow")}


def weights(name: str, path: Path, *, net: str, device: torch.device, precision: str) -> Weights:
    """What there is to tell of the checkpoint ``path``, and of what it runs on.

    Raises:
        InputError: it cannot be read.
    """
    card = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    digest = hashlib.sha256(disk.read(path)).hexdigest()
    return Weights(name=name, sha256=digest, net=net, device=card, precision=precision)


def facts(record: Record) -> list[str]:
    """How the scores were made, in sentences."""
    told = [
        f"{each.name}: {each.net} on {each.device} in {each.precision}, sha256 {each.sha256}."
        for each in record.weights
    ]
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [f"{record.part} images; {record.settings['comparison']}.", *told, f"Made with {made_with}."]


def write_json(path: Path, record: Record, rows: Sequence[Row], extra: Mapping[str, Any] | None = None) -> None:
    """Write everything to ``path``, whole or not at all; infinite values become the word "inf".

    Raises:
        InputError: it cannot be written.
    """
    whole: dict[str, Any] = {
        "format": _FORMAT,
        "complete": record.complete,
        "images": record.images,
        "images of the set": record.known,
        "settings": dict(record.settings),
        "versions": versions(),
        "weights": [asdict(each) for each in record.weights],
        "summary": [asdict(row) for row in rows],
        "scores": [asdict(score) for score in record.scores],
        **(extra or {}),
    }
    disk.write(path, (json.dumps(_spelt(whole), indent=1, allow_nan=False) + "\n").encode())


def write_csv(path: Path, record: Record) -> None:
    """Write a line per image and weights to ``path``.

    Raises:
        InputError: it cannot be written.
    """
    digests = {each.name: each.sha256 for each in record.weights}
    measures = list(record.scores[0].after) if record.scores else []
    names = ["weights", "sha256", "name", "class", "width", "height", "tile", "seconds", "memory", "gain"]
    table: list[list[Any]] = [[*names, *(f"{side} {name}" for side in ("before", "after") for name in measures)]]
    for score in record.scores:
        facts = [score.weights, digests[score.weights], score.name, score.kind, score.width, score.height]
        values = [side.get(name, "") for side in (score.before, score.after) for name in measures]
        tile = f"{score.tile[0]}x{score.tile[1]}"
        table.append([*facts, tile, score.seconds, score.memory, score.gain, *values])
    disk.write(path, _lines(table))


def write_paces(paths: Sequence[Path], paces: Sequence[Mapping[str, Any]]) -> None:
    """Write what the speed was: JSON with every time, CSV with a line for each row of the table.

    Raises:
        InputError: a file cannot be written.
    """
    for path in paths:
        if path.suffix == ".json":
            whole = {"format": _FORMAT, "versions": versions(), "speed": list(paces)}
            disk.write(path, (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())
            continue
        names = ("width", "height", "seconds", "memory", "by", "ratio", "limit", "share")
        flat = [{**pace["weights"], **{name: pace[name] for name in names}} for pace in paces]
        disk.write(path, _lines([list(flat[0]), *(list(row.values()) for row in flat)]))


def read(path: Path, record: Record) -> list[Score]:
    """The scores of an earlier run that was made as ``record`` says; none where there is no such file.

    Raises:
        InputError: the file is no record, or of other settings, weights or programs.
    """
    if not path.exists():
        return []
    try:
        earlier = json.loads(disk.read(path))
        _check_same(path, earlier, record)
        return [Score(**_values(score)) for score in earlier["scores"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is no record of deblur benchmark: {error}.", "Say --overwrite.") from error


def _check_same(path: Path, earlier: Mapping[str, Any], record: Record) -> None:
    now = dict(record.settings) | {"torch": versions()["torch"], "opencv": versions()["opencv"]}
    then = dict(earlier["settings"]) | {name: earlier["versions"][name] for name in ("torch", "opencv")}
    changed = [name for name in {**now, **then} if now.get(name) != then.get(name)]
    if changed:
        name = changed[0]
        raise InputError(
            f"'{path}' was made with {name} {then.get(name)}, not {now.get(name)}.",
            "Say the same again, or --overwrite without --resume.",
        )
    if earlier["weights"] != [asdict(each) for each in record.weights]:
        raise InputError(
            f"'{path}' holds scores of other weights, or of another device.", "Choose another --output, or --overwrite."
        )


def _values(score: dict[str, Any]) -> dict[str, Any]:
    sides = {side: {name: float(value) for name, value in score[side].items()} for side in ("before", "after")}
    return score | sides | {"tile": tuple(score["tile"])}


def _spelt(value: Any) -> Any:
    """The same without the infinities that JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    if isinstance(value, dict):
        return {name: _spelt(each) for name, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_spelt(each) for each in cast("Sequence[Any]", value)]
    return value


def _lines(table: Sequence[Sequence[Any]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(table)
    return lines.getvalue().encode()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
