"""A restored image laid onto the sharp one, brightness and place, as the RealBlur evaluation does before it compares.

Paper: Rim et al. Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms. ECCV 2020. The method goes back
to Koehler et al. ECCV 2012; the alignment is ECC (Evangelidis and Psarakis. TPAMI 2008) with a homography.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100
_SMOOTHING = 5
"""Side in pixels of the Gaussian under which ECC looks."""

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Two images that may be compared where the mask is 1."""

    restored: Image
    """(H, W, 3), 0 outside the mask."""
    sharp: Image
    """(H, W, 3), 0 outside the mask."""
    mask: Image
    """(H, W), 1 where the moved image has pixels."""
    converged: bool
    """Whether ECC found a homography; if not, only the brightness was matched."""


def align(restored: Image, sharp: Image) -> Aligned:
    """Match the brightness of ``restored`` by one factor and its place by a homography.

    Args:
        restored: (H, W, 3) RGB in [0, 1].
        sharp: the same shape.
    """
    import cv2

    library: Any = cv2
    energy = float(np.sum(restored * restored))
    matched = restored * np.float32(np.sum(sharp * restored) / energy) if energy else restored
    homography = _homography(matched, sharp, library)
    if homography is None:
        return Aligned(matched, sharp, np.ones(sharp.shape[:2], np.float32), converged=False)
    size = (sharp.shape[1], sharp.shape[0])
    moved = library.warpPerspective(
        matched,
        homography,
        size,
        flags=library.INTER_CUBIC + library.WARP_INVERSE_MAP,
        borderMode=library.BORDER_REFLECT,
    )
    mask = library.warpPerspective(
        np.ones(sharp.shape[:2], np.float32),
        homography,
        size,
        flags=library.INTER_NEAREST + library.WARP_INVERSE_MAP,
        borderMode=library.BORDER_CONSTANT,
        borderValue=0,
    )
    return Aligned(moved * mask[:, :, None], sharp * mask[:, :, None], mask, converged=True)


def _homography(restored: Image, sharp: Image, library: Any) -> Image | None:
    """What takes a place in ``sharp`` to that in ``restored``; None where ECC finds nothing, which it tells by an error."""
    criteria = (library.TERM_CRITERIA_EPS | library.TERM_CRITERIA_COUNT, _ROUNDS, 0)
    try:
        _, found = library.findTransformECC(
            library.cvtColor(sharp, library.COLOR_RGB2GRAY),
            library.cvtColor(restored, library.COLOR_RGB2GRAY),
            np.eye(3, dtype=np.float32),
            library.MOTION_HOMOGRAPHY,
            criteria,
            inputMask=None,
            gaussFiltSize=_SMOOTHING,
        )
    except library.error:
        return None
    return found if np.isfinite(found).all() else None
