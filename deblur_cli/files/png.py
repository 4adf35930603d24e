"""PNG by its chunks: the pixels of 16 bits that Pillow would narrow, and the side notes, which are spliced in unread.

Source: PNG Specification (Third Edition), https://www.w3.org/TR/png-3/ sections 5, 9 and 11.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from deblur_cli.errors import InputError
from deblur_cli.files import decoding, packing
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.metadata import Metadata
from deblur_cli.files.tags import Buffer

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TITLE = "PNG"
HEAD = len(_SIGNATURE) + 25
"""Bytes of the signature and of the first chunk."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
"""The chunks that the picture consists of."""
_MOST_DEFLATE = 1032  # bytes that one byte of a deflate stream can stand for
_BAND_BYTES = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the first chunk of a PNG states."""

    width: int
    height: int
    depth: int
    """Bits per sample: 1, 2, 4, 8 or 16."""
    colour: int
    """Colour type: 0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGB with alpha."""
    keyed: bool
    """Whether a tRNS chunk makes some colours transparent."""


def header(data: Buffer, name: str) -> tuple[Header, list[tuple[bytes, bytes]]]:
    """The header and the side notes, (name, payload) each, of a PNG; no pixel is touched.

    Raises:
        InputError: the file is truncated, animated, too large, or no valid PNG.
    """
    notes: list[tuple[bytes, bytes]] = []
    stated: tuple[int, ...] = ()
    keyed, packed = False, 0
    for kind, at, size in _walk(data, name):
        if kind == b"IHDR" and size == 13:
            stated = struct.unpack(">IIBBBBB", data[at : at + size])
        elif kind == b"acTL" and int.from_bytes(data[at : at + 4], "big") > 1:
            raise decoding.animated(name, _TITLE, int.from_bytes(data[at : at + 4], "big"))
        elif kind == b"IDAT":
            packed += size
        elif kind not in PICTURE:
            notes.append((kind, bytes(data[at : at + size])))
        keyed |= kind == b"tRNS"
    if len(stated) != 7 or stated[3] not in _CHANNELS:
        raise InputError(f"'{name}' is a damaged PNG: it has no valid header.", "Copy it again from where it came.")
    width, height, depth, colour = stated[:4]
    decoding.check_size(name, width, height)
    if height * (1 + (width * depth * _CHANNELS[colour] + 7) // 8) > packed * _MOST_DEFLATE:
        raise decoding.truncated(name, _TITLE)
    return Header(width=width, height=height, depth=depth, colour=colour, keyed=keyed), notes


def decode(
    data: Buffer, stated: Header, name: str, orientation: int, *, icc: bytes = b""
) -> tuple[Pixels, Pixels | None]:
    """The upright pixels (H, W, 1 or 3), uint8 or uint16, and the alpha (H, W) or None.

    Args:
        data: the file.
        stated: its header.
        name: what the messages call the photo.
        orientation: EXIF's, 1 to 8.
        icc: its profile: a palette of grays stays colour if that is of RGB.

    Raises:
        InputError: the picture is damaged.
    """
    if stated.depth == 16 and stated.colour != 0:
        stored, key = _stored_deep(data, stated, name)
        pixels, alpha = decoding.parted(stored, orientation)
    else:
        bare, key = _bare(data, name, keep_key=stated.colour == 3)
        image = decoding.opened(bare, "png", name)
        image.info["icc_profile"] = icc
        with decoding.foreign(name, _TITLE):
            image.load()
        pixels, alpha = decoding.arrays(image, orientation)
    if not key or stated.colour not in (0, 2):
        return pixels, alpha
    with decoding.foreign(name, _TITLE):
        return pixels, _keyed_alpha(pixels, key, stated.depth)


def encode(pixels: Pixels, alpha: Pixels | None) -> Iterator[bytes]:
    """A PNG of 16 bits per sample from uint16 pixels (H, W, 1 or 3) and alpha (H, W) or None, without side notes.

    Yields:
        The parts of the file; what must precede its side notes comes first.
    """
    height, width, colours = pixels.shape
    count = colours + (alpha is not None)
    rows = max(1, _BAND_BYTES // (width * count * 2))
    stated = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[count], 0, 0, 0)
    yield _SIGNATURE + _chunk(b"IHDR", stated)
    size = width * count * 2 + 1
    check, lead = 1, b"\x78\x01"
    tops = range(0, height, rows)
    for top, part in zip(tops, packing.in_order(lambda top: _packed(pixels, alpha, top, rows), tops), strict=True):
        check = _adler_of_both(check, int.from_bytes(part[-4:], "big"), min(rows, height - top) * size)
        yield _chunk(b"IDAT", lead + part[:-4])
        lead = b""
    end = _chunk(b"IDAT", b"\3\0" + struct.pack(">I", check))  # an empty last block, and the checksum of the whole
    yield end + _chunk(b"IEND", b"")


def joined(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, (name, payload) each."""
    return b"".join((_SIGNATURE, *(_chunk(kind, payload) for kind, payload in chunks)))


def torn(name: str) -> InputError:
    """The refusal of a file whose bytes were altered."""
    return InputError(
        f"'{name}' is a damaged PNG: the checksum of a part does not fit.", "Copy it again from where it came."
    )


