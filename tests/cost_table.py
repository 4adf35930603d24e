"""Prints what every net costs, as a Markdown table: python tests/cost_table.py [--seconds] [NAME ...]

Parameters and billions of multiplications (GMAC) of convolutions and matrix products at 256x256 and 1280x720, counted without
memory for weights or images, and without Fourier transforms; with --seconds also the time of one forward pass at 256x256 on
this processor, float32, the best of as many as fit in three seconds (three at least). Each net without and with the semantic
prior of the default size.
"""

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli import nets
from deblur_cli.nets.prior import PriorConfig

NAMES = (
    "unet",
    "deepdeblur",
    "deepdeblur-full",
    "mprnet-stage1",
    "mprnet",
    "mimo-unet",
    "mimo-unet-plus",
    "mssnet-small",
    "mssnet",
    "mssnet-large",
    "srn",
    "dmphn-1-2-4",
    "dmphn-1-2-4-8",
    "hinet-half",
    "hinet",
    "nafnet-32",
    "nafnet-64",
    "bdirnet",
)
SIZES = ((256, 256), (720, 1280))
_LEAST = 3
_SECONDS = 3.0


def built(name: str, config: Any) -> nn.Module:
    return nets.build(name, nets.to_mapping(config)).eval()


def gmac(net: nn.Module, height: int, width: int) -> float:
    """Billions of multiplications of one image, of a net on the meta device; sides go up to what the net takes."""
    multiple = net.config.multiple_of
    height, width = (-(-side // multiple) * multiple for side in (height, width))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net(torch.zeros(1, 3, height, width, device="meta"))
    return counter.get_total_flops() / 2e9


def seconds(net: nn.Module) -> float:
    """Of the fastest forward pass."""
    image = torch.rand(1, 3, 256, 256)
    taken: list[float] = []
    with torch.inference_mode():
        while len(taken) < _LEAST or sum(taken) < _SECONDS:
            began = time.perf_counter()
            net(image)
            taken.append(time.perf_counter() - began)
    return min(taken)


def columns(name: str, config: Any, *, timed: bool) -> list[str]:
    with torch.device("meta"):
        net = built(name, config)
    count = sum(parameter.numel() for parameter in net.parameters())
    counted = [f"{count:,}", *(f"{gmac(net, *size):,.1f}" for size in SIZES)]
    return [*counted, f"{seconds(built(name, config)):.2f}"] if timed else counted


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument(
        "names", nargs="*", default=NAMES, metavar="NAME", help="backbones; all of them if none is named"
    )
    words.add_argument("--seconds", action="store_true", help="measure the time too: some minutes")
    words.add_argument("--threads", type=int, default=0, help="that compute; 0: as torch chooses")
    said = words.parse_args()
    if said.threads:
        torch.set_num_threads(said.threads)
    heads = ["parameters", "GMAC 256²", "GMAC 720p", *(["s 256²"] if said.seconds else [])]
    print("| net |", " | ".join([*heads, *(f"{head} +SP" for head in heads)]), "|")
    print("|---|" + "---:|" * (2 * len(heads)))
    for each in said.names:
        name, config = nets.PRESETS[each]
        both = (replace(config, prior=prior) for prior in (None, PriorConfig()))
        cells = [cell for dials in both for cell in columns(name, dials, timed=said.seconds)]
        print(f"| `{each}` |", " | ".join(cells), "|", flush=True)
    if said.seconds:
        print(f"\nTimes: {torch.get_num_threads()} threads, torch {torch.__version__}.")


if __name__ == "__main__":
    main()
