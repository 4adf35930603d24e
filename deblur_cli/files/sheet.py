"""Pictures side by side in one file, to look at."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.errors import DeviceError, InputError
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.photo import Photo

_GAP = 4


def side_by_side(blurred: Photo, restored: Photo) -> Photo:
    """One picture: the photo as it was on the left, restored on the right, a white line between.

    Raises:
        DeviceError: the memory does not suffice.
    """
    try:
        alpha = None if blurred.alpha is None or restored.alpha is None else _joined(blurred.alpha, restored.alpha)
        return replace(restored, pixels=_joined(blurred.pixels, restored.pixels), alpha=alpha)
    except MemoryError as error:
        raise DeviceError(
            "The memory does not suffice for the before/after picture.", "Leave out --compare."
        ) from error


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


def _joined(left: Pixels, right: Pixels) -> Pixels:
    height, width = left.shape[:2]
    white = np.iinfo(left.dtype).max if np.issubdtype(left.dtype, np.integer) else 1
    line = np.full((height, max(2, width // 200), *left.shape[2:]), white, left.dtype)
    return np.concatenate([left, line, right], axis=1)
