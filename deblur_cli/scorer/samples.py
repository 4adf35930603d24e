"""What is scored, image by image: pairs of a data set, or pairs made of sharp photographs."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deblur_cli.errors import InputError
from deblur_cli.files import pairs, photo, photos
from deblur_cli.scorer import synthetic

_AHEAD = 2
_SMALLEST = 11
"""Pixels on the short side, which SSIM needs."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to be restored, and the sharp one."""

    name: str
    read: Callable[[], tuple[Pixels, Pixels]]
    """Blurred and sharp, (H, W, 3) each. Raises InputError with the name of a file that cannot be read."""

    @property
    def kind(self) -> str:
        """The class that the name begins with: a sequence, a folder, or what stands before the first hyphen; or nothing."""
        folder, inside, _ = self.name.partition("/")
        word, hyphen, _ = self.name.partition("-")
        return folder if inside else word if hyphen else ""


def of_pairs(found: Sequence[pairs.Pair]) -> list[Sample]:
    """The pairs as they are on the disk."""
    return [Sample(pair.name, partial(_read_pair, pair)) for pair in found]


def of_photographs(folder: Path, *, longest: int, seed: int) -> list[Sample]:
    """Each photograph of a folder in each of the classes of :mod:`synthetic`.

    Args:
        folder: of sharp photographs, read with everything below it.
        longest: larger photographs are reduced to it, in pixels; 0 leaves them as they are.
        seed: of the movements.

    Raises:
        InputError: no folder, or no photographs in it.
    """
    paths = photos.names(folder)
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    if len(set(names)) < len(names):  # a.jpg beside a.png
        names = [path.relative_to(folder).as_posix() for path in paths]
    return [
        Sample(f"{kind}/{name}", partial(_blurred, path, kind, index, longest, seed))
        for index, (path, name) in enumerate(zip(paths, names, strict=True))
        for kind in synthetic.CLASSES
    ]


def ahead(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Pixels, Pixels]]:
    """Each sample with its images, read by other threads while the last one is at work."""
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="deblur-read") as pool:
        waiting: deque[Future[tuple[Pixels, Pixels]]] = deque()
        try:
            for index, sample in enumerate(samples):
                while len(waiting) < _AHEAD and index + len(waiting) < len(samples):
                    waiting.append(pool.submit(samples[index + len(waiting)].read))
                yield sample, *waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


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
    pixels: Any = photo.read(path).pixels
    if pixels.dtype != np.uint8:
        raise InputError(
            f"'{path}' has samples of {pixels.dtype}; scores are compared on 8-bit images.", "Convert it to 8 bits."
        )
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _blurred(path: Path, kind: str, index: int, longest: int, seed: int) -> tuple[Pixels, Pixels]:
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
