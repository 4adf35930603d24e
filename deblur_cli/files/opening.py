"""Image files to photos whose header is read: what they are, what they carry, and how their pixels are had."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Any

from deblur_cli.files import bmp, boxes, decoding, formats, heic, metadata, png, tiff, xmp
from deblur_cli.files.decoding import Pixels
from deblur_cli.files.formats import FORMATS
from deblur_cli.files.metadata import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the header of a photo tells."""

    width: int
    """Of the upright photo, in pixels."""
    height: int
    """Likewise."""
    format: str
    """jpeg, png, tiff, webp, avif, bmp or heic."""
    dtype: str
    """Sample type that the photo is read to: uint8, uint16 or float32."""
    channels: int
    """1 for gray, 3 for colour; a palette counts as colour. Alpha not counted."""
    alpha: bool
    """Whether the file can hold transparency."""
    coefficients: int = 0
    """Bytes that its decoder holds beside the pixels, until it has read the file to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A photo whose header is read and whose pixels can be decoded."""

    facts: Facts
    kept: Metadata
    """The side notes as the file has them, orientation not yet applied, less what they promise of parts left behind."""
    decode: Callable[[decoding.Room | None], tuple[Pixels, Pixels | None]]
    """Where the room is used, what it gives holds the pixels."""
    notices: tuple[str, ...] = ()
    """Sentences on what the file holds and the photo does not."""


def opened(data: bytes | mmap, name: str) -> Opened:
    """The photo in the bytes of a file, its header read.

    Raises:
        InputError: damaged, truncated, animated, CMYK, raw, too large, or no photo at all.
        UsageError: a HEIC photo, and pillow-heif is not installed.
    """
    sort = formats.sniff(data[:4096], name)
    if sort == "png":
        found = _opened_png(data, name)
    elif sort == "tiff":
        found = _opened_tiff(data, name)
    else:
        found = _opened_heic(data, name) if sort == "heic" else _opened_by_pillow(data, sort, name)
    packet, lost = xmp.without_promises(found.kept.xmp)
    depth = boxes.depth(data) if sort == "avif" else 8
    deep = f"has {depth} bits per sample, of which AVIF is read to 8" if depth > 8 else ""
    notices = tuple(f"'{name}' {each}." for each in (lost, deep) if each)
    return replace(found, kept=replace(found.kept, xmp=packet), notices=notices)


def _opened_png(data: bytes | mmap, name: str) -> Opened:
    stated, chunks = png.header(data, name)
    kept = metadata.of_chunks(chunks)
    turned = metadata.orientation(kept)
    return Opened(
        facts=_facts(
            (stated.width, stated.height),
            turned,
            format="png",
            dtype="uint16" if stated.depth == 16 else "uint8",
            channels=3 if stated.colour in (2, 3, 6) else 1,
            alpha=stated.keyed or stated.colour >= 4,
        ),
        kept=kept,
        decode=lambda _room: png.decode(data, stated, name, turned, icc=kept.icc),
    )


def _opened_tiff(data: bytes | mmap, name: str) -> Opened:
    stated, kept = tiff.header(data, name)
    turned = metadata.orientation(kept)
    return Opened(
        facts=_facts(
            (stated.width, stated.height),
            turned,
            format="tiff",
            dtype=stated.dtype,
            channels=3 if stated.channels >= 3 or stated.palette else 1,
            alpha=stated.channels in (2, 4),
        ),
        kept=kept,
        decode=lambda _room: tiff.decode(bytes(data), stated, name, turned),
    )


def _opened_heic(data: bytes | mmap, name: str) -> Opened:
    image = heic.opened(bytes(data), name)
    facts = _facts(
        image.size,
        1,
        format="heic",
        dtype="uint16" if image.info["bit_depth"] > 8 else "uint8",
        channels=3 if image.mode.startswith(("RGB", "BGR")) else 1,
        alpha=bool(image.has_alpha),
    )
    return Opened(facts=facts, kept=heic.notes(image), decode=lambda _room: heic.decode(image, name))


def _opened_by_pillow(data: bytes | mmap, sort: str, name: str) -> Opened:
    lossless = sort == "webp" and decoding.check_webp(data, name)
    image = decoding.opened(data, sort, name)
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    colours = boxes.colours(data) if sort == "avif" else None
    kept = replace(metadata.of_pillow(image.info, segments), lossless=lossless, cicp=colours)
    if sort == "bmp":
        kept = replace(kept, icc=bmp.profile(data))
    turned = metadata.orientation(kept)

    def decode(room: decoding.Room | None) -> tuple[Pixels, Pixels | None]:
        with decoding.foreign(name, FORMATS[sort].title):
            image.load()
        return decoding.arrays(image, turned, room)

    facts = _facts(
        image.size,
        turned,
        format=sort,
        dtype="uint8",
        channels=1 if image.mode in ("1", "L", "LA") else 3,
        alpha=image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info,
        coefficients=decoding.coefficients(image),
    )
    return Opened(facts=facts, kept=kept, decode=decode)


def _facts(size: tuple[int, int], turned: int, **rest: Any) -> Facts:
    width, height = size[::-1] if turned >= 5 else size
    return Facts(width=width, height=height, **rest)
