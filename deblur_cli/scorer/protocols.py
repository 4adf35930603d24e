"""How the field compares a restored image with the sharp one: four ways, which give four different numbers.

A fifth looks at the restored image alone, where there is nothing to compare it with.

The means over images are plain; every sum is taken in float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.pixels import metrics
from deblur_cli.scorer import alignment

Pixels = NDArray[Any]
Measures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way to compare."""

    title: str
    """What a table says of it."""
    measures: tuple[str, ...]
    """What is measured, of: psnr, ssim (as papers report it), ssim2d, psnr unaligned, blur; with aligned (1 or 0)."""
    rounds: bool
    """Whether results are 8-bit images, as they would be saved; if not, they are floats."""
    compare: Callable[[Tensor, Tensor | None], Measures]
    """Of a restored and a sharp image, (1, 3, H, W) in [0, 1]; ``blind`` needs no sharp one."""


def score(protocol: Protocol, restored: Pixels, sharp: Pixels | None, device: torch.device | str = "cpu") -> Measures:
    """What ``protocol`` measures of one image.

    Args:
        protocol: of :data:`PROTOCOLS`.
        restored: (H, W, 3), uint8, or float32 in about [0, 1], which is clamped.
        sharp: (H, W, 3), uint8; None where there is none, which only ``blind`` can do without.
        device: where to compute.
    """
    return protocol.compare(tensor(restored, device), None if sharp is None else tensor(sharp, device))


def tensor(pixels: Pixels, device: torch.device | str = "cpu") -> Tensor:
    """(H, W, 3) uint8 or float to (1, 3, H, W) float64 in [0, 1]; float32 where there is no other."""
    found = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    place = torch.device(device)
    found = found.to(place).to(torch.float32 if place.type == "mps" else torch.float64)
    return found / 255 if pixels.dtype == np.uint8 else found.clamp(0, 1)


def _against(compare: Callable[[Tensor, Tensor], Measures]) -> Callable[[Tensor, Tensor | None], Measures]:
    def compared(restored: Tensor, sharp: Tensor | None) -> Measures:
        if sharp is None:
            raise ValueError("a protocol that compares needs a sharp image")
        return compare(restored, sharp)

    return compared


def _blind(restored: Tensor, _sharp: Tensor | None) -> Measures:
    return {"blur": float(metrics.blur(restored))}


def _gopro(restored: Tensor, sharp: Tensor) -> Measures:
    return {
        "psnr": float(metrics.psnr(restored, sharp)),
        "ssim": float(metrics.ssim_matlab(restored, sharp)),
        "ssim2d": float(metrics.ssim(restored, sharp)),
    }


def _nah(restored: Tensor, sharp: Tensor) -> Measures:
    return {"psnr": float(metrics.psnr(restored, sharp)), "ssim": float(metrics.ssim(restored, sharp))}


def _mimo(restored: Tensor, sharp: Tensor) -> Measures:
    return {"psnr": float(metrics.psnr(restored, sharp))}


def _realblur(restored: Tensor, sharp: Tensor) -> Measures:
    found = alignment.align(_floats(restored), _floats(sharp))
    both = (_plain(found.restored), _plain(found.sharp))
    mask = torch.from_numpy(found.mask)[None, None]
    return {
        "psnr": float(metrics.psnr(*both, mask=mask)),
        "ssim": float(metrics.ssim(*both, mask=mask)),
        "psnr unaligned": float(metrics.psnr(restored, sharp)),
        "aligned": float(found.converged),
    }


def _floats(image: Tensor) -> alignment.Image:
    return np.ascontiguousarray(image[0].permute(1, 2, 0).cpu().numpy().astype(np.float32))


def _plain(image: alignment.Image) -> Tensor:
    """(H, W, 3) to (1, 3, H, W), nothing clamped."""
    return torch.from_numpy(image).permute(2, 0, 1)[None]


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "gopro": Protocol(
            title="8-bit RGB, PSNR and MATLAB's three-axis SSIM, mean over images (MPRNet, Restormer, NAFNet)",
            measures=("psnr", "ssim", "ssim2d"),
            rounds=True,
            compare=_against(_gopro),
        ),
        "realblur": Protocol(
            title="8-bit RGB, brightness matched, aligned by an ECC homography, masked PSNR and SSIM (RealBlur)",
            measures=("psnr", "ssim", "psnr unaligned"),
            rounds=True,
            compare=_against(_realblur),
        ),
        "nah": Protocol(
            title="8-bit RGB, PSNR and per-channel Gaussian SSIM, mean over images (DeepDeblur)",
            measures=("psnr", "ssim"),
            rounds=True,
            compare=_against(_nah),
        ),
        "mimo": Protocol(
            title="floats clamped and not rounded, PSNR, mean over images (MIMO-UNet)",
            measures=("psnr",),
            rounds=False,
            compare=_against(_mimo),
        ),
        "blind": Protocol(
            title="no sharp images: the blur score of Crete et al., 0 for sharp, 1 for blurred, mean over images",
            measures=("blur",),
            rounds=True,
            compare=_blind,
        ),
    }
)
