"""What the arithmetic alone allows: how many operations a net needs, and how many the device can do in a second."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from types import MappingProxyType

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli.scorer import clock

_SIDE = 2048
_SIDES: Mapping[str, int] = MappingProxyType({"cuda": 8192})
"""Sides of the matrices: a GPU is not filled by what fills a processor."""
_TRIES = 5


def rate(device: torch.device, dtype: torch.dtype) -> float:
    """Gflop/s of a product of two square matrices on ``device``, the best of five; a multiplication with addition is two.

    float32 on CUDA is what convolutions take for it: TF32, unless torch was told otherwise.
    """
    side = _SIDES.get(device.type, _SIDE)
    dice = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(side, side, device=device, dtype=dtype, generator=dice) for _ in range(2))
    with torch.inference_mode(), _as_convolutions(device):
        found = clock.pace_of(lambda: left @ right, device, warm=1, repeats=_TRIES)
    return 2 * side**3 / min(found.result) / 1e9


def work(net: nn.Module, height: int, width: int) -> float | None:
    """Gflop of ``net`` on an image of this size, counted without computing them; None where it cannot be counted.

    Twice the multiplications of its convolutions and matrix products. What else it does is not counted.
    """
    shape = deepcopy(net).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        try:
            shape(torch.empty(1, 3, height, width, device="meta"))
        except (NotImplementedError, RuntimeError):  # its path depends on the values, which are not there
            return None
    return counter.get_total_flops() / 1e9


@contextmanager
def _as_convolutions(device: torch.device) -> Generator[None]:
    """Matrix products of float32 as exact as torch makes convolutions on this device, which is not always alike."""
    if device.type != "cuda":
        yield
        return
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = torch.backends.cudnn.conv.fp32_precision  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        products.fp32_precision = before
