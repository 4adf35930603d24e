"""From pixels and side notes to files of JPEG, PNG, WebP, AVIF and BMP, by Pillow."""

import hashlib
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from deblur_cli.files import bmp as bitmap
from deblur_cli.files import boxes, decoding, exif, png
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

PEAKS: Mapping[str, int] = {"uint8": 255, "uint16": 65535, "float32": 1}
"""Sample type to its white, and to alpha's opaque."""
_BAND_VALUES = 2**22


def jpeg(out: BinaryIO, pixels: Pixels, kept: Metadata, *, quality: int) -> None:
    """Write a JPEG with colour at full resolution (4:4:4).

    Args:
        out: an empty file.
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
    _save(out, _image(pixels, None), "JPEG", quality=quality, subsampling=0, **_present(options))


def webp(out: BinaryIO, pixels: Pixels, alpha: Pixels | None, kept: Metadata, *, quality: int) -> None:
    """Write a WebP; alpha is exact, colour too where ``kept`` says lossless and the quality is not lowered below 95.

    WebP knows no gray: gray is written as three equal channels, without a profile that is valid for gray only.
    """
    icc = b"" if kept.icc[16:20] == b"GRAY" else kept.icc
    notes = _present({"exif": kept.exif, "xmp": kept.xmp, "icc_profile": icc})
    lossless = kept.lossless and quality >= 95
    _save(out, _image(pixels, alpha), "WEBP", quality=quality, lossless=lossless, exact=True, **notes)


def avif(out: BinaryIO, pixels: Pixels, alpha: Pixels | None, kept: Metadata, *, quality: int) -> None:
    """Write an AVIF with colour at full resolution, gray as gray; alpha is exact."""
    block = exif.without_orientation(kept.exif)  # else Pillow writes the block anew and loses maker notes
    notes = _present({"exif": block, "xmp": kept.xmp, "icc_profile": kept.icc})
    if alpha is not None:
        notes["advanced"] = {"alpha:lossless": "1"}
    sampling = "4:0:0" if pixels.shape[2] == 1 else "4:4:4"
    made = BytesIO() if kept.cicp else out
    with decoding.quiet():  # Pillow looks into the EXIF block for an orientation and warns of damage
        _save(made, _image(pixels, alpha), "AVIF", quality=quality, subsampling=sampling, **notes)
    if kept.cicp and isinstance(made, BytesIO):
        out.write(boxes.recoloured(made.getvalue(), kept.cicp))


def bmp(out: BinaryIO, pixels: Pixels, kept: Metadata) -> None:
    """Write a BMP, which holds no side notes but the resolution and the colour profile."""
    made: Any = _Headed(out, lambda head: bitmap.profiled(head, len(kept.icc)), bitmap.HEAD) if kept.icc else out
    _save(made, _image(pixels, None), "BMP", dpi=kept.dpi or (0, 0))
    out.write(kept.icc)


def portable(out: BinaryIO, pixels: Pixels, alpha: Pixels | None, kept: Metadata) -> None:
    """Write a PNG of uint8 or uint16 samples."""
    notes = png.notes(kept, gray=pixels.shape[2] == 1)
    if pixels.dtype == np.uint16:
        parts = png.encode(pixels, alpha)
        out.write(next(parts))
        out.write(notes)
        out.writelines(parts)
    else:
        _save(_Headed(out, lambda head: head + notes, png.HEAD), _image(pixels, alpha), "PNG")


def narrowed(values: Pixels, dtype: str) -> Pixels:
    """``values`` as ``dtype``, rounded to the nearest, what is not a number as 0; band by band to spare memory."""
    if values.dtype == dtype:
        return values
    out = np.empty(values.shape, dtype)
    rows = max(1, _BAND_VALUES * len(values) // values.size)
    for top in range(0, len(values), rows):
        band = values[top : top + rows]
        if values.dtype == np.uint16:
            out[top : top + rows] = (band.astype(np.uint32) + 128) // 257
        else:
            out[top : top + rows] = np.rint(np.clip(np.nan_to_num(band), 0, 1) * np.float32(PEAKS[dtype]))
    return out


class _Headed:
    """A file that is written to, whose first bytes are made anew."""

    def __init__(self, out: BinaryIO, anew: Callable[[bytes], bytes], length: int) -> None:
        self._out = out
        self._anew = anew
        self._length = length
        self._head = b""

    def write(self, data: bytes) -> int:
        missing = self._length - len(self._head)
        if not missing:
            return self._out.write(data)
        self._head += bytes(data[:missing])
        if len(self._head) == self._length:
            self._out.write(self._anew(self._head))
            self._out.write(data[missing:])
        return len(data)

    def flush(self) -> None:
        self._out.flush()


def _image(pixels: Pixels, alpha: Pixels | None) -> Image.Image:
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels.strides[1:] == (4, 1):
        return _mapped(pixels, alpha)
    if alpha is not None:
        return Image.fromarray(np.concatenate((pixels, alpha[..., None]), axis=2))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _mapped(pixels: Pixels, alpha: Pixels | None) -> Image.Image:
    """The picture in the very memory of ``pixels``, which has four bytes for each pixel, the last of them its alpha if any."""
    height, width, _ = pixels.shape
    if alpha is None:
        with suppress(AttributeError, TypeError, ValueError):
            image: Any = Image.new("RGB", (1, 1))
            return image._new(decoding.core_over(pixels))  # noqa: SLF001 - there is no public way without a copy
        return Image.fromarray(np.ascontiguousarray(pixels))
    whole: Any = np.lib.stride_tricks.as_strided(pixels, (height, width, 4))
    memory: Any = memoryview(whole).cast("B")
    return Image.frombuffer("RGBA", (width, height), memory, "raw", "RGBA", 0, 1)


def _save(out: Any, image: Image.Image, sort: str, **options: Any) -> None:
    image.save(out, sort, **options)


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
