"""From Pillow's pictures, and from arrays of other decoders, to upright pixels and alpha.

Legend: H, W and C are rows, columns and channels as stored; an orientation is EXIF's, 1 to 8.
"""

import struct
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from mmap import mmap
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from deblur_cli.errors import InputError
from deblur_cli.files.formats import FORMATS

Pixels = npt.NDArray[Any]

_MOST_PIXELS = 2**30
_BAND_VALUES = 2**24  # values that are copied at a time from Pillow's memory to ours
_PLAIN = {"L", "LA", "RGB", "RGBA", "RGBX", "I;16"}
_MADE_PLAIN = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
_QUIET = threading.Lock()
_silences: "list[warnings.catch_warnings[None]]" = []


class Room(Protocol):
    """A place for pixels other than memory."""

    def pixels(
        self, height: int, width: int, channels: int, dtype: str, *, alpha: bool
    ) -> tuple[Pixels, Pixels | None]:
        """New pixels (height, width, channels) and alpha (height, width)."""
        ...

    def rest(self) -> None:
        """Let go of the memory that their use has cost so far."""
        ...


@contextmanager
def foreign(name: str, title: str) -> Generator[None]:
    """Around the call of a foreign decoder: whatever it raises is told as one sentence on the photo.

    Raises:
        InputError: the decoder raised anything at all; decoders raise every kind of exception over a damaged file.
    """
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"'{name}' has more pixels than the reader of {title} opens.", "Cut it into parts first."
        ) from error
    except MemoryError as error:
        raise too_large(name) from error
    except Exception as error:
        told = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, LookupError | ArithmeticError | TypeError | struct.error):
            told = "its parts contradict each other"
        # Pillow wraps what it meets in a header that is cut off.
        if "truncated" in told.lower() or isinstance(error, EOFError) or isinstance(error.__cause__, struct.error):
            raise truncated(name, title) from error
        raise InputError(f"'{name}' is a damaged {title}: {told}.", "Copy it again from where it came.") from error


@contextmanager
def quiet() -> Generator[None]:
    """Silence for Python's warnings, which Pillow raises over side notes.

    The filter is global: of threads that overlap, the first sets it and the last gives it back.
    """
    with _QUIET:
        silence = warnings.catch_warnings(action="ignore") if not _silences else _silences[0]
        if not _silences:
            silence.__enter__()
        _silences.append(silence)
    try:
        yield
    finally:
        with _QUIET:
            _silences.pop()
            if not _silences:
                silence.__exit__(None, None, None)


def truncated(name: str, title: str) -> InputError:
    """The refusal of a file that ends too early."""
    return InputError(f"'{name}' is a truncated {title}: it ends before the picture does.", "Copy it again.")


def too_large(name: str) -> InputError:
    """The refusal of a picture that the memory does not hold."""
    return InputError(f"'{name}' needs more memory to open than there is.", "Close other programs, or crop it.")


def check_size(name: str, width: int, height: int) -> None:
    """Refuse sizes that only a forged or a colossal file states.

    Raises:
        InputError: a side is zero, or the picture has more than 2**30 pixels.
    """
    if width < 1 or height < 1:
        raise InputError(f"'{name}' states a size of {width} x {height} pixels.", "Copy it again from where it came.")
    if width * height > _MOST_PIXELS:
        raise InputError(
            f"'{name}' states a size of {width} x {height} pixels; deblur opens at most {_MOST_PIXELS / 1e6:,.0f} megapixels.",
            "Cut it into parts first.",
        )


def opened(data: bytes | bytearray | mmap, sort: str, name: str) -> ImageFile.ImageFile:
    """Pillow's picture with its header read and nothing decoded.

    Only the one decoder that the first bytes call for is asked, without Pillow's own pixel limit: ours replaces it.

    Raises:
        InputError: the header is damaged, or the picture is animated, too large, or made for print (CMYK).
    """
    title = FORMATS[sort].title
    with foreign(name, title), quiet():
        image = _plugin(sort)(BytesIO(data) if isinstance(data, bytes | bytearray) else data)
    if getattr(image, "n_frames", 1) > 1 and sort != "tiff":
        raise animated(name, title, getattr(image, "n_frames", 1))
    check_size(name, *image.size)
    if image.mode == "CMYK":
        raise cmyk(name, title)
    if image.mode not in _PLAIN | _MADE_PLAIN.keys() | {"P"} and not image.mode.startswith("I;16"):
        raise InputError(
            f"'{name}' is a {title} of an unusual kind ({image.mode}).", "Convert it to RGB or gray first."
        )
    return image


def check_webp(data: bytes | mmap, name: str) -> bool:
    """Whether a WebP is losslessly compressed.

    Raises:
        InputError: the file is shorter than its header states.
    """
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise truncated(name, FORMATS["webp"].title)
    at = 12
    while at + 8 <= len(data) and data[at : at + 4] not in (b"VP8 ", b"VP8L", b"ANMF"):
        at += 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2
    return bytes(data[at : at + 4]) == b"VP8L"


