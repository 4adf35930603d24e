"""HEIC by pillow-heif, an extra: the one format whose library is not always there."""

from io import BytesIO
from typing import Any

import numpy as np

from deblur_cli.errors import UsageError
from deblur_cli.files import decoding
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.formats import FORMATS
from deblur_cli.files.metadata import Metadata, of_pillow

_TITLE = FORMATS["heic"].title


def opened(data: bytes, name: str) -> Any:
    """pillow-heif's image, its header read and nothing decoded: ``size`` (upright), ``mode``, ``info``.

    Raises:
        UsageError: pillow-heif is not installed.
        InputError: the file is damaged or too large.
    """
    heif = check_library(name)
    with decoding.foreign(name, _TITLE):
        file = heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        image = file[file.primary_index]
    decoding.check_size(name, *image.size)
    return image


def decode(image: Any, name: str) -> tuple[Pixels, Pixels | None]:
    """The upright pixels (H, W, 1 or 3), uint8 or uint16, and the alpha (H, W) or None of what :func:`opened` gave.

    Samples of 10 and 12 bits are spread over all 16.

    Raises:
        InputError: the picture is damaged.
    """
    with decoding.foreign(name, _TITLE):
        stored = np.asarray(image)
    depth = image.info["bit_depth"]
    if stored.dtype == np.uint16 and depth < 16:
        peak = 2**depth - 1
        stored = ((np.arange(peak + 1) * 65535 + peak // 2) // peak).astype(np.uint16)[np.minimum(stored, peak)]
    return decoding.parted(stored, 1)


def notes(image: Any) -> Metadata:
    """The side notes; libheif has applied the orientation already, whatever EXIF says of it."""
    return of_pillow(image.info, [])


def encode(pixels: Pixels, alpha: Pixels | None, kept: Metadata, *, quality: int, name: str) -> bytes:
    """A HEIC file of uint8 samples in 8 bits, or of uint16 samples in 10 bits, 4:4:4.

    Raises:
        UsageError: pillow-heif is not installed.
    """
    heif = check_library(name)
    stored = pixels if alpha is None else np.concatenate((pixels, alpha[..., None]), axis=2)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[stored.shape[2]] + (";16" if stored.dtype == np.uint16 else "")
    out = BytesIO()
    extra: dict[str, Any] = {"exif": kept.exif or None, "xmp": kept.xmp or None}
    if kept.icc:
        extra |= {"icc_profile": kept.icc, "icc_profile_type": "prof"}
    if kept.cicp:
        extra |= {"color_primaries": kept.cicp.primaries, "transfer_characteristics": kept.cicp.transfer}
        extra |= {"matrix_coefficients": kept.cicp.matrix, "full_range_flag": 1}
    heif.encode(mode, (stored.shape[1], stored.shape[0]), stored.tobytes(), out, quality=quality, chroma=444, **extra)
    return out.getvalue()


def check_library(name: str) -> Any:
    """The module pillow_heif.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise UsageError(
            f"'{name}' is a HEIC photo, and pillow-heif, which reads and writes those, is not installed.",
            "Install it: pip install 'deblur-cli[heic]'",
        ) from error
    return pillow_heif
