"""Image files to photos and back, with nothing lost on the way but what a format cannot hold.

Reading turns a photo upright once, and writing says so in its EXIF. Sample types go through as they are; a format of
fewer bits gets correctly rounded values. To write a restored photo, put its pixels into the photo that was read:
``dataclasses.replace(blurred, pixels=restored)``.
"""

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from deblur_cli.errors import InputError, UsageError
from deblur_cli.files import damage, decoding, disk, encoding, heic, metadata, tiff
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.formats import FORMATS, READABLE, WRITABLE, format_of
from deblur_cli.files.metadata import Metadata
from deblur_cli.files.opening import Facts, Opened, opened

__all__ = [
    "READABLE",
    "WRITABLE",
    "Facts",
    "Metadata",
    "Opened",
    "Photo",
    "check_fit",
    "encode",
    "encode_to",
    "format_of",
    "narrowest",
    "opened",
    "probe",
    "read",
    "write",
]

_CODED = frozenset({"png", "avif", "heic"})
"""Formats that name colours by code points."""
_PROFILED = frozenset({"jpeg", "tiff", "webp", "bmp"})
"""Formats that name them by an ICC profile alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A decoded photo and all that came with it."""

    pixels: Pixels
    """(H, W, 3) RGB or (H, W, 1) gray, C-contiguous, upright: uint8, uint16, or float32 where 1 is white."""
    alpha: Pixels | None
    """(H, W) of the same type, the largest value opaque, or None. Colours are not multiplied by it."""
    metadata: Metadata
    """The side notes, true of the upright photo."""
    format: str
    """The format of the file: jpeg, png, tiff, webp, avif, bmp or heic."""
    damaged: bool = False
    """Whether parts of it are not what was photographed: a JPEG is decoded whatever happened to it."""
    notices: tuple[str, ...] = ()
    """Sentences, to be told once, on what the file holds and the photo does not: a video, a gain map, bits."""


def read(source: Path | bytes, *, name: str = "", room: decoding.Room | None = None) -> Photo:
    """The photo in a file, or in the bytes of one.

    Args:
        source: path, or the whole file.
        name: what messages call the photo; its path, or standard input, if empty.
        room: where the pixels shall lie, if its reader can put them elsewhere than in memory.

    Raises:
        InputError: missing, damaged, truncated, animated, CMYK, raw, too large, or no photo at all.
        UsageError: a HEIC photo, and pillow-heif is not installed.
    """
    name = _named(source, name)
    try:
        data = source if isinstance(source, bytes) else disk.read(source)
        found = opened(data, name)
        facts, notes, notices = found.facts, found.kept, found.notices
        pixels, alpha = found.decode(room)
        del found  # and with it Pillow's picture: there is room for one at a time
        damaged = facts.format == "jpeg" and damage.is_seen(data)
    except MemoryError as error:
        raise decoding.too_large(name) from error
    height, width = pixels.shape[:2]
    kept = metadata.settled(notes, width, height)
    return Photo(pixels=pixels, alpha=alpha, metadata=kept, format=facts.format, damaged=damaged, notices=notices)


def probe(source: Path | bytes, *, name: str = "") -> Facts:
    """What the header of a photo tells; no pixel is decoded.

    Args:
        source: path, or the whole file.
        name: what messages call the photo; its path, or standard input, if empty.

    Raises:
        InputError: as :func:`read`, but damage behind the header goes unseen.
        UsageError: a HEIC photo, and pillow-heif is not installed.
    """
    if isinstance(source, bytes):
        return opened(source, _named(source, name)).facts
    with disk.mapped(source) as data:
        return opened(data, _named(source, name)).facts


def encode(
    photo: Photo,
    *,
    format: str,  # noqa: A002 - the word that Photo and Pillow use
    quality: int = 95,
    keep_metadata: bool = True,
    name: str = "",
) -> bytes:
    """The photo as a file of ``format``.

    Samples that the format cannot hold are rounded to the widest it can: float32 becomes 16 bits in PNG, and 8 in JPEG, WebP,
    AVIF and BMP, as uint16 does. A lossless WebP stays lossless unless ``quality`` is below 95.

    Args:
        photo: to be encoded.
        format: a key of ``formats.FORMATS``, as :func:`format_of` and ``Photo.format`` give it.
        quality: 1 to 100, for JPEG, lossy WebP, AVIF and HEIC; JPEG and AVIF keep colour at full resolution.
        keep_metadata: False drops all but the ICC profile, code points and PNG's colour chunks, without which the colours
            would change.
        name: what messages call the photo.

    Raises:
        UsageError: the format cannot hold the photo's alpha, its colours or its size, or ``quality`` is out of range.
        InputError: the library refused to encode it.
    """
    out = BytesIO()
    encode_to(out, photo, format=format, quality=quality, keep_metadata=keep_metadata, name=name)
    return out.getvalue()


