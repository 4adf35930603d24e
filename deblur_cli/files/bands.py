"""PNG and TIFF from their file to pixels a band of rows at a time, so that no photo need ever be in memory as a whole.

Every value is that of the readers of whole photos. What cannot be read so is left to them: interlaced pictures, palettes,
depths below eight bits, and compressions that only they undo.
"""

import struct
import zlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deblur_cli.errors import InputError
from deblur_cli.files import decoding, png, tiff
from deblur_cli.files.decoding import Pixels

Band = tuple[int, int, Pixels]
"""Top and left of a part of the photo as stored, and its samples (rows, columns, channels), alpha last."""

_BAND_BYTES = 2**23
_MOST_SEGMENT = 2**26
"""Bytes that a strip or tile may have; what is packed in larger pieces is read whole."""
_SIGNATURE = 8
_NOTHING = 1  # predictor, and compression
_PACKINGS = {_NOTHING, 8, 32946}  # none, deflate twice
_PREDICTORS = {_NOTHING, 2}


class PngFile:
    """The bytes of a PNG as :mod:`png` wants them, read as they are asked for: its chunks lie all over the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))


def of_png(path: Path, name: str) -> Generator[Band] | None:
    """The bands of a PNG, or None if it cannot be read so.

    Raises:
        InputError: while it is read: the picture is damaged or truncated.
    """
    with path.open("rb") as file:
        head = file.read(33)
    if len(head) < 33 or head[12:16] != b"IHDR":
        return None
    depth, colour, _, _, interlaced = head[24:29]
    if interlaced or depth not in (8, 16) or colour == 3:
        return None
    with path.open("rb") as file:
        stated, _ = png.header(PngFile(file), name)  # pyright: ignore[reportArgumentType] - all that it does to a buffer
    return None if stated.keyed else _png_bands(path, stated, name)


def of_tiff(path: Path, stated: tiff.Header, name: str) -> Generator[Band] | None:
    """The bands of a TIFF, or None if it cannot be read so; see :func:`of_png`."""
    import tifffile

    if stated.palette or stated.premultiplied or stated.inverted or np.dtype(stated.dtype).itemsize * 8 != stated.depth:
        return None
    with decoding.foreign(name, "TIFF"), tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        if not _is_plain(page, stated):
            return None
        if page.compression == _NOTHING and page.is_contiguous and page.predictor == _NOTHING and not page.is_tiled:
            dtype = np.dtype(stated.dtype).newbyteorder(file.byteorder)
            return _raw_bands(path, page.dataoffsets[0], dtype, stated, name)
        piece = page.tilelength * page.tilewidth if page.is_tiled else page.rowsperstrip * page.imagewidth
        small = piece * stated.channels * stated.depth <= 8 * _MOST_SEGMENT
        known = page.compression in _PACKINGS and page.predictor in _PREDICTORS and page.fillorder == _NOTHING
    return _tiff_bands(path, name) if small and known else None


def _is_plain(page: Any, stated: tiff.Header) -> bool:
    """Whether the samples are those of the photo as they stand, colour beside colour."""
    shape = (page.imagedepth, page.imagelength, page.imagewidth, page.samplesperpixel)
    if shape != (1, stated.height, stated.width, stated.channels) or stated.channels > 4:
        return False
    beside = page.planarconfig == _NOTHING or stated.channels == 1
    return beside and page.photometric in (1, 2) and page.dtype is not None and page.dtype.name == stated.dtype


def _raw_bands(path: Path, at: int, dtype: np.dtype[Any], stated: tiff.Header, name: str) -> Generator[Band]:
    size = stated.width * stated.channels
    rows = max(1, _BAND_BYTES // (size * dtype.itemsize))
    with path.open("rb") as file:
        file.seek(at)
        for top in range(0, stated.height, rows):
            count = min(rows, stated.height - top)
            data = file.read(count * size * dtype.itemsize)
            if len(data) != count * size * dtype.itemsize:
                raise decoding.truncated(name, "TIFF")
            band = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
            yield top, 0, band.reshape(count, stated.width, stated.channels)


def _tiff_bands(path: Path, name: str) -> Generator[Band]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        found: Iterator[Any] = iter(page.segments(maxworkers=1))
        while True:
            with decoding.foreign(name, "TIFF"):
                part = next(found, None)
            if part is None:
                return
            data, (_, _, top, left, _), (_, rows, columns, _) = part
            rows, columns = min(rows, page.imagelength - top), min(columns, page.imagewidth - left)
            if data is None:
                raise decoding.truncated(name, "TIFF")
            yield top, left, data[0, :rows, :columns]


def _png_bands(path: Path, stated: png.Header, name: str) -> Generator[Band]:
    """Some rows at a time as a small PNG of their own, led by the row above, which their filters refer to."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[stated.colour]
    size = 1 + stated.width * channels * stated.depth // 8
    rows = max(1, _BAND_BYTES // size)
    above = bytes(size)
    top = 0
    for raw in _gathered(_inflated(path, name), rows * size, stated.height * size, name):
        count = len(raw) // size
        small = replace(stated, height=count + 1)
        pixels, alpha = png.decode(_small(small, above + raw), small, name, 1)
        band = pixels if alpha is None else np.concatenate((pixels, alpha[..., None]), axis=2)
        above = b"\0" + band[-1].astype(f">u{stated.depth // 8}").tobytes()
        yield top, 0, band[1:]
        top += count


def _small(stated: png.Header, raw: bytes) -> bytes:
    """A PNG of filtered rows."""
    fields = struct.pack(">IIBBBBB", stated.width, stated.height, stated.depth, stated.colour, 0, 0, 0)
    return png.joined([(b"IHDR", fields), (b"IDAT", zlib.compress(raw, 0)), (b"IEND", b"")])


def _gathered(parts: Iterator[bytes], step: int, total: int, name: str) -> Iterator[bytes]:
    """The same bytes in pieces of ``step``, the last one shorter, ``total`` in all."""
    held, done = bytearray(), 0
    for part in parts:
        held += part
        while len(held) >= step and done + step <= total:
            yield bytes(held[:step])
            del held[:step]
            done += step
    if len(held) < total - done:
        raise decoding.truncated(name, "PNG")
    if total > done:
        yield bytes(held[: total - done])


def _inflated(path: Path, name: str) -> Iterator[bytes]:
    """The filtered rows, by and by; the checksums of all chunks are verified on the way."""
    unpacker = zlib.decompressobj()
    with path.open("rb") as file:
        file.seek(_SIGNATURE)
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            check, left = zlib.crc32(kind), size
            while left:
                part = file.read(min(left, 2**20))
                if not part:
                    raise decoding.truncated(name, "PNG")
                left -= len(part)
                check = zlib.crc32(part, check)
                if kind == b"IDAT":
                    yield from _unpacked(unpacker, part, name)
            if kind in png.PICTURE and check != int.from_bytes(file.read(4), "big"):
                raise png.torn(name)
            if kind not in png.PICTURE:
                file.seek(4, 1)
            if kind == b"IEND":
                return
    raise decoding.truncated(name, "PNG")


def _unpacked(unpacker: Any, part: bytes, name: str) -> Iterator[bytes]:
    while part:
        try:
            yield unpacker.decompress(part, _BAND_BYTES)
        except zlib.error as error:
            raise InputError(f"'{name}' is a damaged PNG: {error}.", "Copy it again from where it came.") from error
        part = unpacker.unconsumed_tail
