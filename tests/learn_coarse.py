"""Teach a net from coarse to fine how much to take from smaller images, by shaken photographs: seen once, learnt in a minute.

    python tests/learn_coarse.py see --weights FILE --data PHOTOS --out SEEN.pt --crops 600 --seed 1
    python tests/learn_coarse.py learn --weights FILE --seen SEEN.pt ... --out TRAINED.safetensors

How much is best is known as soon as the sharp image is: what is left of the difference is a square function of it, and all that
is kept of a crop is, for each cell, that function and what the net sees of the cell. ``see`` looks at crops under a net as it
is; ``learn`` gives it new weights for ``coarse.`` alone, by the mean logarithm of what is left (which is PSNR), and scores them
on the last eighth of the crops of each file. A net that was seen before it took anything is seen again best after it learnt to.

This is a script and not a test: run it by hand.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli import nets
from deblur_cli.files import checkpoint, photos
from deblur_cli.nets.coarse import Coarse, offers, seen
from deblur_cli.nets.midway import midway_through
from deblur_cli.nets.motion import CELL, Motion
from deblur_cli.nets.motion_unet import MotionUNet
from deblur_cli.pixels import shaking
from deblur_cli.trainer.shaken import ShakenPhotos

RECIPE = shaking.Shaking(
    longest=45, still=0.04, trembling=0.3, soft=0.2, objects=0.35, noise=0.45, jpeg=0.45, read_noise=0.008
)
CROP, BATCH = 512, 24
SMALL = 0.5
"""What half the size counts beside the whole."""


def net_of(path: Path) -> MotionUNet:
    """The net of a checkpoint, its ``coarse.`` fresh if it had none."""
    found = checkpoint.load(path)
    config = nets.from_mapping(nets.NETS["motion-unet"].config, {**found.label.config, "coarse": True})
    torch.manual_seed(0)
    net = MotionUNet(config)
    missing, unexpected = net.load_state_dict(dict(found.tensors), strict=False)
    if unexpected or any(not key.startswith("coarse.") for key in missing):
        raise SystemExit(f"{path} is of another net: {[*unexpected, *missing][:3]}")
    return net.float().eval()


def squares(ways: tuple[Tensor, ...], left: Tensor) -> Tensor:
    """(N, 6, h, w): the mean products, in each cell, of which the square of ``left - a * ways[0] - b * ways[1]`` is made."""
    one, two = ways
    products = (one * one, one * two, two * two, one * left, two * left, left * left)
    return torch.stack([F.avg_pool2d(each.mean(1), CELL) for each in products], dim=1)


@torch.no_grad()
def see(words: argparse.Namespace) -> None:
    """Write what was seen of each crop, at full size and at half."""
    torch.set_num_threads(1)
    net = net_of(words.weights)
    assert net.coarse is not None
    noted: list[tuple[Tensor, Tensor, Motion]] = []
    net.coarse.register_forward_pre_hook(lambda _, given: noted.append(given))
    recipe = replace(RECIPE, sharp_at=words.sharp_at)
    album = photos.load(words.data, smallest=CROP + 2 * shaking.MARGIN)
    cpu = torch.device("cpu")
    source = ShakenPhotos(album, recipe, crop=CROP, radius=32, slots=range(1), seed=words.seed, device=cpu)
    kept: list[list[tuple[Tensor, Tensor]]] = []
    for step in range(words.crops):
        blurred, sharp, *_ = source.pairs(step)
        with torch.autocast("cpu", torch.bfloat16):
            net(blurred)
        one: list[tuple[Tensor, Tensor]] = []
        for true, (before, after, motion) in zip((F.avg_pool2d(sharp, 2), sharp), noted, strict=True):
            images = (after.float(), *offers(before, after, motion))
            if motion.midway is not None and words.sharp_at == "middle":
                images = tuple(midway_through(each, motion.midway) for each in images)
            known = seen(before, F.avg_pool2d(after.float(), 2), motion)
            one.append((known.half(), squares(images[1:], true - images[0])))
        kept.append(one[::-1])
        noted.clear()
        if step % 50 == 49 or step + 1 == words.crops:
            torch.save({"sharp_at": words.sharp_at, "crops": kept}, words.out)
            print(f"{step + 1} crops", flush=True)


def smoothed(shares: Tensor) -> Tensor:
    """What the pixels of a cell are told in the mean, where shares are drawn out between the middles of cells."""
    near = torch.tensor([1 / 8, 3 / 4, 1 / 8])
    count = shares.shape[1]
    weights = (near[:, None] * near).expand(count, 1, 3, 3)
    return F.conv2d(F.pad(shares, (1, 1, 1, 1), mode="replicate"), weights, groups=count)


def left(shares: Tensor, known: Tensor) -> Tensor:
    """(N,): the mean square that is left of each crop."""
    a, b = smoothed(shares).unbind(1)
    aa, ab, bb, a_left, b_left, all_left = known.unbind(1)
    square = a * a * aa + 2 * a * b * ab + b * b * bb - 2 * a * a_left - 2 * b * b_left + all_left
    return square.mean((1, 2)).clamp_min(1e-9)


def gained(part: Coarse, known: Tensor, square: Tensor) -> Tensor:
    """(N,): by how many decibels crops are better for what is taken."""
    return 10 * (square[:, -1].mean((1, 2)).clamp_min(1e-9) / left(part.shares(known), square)).log10()


def learn(words: argparse.Namespace) -> None:
    """Train ``coarse.`` on what was seen, and store the net with it."""
    torch.set_num_threads(1)
    net = net_of(words.weights)
    # Of each set: how much it counts, and what was seen of its crops and what is known of them.
    train: list[tuple[float, Tensor, Tensor]] = []
    test: list[tuple[str, Tensor, Tensor]] = []
    for path in words.seen:
        kept: dict[str, Any] = torch.load(path, weights_only=True)
        for size, (name, weight) in enumerate((("whole", 1.0), ("half", SMALL))):
            # Smaller images are not moved to mid-exposure: how they lie to a truth there says nothing.
            if size and kept["sharp_at"] == "middle":
                continue
            known, square = (torch.cat([crop[size][item].float() for crop in kept["crops"]]) for item in (0, 1))
            last = len(known) - len(known) // 8
            train.append((weight, known[:last], square[:last]))
            test.append((f"{path.stem} {name}", known[last:], square[last:]))
    part = Coarse()
    wide = torch.cat([part.with_neighbours(known) for _, known, _ in train[:1]])
    part.usual.copy_(wide.mean((0, 2, 3)))
    part.spread.copy_(wide.std((0, 2, 3)).clamp_min(0.05))
    torch.manual_seed(words.seed)
    optimiser = torch.optim.AdamW(part.parameters(), lr=words.lr, weight_decay=1e-2)
    course = torch.optim.lr_scheduler.OneCycleLR(optimiser, words.lr, words.steps)
    for step in range(words.steps):
        lost = torch.zeros(())
        for weight, known, square in train:
            some = torch.randint(len(known), (BATCH,))
            lost = lost - weight * gained(part, known[some], square[some]).mean()
        optimiser.zero_grad()
        lost.backward()
        optimiser.step()
        course.step()
        if (step + 1) % 100 == 0:
            with torch.no_grad():
                scores = (f"{name} {gained(part, *of).mean():.4f}" for name, *of in test)
                print(f"step {step + 1}: dB on crops it did not learn from: {', '.join(scores)}", flush=True)
    assert isinstance(net.coarse, nn.Module)
    net.coarse.load_state_dict(part.state_dict())
    label = replace(checkpoint.load(words.weights).label, config=nets.to_mapping(net.config))
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=net.state_dict()), words.out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    looking = commands.add_parser("see")
    looking.add_argument("--data", type=Path, required=True)
    looking.add_argument("--crops", type=int, default=600)
    looking.add_argument("--sharp-at", choices=("mean", "middle"), default="mean")
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
