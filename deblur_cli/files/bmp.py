"""Colour profiles in BMP files, which Pillow neither reads nor writes.

Source: Microsoft, BITMAPV5HEADER: the header is 124 bytes long, and the profile lies behind the pixels.
"""

import struct
from mmap import mmap

HEAD = 54
"""Bytes of a BMP before its palette as Pillow writes it: those of the file, and a header that knows no colours."""
_FILE, _OLD, _LONG = 14, 40, 124
_EMBEDDED = b"DEBM"
"""The colour space ``MBED``, a number whose lowest byte comes first."""
_PICTURES = 4
"""The intent of photographs: LCS_GM_IMAGES, which ICC calls perceptual."""
_MORE = _LONG - _OLD


def profile(data: bytes | mmap) -> bytes:
    """The ICC profile in the bytes of a BMP; empty where there is none, or none that is whole."""
    if len(data) < _FILE + _LONG or int.from_bytes(data[_FILE : _FILE + 4], "little") != _LONG:
        return b""
    if data[_FILE + 56 : _FILE + 60] != _EMBEDDED:
        return b""
    start, length = struct.unpack("<II", data[_FILE + 112 : _FILE + 120])
    found = bytes(data[_FILE + start : _FILE + start + length])
    whole = start >= _LONG and len(found) == length > 128 and found[36:40] == b"acsp"
    return found if whole else b""


def profiled(head: bytes, length: int) -> bytes:
    """The first :data:`HEAD` bytes of a BMP, remade so that a profile of ``length`` bytes may follow its pixels."""
    size, reserved, pixels = struct.unpack("<III", head[2:_FILE])
    start = size - _FILE + _MORE
    masks = bytes(16)
    whites = bytes(48)  # end points and gamma, of which nothing is read where a profile is
    colours = masks + _EMBEDDED + whites + struct.pack("<IIII", _PICTURES, start, length, 0)
    file = b"BM" + struct.pack("<III", size + _MORE + length, reserved, pixels + _MORE)
    return file + struct.pack("<I", _LONG) + head[_FILE + 4 :] + colours
