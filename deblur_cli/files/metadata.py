"""What a photo carries beside its pixels, and what of it stays true once the photo is upright and restored.

Kept: EXIF, XMP, IPTC, the ICC profile or the code points of colours, the resolution, PNG's own chunks, the JPEG comment;
wherever the format can hold it.
Changed: orientation becomes 1 in EXIF and XMP, the EXIF width and height become those of the upright photo.
Dropped: the EXIF thumbnail, which shows the photo blurred.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deblur_cli.files import cicp, exif, xmp
from deblur_cli.files.cicp import Cicp

_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_IPTC_RESOURCE = 0x0404  # of Photoshop's image resources
_COLOUR_CHUNKS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"})
_WORD_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"tIME", b"oFFs", b"sCAL"})
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILE = re.compile(rb"Raw profile type (exif|APP1|xmp|iptc|icc|icm)\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Everything of a photo but its pixels; bytes are empty and ``dpi`` is None where the file had none."""

    exif: bytes = b""
    """EXIF block from its byte order mark on: upright, with no thumbnail."""
    xmp: bytes = b""
    """XMP packet."""
    icc: bytes = b""
    """ICC profile, byte for byte: it says which colours the numbers mean."""
    cicp: Cicp | None = None
    """The code points that say so in its place; None is sRGB where there is no profile either."""
    iptc: bytes = b""
    """IPTC records (IIM)."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, across and down."""
    comment: bytes = b""
    """JPEG comment."""
    extended_xmp: tuple[bytes, ...] = ()
    """Segments of XMP too long for one JPEG segment, as the JPEG had them."""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks of words and colour, (name, payload), that nothing above stands for."""
    lossless: bool = False
    """Whether a WebP came losslessly compressed and should stay so."""

    def stripped(self) -> "Metadata":
        """Only what decides how the colours look: the ICC profile, the code points and PNG's colour chunks."""
        colour = tuple(chunk for chunk in self.chunks if chunk[0] in _COLOUR_CHUNKS)
        return Metadata(icc=self.icc, cicp=self.cicp, chunks=colour, lossless=self.lossless)


def of_pillow(info: Mapping[Any, Any], segments: list[tuple[str, bytes]]) -> Metadata:
    """What Pillow, or pillow-heif, found in a JPEG, WebP, AVIF, BMP or HEIC.

    Args:
        info: the image's ``info``.
        segments: a JPEG's application segments, (name, payload); empty for other formats.
    """
    block = exif.bare(info.get("exif") or b"")
    photoshop: Mapping[int, Any] = info.get("photoshop") or {}
    nclx: Mapping[str, int] = info.get("nclx_profile") or {}
    stated = "dpi" in info and info.get("jfif_unit", 1) in (1, 2) and ("jfif_unit" in info or not segments)
    return Metadata(
        exif=block,
        xmp=_bytes(info.get("xmp")).rstrip(b"\0"),
        icc=info.get("icc_profile") or b"",
        cicp=cicp.named(nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None,
        iptc=_bytes(photoshop.get(_IPTC_RESOURCE)),
        dpi=exif.sane_resolution(*map(float, info["dpi"])) if stated else exif.resolution(block),
        comment=_bytes(info.get("comment")),
        extended_xmp=tuple(part for name, part in segments if name == "APP1" and part.startswith(_EXTENDED_XMP)),
    )


def of_chunks(chunks: list[tuple[bytes, bytes]]) -> Metadata:
    """What the chunks of a PNG say, ImageMagick's hexadecimal profiles in text chunks included."""
    found = Metadata()
    kept: list[tuple[bytes, bytes]] = []
    for kind, payload in chunks:
        if kind == b"eXIf":
            found = replace(found, exif=exif.bare(payload))
        elif kind == b"iCCP":
            found = replace(found, icc=_inflated(payload.partition(b"\0")[2][1:]))
        elif kind == b"pHYs" and len(payload) == 9 and payload[8] == 1:
            across, down = (int.from_bytes(payload[at : at + 4], "big") * 0.0254 for at in (0, 4))
            found = replace(found, dpi=exif.sane_resolution(across, down))
        elif kind == b"iTXt" and payload.startswith(_XMP_KEYWORD + b"\0"):
            found = replace(found, xmp=_international(payload))
        elif kind in (b"tEXt", b"zTXt") and _RAW_PROFILE.match(payload):
            found = _with_raw_profile(found, kind, payload)
        elif kind in _COLOUR_CHUNKS | _WORD_CHUNKS:
            found = replace(found, cicp=cicp.of_chunk(payload)) if kind == b"cICP" else found
            kept.append((kind, payload))
    dpi = found.dpi or exif.resolution(found.exif)
    return replace(found, chunks=tuple(kept), dpi=dpi)


def orientation(found: Metadata) -> int:
    """How the stored pixels are turned, 1 to 8: by EXIF, else by XMP, else not at all."""
    return exif.orientation(found.exif) or xmp.orientation(found.xmp) or 1


def settled(found: Metadata, width: int, height: int) -> Metadata:
    """``found`` as it is true of the upright photo of ``width`` x ``height`` pixels whose orientation was just applied."""
    turned = orientation(found) >= 5
    return replace(
        found,
        exif=exif.settled(found.exif, width, height),
        xmp=xmp.upright(found.xmp),
        dpi=found.dpi[::-1] if found.dpi and turned else found.dpi,
    )


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value or b"")


def _inflated(packed: bytes) -> bytes:
    """Unpacked bytes, at most 64 MiB of them; nothing if they are damaged: no photo is refused for its side notes."""
    try:
        return zlib.decompressobj().decompress(packed, 1 << 26)
    except zlib.error:
        return b""


def _international(payload: bytes) -> bytes:
    """The text of an iTXt chunk: keyword, 0, packed?, method, language, 0, translated keyword, 0, text."""
    _, _, rest = payload.partition(b"\0")
    parts = rest[2:].split(b"\0", 2)
    text = parts[2] if len(parts) == 3 else b""
    return _inflated(text) if rest[:1] == b"\1" else text


def _with_raw_profile(found: Metadata, kind: bytes, payload: bytes) -> Metadata:
    """``found`` with the profile that ImageMagick wrote as text: a name, a length and hexadecimal digits."""
    keyword, _, text = payload.partition(b"\0")
    text = _inflated(text[1:]) if kind == b"zTXt" else text
    try:
        raw = bytes.fromhex("".join(text.decode("ascii").split()[2:]))
    except ValueError:
        return found
    profile = keyword.rsplit(b" ", 1)[1].lower()
    if profile in (b"exif", b"app1") and not found.exif:
        return replace(found, exif=exif.bare(raw))
    if profile == b"xmp" and not found.xmp:
        return replace(found, xmp=raw)
    if profile in (b"icc", b"icm") and not found.icc:
        return replace(found, icc=raw)
    return replace(found, iptc=found.iptc or raw) if profile == b"iptc" else found
