"""The XMP packet of a photo, less what it promises of parts of the file that do not come along.

A motion photo has a video behind its picture, an Ultra HDR photo a gain map, and the packet says where. Of a packet only the
words that have become untrue are touched, every other byte stays.

Source: Google's Motion Photo format 1.0, Ultra HDR Image Format 1.1.
"""

import re
from typing import NamedTuple
from xml.parsers import expat

_CAMERA = b"http://ns.google.com/photos/1.0/camera/"
_CONTAINER = b"http://ns.google.com/photos/1.0/container/"
_GAIN_MAP = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_SPACES = (_CAMERA, _CONTAINER, _GAIN_MAP)
_ZEROED = {(_CAMERA, b"MotionPhoto"), (_CAMERA, b"MicroVideo"), (_CAMERA, b"MicroVideoOffset")}
_REMOVED = {(_CONTAINER, b"Directory"), (_GAIN_MAP, b"Version")}
_LOST = {b"MotionPhoto": "a video", b"GainMap": "a gain map"}  # by what Google calls an item behind the picture
_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([1-8])(\s*(?:[\"']|<))")
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_START = re.compile(rb"<([^\s/>]+)(?:\s+[^\s=]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*(/?)>")
_SEMANTIC = re.compile(rb"Semantic\s*(?:=\s*[\"']|>)\s*(\w+)")


def orientation(packet: bytes) -> int | None:
    """How the packet says that the pixels are turned, 1 to 8."""
    found = _ORIENTATION.search(packet)
    return int(found[2]) if found else None


def upright(packet: bytes) -> bytes:
    """The packet of a photo whose orientation was applied."""
    return _ORIENTATION.sub(rb"\g<1>1\g<3>", packet)


def without_promises(packet: bytes) -> tuple[bytes, str]:
    """The packet less what is untrue once the picture stands alone, and words on what does not come along, if anything.

    A packet that cannot be changed without a guess, as of UTF-16 or no XML at all, stays as it is, and the words say so.
    """
    if not any(space in packet or _wide(space) in packet for space in _SPACES):
        return packet, ""
    try:
        search = _Search(packet)
        changed = search.changed()
        _Search(changed)
    except (_UnsafeError, expat.ExpatError):
        return (
            packet,
            "may have a video or a gain map: neither is carried over, and its XMP, which is damaged, stays as it is",
        )
    lost = list(dict.fromkeys(search.lost))
    are = "are" if len(lost) > 1 else "is"
    return changed, f"has {' and '.join(lost)} behind the picture, which {are} not carried over" if lost else ""


class _UnsafeError(Exception):
    """The packet cannot be changed without a guess."""


class _Opened(NamedTuple):
    """An element whose end is still to come."""

    name: tuple[bytes, bytes]
    """Name space and the name in it."""
    start: int
    end: int
    """Where its start tag ends."""
    empty: bool
    """Whether that is its end tag, too."""


class _Search:
    """What in a packet has become untrue, found by an XML parser that tells where every tag stands.

    Raises:
        _UnsafeError, expat.ExpatError: the packet is none that can be changed without a guess.
    """

    def __init__(self, packet: bytes) -> None:
        self.lost: list[str] = []
        self._packet = packet
        self._spaces: dict[bytes, bytes] = {}
        self._open: list[_Opened] = []
        self._removed = 0
        self._cuts: list[tuple[int, int, bytes]] = []
        if b"\0" in packet:
            raise _UnsafeError
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.Parse(packet, True)  # noqa: FBT003 - it takes no names

    def changed(self) -> bytes:
        """The packet without what is untrue."""
        parts, at = list[bytes](), 0
        for start, end, instead in sorted(self._cuts):
            parts += [self._packet[at:start], instead]
            at = end
        return b"".join((*parts, self._packet[at:]))

    def _begin(self, name: str, _: dict[str, str]) -> None:
        tag = _START.match(self._packet, self._parser.CurrentByteIndex)
        if tag is None:
            raise _UnsafeError
        said = list(_ATTRIBUTE.finditer(self._packet, tag.end(1), tag.end()))
        for each in said:
            self._declare(each[1], each[2] or each[3] or b"")
        opened = _Opened(self._named(name.encode()), tag.start(), tag.end(), tag[2] == b"/")
        self._open.append(opened)
        self._removed += opened.name in _REMOVED
        for each in said:
            self._attribute(each)

    def _end(self, _: str) -> None:
        element = self._open.pop()
        close = self._parser.CurrentByteIndex
        if element.name in _REMOVED:
            self._removed -= 1
            end = element.end if element.empty else self._packet.index(b">", close) + 1
            self._cut(element.name, element.start, end, b"")
        elif element.name in _ZEROED and not element.empty:
            self._cut(element.name, element.end, close, b"0")

    def _attribute(self, found: re.Match[bytes]) -> None:
        name = self._named(found[1])
        if name in _REMOVED:
            self._cut(name, *found.span(), b"")
        elif name in _ZEROED:
            self._cut(name, *found.span(2 if found[2] is not None else 3), b"0")

    def _cut(self, name: tuple[bytes, bytes], start: int, end: int, instead: bytes) -> None:
        before = self._packet[start:end]
        if self._removed or before.strip() == instead:
            return
        if instead and b"<" in before:
            raise _UnsafeError
        self._cuts.append((start, end, instead))
        kinds = {_CAMERA: [b"MotionPhoto"], _GAIN_MAP: [b"GainMap"]}.get(name[0]) or _SEMANTIC.findall(before)
        self.lost += [_LOST.get(kind, "a further picture") for kind in kinds if kind != b"Primary"]

    def _declare(self, name: bytes, space: bytes) -> None:
        """Note a name space; one prefix for two of them is more than is needed to read honest packets."""
        kind, _, prefix = name.partition(b":")
        known = self._spaces.setdefault(prefix, space) if kind == b"xmlns" else space
        if known != space and {known, space} & set(_SPACES):
            raise _UnsafeError

    def _named(self, name: bytes) -> tuple[bytes, bytes]:
        prefix, _, local = name.rpartition(b":")
        return self._spaces.get(prefix, b""), local

    def _refuse(self, *_: object) -> None:
        raise _UnsafeError


def _wide(space: bytes) -> bytes:
    """The bytes that UTF-16 of either order has in common."""
    return space.decode().encode("utf-16-le")[:-1]
