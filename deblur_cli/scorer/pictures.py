"""Restored images as files: a folder for each set of weights, in it a PNG for each image by its name."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import InputError
from deblur_cli.files import metadata, photo


def save(folder: Path, weights: str, name: str, restored: NDArray[Any]) -> None:
    """Write one restored image, rounded to 8 bits if it is not.

    Args:
        folder: of all results; made where it is missing.
        weights: as they were named; a path becomes one word.
        name: of the image; what is above its folder is left out.
        restored: (H, W, 3), uint8 or float32 in about [0, 1].

    Raises:
        InputError: it cannot be written.
    """
    if restored.dtype != np.uint8:
        restored = np.rint(restored.clip(0, 1) * 255).astype(np.uint8)
    inner = _parts(name)
    path = folder / "-".join(_parts(weights)).removesuffix(".safetensors") / Path(*inner[:-1], inner[-1] + ".png")
    make(path.parent)
    photo.write(photo.Photo(pixels=restored, alpha=None, metadata=metadata.Metadata(), format="png"), path)


def make(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder '{folder}' cannot be made: {error.strerror or error}.", "Choose another folder."
        ) from error


def _parts(name: str) -> list[str]:
    """The parts of a path without those that lead upwards: a list of pairs may name files above its own folder."""
    return [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in {"..", "/"}]
