"""TIFF: which of its pages is the photo, samples wider than 8 bits, and writing with every tag of the original.

Source: TIFF 6.0 and Adobe's supplements. Pillow decodes what has 8 bits or less; tifffile the rest, and OpenCV what tifffile
lacks the decompressor for.
"""

import contextlib
import ctypes
import functools
import logging
import operator
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from deblur_cli.errors import InputError
from deblur_cli.files import decoding, exif, formats, packing, tags
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.metadata import Metadata
from deblur_cli.files.tags import Buffer

for _library in ("tifffile", "PIL"):  # they log damage, which without a handler goes to stderr; they raise it as well
    logging.getLogger(_library).addHandler(logging.NullHandler())

_TITLE = "TIFF"
_ORIENTATION, _XMP, _IPTC, _ICC = 274, 700, 33723, 34675
_DEPTHS, _PHOTOMETRIC, _CHANNELS, _EXTRA, _SAMPLE_FORMAT, _SUBFILE = 258, 262, 277, 338, 339, 254
_STRUCTURE = (  # tags that describe how the pixels are stored, or pictures other than this one: never carried over
    frozenset(range(254, 267))
    | {273, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 297, 301, 317}
    | set(range(320, 346))
    | {347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 559}
    | {_XMP, _IPTC, 34377, _ICC, 37724, 50706, 50707}
)
_PHOTOMETRICS = {0, 1, 2, 3, 6}  # zero is white, zero is black, RGB, palette, YCbCr
_RAW_PHOTOMETRIC = {32803, 34892}  # colour filter array, linear raw
_STRIP_BYTES = 2**20
_MOST_BYTES = 2**32 - 2**16  # offsets have 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the page of a TIFF that holds the photo states."""

    width: int
    height: int
    depth: int
    """Bits per sample, the widest channel's."""
    dtype: str
    """Sample type that the photo is read to: uint8, uint16 or float32."""
    channels: int
    """Colours and alpha together."""
    palette: bool
    """Whether the samples are places in a table of colours."""
    premultiplied: bool
    """Whether colours are stored multiplied by alpha."""
    inverted: bool
    """Whether zero is white."""
    vague: bool
    """Whether nothing says that the channel after the colours is alpha."""


def header(data: Buffer, name: str) -> tuple[Header, Metadata]:
    """The header and the side notes, orientation not yet applied; no pixel is touched.

    Raises:
        InputError: no valid TIFF, several pages, a raw camera file, CMYK, or samples that deblur does not restore.
    """
    try:
        pages = list(tags.chain(data))
    except tags.TornError as error:
        raise decoding.truncated(name, _TITLE) from error
    main = pages[0]
    photometric = main.value(data, _PHOTOMETRIC, 1)
    whole = [page for page in pages if not page.value(data, _SUBFILE, 0) & 5]  # 1 is a thumbnail, 4 a mask
    if photometric in _RAW_PHOTOMETRIC or 50706 in main.tags or main not in whole:
        raise formats.raw_refused(name)
    if len(whole) > 1:
        raise InputError(
            f"'{name}' is a TIFF of {len(whole)} pages; deblur restores single photos.",
            f"Save the pages as files of their own first, for example: magick '{name}' page-%d.tif",
        )
    if photometric == 5:
        raise decoding.cmyk(name, _TITLE)
    _check_whole(data, main, name)
    return _stated(data, main, photometric, name), _notes(data, main)


def decode(data: bytes, stated: Header, name: str, orientation: int) -> tuple[Pixels, Pixels | None]:
    """The upright pixels (H, W, 1 or 3), uint8, uint16 or float32, and the alpha (H, W) or None.

    Raises:
        InputError: the picture is damaged or of a kind that no decoder here knows.
    """
    upright = data if orientation == 1 else _unturned(data)
    if stated.depth <= 8:
        _hush_libtiff()
        image = decoding.opened(upright, "tiff", name)
        with decoding.foreign(name, _TITLE), decoding.quiet():
            image.load()
        return _without_void(*decoding.arrays(image, orientation), stated)
    with decoding.foreign(name, _TITLE):
        stored = _stored(upright, stated, name)
    if stored.shape[:2] != (stated.height, stated.width):
        raise decoding.truncated(name, _TITLE)
    stored = stored.astype(stated.dtype, copy=False)
    if stated.inverted:
        stored = (np.uint16(65535) if stored.dtype == np.uint16 else np.float32(1)) - stored
    pixels, alpha = decoding.parted(stored, orientation)
    if alpha is not None and stated.premultiplied:
        pixels = _divided(pixels, alpha)
    return _without_void(pixels, alpha, stated)


