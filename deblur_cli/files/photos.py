"""A folder of sharp photographs, decoded once into memory, and where in them there is something to see."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from deblur_cli.errors import InputError
from deblur_cli.files import photo

SUFFIXES = photo.READABLE
_CELL = 32
_PLAIN = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
"""Pillow's modes of 8 bits, which it turns to RGB as one wants; the rest, and what it cannot open, is for files/photo.py."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """One decoded photograph."""

    name: str
    pixels: NDArray[np.uint8]
    """(H, W, 3) sRGB."""
    detail: NDArray[np.float32]
    """(H / 32, W / 32): mean absolute difference of neighbouring pixels' brightness per cell, in units of the range."""

    def crop(self, top: int, left: int, side: int) -> NDArray[np.uint8]:
        """The square of ``side`` pixels at that corner; a view."""
        return self.pixels[top : top + side, left : left + side]

    def detail_of(self, top: int, left: int, side: int) -> float:
        """How much there is to see in a square: the mean of the cells that it touches."""
        cells = self.detail[top // _CELL : -(-(top + side) // _CELL), left // _CELL : -(-(left + side) // _CELL)]
        return float(cells.mean())


@dataclass(frozen=True, slots=True)
class Album:
    """The photographs of a folder, in the order of their names."""

    folder: Path
    photographs: tuple[Photograph, ...]
    found: int
    """Files that the folder holds; more than there are photographs where memory was limited or some are too small."""

    @property
    def megabytes(self) -> float:
        """The memory that the pixels take."""
        return sum(photograph.pixels.nbytes for photograph in self.photographs) / 1e6

    def __str__(self) -> str:
        count = len(self.photographs)
        some = f"{count} of {self.found}" if count < self.found else f"{count}"
        return f"{some} photographs of {self.folder} ({self.megabytes:,.0f} MB decoded)"

    def part(self, chosen: Sequence[int]) -> "Album":
        """The photographs with these indices."""
        return Album(self.folder, tuple(self.photographs[index] for index in chosen), len(chosen))


def names(folder: Path) -> list[Path]:
    """The photographs in ``folder`` and below, sorted.

    Raises:
        InputError: there is no such folder, or no photograph in it.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder.", "Name the folder of the photographs with --data DIR.")
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise InputError(
            f"'{folder}' holds no photographs ({', '.join(sorted(SUFFIXES))}).", "Name another folder with --data DIR."
        )
    return found


def load(folder: Path, *, smallest: int, longest: int = 0, megabytes: float = 0.0, threads: int = 2) -> Album:
    """Every photograph of ``folder`` that is large enough, decoded.

    Args:
        folder: read with everything below it.
        smallest: photographs with a side shorter than this many pixels are left out.
        longest: photographs with a longer side are reduced to it, in pixels; 0 leaves them as they are.
        megabytes: the most memory that the pixels may take: of more photographs an even selection is kept; 0 is no limit.
        threads: how many are decoded at a time.

    Raises:
        InputError: no folder, no photographs, one that cannot be read, or none large enough.
    """
    paths = names(folder)
    kept: list[Photograph] = []
    used = 0
    largest = 0
    for photograph in _decoded(_evenly(paths) if megabytes else paths, folder, longest, threads):
        largest = max(largest, min(photograph.pixels.shape[:2]))
        if min(photograph.pixels.shape[:2]) < smallest:
            continue
        if megabytes and used + photograph.pixels.nbytes > megabytes * 1e6:
            break
        used += photograph.pixels.nbytes
        kept.append(photograph)
    if not kept:
        raise InputError(
            f"The photographs of '{folder}' are too small: the largest has {largest} pixels on its short side, "
            f"crops with their margins need {smallest}."
            if largest < smallest
            else f"Not one photograph of '{folder}' fits into {megabytes:g} MB.",
            "Choose a smaller --crop or larger photographs." if largest < smallest else "Raise --memory.",
        )
    return Album(folder, tuple(sorted(kept, key=lambda photograph: photograph.name)), len(paths))


def _decoded(paths: Sequence[Path], folder: Path, longest: int, threads: int) -> Iterator[Photograph]:
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(_photograph, path, folder, longest) for path in paths[: 2 * threads]]
        rest = iter(paths[2 * threads :])
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting.extend(pool.submit(_photograph, path, folder, longest) for path in (next(rest, None),) if path)
        finally:
            pool.shutdown(cancel_futures=True)


def decode(path: Path, *, longest: int = 0) -> NDArray[np.uint8]:
    """The pixels of a photograph, upright, (H, W, 3) sRGB.

    Args:
        path: of the file.
        longest: a photograph with a longer side is reduced to it, in pixels; 0 leaves it as it is.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        image = _deep(path) if _is_deep(path) else _plain(path, longest)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"'{path}' cannot be read: {error}.", "Remove it from the folder or replace it.") from error
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.array(image)  # a copy, for torch wants arrays that can be written to


def size(path: Path) -> tuple[int, int]:
    """The two sides of a photograph by its header, in either order: it may lie on its side.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if _is_deep(path):
            facts = photo.probe(path)
            return facts.width, facts.height
        with Image.open(path) as file:
            return file.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"'{path}' cannot be read: {error}.", "Remove it from the folder or replace it.") from error


def _is_deep(path: Path) -> bool:
    """Whether a file may hold more than 8 bits, or is none that Pillow opens."""
    if path.suffix.lower() in {".tif", ".tiff", ".heic", ".heif"}:
        return True
    with Image.open(path) as file:
        return file.mode not in _PLAIN


def _plain(path: Path, longest: int) -> Image.Image:
    with Image.open(path) as file:
        if longest:
            file.draft("RGB", (longest, longest))
        return ImageOps.exif_transpose(file).convert("RGB")


def _deep(path: Path) -> Image.Image:
    pixels = photo.read(path).pixels
    if pixels.dtype != np.uint8:
        peak = 65535 if pixels.dtype == np.uint16 else 1
        pixels = np.rint(np.clip(pixels.astype(np.float32) / peak, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))


def _photograph(path: Path, folder: Path, longest: int) -> Photograph:
    pixels = decode(path, longest=longest)
    return Photograph(path.relative_to(folder).as_posix(), pixels, _detail(pixels))


def _detail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = pixels[:, :, 1].astype(np.int16)
    change = np.zeros(grey.shape, np.float32)
    change[:, 1:] += np.abs(np.diff(grey, axis=1))
    change[1:] += np.abs(np.diff(grey, axis=0))
    rows, columns = (max(1, side // _CELL) for side in grey.shape)
    cells = change[: rows * _CELL, : columns * _CELL]
    return cells.reshape(rows, -1, columns, cells.shape[1] // columns).mean(axis=(1, 3)) / 510


def _evenly(paths: Sequence[Path]) -> list[Path]:
    """An order of which every beginning is spread over the whole: by the golden section."""
    order = sorted(range(len(paths)), key=lambda index: (index * 0.6180339887498949) % 1.0)
    return [paths[index] for index in order]
