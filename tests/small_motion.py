"""What the tests of ``deblur distill-motion`` share: tiny dials, crops that are shaken, one step of a net."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblur_cli.files import photos
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.options.distill_motion import DistillMotionOptions
from deblur_cli.options.train import TrainOptions
from deblur_cli.pixels import shaking
from deblur_cli.trainer.shaken import ShakenPhotos

RADIUS = 20
CALM = shaking.Shaking(linear=0.0, noise=0.0, jpeg=0.0)
TINY = MotionConfig(width=16, blocks=1, steer=4)


def one_step(options: DistillMotionOptions, **said: Any) -> TrainOptions:
    """One step of a net on the photographs of ``options``."""
    given: dict[str, Any] = {
        "data": options.data,
        "dataset": "photos",
        "backbone": "motion-unet",
        "prior": False,
        "perceptual": "none",
        "max_blur": 4.0,
        "steps": 1,
        "batch": 1,
        "crop": 64,
        "workers": 0,
        "pool_size": 1,
        "val_count": 0,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "out": f"{options.out}-net",
    }
    return TrainOptions(**(given | said))


def only(kind: type, events: Iterator[object] | list) -> list:
    return [event for event in events if isinstance(event, kind)]


def scene(count: int = 1, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side + 2 * shaking.MARGIN, side + 2 * shaking.MARGIN, generator=torch.Generator())


def source_of(photographs: Path, slots: range = range(3), seed: int = 5, side: int = 64) -> ShakenPhotos:
    album = photos.load(photographs, smallest=128)
    recipe = shaking.Shaking()
    place = torch.device("cpu")
    return ShakenPhotos(album, recipe, crop=side, radius=RADIUS, slots=slots, seed=seed, device=place)