def write(out: BinaryIO, pixels: Pixels, alpha: Pixels | None, kept: Metadata, name: str) -> None:
    """Write a TIFF of the photo and its side notes: whole numbers losslessly compressed, floats as they are.

    The file begins with the EXIF block, which is a TIFF structure itself: no offset inside it changes, maker notes included.

    Args:
        out: an empty file.
        pixels: (H, W, 1 or 3) uint8, uint16 or float32.
        alpha: (H, W) of the same type, or None.
        kept: the side notes.
        name: what the messages call the photo.

    Raises:
        InputError: the file would pass the 4 GB that TIFF can hold.
    """
    main = tags.first(kept.exif) if kept.exif else None
    order = main.order if main else "<"
    values: dict[int, tuple[int, int, bytes]] = {}
    for number, tag in main.tags.items() if main else ():
        if number not in _STRUCTURE:
            values[number] = (tag.kind, tag.count, bytes(kept.exif[tag.at : tag.at + tag.size]))
    values |= _structure(pixels, alpha, order) | _carried(kept, order)
    out.write(kept.exif or b"II*\0\0\0\0\0")
    _write_strips(out, pixels, alpha, order, values, name)
    end = out.tell()
    tail = bytearray()
    at = tags.append(tail, order, values, end)
    out.write(tail)
    out.seek(4)
    out.write(struct.pack(f"{order}I", at))


