"""Colours that are named by code points (ITU-T H.273, CICP) in place of an ICC profile, and what each format can make of them.

Of the four code points two say what RGB numbers mean: primaries and transfer. Matrix and range say how a file stores them,
and decoders have undone both.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

_UNSPECIFIED, _BT709, _BT2020 = 2, 1, 9
_SRGB, _LIKE_SRGB = 13, frozenset({1, 6, 13, 14, 15})
"""Curves that screens show alike: those of video, made for dim rooms, have no other meaning in a photo."""
_PRIMARIES = frozenset({1, *range(4, 13), 22})
_TRANSFERS = frozenset({1, *range(4, 19)})
_NAMES = {1: "BT.709", 5: "BT.601, 625 lines", 6: "BT.601, 525 lines", 7: "SMPTE 240M", 9: "BT.2020", 12: "Display P3"}
_CURVES = {1: "BT.709", 6: "BT.601", 8: "linear", 13: "sRGB", 14: "BT.2020", 15: "BT.2020", 16: "PQ", 18: "HLG"}
_SMPTE_C = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_PLACES = {
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: _SMPTE_C,
    7: _SMPTE_C,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""Where red, green and blue lie (x, y), by code point; white is D65."""
_D65, _D50 = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)))


@dataclass(frozen=True, slots=True)
class Cicp:
    """Which colours the numbers mean, where that is not plain sRGB."""

    primaries: int
    transfer: int
    full: bool = True
    """Whether the numbers use their whole range; others are found in PNG alone, and can be written nowhere else."""

    def __str__(self) -> str:
        known = _NAMES.get(self.primaries), _CURVES.get(self.transfer), None if self.full else "narrow range"
        names = ", ".join(name for name in known if name)
        return f"CICP {self.primaries}/{self.transfer}" + (f" ({names})" if names else "")

    @property
    def matrix(self) -> int:
        """The matrix that suits YCbCr of these colours: BT.2020's, else BT.601's, as libheif and libavif choose."""
        return _BT2020 if self.primaries == _BT2020 else 6

    @property
    def chunk(self) -> tuple[bytes, bytes]:
        """Name and payload of the PNG chunk that says so (PNG, third edition, section 11.3.2.6)."""
        return b"cICP", bytes((self.primaries, self.transfer, 0, self.full))

    def is_srgb(self, *, gray: bool) -> bool:
        """Whether a reader that takes the picture for sRGB shows it right; of gray only the transfer counts."""
        plain = gray or self.primaries in (_BT709, _UNSPECIFIED)
        return self.full and plain and self.transfer in _LIKE_SRGB | {_UNSPECIFIED}

    def profile(self) -> bytes:
        """An ICC profile of the same colours; empty where there is none: the light of PQ and HLG is no matter of a curve."""
        can = self.full and self.primaries in _PLACES and self.transfer in _LIKE_SRGB
        return _profile(*_colorants(_PLACES[self.primaries]), _NAMES[self.primaries]) if can else b""


def named(primaries: int, transfer: int, *, full: bool = True) -> Cicp | None:
    """The colours of these code points; None if they say no more than that nothing is said, or sRGB.

    Code points that are reserved say nothing.
    """
    found = Cicp(
        primaries if primaries in _PRIMARIES else _UNSPECIFIED,
        transfer if transfer in _TRANSFERS else _UNSPECIFIED,
        full,
    )
    plain = {_BT709, _UNSPECIFIED}, {_SRGB, _UNSPECIFIED}
    return None if full and found.primaries in plain[0] and found.transfer in plain[1] else found


def of_chunk(payload: bytes) -> Cicp | None:
    """The colours that the cICP chunk of a PNG names; None if it is damaged or names plain sRGB."""
    return named(payload[0], payload[1], full=payload[3] != 0) if len(payload) == 4 and payload[2] == 0 else None


def _colorants(places: tuple[tuple[float, float], ...]) -> tuple[Any, Any]:
    """XYZ of red, green and blue under D50, a column each; and the matrix, by Bradford, that took them there from D65."""
    found = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*places, _D65)]).T
    columns, white = found[:, :3], found[:, 3]
    adapted = np.linalg.solve(_BRADFORD, np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD)
    return adapted @ (columns * np.linalg.solve(columns, white)), adapted


def _profile(colorants: Any, adapted: Any, name: str) -> bytes:
    """An ICC profile, version 4, of three colorants and sRGB's curve (ICC.1:2022, sections 7, 8.3 and 10)."""
    numbers = dict(zip((b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ"), (_D50, *colorants.T), strict=True))
    tags = {tag: b"XYZ \0\0\0\0" + _fixed(*values) for tag, values in numbers.items()}
    tags |= {b"chad": b"sf32\0\0\0\0" + _fixed(*adapted.flat), b"desc": _text(name), b"cprt": _text("CC0")}
    curve = b"para\0\0\0\0\0\3\0\0" + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    places, body, start = dict[bytes, int](), b"", 132 + 12 * len(tags)
    for value in dict.fromkeys(tags.values()):  # the three channels share their curve
        places[value] = start + len(body)
        body += value.ljust(-(-len(value) // 4) * 4, b"\0")
    table = b"".join(tag + struct.pack(">II", places[value], len(value)) for tag, value in tags.items())
    head = struct.pack(">I4xI12s6H4s", start + len(body), 0x04400000, b"mntrRGB XYZ ", 2026, 1, 1, 0, 0, 0, b"acsp")
    head = head.ljust(68, b"\0") + _fixed(*_D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(encoded), 28) + encoded
