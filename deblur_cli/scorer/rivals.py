"""What our path is measured against: other ways to run the same net on the same image."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deblur_cli.nets import NetConfig
from deblur_cli.pixels.tiles import reflected
from deblur_cli.scorer.events import Pace

OURS, PLAIN, ONNX = "deblur", "plain", "ONNX Runtime"
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
_VALUE_BYTES = 4

Pixels = NDArray[Any]


class Plain:
    """A net as the demo of a paper runs it: eager, fp32, NCHW, the whole image at once."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        self._net = net.eval().requires_grad_(requires_grad=False).to(device, torch.float32)
        self._device = device

    def needed(self, height: int, width: int) -> float:
        """Bytes that it will take, about."""
        tall, wide = size(self._net, height, width)
        return tall * wide * cast("NetConfig", self._net.config).values_per_pixel * _VALUE_BYTES

    def restore(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) uint8 to the same, the image continued by reflection to a size that the net takes."""
        height, width = pixels.shape[:2]
        tall, wide = size(self._net, height, width)
        padded = torch.from_numpy(pixels[reflected(height, tall)][:, reflected(width, wide)])
        with torch.inference_mode():
            blurred = padded.to(self._device).permute(2, 0, 1)[None].float().div(255).contiguous()
            restored = self._net(blurred)[0][0, :, :height, :width]
            return restored.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def size(net: nn.Module, height: int, width: int) -> tuple[int, int]:
    """The least height and width in pixels that ``net`` takes and that hold an image of ``height`` and ``width``."""
    unit = cast("NetConfig", net.config).multiple_of
    return unit * -(-height // unit), unit * -(-width // unit)


def missing() -> Sequence[str]:
    """The libraries that ONNX Runtime's row needs and that are not installed."""
    return [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]


def compared(paces: Sequence[Pace]) -> list[Pace]:
    """The same, weights by weights, each with its ratio to the plain loop of its weights, where there is one."""
    plain = {pace.weights.name: pace.seconds for pace in paces if pace.by == PLAIN}
    told = [
        replace(pace, ratio=plain[pace.weights.name] / pace.seconds) if pace.weights.name in plain else pace
        for pace in paces
    ]
    names = list(dict.fromkeys(pace.weights.name for pace in paces))
    return sorted(told, key=lambda pace: names.index(pace.weights.name))


def noise(width: int, height: int) -> Pixels:
    """An image in which there is nothing else, (H, W, 3) uint8, always the same."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
