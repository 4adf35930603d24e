"""Photos larger than the memory they may take: from their file to disk-backed pixels, and from those to a file.

The values and the bytes are those of ``photo``. What its readers and encoders can only do in one piece is counted before.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deblur_cli.files import bands, damage, decoding, disk, encoding, formats, memory, metadata, photo, tiff
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.formats import FORMATS
from deblur_cli.files.photo import Facts, Photo
from deblur_cli.files.scratch import Scratch

_SHARE = 0.5
"""Of what is left of the memory that a photo may take; the rest is for tiles."""
_ROWS = 256
_BUFFERS = 2**26
"""Bytes of the bands that are read or written at a time, packed and not."""
_WHOLE = {"webp": 12, "avif": 12, "heic": 12}
"""Bytes per pixel that encoders and decoders of these formats take, which know no bands."""


def probe(path: Path, name: str = "") -> Facts:
    """What the header of a photo tells, as :func:`photo.probe`, with no more of the file in memory than that.

    Raises:
        InputError, UsageError: as :func:`photo.probe`.
    """
    return _opened(path, name or str(path))[0].facts


def bytes_in_memory(facts: Facts, size: int) -> int:
    """Most bytes that a photo takes on its way through memory as a whole: its file, its pixels twice, and what codecs hold."""
    value = np.dtype(facts.dtype).itemsize * (facts.channels + facts.alpha)
    codec = max(4, 2 * value, _WHOLE.get(facts.format, 0))
    return facts.width * facts.height * (2 * value + codec) + 2 * size + facts.coefficients


def bytes_in_bands(path: Path, facts: Facts, format: str) -> int:  # noqa: A002 - the word that Photo and Pillow use
    """Most bytes that :func:`read` and :func:`write` hold at once of a photo: some bands, or all of it where they must.

    Args:
        path: of the file.
        facts: of its header.
        format: in which it is to be written.
    """
    area = facts.width * facts.height
    reading = 0
    if facts.format == "jpeg" and _is_baseline(path):
        pass
    elif _banded(path, facts.format, str(path)) is None:
        value = 1 if facts.channels == 1 and not facts.alpha else 4
        whole = 2 * (facts.channels + facts.alpha) * np.dtype(facts.dtype).itemsize if facts.dtype != "uint8" else value
        reading = area * max(whole, _WHOLE.get(facts.format, 0)) + 2 * path.stat().st_size + facts.coefficients
    alone = format == "png" and facts.dtype == "uint8" and facts.channels == 1 and facts.alpha
    writing = area * (4 if alone else _WHOLE.get(format, 0))
    return _BUFFERS + max(reading, writing)


def room_for(
    path: Path,
    facts: Facts,
    *,
    format: str,  # noqa: A002 - as above
    most: int,
    folder: Path,
) -> Scratch | None:
    """Room in ``folder`` for the pixels of a photo that are too many for a process of ``most`` bytes; None: they are not.

    Raises:
        DeviceError: even some of them are.
    """
    left = memory.left_of(most)
    if bytes_in_memory(facts, path.stat().st_size) <= left * _SHARE:
        return None
    needed = bytes_in_bands(path, facts, format)
    memory.check_budget(most, left, needed, f"'{path}' of {facts.width} x {facts.height} pixels")
    return Scratch(folder)


def read(path: Path, room: Scratch, name: str = "") -> Photo:
    """The photo in a file, its pixels in ``room``.

    Raises:
        InputError, UsageError: as :func:`photo.read`, or there is no room.
    """
    name = name or str(path)
    found, sort = _opened(path, name)
    facts, turned = found.facts, metadata.orientation(found.kept)
    parts = _jpeg_bands(path, room, name) if sort == "jpeg" and _is_baseline(path) else _banded(path, sort, name)
    if parts is None:
        return photo.read(path, name=name, room=room)
    pixels, alpha = room.pixels(facts.height, facts.width, facts.channels, facts.dtype, alpha=facts.alpha)
    back = {6: 8, 8: 6}.get(turned, turned)
    empty = True
    for top, left, part in parts:
        place = slice(top, top + part.shape[0]), slice(left, left + part.shape[1])
        decoding.upright(pixels, back)[place] = part[..., : facts.channels]
        if alpha is not None:
            decoding.upright(alpha, back)[place] = part[..., facts.channels]
            empty = empty and not part[..., facts.channels].any()
        room.rest()
    if alpha is not None and empty and sort == "tiff" and _is_vague(path, name):
        alpha = None
    kept = metadata.settled(found.kept, facts.width, facts.height)
    damaged = sort == "jpeg" and _is_damaged(path)
    return Photo(pixels=pixels, alpha=alpha, metadata=kept, format=facts.format, damaged=damaged, notices=found.notices)


def twin(blurred: Photo, room: Scratch) -> Photo:
    """Room for the restored photo: zeros, and the alpha of the blurred one."""
    height, width, channels = blurred.pixels.shape
    pixels, alpha = room.pixels(height, width, channels, blurred.pixels.dtype.name, alpha=blurred.alpha is not None)
    if blurred.alpha is not None and alpha is not None:
        copy(blurred.alpha, alpha, room)
    return replace(blurred, pixels=pixels, alpha=alpha)


def copy(values: Pixels, into: Pixels, room: Scratch, change: Callable[[Pixels], Pixels] = lambda band: band) -> None:
    """Put ``values``, changed, into an array of as many rows, band by band."""
    for top in range(0, len(values), _ROWS):
        into[top : top + _ROWS] = change(values[top : top + _ROWS])
        room.rest()


def write(
    out: BinaryIO,
    picture: Photo,
    room: Scratch,
    *,
    format: str,  # noqa: A002 - as above
    quality: int,
    keep_metadata: bool,
    name: str,
) -> None:
    """Write into ``out``, an empty file that can be sought in, what :func:`photo.encode` gives.

    Raises:
        InputError, UsageError: as :func:`photo.encode`, or there is no room.
    """
    dtype = photo.narrowest(picture, format)
    if dtype != picture.pixels.dtype.name:
        picture = _narrowed(picture, dtype, room)
    if picture.alpha is not None and not FORMATS[format].alpha and is_opaque(picture.alpha, room):
        picture = replace(picture, alpha=None)
    resting: Any = _Resting(out, room)
    photo.encode_to(resting, picture, format=format, quality=quality, keep_metadata=keep_metadata, name=name)


def check_fit(picture: Photo, room: Scratch, *, format: str, name: str) -> None:  # noqa: A002 - as above
    """Refuse what ``format`` cannot hold, as :func:`photo.check_fit`."""
    if picture.alpha is not None and not FORMATS[format].alpha and is_opaque(picture.alpha, room):
        picture = replace(picture, alpha=None)
    photo.check_fit(picture, format=format, name=name)


def is_opaque(alpha: Pixels, room: Scratch) -> bool:
    """Whether nothing of a photo is transparent."""
    peak = encoding.PEAKS[alpha.dtype.name]
    for top in range(0, len(alpha), _ROWS):
        if alpha[top : top + _ROWS].min() < peak:
            return False
        room.rest()
    return True


class _Source:
    """A file that is read, while the pixels that have come from it are let go of."""

    def __init__(self, file: BinaryIO, room: Scratch) -> None:
        self._file = file
        self._room = room
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._room.rest()  # after every piece: of a photo of one colour a small one stands for very many pixels
        return self._file.read(size)


class _Resting:
    """A file that is written to, while the pixels that have gone into it are let go of."""

    def __init__(self, out: BinaryIO, room: Scratch) -> None:
        self._out = out
        self._room = room
        self.seek, self.tell, self.flush = out.seek, out.tell, out.flush

    def write(self, data: bytes) -> int:
        self._room.rest()  # after every piece: of a photo of one colour a small one stands for very many pixels
        return self._out.write(data)

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(part)


def _opened(path: Path, name: str) -> tuple[photo.Opened, str]:
    with disk.mapped(path) as data:
        sort = formats.sniff(data[:4096], name)
        if sort != "png":
            return photo.opened(data, name), sort
    with path.open("rb") as file:
        data: Any = bands.PngFile(file)
        return photo.opened(data, name), sort


def _banded(path: Path, sort: str, name: str) -> Any:
    """The bands of the photo, or None where its reader knows none."""
    if sort == "png":
        return bands.of_png(path, name)
    if sort != "tiff":
        return None
    with disk.mapped(path) as data:
        stated, _ = tiff.header(data, name)
    return bands.of_tiff(path, stated, name)


def _is_baseline(path: Path) -> bool:
    """Whether a JPEG can be decoded from top to bottom, in a mode that Pillow can decode to where it is wanted."""
    with path.open("rb") as file:
        source: Any = file
        image: Any = decoding.opened(source, "jpeg", str(path))
        return image.mode in {"L", "RGB"} and "progressive" not in image.info


def _is_damaged(path: Path) -> bool:
    with disk.mapped(path) as data:
        return damage.is_seen(data)


def _jpeg_bands(path: Path, room: Scratch, name: str) -> Iterator[bands.Band] | None:
    """The bands of a JPEG, which Pillow decodes straight into other pixels on disk; None if this Pillow cannot."""
    with path.open("rb") as file:
        source: Any = _Source(file, room)
        image: Any = decoding.opened(source, "jpeg", name)
        channels = 1 if image.mode == "L" else 3
        stored, _ = room.pixels(image.height, image.width, channels, "uint8", alpha=False)
        try:
            image.im = decoding.core_over(stored)
        except (AttributeError, TypeError, ValueError):
            return None
        with decoding.foreign(name, FORMATS["jpeg"].title):
            image.load()
    return ((top, 0, stored[top : top + _ROWS]) for top in range(0, len(stored), _ROWS))


def _is_vague(path: Path, name: str) -> bool:
    with disk.mapped(path) as data:
        return tiff.header(data, name)[0].vague


def _narrowed(picture: Photo, dtype: str, room: Scratch) -> Photo:
    height, width, channels = picture.pixels.shape
    pixels, alpha = room.pixels(height, width, channels, dtype, alpha=picture.alpha is not None)
    copy(picture.pixels, pixels, room, lambda band: encoding.narrowed(band, dtype))
    if picture.alpha is not None and alpha is not None:
        copy(picture.alpha, alpha, room, lambda band: encoding.narrowed(band, dtype))
    return replace(picture, pixels=pixels, alpha=alpha)
