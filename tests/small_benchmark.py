"""Tiny data sets in their true layouts, tiny nets, and what the tests of the benchmark ask of a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.cli import main
from deblur_cli.commands import benchmark
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.benchmark import BenchmarkOptions
from deblur_cli.scorer import events, synthetic

SIZE = (48, 40)


LAYOUTS = {
    "gopro": ("GOPRO_Large/test/S1/blur/000001.png", "GOPRO_Large/test/S1/sharp/000001.png"),
    "hide": ("HIDE_dataset/test/test-close-ups/1.png", "HIDE_dataset/GT/1.png"),
    "realblur-j": ("RealBlur_J/test/input/scene001_blur_1.png", "RealBlur_J/test/target/scene001_blur_1.png"),
    "realblur-r": ("RealBlur_R/test/input/scene001_blur_1.png", "RealBlur_R/test/target/scene001_blur_1.png"),
    "reds": ("REDS/val/val_blur/000/00000000.png", "REDS/val/val_sharp/000/00000000.png"),
}


def checkpoint(path: Path, *, still: bool) -> str:
    """A tiny net; a still one corrects nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
    tensors = {name: torch.zeros_like(each) if still else each for name, each in net.state_dict().items()}
    label = Label(net="unet", config=to_mapping(net.config), made_with="a test", licence="MIT", trained_on="nothing")
    save(Checkpoint(label=label, tensors=tensors), path)
    return str(path)


def picture(path: Path | str, values: np.ndarray) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8)).save(path)


def pair(blurred: Path | str, sharp: Path | str, *, error: float, size: tuple[int, int] = SIZE) -> None:
    """A scene, and the same with a constant error in it: its PSNR is 20 log10(255 / error)."""
    y, x = np.mgrid[: size[1], : size[0]]
    scene = np.stack([110 + 60 * np.sin(x / 3 + k) * np.cos(y / (4 + k)) for k in range(3)], axis=-1).round()
    picture(sharp, scene)
    picture(blurred, scene + error)


def plain(root: Path, count: int = 6) -> Path:
    """Pairs of two classes; the first is the most blurred."""
    for index in range(count):
        name = f"{'day' if index % 2 else 'night'}-{index}.png"
        pair(root / "blur" / name, root / "sharp" / name, error=float(4 * (count - index)))
    return root


def run(dataset: str, folder: Path, weights: tuple[str, ...], **more) -> list[events.Event]:
    options = BenchmarkOptions(dataset=dataset, data=str(folder), weights=weights, device="cpu", **more)
    return list(benchmark.run(options))


def measured(found: list[events.Event]) -> events.Measured:
    return next(event for event in found if isinstance(event, events.Measured))


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def photographs(folder: Path, count: int = 1) -> Path:
    chance = np.random.default_rng(5)
    for index in range(count):
        small = chance.integers(0, 256, (12, 13, 3), dtype=np.uint8)
        side = synthetic.SMALLEST
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((side + 9, side), Image.Resampling.BICUBIC).save(folder / f"p{index}.png")
    return folder