def _write_strips(
    out: BinaryIO,
    pixels: Pixels,
    alpha: Pixels | None,
    order: str,
    values: dict[int, tuple[int, int, bytes]],
    name: str,
) -> None:
    """Write the picture to ``out``, each strip at an even place, and where its strips lie into ``values``."""
    row = pixels[0].nbytes + (alpha[0].nbytes if alpha is not None else 0)
    rows = max(1, min(len(pixels), _STRIP_BYTES // row))
    places: list[int] = []
    sizes: list[int] = []
    for strip in packing.in_order(lambda top: _strip(pixels, alpha, order, top, rows), range(0, len(pixels), rows)):
        out.write(bytes(out.tell() % 2))
        places.append(out.tell())
        sizes.append(len(strip))
        out.write(strip)
        if out.tell() > _MOST_BYTES:
            raise InputError(f"'{name}' is too large for a TIFF, which holds 4 GB.", "Write a PNG instead: -o NAME.png")
    out.write(bytes(out.tell() % 2))
    for number, numbers in ((273, places), (278, [rows]), (279, sizes)):
        values[number] = (4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers))


def _check_whole(data: Buffer, main: tags.Directory, name: str) -> None:
    """Refuse a file whose strips or tiles reach beyond its end."""
    for places, sizes in ((273, 279), (324, 325)):
        ends = map(operator.add, main.numbers(data, places), main.numbers(data, sizes))
        if max(ends, default=0) > len(data):
            raise decoding.truncated(name, _TITLE)


def _stated(data: Buffer, main: tags.Directory, photometric: int, name: str) -> Header:
    width, height = main.value(data, 256, 0), main.value(data, 257, 0)
    decoding.check_size(name, width, height)
    depth = int(max(main.numbers(data, _DEPTHS), default=1))
    kind = main.value(data, _SAMPLE_FORMAT, 1)
    channels = main.value(data, _CHANNELS, 1)
    dtype = "uint8" if depth <= 8 and kind == 1 else {(1, 16): "uint16", (3, 16): "float32"}.get((kind, depth))
    dtype = "float32" if kind == 3 and depth in (32, 64) else dtype
    if dtype is None or photometric not in _PHOTOMETRICS or (depth > 8 and (photometric > 2 or channels > 4)):
        sort = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(kind, "unusual")
        raise InputError(
            f"'{name}' is a TIFF of {channels} x {depth}-bit {sort} samples, photometric {photometric}: deblur cannot read it.",
            "Convert it to 8 or 16 bits, or 32-bit floating point, in gray or RGB.",
        )
    return Header(
        width=width,
        height=height,
        depth=depth,
        dtype=dtype,
        channels=channels,
        palette=photometric == 3,
        premultiplied=1 in main.numbers(data, _EXTRA)[:1],
        inverted=photometric == 0,
        vague=main.value(data, _EXTRA, 0) not in (1, 2),
    )


def _notes(data: Buffer, main: tags.Directory) -> Metadata:
    block = tags.copied(data, main, lambda number, _: number not in _STRUCTURE)
    return Metadata(
        exif=block,
        xmp=main.payload(data, _XMP).rstrip(b"\0"),
        icc=main.payload(data, _ICC),
        iptc=main.payload(data, _IPTC),
        dpi=exif.resolution(block),
    )


@functools.cache
def _hush_libtiff() -> None:
    """Keep the libtiff inside Pillow from writing its errors to stderr; Pillow raises them as well.

    Where libtiff is no shared library its function is not to be found, and a damaged file costs a line of chatter.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libtiff = ctypes.CDLL(Image.core.__file__)
        libtiff.TIFFSetErrorHandler.restype = ctypes.c_void_p
        libtiff.TIFFSetErrorHandler(None)


def _unturned(data: bytes) -> bytearray:
    """The file with nothing in it that says how it is turned: decoders would turn it on their own, each in its way."""
    main, upright = tags.first(data), bytearray(data)
    for number, said in ((_ORIENTATION, struct.pack(f"{main.order}H", 1)), (_XMP, b"")):
        if tag := main.tags.get(number):
            upright[tag.at : tag.at + tag.size] = said.ljust(tag.size, b"\0")[: tag.size]
    return upright


def _stored(data: bytes | bytearray, stated: Header, name: str) -> Pixels:
    """The samples as stored, (H, W) or (H, W, C) in RGB order."""
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages.first
        try:
            stored = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            stored = None
        separate = page.planarconfig == 2 and page.samplesperpixel > 1
    if stored is not None:
        return np.moveaxis(stored, 0, -1) if separate else stored
    count = stated.channels
    if not separate:
        return _stored_by_opencv(data, count, stated, name)
    planes = (tags.plane(data, channel, count) for channel in range(count))  # OpenCV would take them for pixels
    return np.stack([_stored_by_opencv(plane, 1, stated, name) for plane in planes], axis=-1)


def _stored_by_opencv(data: bytes | bytearray, channels: int, stated: Header, name: str) -> Pixels:
    """The samples as :func:`_stored` gives them, if OpenCV gives what the file states: other kinds it narrows, or mixes up."""
    import cv2

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    dtype = f"{stated.dtype[0]}{stated.depth // 8}"
    if stored is None or stored.dtype != dtype or stored.shape[2:] != ((channels,) if channels > 1 else ()):
        raise InputError(
            f"'{name}' is a TIFF of {stated.channels} x {stated.depth}-bit samples, damaged or packed in a way "
            "that deblur cannot undo.",
            "Save it uncompressed or with deflate (ZIP), its channels interleaved.",
        )
    return stored[..., [2, 1, 0, 3][:channels]] if stored.ndim == 3 else stored


def _divided(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Colours freed from the alpha that they were multiplied by."""
    peak = 65535 if pixels.dtype == np.uint16 else 1
    for top in range(0, len(pixels), 256):
        band, cover = pixels[top : top + 256], alpha[top : top + 256, :, None].astype(np.float64)
        free = np.divide(band * float(peak), cover, out=np.zeros(band.shape), where=cover > 0)
        band[:] = np.clip(np.rint(free), 0, peak) if peak > 1 else free
    return pixels


def _without_void(pixels: Pixels, alpha: Pixels | None, stated: Header) -> tuple[Pixels, Pixels | None]:
    """A vague channel of nothing but zeros is filler, not alpha: as alpha it would hide the whole photo."""
    return pixels, None if alpha is not None and stated.vague and not alpha.any() else alpha


def _structure(pixels: Pixels, alpha: Pixels | None, order: str) -> dict[int, tuple[int, int, bytes]]:
    """The tags that say how the pixels are stored."""
    height, width, colours = pixels.shape
    count = colours + (alpha is not None)
    whole = pixels.dtype != np.float32
    shorts = {
        _DEPTHS: [8 * pixels.itemsize] * count,
        259: [8 if whole else 1],  # deflate; floats hardly shrink
        _PHOTOMETRIC: [2 if colours == 3 else 1],
        _ORIENTATION: [1],
        _CHANNELS: [count],
        284: [1],  # samples of a pixel stand together
        317: [2 if whole else 1],  # differences, or none
        _SAMPLE_FORMAT: [1 if whole else 3] * count,
    }
    if alpha is not None:
        shorts[_EXTRA] = [2]  # alpha that the colours are not multiplied by
    values = {number: (3, len(row), struct.pack(f"{order}{len(row)}H", *row)) for number, row in shorts.items()}
    return values | {256: (4, 1, struct.pack(f"{order}I", width)), 257: (4, 1, struct.pack(f"{order}I", height))}


def _carried(kept: Metadata, order: str) -> dict[int, tuple[int, int, bytes]]:
    """The side notes that have a tag of their own."""
    values: dict[int, tuple[int, int, bytes]] = {}
    for number, kind, payload in ((_XMP, 1, kept.xmp), (_IPTC, 7, kept.iptc), (_ICC, 7, kept.icc)):
        if payload:
            values[number] = (kind, len(payload), payload)
    if kept.dpi:
        for number, value in zip((282, 283), kept.dpi, strict=True):
            values[number] = (5, 1, struct.pack(f"{order}2I", round(value * 10000), 10000))
        values[296] = (3, 1, struct.pack(f"{order}H", 2))
    return values


def _strip(pixels: Pixels, alpha: Pixels | None, order: str, top: int, rows: int) -> bytes:
    """Some rows as the file holds them: whole numbers as deflated differences from their left neighbour, floats as they are."""
    band = pixels[top : top + rows]
    if alpha is not None:
        band = np.concatenate((band, alpha[top : top + rows, :, None]), axis=2)
    stored = band.dtype.newbyteorder("<" if order == "<" else ">")
    if band.dtype == np.float32:
        return band.astype(stored, copy=False).tobytes()
    steps = band.copy()
    steps[:, 1:] -= band[:, :-1]
    return packing.deflated(steps.astype(stored, copy=False).tobytes(), 15, zlib.Z_FINISH)
