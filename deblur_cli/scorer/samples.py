"""What is scored, image by image: pairs of a data set, pairs made of sharp photographs, or blurred photographs alone."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deblur_cli.errors import InputError
from deblur_cli.files import pairs, photo, photos, sums
from deblur_cli.scorer import synthetic

_AHEAD = 2
_SMALLEST = 11
"""Pixels on the short side, which SSIM and the blur score need."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to be restored, and the sharp one where there is one."""

    name: str
    read: Callable[[], tuple[Pixels, Pixels | None]]
    """Blurred and sharp, (H, W, 3) each. Raises InputError with the name of a file that cannot be read."""
    files: tuple[Path, ...] = ()
    """What it is read from."""
    lot: int = 0
    """Which of the movements of a seed it is blurred by, where it is blurred here."""

    def source(self) -> str:
        """What tells it from another image of the same name: 16 hexadecimal digits, of the files' contents and the lot.

        Raises:
            InputError: a file cannot be read.
        """
        try:
            told = [str(self.lot), *map(sums.of, self.files)]
        except OSError as error:
            raise InputError(
                f"'{error.filename}' cannot be read: {error.strerror or error}.", "Remove it, or make it readable."
            ) from error
        return hashlib.sha256(" ".join(told).encode()).hexdigest()[:16]

    @property
    def kind(self) -> str:
        """The class that the name begins with: a sequence, a folder, or what stands before the first hyphen; or nothing."""
        folder, inside, _ = self.name.partition("/")
        word, hyphen, _ = self.name.partition("-")
        return folder if inside else word if hyphen else ""


def of_pairs(found: Sequence[pairs.Pair]) -> list[Sample]:
    """The pairs as they are on the disk."""
    return [Sample(pair.name, partial(_read_pair, pair), (pair.blurred, pair.sharp)) for pair in found]


def of_photographs(folder: Path, *, longest: int, seed: int) -> list[Sample]:
    """Each photograph of a folder in each of the classes of :mod:`synthetic`.

    Args:
        folder: of sharp photographs, read with everything below it.
        longest: larger photographs are reduced to it, in pixels; 0 leaves them as they are.
        seed: of the movements.

    Raises:
        InputError: no folder, or no photographs in it.
    """
    return [
        Sample(f"{kind}/{name}", partial(_synthetic, path, kind, index, longest, seed), (path,), index)
        for index, (name, path) in enumerate(_named(folder))
        for kind in synthetic.CLASSES
    ]


def of_blurred(folder: Path, *, longest: int) -> list[Sample]:
    """The photographs of a folder, of which no sharp version is known.

    Args:
        folder: read with everything below it.
        longest: larger photographs are reduced to it, in pixels; 0 leaves them as they are.

    Raises:
        InputError: no folder, or no photographs in it.
    """
    return [Sample(name, partial(_blurred, path, longest), (path,)) for name, path in _named(folder)]


def ahead(samples: Sequence[Sample]) -> Generator[tuple[Sample, Pixels, Pixels | None]]:
    """Each sample with its images, read by other threads while the last one is at work."""
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="deblur-read") as pool:
        waiting: deque[Future[tuple[Pixels, Pixels | None]]] = deque()
        try:
            for index, sample in enumerate(samples):
                while len(waiting) < _AHEAD and index + len(waiting) < len(samples):
                    waiting.append(pool.submit(samples[index + len(waiting)].read))
                yield sample, *waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _named(folder: Path) -> list[tuple[str, Path]]:
    """The photographs of a folder with names that tell them apart."""
    paths = photos.names(folder)
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    if len(set(names)) < len(names):  # a.jpg beside a.png
        names = [path.relative_to(folder).as_posix() for path in paths]
    return list(zip(names, paths, strict=True))


def _read_pair(pair: pairs.Pair) -> tuple[Pixels, Pixels]:
    blurred, sharp = (_eight_bits(path) for path in (pair.blurred, pair.sharp))
    if blurred.shape != sharp.shape:
        raise InputError(
            f"'{pair.blurred}' has {_size(blurred)} pixels, '{pair.sharp}' {_size(sharp)}; they should be one scene.",
            "Remove the pair, or reduce the larger one.",
        )
    if min(blurred.shape[:2]) < _SMALLEST:
        raise InputError(
            f"'{pair.blurred}' has {_size(blurred)} pixels; SSIM needs {_SMALLEST} on each side.", "Remove the pair."
        )
    return blurred, sharp


def _eight_bits(path: Path) -> Pixels:
    """The pixels, rounded to 8 bits where they have more: the protocols compare 8-bit images."""
    pixels: Any = photo.read(path).pixels
    if pixels.dtype != np.uint8:
        peak = 65535 if pixels.dtype == np.uint16 else 1
        pixels = np.rint((pixels.astype(np.float32) / peak).clip(0, 1) * 255).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _blurred(path: Path, longest: int) -> tuple[Pixels, None]:
    pixels = photos.decode(path, longest=longest)
    if min(pixels.shape[:2]) < _SMALLEST:
        raise InputError(
            f"'{path}' has {_size(pixels)} pixels; the blur score needs {_SMALLEST} on each side.", "Remove it."
        )
    return pixels, None


def _synthetic(path: Path, kind: str, index: int, longest: int, seed: int) -> tuple[Pixels, Pixels]:
    pixels = photos.decode(path, longest=longest)
    if min(pixels.shape[:2]) < synthetic.SMALLEST:
        raise InputError(
            f"'{path}' has {_size(pixels)} pixels; to be blurred it needs {synthetic.SMALLEST} on each side.",
            "Remove it, or raise --longest.",
        )
    sharp = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    blurred, still = (_pixels(each) for each in synthetic.pair(sharp, kind, index, seed))
    return blurred, still


def _pixels(image: torch.Tensor) -> Pixels:
    return (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
