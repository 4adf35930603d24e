"""Whether an exported net does what the net does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.pixels import tiles

BOUNDS: Mapping[str, float] = MappingProxyType({"fp32": 1e-3, "fp16": 1e-2})
"""Precision to the largest difference from the net in fp32 that is let pass, in images from 0 to 1."""

_SEED = 2302_06898
_SIZES = ((1, 1), (64, 96), (224, 160))
"""Height and width in pixels, before they are rounded up to what the net takes: the smallest, and none of them square."""

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One image through both."""

    image: str
    """``random``, ``drawn`` or ``photo``."""
    height: int
    """Pixels."""
    width: int
    """Likewise."""
    difference: float
    """The largest of all pixels, in images from 0 to 1."""
    bound: float
    """What it must not exceed."""

    @property
    def passed(self) -> bool:
        """Whether it is small enough; what is no number is not."""
        return self.difference <= self.bound

    def __str__(self) -> str:
        return (
            f"{self.image} image, {self.width} x {self.height}: largest difference from PyTorch {self.difference:.2g}"
            f" (at most {self.bound:g})"
        )


def sizes(multiple_of: int, *, units: int = 1) -> list[tuple[int, int]]:
    """Three sizes in pixels, (height, width), multiples of ``multiple_of`` by at least ``units``."""
    return [(_up(height, multiple_of, units), _up(width, multiple_of, units)) for height, width in _SIZES]


def compare(
    net: nn.Module,
    exported: Callable[[Tensor], Tensor],
    at: list[tuple[int, int]],
    *,
    photo: _Array | None,
    bound: float,
) -> Iterator[Compared]:
    """Put a random and a real image of each size through both.

    Args:
        net: in evaluation mode, in fp32.
        exported: (1, 3, H, W) float32 to the same.
        at: sizes, (height, width).
        photo: (H, W, 3) float32 in [0, 1], of which a part is taken; None draws something like a photo.
        bound: the largest difference that passes.
    """
    for height, width in at:
        dice = torch.Generator().manual_seed(_SEED)
        real = drawn(height, width, dice) if photo is None else _part(photo, height, width)
        noise = torch.rand(1, 3, height, width, generator=dice)
        for name, image in (("random", noise), ("drawn" if photo is None else "photo", real)):
            with torch.inference_mode():
                expected = net(image)[0]
            difference = float((exported(image) - expected).abs().max())
            yield Compared(image=name, height=height, width=width, difference=difference, bound=bound)


def drawn(height: int, width: int, dice: torch.Generator) -> Tensor:
    """Something like a photo: surfaces, edges and texture, with power at all scales; (1, 3, height, width) in [0, 1]."""
    image = torch.zeros(1, 3, height, width)
    for octave in range(1, 8):
        grain = torch.randn(1, 3, 2**octave, 2**octave, generator=dice) / 2**octave
        image += F.interpolate(grain, (height, width), mode="bilinear", align_corners=False)
    for _ in range(6):
        top, left = (float(torch.rand((), generator=dice)) for _ in range(2))
        colour = torch.randn(1, 3, 1, 1, generator=dice) / 2
        image[:, :, int(top * height) :, int(left * width) :] += colour
    return torch.sigmoid(2 * image)


def _part(photo: _Array, height: int, width: int) -> Tensor:
    """The middle of a photo, or the whole and more of it by reflection."""
    top, left = (max(0, (have - wanted) // 2) for have, wanted in zip(photo.shape[:2], (height, width), strict=True))
    part = photo[top : top + height, left : left + width]
    part = part[tiles.reflected(part.shape[0], height)][:, tiles.reflected(part.shape[1], width)]
    return torch.from_numpy(np.array(part, np.float32)).permute(2, 0, 1)[None].contiguous()


def _up(pixels: int, multiple_of: int, units: int) -> int:
    return multiple_of * max(units, -(-pixels // multiple_of))
