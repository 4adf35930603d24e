"""The picture formats: what each can hold, its suffixes, and how a file is known by its first bytes.

A file's own bytes decide how it is read, never its name; the name decides only how a photo is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType

from deblur_cli.errors import InputError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One row of the table of formats."""

    title: str
    """The name as people write it."""
    suffixes: tuple[str, ...]
    """Lower-case suffixes with their dot; the first is the usual one."""
    depths: tuple[str, ...] = ("uint8",)
    """Sample types that it holds, the smallest first."""
    alpha: bool = True
    """Whether it holds an alpha channel."""
    side: int = 2**31 - 1
    """Most pixels that one side may have."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "jpeg": Format(title="JPEG", suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"), alpha=False, side=65500),
        "png": Format(title="PNG", suffixes=(".png",), depths=("uint8", "uint16")),
        "tiff": Format(title="TIFF", suffixes=(".tif", ".tiff"), depths=("uint8", "uint16", "float32")),
        "webp": Format(title="WebP", suffixes=(".webp",), side=16383),
        "avif": Format(title="AVIF", suffixes=(".avif",), side=65536),
        "bmp": Format(title="BMP", suffixes=(".bmp",), alpha=False),
        "heic": Format(title="HEIC", suffixes=(".heic", ".heif"), depths=("uint8", "uint16"), side=16384),
    }
)
_BY_SUFFIX = {suffix: name for name, row in FORMATS.items() for suffix in row.suffixes}
READABLE = frozenset(_BY_SUFFIX)
"""Suffixes, lower case with their dot, of files that hold a photo."""
WRITABLE = frozenset(_BY_SUFFIX)
"""Suffixes, lower case with their dot, that an output file may have."""

_RAW_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef", "mos", "mrw"),
        *("nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"}
_MAGIC = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BM": "bmp",
}
_RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II*\0\x10\0\0\0CR", b"\0MRM", b"FOVb")
_STRANGERS = {
    b"GIF8": "a GIF",
    b"8BPS": "a Photoshop document",
    b"%PDF": "a PDF document",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a compressed archive",
    b"\x1aE\xdf\xa3": "a video",
}


def format_of(path: PurePath | str) -> str:
    """The format, a key of :data:`FORMATS`, that the suffix of an output path asks for.

    Raises:
        UsageError: the suffix is missing, or of no format that deblur writes.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    said = (
        f"ends in '{suffix}', which is no format that deblur writes" if suffix else "has no suffix to tell its format"
    )
    raise UsageError(f"'{path}' {said}.", f"Use one of {', '.join(sorted(WRITABLE))}.")


def sniff(data: bytes, name: str) -> str:
    """The format, a key of :data:`FORMATS`, that the first bytes of a file show.

    Args:
        data: the file, or at least its first 4096 bytes.
        name: what the messages call the file; its suffix tells raw camera files that look like TIFF.

    Raises:
        InputError: the file is empty, or no picture that deblur reads; the message says what it is.
    """
    head = bytes(data[:4096])
    if not head:
        raise InputError(f"'{name}' is empty: the file has zero bytes.", "Copy it again from where it came.")
    if PurePath(name).suffix.lower() in _RAW_SUFFIXES or head.startswith(_RAW_MAGIC) or head[4:12] == b"ftypcrx ":
        raise raw_refused(name)
    for magic, known in _MAGIC.items():
        if head.startswith(magic):
            return known
    known = "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else _boxed(head)
    if known is None:
        titles = ", ".join(row.title for row in FORMATS.values())
        raise InputError(f"'{name}' is {_stranger(head)}.", f"Convert it to one that deblur reads: {titles}.")
    return known


def raw_refused(name: str) -> InputError:
    """The refusal of a raw camera file."""
    return InputError(
        f"'{name}' is a raw camera file, which deblur does not develop.",
        "Develop it to a 16-bit TIFF first (darktable, RawTherapee, Lightroom), then deblur that.",
    )


def _boxed(head: bytes) -> str | None:
    """The format of an ISO base media file, by all the brands that it claims."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "avif"
    return "heic" if brands & _HEIF_BRANDS else None


def _stranger(head: bytes) -> str:
    """What a file that is no photo seems to be, with its article."""
    for magic, kind in _STRANGERS.items():
        if head.startswith(magic):
            return f"{kind}, not a photo that deblur reads"
    if head[4:8] == b"ftyp":
        return "a video, not a photo"
    if not head.strip(b"\0"):
        return "not a photo: it begins with nothing but zero bytes"
    if not set(head) & (set(range(32)) - set(b"\t\n\r\f\x1b")):
        return "text, not a photo"
    return "not a photo, or one of a format that deblur does not know"
