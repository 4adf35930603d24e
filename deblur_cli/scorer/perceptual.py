"""LPIPS, where a library that has it is installed.

Paper: Zhang et al. The Unreasonable Effectiveness of Deep Features as a Perceptual Metric. CVPR 2018.
https://arxiv.org/abs/1801.03924
"""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], float]


def load(net: str, device: torch.device) -> tuple[Distance | None, str]:
    """LPIPS over the features of ``net``, or nothing and the reason.

    The library fetches the backbone's weights itself the first time.

    Args:
        net: ``alex`` or ``vgg``.
        device: where to compute.

    Returns:
        A function of two images (1, 3, H, W) in [0, 1], lower is better, and where it comes from or why it is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # both ask torchvision for the backbone in its old words
            if importlib.util.find_spec("lpips"):
                return _of_lpips(net, device), f"LPIPS ({net}) by lpips"
            if importlib.util.find_spec("torchmetrics"):
                return _of_torchmetrics(net, device), f"LPIPS ({net}) by torchmetrics"
    except (OSError, ImportError, RuntimeError) as error:  # no network for the backbone, no torchvision for the library
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        return None, f"LPIPS ({net}) is left out, for the weights of its features cannot be had: {why}"
    return None, f"LPIPS ({net}) is left out, for no library here has it: pip install lpips brings one."


def _of_lpips(net: str, device: torch.device) -> Distance:
    library: Any = importlib.import_module("lpips")
    distance = library.LPIPS(net=net, verbose=False).eval().to(device)
    return lambda restored, sharp: _value(distance, restored, sharp, device)


def _of_torchmetrics(net: str, device: torch.device) -> Distance:
    library: Any = importlib.import_module("torchmetrics.image.lpip")

    def distance(restored: Tensor, sharp: Tensor, *, measure: Any) -> Tensor:
        measure.reset()
        measure.update(restored, sharp)
        return measure.compute()

    measure = library.LearnedPerceptualImagePatchSimilarity(net_type=net).eval().to(device)
    return lambda restored, sharp: _value(lambda one, two: distance(one, two, measure=measure), restored, sharp, device)


def _value(
    distance: Callable[[Tensor, Tensor], Tensor], restored: Tensor, sharp: Tensor, device: torch.device
) -> float:
    with torch.inference_mode():  # both want values from -1 to 1
        return float(distance(*(image.to(device, torch.float32) * 2 - 1 for image in (restored, sharp))).mean())
