"""What the boxes of an AVIF say of its picture that Pillow does not: the colours' code points, and the bits of a sample.

No size in a file is trusted: what does not fit is as if it were not there.

Source: ISO/IEC 14496-12 section 4.2, ISO/IEC 23008-12 section 9.3; AV1 Codec ISO Media File Format Binding, section 2.3.
"""

import struct
from collections.abc import Iterator

from deblur_cli.files import cicp
from deblur_cli.files.cicp import Cicp
from deblur_cli.files.tags import Buffer

_MOST_BYTES = 2**24
"""Of the box that holds the side notes of all pictures of a file; a larger one is not looked into."""
_NCLX = b"nclx"


def colours(data: Buffer) -> Cicp | None:
    """The colours that an AVIF names by code points, where it has no ICC profile and they are not plain sRGB."""
    said = [body for kind, body in _properties(data) if kind == b"colr"]
    for body in said:
        if body[:4] == _NCLX and len(body) >= 11 and not any(other[:4] in (b"prof", b"rICC") for other in said):
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return cicp.named(primaries, transfer)
    return None


def depth(data: Buffer) -> int:
    """Bits of a sample of an AVIF: 8, 10 or 12; 8 where it does not say."""
    for kind, body in _properties(data):
        if kind == b"av1C" and len(body) >= 4 and body[2] & 0x40:
            return 12 if body[2] & 0x20 else 10
        if kind == b"pixi" and len(body) >= 6:
            return max(8, body[5])
    return 8


def recoloured(data: bytes, meant: Cicp) -> bytes:
    """An AVIF as Pillow writes it, the code points in its boxes those of ``meant``: they go before those of the AV1 stream."""
    out = bytearray(data)
    for _, start, end in _inside(data, (b"meta", b"iprp", b"ipco"), 0, len(data)):
        if data[start - 4 : start + 4] == b"colr" + _NCLX and end - start >= 11:
            struct.pack_into(">HH", out, start + 4, meant.primaries, meant.transfer)
    return bytes(out)


def _properties(data: Buffer) -> list[tuple[bytes, bytes]]:
    """Kind and content of what the file says of its main picture, in its order; nothing where it contradicts itself."""
    try:
        meta = next(body for kind, *body in _boxes(data, 0, len(data)) if kind == b"meta")
        if meta[1] - meta[0] > _MOST_BYTES:
            return []
        held = bytes(data[meta[0] + 4 : meta[1]])
        main = next(held[start:end] for kind, start, end in _boxes(held, 0, len(held)) if kind == b"pitm")
        every = [(kind, held[start:end]) for kind, start, end in _inside(held, (b"iprp", b"ipco"), 0, len(held))]
        numbers = [
            number
            for kind, start, end in _inside(held, (b"iprp",), 0, len(held))
            if kind == b"ipma"
            for number in _associated(held[start:end], struct.unpack_from(">I" if main[0] else ">H", main, 4)[0])
        ]
    except (StopIteration, struct.error, IndexError):
        return []
    return [every[number - 1] for number in numbers if 1 <= number <= len(every)]


def _associated(body: bytes, wanted: int) -> Iterator[int]:
    """The numbers, from 1, of the properties that the box ``ipma`` gives to an item."""
    wide = body[3] & 1
    (count,), at = struct.unpack_from(">I", body, 4), 8
    for _ in range(count):
        item, number = struct.unpack_from(">IB" if body[0] else ">HB", body, at)
        at += 5 if body[0] else 3
        entries = struct.unpack_from(f">{number}{'H' if wide else 'B'}", body, at)
        at += number * (2 if wide else 1)
        if item == wanted:
            yield from (entry & (0x7FFF if wide else 0x7F) for entry in entries)


def _inside(data: Buffer, path: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes within the boxes of this path."""
    for kind, first, last in _boxes(data, start, end):
        if not path:
            yield kind, first, last
        elif kind == path[0]:
            yield from _inside(data, path[1:], first + (4 if kind == b"meta" else 0), last)


def _boxes(data: Buffer, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind of every box, and where its content begins and ends, up to the first that does not fit."""
    while at + 8 <= end:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = size or end - at
        if size < head or at + size > end:
            return
        yield kind, at + head, at + size
        at += size
