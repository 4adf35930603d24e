"""How wide tiles must overlap for a trained net. Run by hand:

    python tests/bench_tiling.py WEIGHTS PHOTO... [--tile 320]

Prints, for each overlap, by how much a photo that is restored in small tiles differs from the same photo restored whole: the
largest difference and that of one pixel in ten thousand, in steps of 8-bit photos. ``overlap`` of the net's config is the
smallest for which the largest difference stays below one step, for photos that the net corrects strongly.
"""

import argparse

import numpy as np
from PIL import Image

from deblur_cli.deblurrer import Deblurrer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--tile", type=int, default=320)
    said = parser.parse_args()
    for name in said.photos:
        photo = np.asarray(Image.open(name).convert("RGB")).astype(np.float32) / 255
        whole = Deblurrer.open(said.weights, precision="fp32", tile=0).restore(photo)
        print(f"{name}: corrections up to {255 * np.abs(whole - photo).max():.1f}")
        for overlap in (16, 32, 48, 64, 80, 96, 128, 192, 256):
            tiled = Deblurrer.open(said.weights, precision="fp32", tile=said.tile, overlap=overlap).restore(photo)
            steps = 255 * np.abs(tiled - whole)
            print(
                f"  overlap {overlap:4}: largest {steps.max():.3f}, one in ten thousand {np.quantile(steps, 0.9999):.3f}"
            )


if __name__ == "__main__":
    main()
