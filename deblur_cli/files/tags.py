"""Directories of tags, the structure that TIFF files and EXIF blocks share.

Sources: TIFF 6.0, section 2; Exif 2.32 (CIPA DC-008), section 4.6; BigTIFF as libtiff reads it. Reading forgives: a tag whose
value lies outside the file is left out. Every offset counts from the first byte of the file or block.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap

Buffer = bytes | bytearray | mmap

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_POINTERS = frozenset({34665, 34853, 40965})  # to the Exif, GPS and interoperability directories
_PER_CHANNEL = frozenset({258, 273, 279, 324, 325, 339})  # depths, places, sizes, sample formats
_LAYOUT = _PER_CHANNEL | {256, 257, 259, 266, 278, 317, 322, 323}  # what it takes to find and unpack the samples
_MOST_DIRECTORIES = 4096  # a chain longer than this is a circle


class TornError(ValueError):
    """The structure cannot be followed."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag of a directory."""

    kind: int
    """The type, 1 to 13 of TIFF 6.0 and its supplements, 16 to 18 of BigTIFF."""
    count: int
    """How many values."""
    at: int
    """Where the value begins."""
    slot: int
    """Where the entry itself begins in its directory."""

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return self.count * _SIZES[self.kind]


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory and where it stands."""

    order: str
    """Byte order: ``<`` or ``>``."""
    big: bool
    """Whether the file is a BigTIFF."""
    at: int
    """Where the directory begins."""
    tags: Mapping[int, Tag]
    link_at: int
    """Where the offset of the next directory stands."""
    link: int
    """The offset of the next directory, or 0."""

    def numbers(self, data: Buffer, number: int) -> tuple[float, ...]:
        """The values of a tag as numbers; empty if it is absent or holds text."""
        tag = self.tags.get(number)
        if tag is None:
            return ()
        raw = data[tag.at : tag.at + tag.size]
        if tag.kind in (5, 10):
            pairs = struct.unpack(f"{self.order}{2 * tag.count}{'I' if tag.kind == 5 else 'i'}", raw)
            return tuple(top / bottom if bottom else 0.0 for top, bottom in zip(pairs[::2], pairs[1::2], strict=True))
        code = _CODES.get(tag.kind)
        return struct.unpack(f"{self.order}{tag.count}{code}", raw) if code else ()

    def value(self, data: Buffer, number: int, default: int) -> int:
        """The first value of a tag as a whole number, or ``default`` if it is absent."""
        found = self.numbers(data, number)
        return int(found[0]) if found else default

    def payload(self, data: Buffer, number: int) -> bytes:
        """The bytes of a tag; empty if it is absent."""
        tag = self.tags.get(number)
        return bytes(data[tag.at : tag.at + tag.size]) if tag else b""


def first(data: Buffer) -> Directory:
    """The first directory of a TIFF file or EXIF block.

    Raises:
        TornError: there is no such structure.
    """
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 14:
        raise TornError("no byte order")
    magic = struct.unpack_from(f"{order}H", data, 2)[0]
    if magic not in (42, 43) or (magic == 43 and len(data) < 16):
        raise TornError("no magic number")
    at = struct.unpack_from(f"{order}Q", data, 8)[0] if magic == 43 else struct.unpack_from(f"{order}I", data, 4)[0]
    return directory(data, at, order, big=magic == 43)


def directory(data: Buffer, at: int, order: str, *, big: bool = False) -> Directory:
    """The directory at an offset.

    Raises:
        TornError: the offset leads nowhere or the directory is cut off.
    """
    head, code, step, link_size = (8, "HHQ", 20, 8) if big else (2, "HHI", 12, 4)
    if at < 8 or at + head > len(data):
        raise TornError("a directory lies outside the file")
    count = int.from_bytes(data[at : at + head], "little" if order == "<" else "big")
    link_at = at + head + count * step
    if link_at > len(data):
        raise TornError("a directory is cut off")
    tags: dict[int, Tag] = {}
    for slot in range(at + head, link_at, step):
        number, kind, values = struct.unpack_from(order + code, data, slot)
        size = _SIZES.get(kind, 0) * values
        value_at = slot + step - link_size
        if size > link_size:
            value_at = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, value_at)[0]
        if kind in _SIZES and value_at + size <= len(data):
            tags[number] = Tag(kind, values, value_at, slot)
    whole = link_at + link_size <= len(data)
    link = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, link_at)[0] if whole else 0
    return Directory(order, big, at, tags, link_at if whole else 0, link)


def chain(data: Buffer) -> Iterator[Directory]:
    """Every directory of a file in turn: one for each page.

    Raises:
        TornError: a link leads nowhere.
    """
    page = first(data)
    seen = {page.at}
    yield page
    while page.link and page.link not in seen and len(seen) < _MOST_DIRECTORIES:
        page = directory(data, page.link, page.order, big=page.big)
        seen.add(page.at)
        yield page


def append(out: bytearray, order: str, values: Mapping[int, tuple[int, int, bytes]], base: int = 0) -> int:
    """Write a directory at the end of ``out`` and give its offset.

    Args:
        out: the end of a TIFF file or EXIF block in the making; grows.
        order: its byte order, ``<`` or ``>``.
        values: tag number to (kind, count, bytes in that byte order).
        base: where ``out`` begins in the file; even.
    """
    slots = bytearray()
    for number in sorted(values):
        kind, count, raw = values[number]
        if len(raw) > 4:
            out.extend(bytes(len(out) % 2))
            slots += struct.pack(f"{order}HHII", number, kind, count, base + len(out))
            out.extend(raw)
        else:
            slots += struct.pack(f"{order}HHI", number, kind, count) + raw.ljust(4, b"\0")
    out.extend(bytes(len(out) % 2))
    at = base + len(out)
    out.extend(struct.pack(f"{order}H", len(values)) + slots + bytes(4))
    return at


def copied(data: Buffer, source: Directory, keep: Callable[[int, Tag], bool]) -> bytes:
    """A block of its own with the tags of ``source`` that ``keep`` wants, and the Exif and GPS directories below it.

    Empty if there is nothing to keep.
    """
    out = bytearray((b"II" if source.order == "<" else b"MM") + struct.pack(f"{source.order}HI", 42, 0))
    values = _values(data, source, keep, out)
    if not values:
        return b""
    at = append(out, source.order, values)
    out[4:8] = struct.pack(f"{source.order}I", at)
    return bytes(out)


def plane(data: Buffer, channel: int, channels: int) -> bytearray:
    """A TIFF whose only picture is, in gray, one channel of the first one of ``data``, whose channels lie apart."""
    main, whole = first(data), bytearray(data)
    values = {262: (3, 1, struct.pack(f"{main.order}H", 1))}  # zero is black
    for number in main.tags.keys() & _LAYOUT:
        tag, raw = main.tags[number], main.payload(data, number)
        parts = channels if number in _PER_CHANNEL and tag.count % channels == 0 else 1
        size, at = len(raw) // parts, channel % parts * (len(raw) // parts)
        values[number] = (tag.kind, tag.count // parts, raw[at : at + size])
    at = append(whole, main.order, values)
    whole[2:8] = struct.pack(f"{main.order}HI", 42, at)
    return whole


def _values(
    data: Buffer, source: Directory, keep: Callable[[int, Tag], bool], out: bytearray, depth: int = 0
) -> dict[int, tuple[int, int, bytes]]:
    values: dict[int, tuple[int, int, bytes]] = {}
    for number, tag in source.tags.items():
        if not keep(number, tag):
            continue
        if number in _POINTERS:
            try:
                below = directory(data, source.value(data, number, 0), source.order, big=source.big)
            except TornError:
                continue
            if depth < 2:  # IFD0 > Exif > interoperability: deeper is a circle
                at = append(out, source.order, _values(data, below, keep, out, depth + 1))
                values[number] = (4, 1, struct.pack(f"{source.order}I", at))
        elif tag.kind < 16:
            values[number] = (tag.kind, tag.count, source.payload(data, number))
    return values
