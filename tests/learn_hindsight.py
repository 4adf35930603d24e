"""Teach a net to tell mid-exposure by what it restored, by shaken photographs: seen once, learnt in a minute.

    python tests/learn_hindsight.py see --weights FILE --data PHOTOS --out SEEN.pt --crops 500 --seed 1
    python tests/learn_hindsight.py learn --weights FILE --seen SEEN.pt ... --out TRAINED.safetensors

What an image that lies off the truth by so much loses is known as soon as the truth is: nearly a square function of how far it
is off, by the slopes of the sharp image. All that is kept of a crop is that function of each cell, where the truth lies there,
and what the net sees of the cell. ``see`` looks at crops under a net as it is; ``learn`` gives it new weights for
``hindsight.`` alone, by the mean logarithm of what is left (which is PSNR), and scores them on the last fifth of the crops.

This is a script and not a test: run it by hand.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli import nets
from deblur_cli.files import checkpoint, photos
from deblur_cli.nets.hindsight import Hindsight, around, seen
from deblur_cli.nets.midway import midway_through
from deblur_cli.nets.motion import CELL
from deblur_cli.nets.motion_unet import MotionUNet
from deblur_cli.pixels import shaking
from deblur_cli.trainer.shaken import ShakenPhotos

RECIPE = shaking.Shaking(
    longest=36,
    still=0.03,
    trembling=0.15,
    soft=0.08,
    objects=0.3,
    noise=0.5,
    jpeg=0.5,
    read_noise=0.008,
    sharp_at="middle",
)
CROP, BATCH = 448, 96
LEAST = 3e-5
"""Added to mean squares: who is nearer than this, 45 dB, gains hardly more by being nearer still."""
FAR = 4.0
"""Square pixels: who is further off than this loses hardly more by being further."""


def net_of(path: Path) -> MotionUNet:
    """The net of a checkpoint, its ``hindsight.`` fresh if it had none."""
    found = checkpoint.load(path)
    config = nets.from_mapping(nets.NETS["motion-unet"].config, {**found.label.config, "hindsight": True})
    net = MotionUNet(config)
    missing, unexpected = net.load_state_dict(dict(found.tensors), strict=False)
    if unexpected or any(not key.startswith("hindsight.") for key in missing):
        raise SystemExit(f"{path} is of another net: {[*unexpected, *missing][:3]}")
    return net.float().eval()


def of_cells(image: Tensor) -> Tensor:
    """The mean of (1, C, H, W) in each cell: (h, w)."""
    return F.avg_pool2d(image.mean(1, keepdim=True), CELL)[0, 0]


def slopes(image: Tensor) -> Tensor:
    """(h, w, 3): the mean products, in each cell, of an image's slopes: across twice, both, and down twice."""
    across = F.pad((image[..., 2:] - image[..., :-2]) / 2, (1, 1))
    down = F.pad((image[..., 2:, :] - image[..., :-2, :]) / 2, (0, 0, 1, 1))
    return torch.stack([of_cells(each) for each in (across * across, across * down, down * down)], dim=-1)


@torch.no_grad()
def see(words: argparse.Namespace) -> None:
    """Write what was seen of each crop."""
    torch.set_num_threads(1)
    net = net_of(words.weights)
    album = photos.load(words.data, smallest=CROP + 2 * shaking.MARGIN)
    cpu = torch.device("cpu")
    source = ShakenPhotos(album, RECIPE, crop=CROP, radius=32, slots=range(1), seed=words.seed, device=cpu)
    noted: list[tuple[Any, ...]] = []
    assert net.hindsight is not None
    net.hindsight.register_forward_pre_hook(lambda _, given: noted.append(given))
    kept: list[tuple[Tensor, ...]] = []
    for step in range(words.crops):
        blurred, sharp, _, true = source.pairs(step)
        with torch.autocast("cpu", torch.bfloat16):
            net(blurred)
            _, restored, motion = noted.pop()
            pulls, known, width = seen(blurred, restored, motion)
        restored = restored.float()
        told = midway_through(restored, motion.midway.float())
        lost = [of_cells((each - sharp).square()) for each in (midway_through(restored, true), told, blurred)]
        kept.append((pulls[0].half(), known[0].half(), width[0], true[0], slopes(sharp), torch.stack(lost, dim=-1)))
        if step % 25 == 24 or step + 1 == words.crops:
            torch.save(kept, words.out)
            print(f"{step + 1} crops", flush=True)


def left(told: Tensor, true: Tensor, slope: Tensor, least: Tensor) -> Tensor:
    """(N,): the mean square that is left of each crop that is taken to be where it is ``told`` to be."""
    x, y = (told - true).unbind(-1)
    square = slope[..., 0] * x * x + 2 * slope[..., 1] * x * y + slope[..., 2] * y * y
    return (least + square / (1 + (x * x + y * y) / FAR)).mean((1, 2)) + LEAST


def learn(words: argparse.Namespace) -> None:
    """Train ``hindsight.`` on what was seen, and store the net with it."""
    torch.set_num_threads(1)
    net = net_of(words.weights)
    torch.manual_seed(words.seed)
    crops = [crop for path in words.seen for crop in torch.load(path, weights_only=True)]
    order = torch.randperm(len(crops)).tolist()
    pulls, known, width, true, slope, lost = (
        torch.stack(each).float() for each in zip(*(crops[index] for index in order), strict=True)
    )
    last = len(crops) - len(crops) // 5
    part = Hindsight()
    part.length.copy_(around(pulls[:last]).square().sum(-1).mean((0, 1, 2)).sqrt().clamp_min(1e-4))
    part.usual.copy_(known[:last].mean((0, 1, 2)))
    part.spread.copy_(known[:last].std((0, 1, 2)).clamp_min(0.05))
    optimiser = torch.optim.AdamW(part.parameters(), lr=words.lr, weight_decay=0.3)
    course = torch.optim.lr_scheduler.OneCycleLR(optimiser, words.lr, words.steps)
    for step in range(words.steps):
        some = torch.randint(last, (BATCH,))
        told = part.told(pulls[some], known[some], width[some])
        optimiser.zero_grad()
        left(told, true[some], slope[some], lost[some][..., 0]).log10().mean().mul(10).backward()
        optimiser.step()
        course.step()
        if (step + 1) % 100 == 0:
            with torch.no_grad():
                now = left(part.told(pulls, known, width), true, slope, lost[..., 0])
                before = left(pulls[..., 0, :] * width, true, slope, lost[..., 0])
            gained = 10 * (before / now).log10()
            print(
                f"step {step + 1}: {gained[:last].mean():.4f} dB on crops that it learns from, "
                f"{gained[last:].mean():.4f} on {len(crops) - last} others",
                flush=True,
            )
    assert net.hindsight is not None
    net.hindsight.load_state_dict(part.state_dict())
    label = replace(checkpoint.load(words.weights).label, config=nets.to_mapping(net.config))
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=net.state_dict()), words.out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    looking = commands.add_parser("see")
    looking.add_argument("--data", type=Path, required=True)
    looking.add_argument("--crops", type=int, default=500)
    looking.set_defaults(run=see)
    learning = commands.add_parser("learn")
    learning.add_argument("--seen", type=Path, nargs="+", required=True)
    learning.add_argument("--steps", type=int, default=600)
    learning.add_argument("--lr", type=float, default=3e-3)
    learning.set_defaults(run=learn)
    for each in (looking, learning):
        each.add_argument("--weights", type=Path, required=True)
        each.add_argument("--out", type=Path, required=True)
        each.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    words.run(words)


if __name__ == "__main__":
    main()
