"""Pairs from sharp photographs, the same on every run: each photograph under four kinds of movement.

The classes are those of the validation set that the weights table is measured on.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from deblur_cli.pixels import blurring

CAMERA: Mapping[str, Any] = MappingProxyType(
    {"noise": 0.5, "read_noise": 0.008, "shot_noise": 0.0004, "jpeg": 0.5, "jpeg_quality": (75, 96)}
)
"""What the camera adds: noise to half of the images, JPEG to half."""

CLASSES: Mapping[str, blurring.Recipe] = MappingProxyType(
    {
        "mild": blurring.Recipe(min_length=2, max_length=7, still=0, objects=0, **CAMERA),
        "medium": blurring.Recipe(min_length=7, max_length=15, still=0, objects=0, **CAMERA),
        "severe": blurring.Recipe(min_length=15, max_length=40, still=0, objects=0, **CAMERA),
        "object": blurring.Recipe(min_length=6, max_length=24, still=0, objects=1, **CAMERA),
    }
)
"""Shake of the camera by the length of its path in pixels, and something that moves by itself."""

SMALLEST = 2 * max(blurring.margin(recipe) for recipe in CLASSES.values()) + 64
"""Shortest side of a photograph in pixels: the borders that synthesis takes off, and something that is left."""


def generator(order: int, index: int, seed: int = 0) -> torch.Generator:
    """The chance of one image: ``order`` counts classes, ``index`` photographs; seed 0 is the validation set's."""
    return torch.Generator().manual_seed(1_000_000 * seed + 1000 * order + index)


def pair(sharp: Tensor, kind: str, index: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One photograph, blurred and sharp.

    Args:
        sharp: (1, 3, H, W) in [0, 1], no side shorter than :data:`SMALLEST`.
        kind: a key of :data:`CLASSES`.
        index: of the photograph in its folder.
        seed: another one gives other movements.

    Returns:
        Two tensors in [0, 1], smaller by the margin of the class.
    """
    return blurring.blur(sharp, sharp.flip(3), CLASSES[kind], generator(list(CLASSES).index(kind), index, seed))
