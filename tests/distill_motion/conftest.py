"""Four photographs, nets with tiny dials, and the words of a run, for each test of ``deblur distill-motion``."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli import nets
from deblur_cli.nets.motion_unet import MotionUNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.options.distill_motion import DistillMotionOptions

# Test files are modules without a package here: what they share is made known by name.
_SPEC = importlib.util.spec_from_file_location("small_motion", Path(__file__).parents[1] / "small_motion.py")
assert _SPEC is not None
assert _SPEC.loader is not None
small_motion = sys.modules["small_motion"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(small_motion)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    chance = np.random.default_rng(0)
    for index in range(4):
        rough = chance.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        coarse = Image.fromarray(chance.integers(0, 256, (28, 28, 3), dtype=np.uint8)).resize((224, 224))
        Image.blend(coarse, Image.fromarray(rough), 0.3).save(folder / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tiny = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=small_motion.TINY)
    guided = replace(tiny, prior=PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1)))
    small = {"motion-unet": ("motion-unet", tiny), "motion-unet-sp": ("motion-unet", guided)}
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, **small})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def options(photographs: Path, tmp_path: Path) -> DistillMotionOptions:
    return DistillMotionOptions(
        data=str(photographs),
        hold_out=1,
        steps=4,
        batch=2,
        crop=64,
        warmup=0,
        lr=3e-3,
        final_lr=3e-3,
        max_blur=16.0,
        val_every=2,
        val_crop=64,
        log_every=2,
        device="cpu",
        precision="fp32",
        threads=1,
        out=str(tmp_path / "out"),
    )
