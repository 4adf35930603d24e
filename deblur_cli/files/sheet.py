"""Pictures side by side in one file, to look at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.errors import DeviceError, InputError, UsageError
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.formats import FORMATS
from deblur_cli.files.photo import Photo
from deblur_cli.files.scratch import Scratch

_GAP = 4
_ROWS = 256


def side_by_side(blurred: Photo, restored: Photo, room: Scratch | None = None) -> Photo:
    """One picture: the photo as it was on the left, restored on the right, a white line between.

    Args:
        blurred: the photo as it was.
        restored: of the same size.
        room: where the pixels of the picture shall lie; None: in memory.

    Raises:
        DeviceError: the memory does not suffice.
    """
    if room is not None:
        return _in_bands(blurred, restored, room)
    try:
        alpha = None if blurred.alpha is None or restored.alpha is None else _joined(blurred.alpha, restored.alpha)
        return replace(restored, pixels=_joined(blurred.pixels, restored.pixels), alpha=alpha)
    except MemoryError as error:
        raise DeviceError(
            "The memory does not suffice for the before/after picture.", "Leave out --compare."
        ) from error


def check_fit(blurred: Photo, *, format: str, name: str) -> None:  # noqa: A002 - the word that Photo and Pillow use
    """Refuse a photo too wide to stand beside its result in ``format``; to be asked before the work.

    Args:
        blurred: the photo as it was; only its shape counts.
        format: a key of ``formats.FORMATS``, which holds the photo alone.
        name: what messages call the picture of both.

    Raises:
        UsageError: the two side by side are too wide.
    """
    height, width = blurred.pixels.shape[:2]
    both, row = 2 * width + _line(width), FORMATS[format]
    if both > row.side:
        raise UsageError(
            f"'{name}' cannot be a {row.title}: before and after are {both} x {height} pixels, "
            f"more than its {row.side} a side.",
            "Leave out --compare, or have PNGs written: --format png, or -o NAME.png.",
        )


def write_sheet(path: Path, rows: Sequence[Sequence[NDArray[np.uint8]]]) -> None:
    """Write the images, (H, W, 3) each, row by row on white.

    Raises:
        InputError: the file cannot be written.
    """
    width = max(sum(image.shape[1] + _GAP for image in row) for row in rows) - _GAP
    height = sum(max(image.shape[0] for image in row) + _GAP for row in rows) - _GAP
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for row in rows:
        left = 0
        for image in row:
            sheet.paste(Image.fromarray(image), (left, top))
            left += image.shape[1] + _GAP
        top += max(image.shape[0] for image in row) + _GAP
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error}.", "Name a folder that can be written to.") from error


def _in_bands(blurred: Photo, restored: Photo, room: Scratch) -> Photo:
    first = _joined(blurred.pixels[:1], restored.pixels[:1])
    height, (_, width, channels) = len(blurred.pixels), first.shape
    pixels, alpha = room.pixels(height, width, channels, first.dtype.name, alpha=restored.alpha is not None)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        pixels[rows] = _joined(blurred.pixels[rows], restored.pixels[rows])
        if alpha is not None and blurred.alpha is not None and restored.alpha is not None:
            alpha[rows] = _joined(blurred.alpha[rows], restored.alpha[rows])
        room.rest()
    return replace(restored, pixels=pixels, alpha=alpha)


def _joined(left: Pixels, right: Pixels) -> Pixels:
    height, width = left.shape[:2]
    white = np.iinfo(left.dtype).max if np.issubdtype(left.dtype, np.integer) else 1
    line = np.full((height, _line(width), *left.shape[2:]), white, left.dtype)
    return np.concatenate([left, line, right], axis=1)


def _line(width: int) -> int:
    """Pixels between two pictures of that width."""
    return max(2, width // 200)
