"""Measure weights on the validation set, class by class, and make a released checkpoint of a trained one.

    python tests/measure_weights.py --set DIR --weights default
    python tests/measure_weights.py --set DIR --weights runs/a/last.safetensors --release OUT.safetensors \\
        --made-with "..." --trained-on "..." --licence Apache-2.0

``--set`` is what ``make_validation_set.py`` wrote. Protocol: the photo goes through ``Deblurrer`` as it does in the command,
rounded to 8 bits; PSNR and SSIM (Gaussian, per channel) over RGB against the sharp image, mean over images. In the class
``still`` the input is sharp already: there the output is compared with the input. bf16 is compared with fp32.

``--in-the-mean`` leaves what a net restores in the mean of its movement, where it would move it to mid-exposure: there lie the
sharp images of ``make_validation_set.py --whole``.

``--release`` stores the tensors as fp16 with a label that holds these scores, and prints the row for ``weights.toml``. This is
a script and not a test: run it by hand.
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from deblur_cli.deblurrer import Deblurrer
from deblur_cli.files import checkpoint, photo, rows, sums, weights
from deblur_cli.pixels import metrics


@dataclass(frozen=True, slots=True)
class Score:
    """One image, in dB and SSIM."""

    kind: str
    before: float
    after: float
    ssim_before: float
    ssim_after: float


def tensor(pixels: np.ndarray) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255


def measure(folder: Path, deblurrer: Deblurrer) -> list[Score]:
    """The scores of every pair of the set."""
    scores = []
    for path in sorted((folder / "blur").glob("*.png")):
        kind = path.name.split("-")[0]
        pixels = photo.read(path).pixels
        blurred, restored = tensor(pixels), tensor(deblurrer.restore(pixels))
        sharp = blurred if kind == "still" else tensor(photo.read(folder / "sharp" / path.name).pixels)
        scores.append(
            Score(
                kind,
                *(float(metrics.psnr(each, sharp)) for each in (blurred, restored)),
                *(float(metrics.ssim(each, sharp)) for each in (blurred, restored)),
            )
        )
    return scores


def table(scores: list[Score]) -> dict[str, float]:
    """Print a line per class; the numbers for a label."""
    found: dict[str, float] = {}
    moved = [score for score in scores if score.kind != "still"]
    kinds = list(dict.fromkeys(score.kind for score in moved))
    for name in (*kinds, "all"):
        mine = [score for score in moved if name in {score.kind, "all"}]
        gains = [score.after - score.before for score in mine]
        found |= {f"psnr {name}": mean(score.after for score in mine), f"gain {name}": mean(gains)}
        print(
            f"{name:8} {len(mine):4} images  PSNR {mean(s.before for s in mine):6.2f} -> {found[f'psnr {name}']:6.2f} dB "
            f"({mean(gains):+.2f})  SSIM {mean(s.ssim_before for s in mine):.4f} -> {mean(s.ssim_after for s in mine):.4f}  "
            f"worse {sum(gain < 0 for gain in gains) / len(gains):.1%}"
        )
    found["ssim all"] = mean(score.ssim_after for score in moved)
    found["share worse"] = mean(score.after < score.before for score in moved)
    still = [min(score.after, 100.0) for score in scores if score.kind == "still"]
    if still:
        found["psnr still"] = mean(still)
        print(f"still    output against input {found['psnr still']:.2f} dB")
    return {name: round(value, 4) for name, value in found.items()}


def protocol(scores: list[Score]) -> str:
    """How they were measured, as a row says it."""
    count = sum(score.kind != "still" for score in scores)
    return (
        f"tests/measure_weights.py: {count} images blurred by synthesis, 8-bit RGB PSNR, SSIM Gaussian per channel, mean over "
        "images, fp32; measured by us"
    )


def release(
    source: Path, target: Path, words: argparse.Namespace, scores: dict[str, float], measured: str, change: float
) -> None:
    """Write the checkpoint that is shipped, and print its row."""
    trained = checkpoint.load(source)
    label = replace(
        trained.label,
        made_with=words.made_with or trained.label.made_with,
        trained_on=words.trained_on or trained.label.trained_on,
        licence=words.licence,
        scores=scores,
        precisions={"bf16": change},
        notes=words.notes,
    )
    tensors = {name: each.half() if each.is_floating_point() else each for name, each in trained.tensors.items()}
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=tensors), target)
    entry = rows.Entry(
        name=target.stem,
        net=label.net,
        prior=bool(label.config.get("prior")),
        bundled=target.name,
        sha256=sums.of(target),
        size=target.stat().st_size,
        licence=label.licence,
        trained_on=label.trained_on,
        scores=scores,
        protocol=measured,
        precisions=label.precisions,
    )
    print("\n" + rows.text(entry), end="")


def in_the_mean(source: Path, folder: Path) -> Path:
    """The same weights in ``folder``, without what tells mid-exposure."""
    found = checkpoint.load(source)
    label = replace(found.label, config={**found.label.config, "midway": False, "hindsight": False})
    tensors = {name: each for name, each in found.tensors.items() if not name.startswith(("midway.", "hindsight."))}
    kept = folder / source.name
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=tensors), kept)
    return kept


def main() -> None:
    """Measure, and release if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--release", type=Path)
    for name, default in (("--made-with", ""), ("--trained-on", ""), ("--licence", "Apache-2.0"), ("--notes", "")):
        parser.add_argument(name, default=default)
    parser.add_argument("--in-the-mean", action="store_true")
    words = parser.parse_args()
    if words.in_the_mean and words.release:
        parser.error("--in-the-mean measures another net than --release would store: leave one of them out.")
    source = weights.locate(words.weights)
    with tempfile.TemporaryDirectory() as folder:
        run(words, in_the_mean(source, Path(folder)) if words.in_the_mean else source)


def run(words: argparse.Namespace, source: Path) -> None:
    """Measure ``source``, and release it if asked."""
    found, measured = {}, ""
    for precision in ("fp32", "bf16"):
        print(precision)
        scores = measure(words.set, Deblurrer.open(str(source), precision=precision))
        found[precision], measured = table(scores), protocol(scores)
    change = round(found["bf16"]["psnr all"] - found["fp32"]["psnr all"], 4)
    print(f"bf16 against fp32: {change:+.4f} dB")
    if words.release:
        release(source, words.release, words, found["fp32"], measured, change)


if __name__ == "__main__":
    main()
