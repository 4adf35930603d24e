"""The samples of photos, in whatever number format, and corrections of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

PEAKS: Mapping[str, int] = {"uint8": 255, "uint16": 65535, "float32": 1}
"""Number format of a photo to its white."""


def check(pixels: _Array) -> None:
    """Refuse what is not the pixels of a photo: (H, W, 1 or 3) uint8, uint16 or float32, at least one."""
    if pixels.ndim != 3 or pixels.shape[2] not in {1, 3} or not pixels.size:
        raise ValueError(f"pixels of shape (H, W, 1 or 3) were expected, not {pixels.shape}")
    if pixels.dtype.name not in PEAKS:
        raise TypeError(f"uint8, uint16 or float32 was expected, not {pixels.dtype}")


def corrected(blurred: _Array, change: _Array) -> _Array:
    """``blurred`` plus ``change``, rounded and cut where the number format needs it.

    Args:
        blurred: (rows, W, C) of a photo that :func:`check` lets pass.
        change: float32 of the same shape, in units of the photo's samples; written to.

    Returns:
        ``change``, float32 with values that the photo's number format holds exactly.
    """
    change += blurred
    peak = PEAKS[blurred.dtype.name]
    if peak != 1:
        np.clip(np.rint(change, out=change), 0, peak, out=change)
    return change
