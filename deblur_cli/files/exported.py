"""What an exported net says of itself besides its label: whoever runs it needs no more than this. Needs no torch.

Images go in and come out as (1, 3, height, width) float32 RGB in [0, 1], whatever the net computes with inside.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from deblur_cli.errors import WeightsError
from deblur_cli.files.label import Label, from_metadata, to_metadata

ENTRY = "deblur.json"
"""The metadata's place in a .pt2 file."""
_RANGE = "[0, 1]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """The metadata of an exported net."""

    label: Label
    """Of the checkpoint that it was made of."""
    multiple_of: int
    """Height and width must be multiples of this, in pixels."""
    overlap: int
    """Pixels that neighbouring tiles share, so that the seam cannot be seen."""
    values_per_pixel: float
    """Numbers held at once per image pixel at the peak, as the net counts them."""
    local: bool
    """Whether every restored pixel sees a bounded neighbourhood only, so that tiles equal the whole."""
    precision: str
    """``fp32`` or ``fp16``: what the weights are, and what is computed with."""
    tile: int = 0
    """The only height and width that it takes, in pixels; 0: all multiples."""
    longest: int = 0
    """Side of a tile in pixels up to which it does what the net of the checkpoint does; 0: any."""

    def __post_init__(self) -> None:
        if self.multiple_of < 1 or min(self.overlap, self.tile, self.longest) < 0 or self.tile % self.multiple_of:
            raise ValueError(f"sizes that cannot be: {self.multiple_of=}, {self.overlap=}, {self.tile=}")
        if self.precision not in {"fp32", "fp16"} or self.values_per_pixel <= 0:
            raise ValueError(f"{self.precision=} and {self.values_per_pixel=} cannot be")


def refuse(path: Path) -> None:
    """Raise WeightsError if ``path`` is an exported net by its name: where a checkpoint is needed."""
    if path.suffix.lower() in {".onnx", ".pt2"}:
        raise WeightsError(
            f"'{path}' is an exported net, and a checkpoint is needed here.",
            "Give the checkpoint that it was made of; deblur PHOTO --weights takes an .onnx file.",
        )


def to_texts(facts: Facts) -> dict[str, str]:
    """``facts`` as the metadata of a file, the label's among them."""
    own = {each.name: getattr(facts, each.name) for each in fields(facts) if each.name != "label"}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in own.items()}
    return {**texts, "value_range": _RANGE, **to_metadata(facts.label)}


def from_texts(path: Path, texts: Mapping[str, str]) -> Facts:
    """The facts that :func:`to_texts` made ``texts`` of.

    Raises:
        WeightsError: they are not there, spoilt, or of a newer format; the message names ``path``.
    """
    kinds: dict[str, Any] = {each.name: each.type for each in fields(Facts) if each.name != "label"}
    if not {*kinds, "net", "config", "format"} <= texts.keys() or texts.get("value_range") != _RANGE:
        raise WeightsError(
            f"'{path}' has no label: it is an ONNX file, but not one of this program.", "Make one with deblur export."
        )
    label = from_metadata(path, texts)
    try:
        return Facts(label=label, **{name: _value(kind, texts[name]) for name, kind in kinds.items()})
    except ValueError as error:
        raise WeightsError(f"The label of '{path}' cannot be read: {error}.", "Export it anew.") from error


def of_program(path: Path) -> Mapping[str, str]:
    """The metadata of a .pt2 file; empty if there are none.

    Raises:
        OSError, ValueError: it cannot be read, or is no such file.
    """
    try:
        with zipfile.ZipFile(path) as file:
            place = next((name for name in file.namelist() if name.endswith(f"/{ENTRY}")), None)
            texts: Any = {} if place is None else json.loads(file.read(place))
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    if not isinstance(texts, dict) or not all(isinstance(each, str) for each in cast("dict[str, Any]", texts).values()):
        raise ValueError(f"its {ENTRY} is no table of texts")
    return cast("dict[str, str]", texts)


def _value(kind: Any, text: str) -> Any:
    if kind is str:
        return text
    value = json.loads(text)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{text} is no {kind.__name__}")
    return value