def coefficients(image: ImageFile.ImageFile) -> int:
    """Bytes that libjpeg holds of a progressive JPEG beside its pixels: two for each coefficient, of whole blocks."""
    parts: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    if "progressive" not in image.info or not parts:
        return 0
    across, down = (max(part[axis] for part in parts) for axis in (1, 2))
    units = -(-image.width // (8 * across)) * -(-image.height // (8 * down))
    return units * sum(128 * part[1] * part[2] for part in parts)


def animated(name: str, title: str, frames: int) -> InputError:
    """The refusal of a moving picture."""
    return InputError(
        f"'{name}' is an animated {title} of {frames} frames; deblur restores single photos.",
        "Save the frames as files of their own first, for example with ffmpeg.",
    )


def cmyk(name: str, title: str) -> InputError:
    """The refusal of a picture in printing colours."""
    return InputError(
        f"'{name}' is a CMYK {title}, made for print; deblur works on RGB and gray.",
        f"Convert it first, for example: magick '{name}' -colorspace sRGB rgb.png",
    )


def arrays(image: Image.Image, orientation: int, room: Room | None = None) -> tuple[Pixels, Pixels | None]:
    """The upright pixels (H, W, 1 or 3) and the alpha (H, W) or None of a picture that Pillow decodes exactly.

    Copies band by band straight to where the pixels belong, so that beside Pillow's picture and the result nothing is held;
    where there is a ``room``, not even that.
    """
    plain = _plain(image)
    width, height = plain.size
    count = len(plain.getbands())
    colours = 3 if count >= 3 else 1
    dtype = np.uint16 if plain.mode.startswith("I;16") else np.uint8
    turned = orientation >= 5
    size = (width, height) if turned else (height, width)
    if room is None:
        pixels, alpha = np.empty((*size, colours), dtype), np.empty(size, dtype) if count in (2, 4) else None
    else:
        pixels, alpha = room.pixels(*size, colours, np.dtype(dtype).name, alpha=count in (2, 4))
    back = {6: 8, 8: 6}.get(orientation, orientation)
    rows = max(1, _BAND_VALUES // (width * count))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = np.asarray(plain.crop((0, top, width, bottom))).reshape(bottom - top, width, count)
        upright(pixels, back)[top:bottom] = band[..., :colours]
        if alpha is not None:
            upright(alpha, back)[top:bottom] = band[..., colours]
        if room is not None:
            room.rest()
    return pixels, alpha


def core_over(pixels: Pixels) -> Any:
    """Pillow's inner picture, L or RGB, in the very memory of ``pixels``, as ``Image.frombuffer`` makes it for other modes.

    Args:
        pixels: (H, W, 1) or (H, W, 3) uint8, of which a pixel takes one byte or four.

    Raises:
        AttributeError, TypeError, ValueError: this Pillow has no such way.
    """
    height, width, channels = pixels.shape
    whole: Any = np.lib.stride_tricks.as_strided(pixels, (height, width, 1 if channels == 1 else 4))
    mode = "L" if channels == 1 else "RGB"
    return Image.core.map_buffer(memoryview(whole).cast("B"), (width, height), "raw", 0, (mode, 0, 1))


def upright(stored: Pixels, orientation: int) -> Pixels:
    """A view of ``stored`` (H, W, ...) as EXIF's orientation wants it seen."""
    if orientation >= 5:
        stored = stored.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    return stored[:, ::-1] if orientation in (2, 3, 6, 7) else stored


def parted(stored: Pixels, orientation: int) -> tuple[Pixels, Pixels | None]:
    """The upright pixels (H, W, 1 or 3) and alpha (H, W) or None of an array (H, W) or (H, W, 1 to 4) in RGB(A) order."""
    stored = upright(stored if stored.ndim == 3 else stored[..., None], orientation)
    colours = 3 if stored.shape[2] >= 3 else 1
    alpha = np.ascontiguousarray(stored[..., colours]) if stored.shape[2] in (2, 4) else None
    return np.ascontiguousarray(stored[..., :colours]), alpha


def _plugin(sort: str) -> Callable[[Any], ImageFile.ImageFile]:
    if sort == "jpeg":
        from PIL.JpegImagePlugin import JpegImageFile as Plugin
    elif sort == "png":
        from PIL.PngImagePlugin import PngImageFile as Plugin
    elif sort == "tiff":
        from PIL.TiffImagePlugin import TiffImageFile as Plugin
    elif sort == "webp":
        from PIL.WebPImagePlugin import WebPImageFile as Plugin
    elif sort == "avif":
        from PIL.AvifImagePlugin import AvifImageFile as Plugin
    else:
        from PIL.BmpImagePlugin import BmpImageFile as Plugin
    return Plugin


def _plain(image: Image.Image) -> Image.Image:
    """The picture in one of the modes that :func:`arrays` reads; palettes and keyed transparency resolved exactly."""
    if image.mode == "P":
        if "transparency" in image.info:
            return image.convert("RGBA")
        palette = image.getpalette("RGB") or []
        gray = palette[::3] == palette[1::3] == palette[2::3] and image.info.get("icc_profile", b"")[16:20] != b"RGB "
        return image.convert("L" if gray else "RGB")
    if image.mode in ("1", "L", "RGB") and "transparency" in image.info:
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    return image.convert(_MADE_PLAIN[image.mode]) if image.mode in _MADE_PLAIN else image
