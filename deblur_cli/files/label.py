"""The label: what a checkpoint or an exported net says of itself, and the metadata of a file that holds it.

Metadata are texts by name: the fields of :class:`Label`, those that are no texts as JSON. Nothing here needs torch.
"""

import json
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from deblur_cli.errors import WeightsError

FORMAT = 1
"""The newest layout of label and tensors; older ones stay readable for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What a checkpoint says of itself."""

    kind: str = "net"
    """``net`` restores photos, ``prior`` is the semantic branch alone."""
    net: str
    """Its name in the catalogue of nets."""
    config: Mapping[str, Any]
    """The net's dials, as JSON knows them."""
    format: int = FORMAT
    """Layout of label and tensors."""
    made_with: str
    """Version and options of the program that made it."""
    licence: str
    """Of the weights; it can differ from the code's."""
    trained_on: str
    """The photographs."""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    """Measure and data set to the value, e.g. ``psnr val`` in dB."""
    precisions: Mapping[str, float] = field(default_factory=dict[str, float])
    """Precision to its change of PSNR in dB against fp32 on the validation set: what was measured, nothing else."""
    notes: str = ""
    """Whatever else a reader should know."""

    def __post_init__(self) -> None:
        if self.kind not in {"net", "prior"}:
            raise ValueError(f"a label's kind is 'net' or 'prior', not {self.kind!r}")
        if self.format < 1 or not self.net:
            raise ValueError(
                f"a label needs the name of a net and a positive format, not {self.net!r} and {self.format}"
            )


def to_metadata(label: Label) -> dict[str, str]:
    """The label as a file keeps it: texts as they are, everything else as JSON."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True, allow_nan=False, default=dict)

    return {each.name: text(getattr(label, each.name)) for each in fields(Label)}


def from_metadata(path: Path, metadata: Mapping[str, str]) -> Label:
    """The label that :func:`to_metadata` made ``metadata`` of; what else is in it is left aside.

    Raises:
        WeightsError: it is spoilt, or of a newer format; the message names ``path``.
    """
    try:
        number = int(metadata["format"])
    except ValueError as error:
        raise WeightsError(f"The label of '{path}' cannot be read: its format is {metadata['format']!r}.") from error
    if number > FORMAT:
        raise WeightsError(
            f"'{path}' has format {number}; this version of deblur knows formats up to {FORMAT}.",
            "Upgrade with pip install -U deblur-cli.",
        )
    try:
        return Label(**{each.name: _value(each, metadata) for each in fields(Label) if each.name in metadata})
    except (TypeError, ValueError) as error:
        raise WeightsError(f"The label of '{path}' cannot be read: {error}.") from error


def _value(of: Field[Any], metadata: Mapping[str, str]) -> Any:
    """One field of a label; the inverse of what :func:`to_metadata` makes of it."""
    text = metadata[of.name]
    if of.type is str:
        return text
    value = json.loads(text)
    if of.type is int:
        if type(value) is not int:
            raise ValueError(f"{of.name} is {text!r} and not a number")
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{of.name} is {text!r} and not a table")  # noqa: TRY004 - a mistake in a file, not in a call
    table = cast("dict[str, Any]", value)
    if of.name != "config" and not all(type(each) in {int, float} for each in table.values()):
        raise ValueError(f"{of.name} holds something that is not a number: {text}")
    return table
