"""The exporter: a loaded net as a file that other programs run, checked before it is kept."""

import os
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from deblur_cli import nets
from deblur_cli.errors import InputError, UsageError, WeightsError
from deblur_cli.exporter import forms, proof, writing
from deblur_cli.exporter.proof import Compared
from deblur_cli.files.exported import Facts
from deblur_cli.files.label import Label
from deblur_cli.pixels import tiles

__all__ = ["Compared", "Kept", "Noted", "export"]

_Array = np.ndarray[Any, Any]
_ROUNDED = {"onnx", "pt2"}
"""Formats that compute in the precision that they are written in; safetensors only stores it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """Something that the user should know of the export."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """The file is there, and does what the net does."""

    path: Path
    bytes: int
    facts: Facts
    difference: float
    """The largest of all that were compared, in images from 0 to 1."""


def export(
    net: nn.Module, label: Label, path: Path, *, sort: str, precision: str, tile: int, photo: _Array | None
) -> Iterator[Noted | Compared | Kept]:
    """Write ``net`` to ``path``, and keep the file only if it restores as the net does.

    Args:
        net: on the CPU, in fp32.
        label: of its checkpoint.
        path: of the file; one that is there already is replaced.
        sort: ``onnx``, ``pt2`` or ``safetensors``.
        precision: ``fp32`` or ``fp16``, of the weights and, but for safetensors, of what is computed inside.
        tile: the only height and width in pixels that the file is to take; 0 for all, where the net allows it.
        photo: (H, W, 3) float32 in [0, 1] to check with; None draws something like a photo.

    Yields:
        What is to be known, each comparison, and at last what was kept.

    Raises:
        UsageError: a library is missing, or the net does not take such tiles or such a precision.
        WeightsError: the net is none of the catalogue, or the file does not do what the net does.
        InputError: it cannot be written.
    """
    writing.check_libraries(sort)
    if label.net not in nets.NETS:
        raise WeightsError(
            f"'{label.net}' is no net of deblur's own, and only those can be exported.",
            f"Choose one of {', '.join(nets.NETS)}.",
        )
    settled = forms.Settled(net.eval().requires_grad_(requires_grad=False))
    if sort != "safetensors":
        settled = forms.settle(label.net, net)
        yield from (Noted(text=text) for text in forms.notes(settled, sort))
    net = settled.net
    config = cast("nets.NetConfig", net.config)
    if sort in _ROUNDED and precision not in config.precisions:
        raise UsageError(f"'{label.net}' does not stand {precision}.", f"Say --precision {config.precisions[0]}.")
    # One multiple for sides and corners; and what smaller sizes lack to one, no graph can say for all sizes.
    unit = nets.unpadded_of(config)
    facts = Facts(
        label=replace(label, config=nets.to_mapping(config)),
        multiple_of=unit,
        overlap=config.overlap,
        values_per_pixel=config.values_per_pixel,
        local=config.local,
        precision=precision,
        tile=_side(tile, config.overlap, unit),
        longest=settled.longest,
    )
    try:
        with tempfile.TemporaryDirectory(prefix=".deblur-", dir=path.parent) as folder:
            aside = Path(folder) / path.name
            worst = yield from _proven(net, facts, aside, sort, photo)
            size = aside.stat().st_size
            os.replace(aside, path)  # noqa: PTH105 - both are files of this folder's disk
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written: {error.strerror or error}.", "Choose a folder that exists and has room."
        ) from error
    yield Kept(path=path, bytes=size, facts=facts, difference=worst)


def _proven(
    net: nn.Module, facts: Facts, aside: Path, sort: str, photo: _Array | None
) -> Generator[Compared, None, float]:
    """Write the file and put it to the test; the largest difference."""
    written = writing.write(writing.rounded(net, facts), facts, aside, sort)
    # What torch.export promises begins with two multiples a side.
    at = [(facts.tile, facts.tile)] if facts.tile else proof.sizes(facts.multiple_of, units=2 if sort == "pt2" else 1)
    worst = 0.0
    for each in proof.compare(net, written, at, photo=photo, bound=proof.BOUNDS[facts.precision]):
        yield each
        if not each.passed:
            raise WeightsError(
                f"The export to {sort} in {facts.precision} does not do what the net does, and was not kept: {each}.",
                "Say --precision fp32." if facts.precision != "fp32" else "Export to another format.",
            )
        worst = max(worst, each.difference)
    return worst


def _side(tile: int, overlap: int, unit: int) -> int:
    """``tile`` if the net takes such tiles and a photo can be laid out in them."""
    smallest = tiles.smallest_tile(overlap, unit)
    if not tile:
        return 0
    if tile < smallest:
        raise UsageError(
            f"--tile {tile} is too small for this net: its tiles share {overlap} pixels.",
            f"Say --tile {smallest} or more.",
        )
    if tile % unit:
        below = tile - tile % unit
        raise UsageError(f"--tile {tile} is no multiple of {unit}.", f"Say --tile {below} or {below + unit}.")
    return tile
