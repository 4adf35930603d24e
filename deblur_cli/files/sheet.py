"""Pictures side by side in one file, to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.errors import InputError

_GAP = 4


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