def notes(kept: Metadata, *, gray: bool) -> bytes:
    """The chunks of ``kept``, which belong :data:`HEAD` bytes behind the beginning of a PNG.

    An ICC profile of RGB in a gray picture, or the other way round, is left out: PNG forbids it and readers complain.
    """
    chunks: list[bytes] = []
    profile = kept.icc if (kept.icc[16:20] == b"GRAY") == gray else b""
    if profile:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    for kind, payload in kept.chunks:
        if not (profile and kind == b"sRGB"):
            chunks.append(_chunk(kind, payload))
    if kept.dpi:
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in kept.dpi), 1)))
    if kept.exif:
        chunks.append(_chunk(b"eXIf", kept.exif))
    if kept.xmp:
        chunks.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + kept.xmp))
    return b"".join(chunks)


def _walk(data: Buffer, name: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of every chunk up to the end of the picture."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        if at + 12 + size > len(data):
            break
        yield kind, at + 8, size
        if kind == b"IEND":
            return
        at += 12 + size
    raise decoding.truncated(name, _TITLE)


def _bare(data: Buffer, name: str, *, keep_key: bool) -> tuple[bytes, bytes]:
    """The PNG less its side notes, which decoders stumble over, its checksums verified; and the transparent colour."""
    view, parts, key = memoryview(data), [memoryview(_SIGNATURE)], b""
    left_out = False
    for kind, at, size in _walk(data, name):
        if kind not in PICTURE:
            left_out = True
            continue
        payload = view[at : at + size]
        if zlib.crc32(payload, zlib.crc32(kind)) != int.from_bytes(data[at + size : at + size + 4], "big"):
            raise torn(name)
        if kind == b"tRNS":
            key = bytes(payload)
            left_out |= not keep_key
        if kind != b"tRNS" or keep_key:
            parts.append(view[at - 8 : at + size + 4])
    return b"".join(parts) if left_out else bytes(data), key


def _stored_deep(data: Buffer, stated: Header, name: str) -> tuple[Pixels, bytes]:
    """The samples (H, W, 2 to 4) as stored, by OpenCV, which keeps all 16 bits; and the transparent colour."""
    import cv2

    bare, key = _bare(data, name, keep_key=False)
    with decoding.foreign(name, _TITLE):
        stored = cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.shape[:2] != (stated.height, stated.width):
        raise decoding.truncated(name, _TITLE)
    if stated.colour == 4:  # OpenCV spreads gray over three channels
        return stored[..., ::3], key
    order = [2, 1, 0, 3][: stored.shape[2]]
    for top in range(0, stated.height, 64):
        stored[top : top + 64] = stored[top : top + 64, :, order]
    return stored, key


def _keyed_alpha(pixels: Pixels, key: bytes, depth: int) -> Pixels:
    """Alpha that is zero where the colour is the transparent one, whose samples have the depth that the file states."""
    most, peak = 2**depth - 1, int(np.iinfo(pixels.dtype).max)
    colour = [(sample & most) * (peak // most) for sample in struct.unpack_from(f">{pixels.shape[2]}H", key)]
    return np.where((pixels == np.array(colour, pixels.dtype)).all(axis=2), 0, peak).astype(pixels.dtype)


def _packed(pixels: Pixels, alpha: Pixels | None, top: int, rows: int) -> bytes:
    """Some rows filtered and deflated on their own, flushed so that the next can follow; with their Adler-32 behind."""
    above = max(top - 1, 0)
    band = pixels[above : top + rows]
    if alpha is not None:
        band = np.concatenate((band, alpha[above : top + rows, :, None]), axis=2)
    raw = np.ascontiguousarray(band.astype(">u2")).view(np.uint8).reshape(len(band), -1)
    if top == 0:
        raw = np.concatenate((np.zeros_like(raw[:1]), raw))
    filtered = _filtered(raw, 2 * band.shape[2])
    return packing.deflated(filtered, -15, zlib.Z_FULL_FLUSH) + struct.pack(">I", zlib.adler32(filtered))


def _adler_of_both(first: int, second: int, length: int) -> int:
    """Adler-32 of two stretches joined, from that of each and the second one's length (RFC 1950, section 8.2)."""
    prime = 65521
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)
    return high % prime << 16 | low % prime


def _filtered(rows: Pixels, step: int) -> bytes:
    """Rows of bytes, the one above first, as differences from Paeth's prediction (section 9.4), each led by its number, 4."""
    above, current = rows[:-1], rows[1:]
    left, corner = np.zeros_like(current), np.zeros_like(current)
    left[:, step:] = current[:, :-step]
    corner[:, step:] = above[:, :-step]
    to_left = np.abs(above.astype(np.int16) - corner)
    to_above = np.abs(left.astype(np.int16) - corner)
    to_corner = np.abs(left.astype(np.int16) + above - corner - corner)
    of_two = np.where(to_above <= to_corner, above, corner)
    best = np.where((to_left <= to_above) & (to_left <= to_corner), left, of_two)
    out = np.full((len(current), current.shape[1] + 1), 4, np.uint8)
    np.subtract(current, best, out=out[:, 1:])
    return out.tobytes()


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind)))
