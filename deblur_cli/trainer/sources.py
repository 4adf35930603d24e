"""Where batches come from: each a pure function of the seed and the number of the step, however many workers there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.files.kernels import Kernel
from deblur_cli.files.photos import Album
from deblur_cli.pixels import blurring

_FLAT = 0.008
"""Below this detail (mean difference of neighbouring pixels) a crop has little to see."""
_TRIES = 6
_ZOOMS = (1.0, 1.0, 1.0, 0.75, 0.6)
"""By how much squares are reduced, each as likely."""
TURNS = ("all", "mirror", "none")
"""How a square may be turned: all eight ways, left to right alone, not at all."""
_CROP, _ITEM, _BLUR = range(3)
_KERNEL = 4
"""Streams of chance that never meet."""


Batch = tuple[Tensor, ...]
"""Blurred and sharp, (N, 3, crop, crop) float32 in [0, 1] each; and where they are known and wanted the even and the odd parts
of the kernels of the cells, (N, h, w, 2, half), and x and y of mid-exposure, (N, h, w, 2), in pixels from the mean of the
movement."""


class PairSource(Protocol):
    """Pairs of blurred and sharp crops, a batch per step."""

    threads: int
    """How many threads may ask for batches at a time; 0: only the one that trains, just before it needs them."""
    on_device: bool
    """The batches are on the training device already."""

    def batch(self, step: int) -> Batch:
        """This process's share of the batch."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


@dataclass(frozen=True, slots=True)
class Spot:
    """A square in one photograph of an album."""

    photograph: int
    top: int
    left: int
    side: int


def chance(seed: int, *where: int) -> np.random.Generator:
    """Chance that depends on the seed and the place alone."""
    return np.random.default_rng((seed, *where))


def generator(seed: int, *where: int) -> torch.Generator:
    """The same for torch, on the CPU."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, _BLUR, *where)).generate_state(1)[0]))


def spot(album: Album, side: int, luck: np.random.Generator) -> Spot:
    """A square of at least ``side`` pixels somewhere in the album, most of the time with something to see in it."""
    found = _anywhere(album, side, luck)
    for _ in range(_TRIES):
        if album.photographs[found.photograph].detail_of(found.top, found.left, found.side) >= _FLAT:
            break
        found = _anywhere(album, side, luck)
    return found


def pieces(album: Album, side: int, seed: int, *where: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A square to blur and a square to take moving objects from, (S, S, 3) each, S at least ``side``; views.

    Where S is larger, the square is to be reduced by :func:`reduced`: the net then sees scenes from further away.
    """
    luck = chance(seed, _CROP, *where)
    two = [spot(album, side, luck) for _ in range(2)]
    first, second = (album.photographs[one.photograph].crop(one.top, one.left, one.side) for one in two)
    return first, second


def kernel(kernels: Sequence[Kernel], seed: int, *where: int) -> Sequence[Kernel]:
    """One of the kernels, alone; none where there are none."""
    if not kernels:
        return ()
    chosen = int(chance(seed, _KERNEL, *where).integers(len(kernels)))
    return kernels[chosen : chosen + 1]


def reduced(square: Tensor, side: int) -> Tensor:
    """(N, 3, S, S) in [0, 1] as (N, 3, side, side)."""
    if square.shape[-1] == side:
        return square
    return F.interpolate(square, (side, side), mode="bilinear", antialias=True, align_corners=False).clamp_(0, 1)


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the eight ways to turn and mirror a square, and where to cut it out."""

    top: int
    left: int
    down: bool
    right: bool
    over: bool

    @classmethod
    def draw(cls, shape: Sequence[int], crop: int, luck: np.random.Generator, turns: str = "all") -> "Turn":
        """Any of them, for a square of ``crop`` pixels in an (H, W, 3) image of this shape; see :data:`TURNS`."""
        height, width = shape[:2]
        top, left = int(luck.integers(height - crop + 1)), int(luck.integers(width - crop + 1))
        down, right, over = (bool(flip) for flip in luck.integers(2, size=3))
        return cls(top, left, down and turns == "all", right and turns != "none", over and turns == "all")

    def of(self, image: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
        """The square of an (H, W, 3) image; a view."""
        square = image[self.top : self.top + crop, self.left : self.left + crop]
        square = square[:: -1 if self.down else 1, :: -1 if self.right else 1]
        return square.swapaxes(0, 1) if self.over else square


def item_chance(seed: int, step: int, slot: int) -> np.random.Generator:
    """What decides over one item of one step's batch."""
    return chance(seed, _ITEM, step, slot)


def stack(squares: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(H, W, 3) arrays as one (N, 3, H, W) float32 tensor in [0, 1], channels last in memory."""
    values = np.stack(squares)
    # numpy and not torch: a second thread of torch's would fight the training for its threads.
    return torch.from_numpy(np.multiply(values, np.float32(1 / 255), dtype=np.float32)).permute(0, 3, 1, 2)


class DevicePhotos:
    """Photographs that lie on the device, blurred there for every batch."""

    threads = 0
    on_device = True

    def __init__(
        self,
        album: Album,
        recipe: blurring.Recipe,
        *,
        crop: int,
        slots: range,
        seed: int,
        device: torch.device,
        kernels: Sequence[Kernel] = (),
    ) -> None:
        self._album = album
        self._recipe = recipe
        self._kernels = kernels
        self._side = crop + 2 * blurring.margin(recipe)
        self._slots = slots
        self._seed = seed
        self._photographs = [torch.from_numpy(photograph.pixels).to(device) for photograph in album.photographs]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp, (N, 3, crop, crop) float32 in [0, 1]."""
        sharp, other = (
            torch.cat(squares) for squares in zip(*(self._pieces(step, slot) for slot in self._slots), strict=True)
        )
        kernels = [each for slot in self._slots for each in kernel(self._kernels, self._seed, step, slot)]
        lot = generator(self._seed, step, self._slots.start)
        blurred, still = blurring.blur(sharp, other, self._recipe, lot, [torch.from_numpy(each) for each in kernels])
        layout = torch.channels_last
        return blurred.contiguous(memory_format=layout), still.contiguous(memory_format=layout)

    def _pieces(self, step: int, slot: int) -> list[Tensor]:
        """What to blur and where to take objects from, (1, 3, side, side) each, turned anyhow."""
        luck = chance(self._seed, _CROP, step, slot)
        found: list[Tensor] = []
        for one in (spot(self._album, self._side, luck) for _ in range(2)):
            where = slice(one.top, one.top + one.side), slice(one.left, one.left + one.side)
            square = self._photographs[one.photograph][where].permute(2, 0, 1)[None].float().div_(255)
            square = torch.rot90(reduced(square, self._side), int(luck.integers(4)), (2, 3))
            found.append(square.flip(3) if luck.integers(2) else square)
        return found

    def close(self) -> None:
        """Nothing to end."""


def _anywhere(album: Album, side: int, luck: np.random.Generator) -> Spot:
    index = int(luck.integers(len(album.photographs)))
    height, width = album.photographs[index].pixels.shape[:2]
    taken = min(round(side / luck.choice(_ZOOMS)), height, width)
    return Spot(index, int(luck.integers(height - taken + 1)), int(luck.integers(width - taken + 1)), taken)
