"""EXIF blocks: kept byte for byte but for what is no longer true of the restored photo.

A block is patched where it lies instead of being written anew, so that maker notes, whose inner offsets nobody documents, stay
readable. Source: Exif 2.32 (CIPA DC-008), section 4.6.
"""

import struct

from deblur_cli.files import tags

_ORIENTATION, _WIDTH, _HEIGHT = 274, 256, 257
_EXIF, _MAKER_NOTE = 34665, 37500
_PIXEL_WIDTH, _PIXEL_HEIGHT = 40962, 40963
_THUMBNAIL, _THUMBNAIL_SIZE = 513, 514
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PREFIX = b"Exif\0\0"


def bare(block: bytes) -> bytes:
    """The block without the prefix that JPEG puts before it; empty if it is no EXIF block at all."""
    while block.startswith(_PREFIX):
        block = block[len(_PREFIX) :]
    try:
        main = tags.first(block)
    except tags.TornError:
        return b""
    return b"" if main.big else block


def orientation(block: bytes) -> int | None:
    """How the stored pixels are turned, 1 to 8; None if the block does not say."""
    if not block:
        return None
    found = tags.first(block).value(block, _ORIENTATION, 0)
    return found if 1 <= found <= 8 else None


def resolution(block: bytes) -> tuple[float, float] | None:
    """Pixels per inch, across and down, or None."""
    if not block:
        return None
    main = tags.first(block)
    across, down = (main.numbers(block, number)[:1] for number in (_X_RESOLUTION, _Y_RESOLUTION))
    unit = main.value(block, _RESOLUTION_UNIT, 2)
    if not across or not down or unit not in (2, 3):
        return None
    scale = 2.54 if unit == 3 else 1.0
    return sane_resolution(float(across[0]) * scale, float(down[0]) * scale)


def sane_resolution(across: float, down: float) -> tuple[float, float] | None:
    """The two numbers if they can be pixels per inch, else None."""
    return (across, down) if 0 < across < 65536 and 0 < down < 65536 else None


def settled(block: bytes, width: int, height: int) -> bytes:
    """The block of the upright photo: orientation 1, the true width and height, no thumbnail of the blurred picture.

    Empty if the orientation was all it had to say.

    Args:
        block: as :func:`bare` gives it; may be empty.
        width: of the upright photo, in pixels.
        height: likewise.
    """
    if not block:
        return b""
    patched = bytearray(block)
    main = tags.first(block)
    if main.tags.keys() <= {_ORIENTATION}:
        return b""
    _set(patched, main, _ORIENTATION, 1)
    below = _exif_directory(block, main)
    for place, across, down in ((main, _WIDTH, _HEIGHT), (below, _PIXEL_WIDTH, _PIXEL_HEIGHT)):
        if place is not None:
            _set(patched, place, across, width)
            _set(patched, place, down, height)
    _drop_thumbnail(patched, main)
    return bytes(patched)


def without_orientation(block: bytes) -> bytes:
    """The block less its orientation tag, every other byte where it was."""
    if not block:
        return b""
    main = tags.first(block)
    tag = main.tags.get(_ORIENTATION)
    if tag is None or not main.link_at:
        return block
    start, end = main.at + 2, main.link_at + 4
    table = block[start : tag.slot] + block[tag.slot + 12 : end] + bytes(12)
    count = struct.pack(f"{main.order}H", (end - 4 - start) // 12 - 1)
    return block[: main.at] + count + table + block[end:]


def fitted(block: bytes, limit: int) -> bytes:
    """The block if it is at most ``limit`` bytes, else without maker notes and other long tags, else nothing."""
    if len(block) <= limit:
        return block
    slim = tags.copied(block, tags.first(block), lambda number, tag: number != _MAKER_NOTE and tag.size <= 2048)
    return slim if len(slim) <= limit else b""


def _exif_directory(block: bytes, main: tags.Directory) -> tags.Directory | None:
    try:
        return tags.directory(block, main.value(block, _EXIF, 0), main.order)
    except tags.TornError:
        return None


def _set(patched: bytearray, place: tags.Directory, number: int, value: int) -> None:
    """Overwrite a whole number where it stands; a tag that is absent or of another kind stays so."""
    tag = place.tags.get(number)
    code = {1: "B", 3: "H", 4: "I", 9: "i"}.get(tag.kind) if tag and tag.count else None
    if tag is not None and code is not None and value < 256 ** struct.calcsize(code):
        struct.pack_into(place.order + code, patched, tag.at, value)


def _drop_thumbnail(patched: bytearray, main: tags.Directory) -> None:
    """Unlink the second directory and blank its picture: it shows the photo blurred, and perhaps on its side."""
    if not main.link:
        return
    link = main.link
    struct.pack_into(f"{main.order}I", patched, main.link_at, 0)
    try:
        second = tags.directory(patched, link, main.order)
    except tags.TornError:
        return
    start, size = (second.value(patched, number, 0) for number in (_THUMBNAIL, _THUMBNAIL_SIZE))
    end = start + size
    if not second.link_at < start < end <= len(patched):
        return
    patched[start:end] = bytes(size)
    if end >= len(patched) - 8:
        del patched[start:]
