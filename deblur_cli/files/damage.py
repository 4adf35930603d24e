"""Whether a JPEG that decodes is nevertheless damaged: libjpeg fills what it cannot read with gray, and Pillow tells nobody.

Markers show it: only those of a restart may interrupt the compressed data of a scan, in their order and number (ITU-T T.81,
B.1.1.2 and B.2.1), and bytes that were overwritten at random are soon a marker that cannot stand there. Other damage goes
unseen: to decode the photo twice would show more of it, and would cost every photo as much time again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_END, _SCAN, _INTERVAL, _COUNT = 0xD9, 0xDA, 0xDD, 0xDC
_SEQUENTIAL, _FRAMES = {0xC0, 0xC1}, {0xC0, 0xC1, 0xC2}
_BETWEEN = {0xC4, 0xDB, _INTERVAL, _COUNT, 0xFE} | set(range(0xE0, 0xF0))
"""Markers that may stand between two scans."""
_MARKER = re.compile(rb"\xff+([^\x00\xff])")


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the header says of the whole picture."""

    size: tuple[int, int]
    """Height and width in pixels."""
    parts: dict[int, tuple[int, int]]
    """Name of a component to its blocks down and across in a unit."""
    refined: bool
    """Whether scans add to what others said: a progressive JPEG."""


@dataclass(frozen=True, slots=True)
class _Scan:
    """The compressed data of one pass over the picture."""

    end: int
    """Where it ends in the file."""
    parts: int
    """Into how many parts restarts cut it."""
    wanted: int
    """Into how many they should."""


def is_seen(data: Any) -> bool:
    """Whether markers show that parts of a JPEG are not what was photographed.

    Args:
        data: the whole file, bytes or a map of them.
    """
    return any(scan is None or scan.parts != scan.wanted for scan in _scans(data))


def _scans(data: Any) -> Iterator[_Scan | None]:
    """The scans of a JPEG up to its end; at a marker that cannot stand where it is, None, and no more.

    Nothing is said of what is cut off, nor of processes that Pillow does not decode: decoding tells.
    """
    at, interval, frame = 2, 0, None
    while (found := _MARKER.match(data, at)) is not None and found[1][0] != _END:
        kind, size = found[1][0], int.from_bytes(data[found.end() : found.end() + 2], "big")
        body = bytes(data[found.end() + 2 : found.end() + size])
        at = found.end() + size
        if kind in _FRAMES:
            frame = _frame(kind, body)
        elif kind == _INTERVAL:
            interval = int.from_bytes(body[:2], "big")
        elif kind == _SCAN:
            scan = None if frame is None else _scan(frame, body, interval, data, at)
            yield scan
            if scan is None:
                return
            at = scan.end
        elif kind not in _BETWEEN:
            return


def _frame(kind: int, body: bytes) -> _Frame:
    height, width = (int.from_bytes(body[place : place + 2], "big") for place in (1, 3))
    parts = {body[place]: (body[place + 1] & 15, body[place + 1] >> 4) for place in range(6, len(body) - 2, 3)}
    return _Frame((height, width), parts, refined=kind not in _SEQUENTIAL)


def _scan(frame: _Frame, body: bytes, interval: int, data: Any, start: int) -> _Scan | None:
    """The scan whose data begin at ``start``; None if it is interrupted by what may not interrupt it."""
    names = body[1 : 1 + 2 * body[0] : 2]
    if not set(names) <= frame.parts.keys() or not names:
        return None
    tall, wide = (8 * max(part[axis] for part in frame.parts.values()) for axis in (0, 1))
    if len(names) == 1:  # of a component that is alone every block is a unit
        tall, wide = tall // frame.parts[names[0]][0], wide // frame.parts[names[0]][1]
    units = -(-frame.size[0] // tall) * -(-frame.size[1] // wide)
    wanted = -(-units // interval) if interval else 1
    alone = len(names) == len(frame.parts) and not frame.refined
    may = {_END, _COUNT} if alone else {_END, _COUNT, _SCAN} | _BETWEEN
    parts = 1
    for marker in _MARKER.finditer(data, start):
        kind = marker[1][0]
        if not 0xD0 <= kind <= 0xD7:
            return _Scan(marker.start(), parts, wanted) if kind in may else None
        if kind != 0xD0 + (parts - 1) % 8:
            return None
        parts += 1
    return _Scan(len(data), parts, wanted)