def encode_to(
    out: BinaryIO,
    photo: Photo,
    *,
    format: str,  # noqa: A002 - as above
    quality: int = 95,
    keep_metadata: bool = True,
    name: str = "",
) -> None:
    """Write into ``out``, an empty file that can be sought in, what :func:`encode` gives."""
    name = name or "the photo"
    if not 1 <= quality <= 100:
        raise UsageError(f"--quality {quality} is out of range.", "Give a number from 1 to 100.")
    check_fit(photo, format=format, name=name)
    row = FORMATS[format]
    dtype = narrowest(photo, format)
    pixels = encoding.narrowed(photo.pixels, dtype)
    alpha = encoding.narrowed(photo.alpha, dtype) if photo.alpha is not None and row.alpha else None
    kept = _coloured(photo.metadata if keep_metadata else photo.metadata.stripped(), format, gray=pixels.shape[2] == 1)
    try:
        _encode(out, pixels, alpha, kept, format, quality, name)
    except (OSError, RuntimeError, MemoryError) as error:
        if getattr(error, "errno", None):
            raise  # of the file that is written, not of the library
        told = str(error) or "there is not enough memory"
        raise InputError(f"'{name}' could not be written as {row.title}: {told}.", "Write a PNG instead.") from error


def narrowest(photo: Photo, format: str) -> str:  # noqa: A002 - as above
    """The sample type in which a file of ``format`` holds the photo: its own, or the widest that the format has."""
    row, own = FORMATS[format], photo.pixels.dtype.name
    return own if own in row.depths else row.depths[-1]


def check_fit(photo: Photo, *, format: str, name: str) -> None:  # noqa: A002 - as above
    """Refuse what ``format`` cannot hold; to be asked before the work whose result it would be.

    Args:
        photo: as it would be written; only its shape, its type, its alpha and its colours' code points count.
        format: a key of ``formats.FORMATS``.
        name: what messages call the result.

    Raises:
        UsageError: a side is too long, parts are transparent, nothing in the format says what the colours mean, or its
            library is not installed.
    """
    pixels, row = photo.pixels, FORMATS[format]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype.name not in encoding.PEAKS:
        raise ValueError(f"pixels are {pixels.shape} {pixels.dtype}, not (H, W, 1 or 3) uint8, uint16 or float32")
    if photo.alpha is not None and (photo.alpha.shape != pixels.shape[:2] or photo.alpha.dtype != pixels.dtype):
        raise ValueError(f"alpha is {photo.alpha.shape} {photo.alpha.dtype}, the pixels {pixels.shape} {pixels.dtype}")
    if format == "heic":
        heic.check_library(name)
    height, width = pixels.shape[:2]
    if max(height, width) > row.side:
        raise UsageError(
            f"'{name}' cannot be a {row.title}: {width} x {height} pixels are more than its {row.side} a side.",
            "Write a PNG or a TIFF instead.",
        )
    if not row.alpha and photo.alpha is not None and photo.alpha.min() < encoding.PEAKS[pixels.dtype.name]:
        able = ", ".join(other.title for other in FORMATS.values() if other.alpha)
        raise UsageError(
            f"'{name}' cannot be a {row.title}: the photo has transparent parts, and {row.title} holds no alpha.",
            f"Write one of {able} instead.",
        )
    _check_colours(photo, format, name)


def write(photo: Photo, path: Path, *, quality: int = 95, keep_metadata: bool = True) -> None:
    """Write the photo in the format that the suffix of ``path`` asks for, whole or not at all.

    Args:
        photo: to be written.
        path: of the file; one that is there already is replaced.
        quality: as for :func:`encode`.
        keep_metadata: likewise.

    Raises:
        UsageError: as :func:`encode`, or the suffix names no format.
        InputError: the folder is missing, full, or may not be written to; nothing is left behind.
    """
    data = encode(photo, format=format_of(path), quality=quality, keep_metadata=keep_metadata, name=str(path))
    disk.write(path, data)


def _named(source: Path | bytes, name: str) -> str:
    return name or ("standard input" if isinstance(source, bytes) else str(source))


def _check_colours(photo: Photo, format: str, name: str) -> None:  # noqa: A002 - as above
    """Refuse a format in which the colours would be taken for others."""
    meant, title = photo.metadata.cicp, FORMATS[format].title
    if meant is None or format == "png":
        return
    profiled = format in _PROFILED and (photo.metadata.icc or meant.profile())
    if meant.full and (format in _CODED or profiled or meant.is_srgb(gray=photo.pixels.shape[2] == 1)):
        return
    raise UsageError(
        f"'{name}' cannot be a {title}: the photo's colours are those of {meant}, which {title} cannot name.",
        "Write a PNG or a HEIC instead." if meant.full else "Write a PNG instead.",
    )


def _coloured(kept: Metadata, format: str, *, gray: bool) -> Metadata:  # noqa: A002 - as above
    """The side notes with code points of colours in the words that the format has for them."""
    meant = kept.cicp
    if meant is None or kept.icc:
        return kept
    if format == "png":
        named = any(kind == meant.chunk[0] for kind, _ in kept.chunks)
        return kept if named else replace(kept, chunks=(meant.chunk, *kept.chunks))
    return replace(kept, icc=meant.profile()) if format in _PROFILED and not gray else kept


def _encode(
    out: BinaryIO, pixels: Pixels, alpha: Pixels | None, kept: Metadata, sort: str, quality: int, name: str
) -> None:
    if sort == "jpeg":
        encoding.jpeg(out, pixels, kept, quality=quality)
    elif sort == "png":
        encoding.portable(out, pixels, alpha, kept)
    elif sort == "tiff":
        tiff.write(out, pixels, alpha, kept, name)
    elif sort in {"webp", "avif"}:
        (encoding.webp if sort == "webp" else encoding.avif)(out, pixels, alpha, kept, quality=quality)
    elif sort == "bmp":
        encoding.bmp(out, pixels, kept)
    else:
        out.write(heic.encode(pixels, alpha, kept, quality=quality, name=name))
