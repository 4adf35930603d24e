"""A checkpoint to a file that other programs run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deblur_cli import deblurrer, exporter
from deblur_cli.errors import UsageError
from deblur_cli.exporter import Compared, Noted
from deblur_cli.files import disk, hub, origins, photo, weights
from deblur_cli.options.export import ExportOptions
from deblur_cli.pixels import samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The file is there, and was checked."""

    output: str
    weights: str
    net: str
    format: str
    precision: str
    tile: int
    """The only height and width that it takes, in pixels; 0: all multiples of ``multiple_of``."""
    longest: int
    """Side of a tile in pixels up to which it does what the checkpoint does; 0: any."""
    multiple_of: int
    overlap: int
    """Pixels that neighbouring tiles should share."""
    bytes: int
    difference: float
    """The largest from PyTorch, in images from 0 to 1."""
    notes: tuple[str, ...]
    """What to know of it."""

    def __str__(self) -> str:
        sizes = f"{self.tile} x {self.tile} pixels" if self.tile else f"all multiples of {self.multiple_of} pixels"
        return (
            f"{self.weights} -> {self.output}  {self.precision}, {sizes}, {self.bytes / 1e6:.1f} MB;"
            f" within {self.difference:.2g} of PyTorch"
        )


def run(options: ExportOptions, *, fetching: hub.Told | None = None) -> Iterator[Noted | Compared | Exported]:
    """Export the weights; ``fetching`` is told of their download.

    Yields:
        What is to be known of the result, each comparison with PyTorch, and one Exported when the file lies in its place.
    """
    path = Path(options.output)
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder.", "Say another -o FILE.")
    if not options.overwrite:
        disk.check_free(path)
    seen = None if options.check_image is None else _seen(Path(options.check_image))
    found = weights.find(options.weights, listed=options.weights_list, offline=options.offline, told=fetching)
    label, net = deblurrer.load(found.path)
    notes = [text] if (text := origins.notice(label)) else []
    if notes and not (found.entry and found.entry.non_commercial):  # or it was told just now
        yield Noted(text=text)
    events = exporter.export(
        net,
        label,
        path,
        sort=options.sort,
        precision=options.precision,
        tile=options.tile or 0,
        photo=seen,
    )
    for event in events:
        match event:
            case Noted():
                notes.append(str(event))
                yield event
            case Compared():
                yield event
            case exporter.Kept():
                yield Exported(
                    output=str(path),
                    weights=options.weights,
                    net=label.net,
                    format=options.sort,
                    precision=event.facts.precision,
                    tile=event.facts.tile,
                    longest=event.facts.longest,
                    multiple_of=event.facts.multiple_of,
                    overlap=event.facts.overlap,
                    bytes=event.bytes,
                    difference=event.difference,
                    notes=tuple(notes),
                )


def _seen(path: Path) -> np.ndarray[Any, Any]:
    """A photo as (H, W, 3) float32 in [0, 1]."""
    pixels = photo.read(path).pixels
    values = pixels.astype(np.float32) / np.float32(samples.PEAKS[pixels.dtype.name])
    return np.nan_to_num(np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values).clip(0, 1)
