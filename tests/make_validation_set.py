"""Write the validation set that the weights table is measured on: the same for ever, from sharp images and real kernels.

    python tests/make_validation_set.py --images DIR --kernels DIR --out DIR [--clean]
    python tests/make_validation_set.py --whole --images DIR --out DIR [--clean]

``--images`` holds sharp PNGs (ours: the 24 Kodak images and 12 of Urban100, in two folders), ``--kernels`` MATLAB files of
camera-shake kernels (Levin et al. CVPR 2009). Every image appears once in every class: ``mild``, ``medium`` and ``severe``
shake (paths of 2-7, 7-15 and 15-40 px), ``object`` (something moves by itself), ``kernel`` (a measured kernel), and
``still`` (not blurred: what a photograph that is sharp already must survive). Half of the images carry sensor noise, half went
through JPEG; with ``--clean`` none carries noise and none went through JPEG, and all else is the same. The names begin with the
class, so that ``deblur benchmark --dataset pairs`` scores each class.

``--whole`` writes another set, of ``mild``, ``medium`` and ``severe`` alone: all pixels of an image move alike, and the sharp
image lies in the mean of the movement and not where the scene was at mid-exposure, which a blurred image hardly tells.

This is a script and not a test: run it by hand. Needs scipy and h5py, of the ``dev`` extra, to read MATLAB files.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deblur_cli.pixels import blurring, shaking
from deblur_cli.scorer import synthetic

# The truth of these two is the photograph as it is, so nothing in it may glow.
UNMOVED = blurring.Recipe(max_length=0, still=1, lights=0, **synthetic.CAMERA)
CLASSES = {**synthetic.CLASSES, "kernel": UNMOVED, "still": UNMOVED}


def read(path: Path) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def write(image: torch.Tensor, path: Path) -> None:
    """An 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    eight = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(eight).save(path)


def read_kernels(folder: Path) -> list[torch.Tensor]:
    """Every kernel of every MATLAB file below ``folder``, in the order of names; made odd by a border of zeros."""
    kernels = []
    for path in sorted(folder.glob("*.mat")):
        for value in _cells(path):
            odd = np.pad(value.astype(np.float32), [(0, 1 - side % 2) for side in value.shape])
            kernels.append(torch.from_numpy(odd))
    return kernels


def _cells(path: Path) -> list[np.ndarray]:
    """The cell array ``kernels`` of a MATLAB file, of version 7.3 (which is HDF5, stored transposed) or older."""
    import h5py
    from scipy.io import loadmat

    if not h5py.is_hdf5(path):
        return list(loadmat(path)["kernels"].ravel())
    with h5py.File(path) as file:
        return [file[reference][()].T for reference in file["kernels"][()].ravel()]


def shake_whole(images: list[Path], camera: dict[str, float], out: Path) -> None:
    """Write three classes in which an image moves as one."""
    recipe = shaking.Shaking(still=0, objects=0, trembling=0, **{**synthetic.CAMERA, **camera})
    for order, name in enumerate(("mild", "medium", "severe")):
        lengths = synthetic.CLASSES[name]
        for index, path in enumerate(images):
            generator = synthetic.generator(order, index)
            sharp = read(path)
            moved = shaking.draw(1, recipe, generator, radius=shaking.MARGIN)
            share = float(torch.rand((), generator=generator))
            wanted = lengths.min_length + share * (lengths.max_length - lengths.min_length)
            moved = moved * (wanted / moved.diff(dim=1).norm(dim=2).sum().clamp_min(1e-6))
            moved = moved * (shaking.MARGIN / moved.abs().max().clamp_min(shaking.MARGIN))
            title = f"{name}-{path.parent.name}-{path.stem}.png"
            write(shaking.photograph(sharp, moved, recipe, generator), out / "blur" / title)
            edge = shaking.MARGIN
            write(sharp[:, :, edge:-edge, edge:-edge], out / "sharp" / title)


def main() -> None:
    """Write every class of every image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--images", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--kernels", type=Path)
    for name in ("--clean", "--whole"):
        parser.add_argument(name, action="store_true")
    words = parser.parse_args()
    images = sorted(words.images.rglob("*.png"))
    if not images or not (words.whole or (words.kernels and words.kernels.is_dir())):
        sys.exit(f"{words.images} holds no PNG or {words.kernels} is no folder: name the sharp images and the kernels.")
    camera = {"noise": 0.0, "jpeg": 0.0} if words.clean else {}
    if words.whole:
        shake_whole(images, camera, words.out)
        return
    kernels = read_kernels(words.kernels)
    for order, (name, usual) in enumerate(CLASSES.items()):
        recipe = replace(usual, **camera)
        for index, path in enumerate(images):
            generator = synthetic.generator(order, index)
            sharp = read(path)
            before = blurring.blur_with_kernel(sharp, kernels[index % len(kernels)]) if name == "kernel" else sharp
            blurred, still = blurring.blur(before, sharp.flip(3), recipe, generator)
            edge = blurring.margin(recipe)
            truth = sharp[:, :, edge:-edge, edge:-edge] if name in {"kernel", "still"} else still
            title = f"{name}-{path.parent.name}-{path.stem}.png"
            write(blurred, words.out / "blur" / title)
            write(truth, words.out / "sharp" / title)


if __name__ == "__main__":
    main()
