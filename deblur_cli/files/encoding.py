"""From pixels and side notes to the bytes of JPEG, PNG, WebP, AVIF and BMP, by Pillow."""

import hashlib
import struct
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from deblur_cli.files import decoding, exif, png
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.metadata import Metadata

_SEGMENT = 65533  # bytes that one JPEG segment holds beside its length
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENDED_PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


def jpeg(pixels: Pixels, kept: Metadata, *, quality: int) -> bytes:
    """A JPEG with colour at full resolution (4:4:4).

    Args:
        pixels: (H, W, 1 or 3) uint8.
        kept: the side notes; of EXIF longer than a segment the maker notes are left out.
        quality: 1 to 100.
    """
    xmp, extended = _xmp_segments(kept)
    block = exif.fitted(kept.exif, _SEGMENT - 6)
    options: dict[str, Any] = {
        "exif": b"Exif\0\0" + block if block else None,
        "xmp": xmp,
        "icc_profile": kept.icc,
        "comment": kept.comment[:_SEGMENT],
        "dpi": kept.dpi,
        "extra": extended + _iptc_segment(kept.iptc),
    }
    return _saved(_image(pixels, None), "JPEG", quality=quality, subsampling=0, **_present(options))


def webp(pixels: Pixels, alpha: Pixels | None, kept: Metadata, *, quality: int) -> bytes:
    """A WebP; alpha is exact, colour too where ``kept`` says lossless and the quality is not lowered below 95.

    WebP knows no gray: gray is written as three equal channels, without a profile that is valid for gray only.
    """
    icc = b"" if kept.icc[16:20] == b"GRAY" else kept.icc
    notes = _present({"exif": kept.exif, "xmp": kept.xmp, "icc_profile": icc})
    lossless = kept.lossless and quality >= 95
    return _saved(_image(pixels, alpha), "WEBP", quality=quality, lossless=lossless, exact=True, **notes)


def avif(pixels: Pixels, alpha: Pixels | None, kept: Metadata, *, quality: int) -> bytes:
    """An AVIF with colour at full resolution, gray as gray; alpha is exact."""
    block = exif.without_orientation(kept.exif)  # else Pillow writes the block anew and loses maker notes
    notes = _present({"exif": block, "xmp": kept.xmp, "icc_profile": kept.icc})
    if alpha is not None:
        notes["advanced"] = {"alpha:lossless": "1"}
    sampling = "4:0:0" if pixels.shape[2] == 1 else "4:4:4"
    with decoding.quiet():  # Pillow looks into the EXIF block for an orientation and warns of damage
        return _saved(_image(pixels, alpha), "AVIF", quality=quality, subsampling=sampling, **notes)


def bmp(pixels: Pixels, kept: Metadata) -> bytes:
    """A BMP, which holds no side notes but the resolution."""
    return _saved(_image(pixels, None), "BMP", dpi=kept.dpi or (0, 0))


def portable(pixels: Pixels, alpha: Pixels | None, kept: Metadata) -> bytes:
    """A PNG of uint8 or uint16 samples."""
    deep = pixels.dtype == np.uint16
    picture = png.encode(pixels, alpha) if deep else _saved(_image(pixels, alpha), "PNG")
    return png.spliced(picture, kept, gray=pixels.shape[2] == 1)


def _image(pixels: Pixels, alpha: Pixels | None) -> Image.Image:
    if alpha is not None:
        return Image.fromarray(np.concatenate((pixels, alpha[..., None]), axis=2))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _saved(image: Image.Image, sort: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, sort, **options)
    return out.getvalue()


def _present(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _iptc_segment(iptc: bytes) -> bytes:
    """IPTC records as an image resource of Photoshop in an APP13 segment."""
    if not iptc or len(iptc) > _SEGMENT - 28:
        return b""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    return _segment(0xED, b"Photoshop 3.0\0" + resource)


def _xmp_segments(kept: Metadata) -> tuple[bytes, bytes]:
    """The XMP packet for the main segment, and the segments of extended XMP (XMP Specification Part 3, section 1.1.3.1)."""
    if len(kept.xmp) <= _SEGMENT - len(_XMP_PREFIX):
        return kept.xmp, b"".join(_segment(0xE1, part) for part in kept.extended_xmp)
    digest = hashlib.md5(kept.xmp, usedforsecurity=False).hexdigest().upper()
    step = _SEGMENT - len(_EXTENDED_PREFIX) - 40
    head = _EXTENDED_PREFIX + digest.encode()
    segments = (
        _segment(0xE1, head + struct.pack(">II", len(kept.xmp), at) + kept.xmp[at : at + step])
        for at in range(0, len(kept.xmp), step)
    )
    return _EXTENDED_PACKET.format(digest).encode(), b"".join(segments)


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
