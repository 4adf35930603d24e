"""One number per image that says how close a restored image is to the sharp one, or how blurred it looks; the caller averages.

SSIM: Wang et al. Image Quality Assessment: From Error Visibility to Structural Similarity. IEEE TIP 2004, in the two forms that
deblurring papers report: per channel (scikit-image, BasicSR, DeepDeblur) and over three axes (what MATLAB's ``ssim`` does with
an RGB array: the numbers of MPRNet, Restormer, NAFNet on GoPro and HIDE).

Blur without a sharp image: Crete et al. The Blur Effect: Perception and Estimation with a New No-Reference Perceptual Blur
Metric. SPIE 6492, 2007.

Everything is computed in float64: a variance taken as a difference of means loses half the digits of float32.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_TAPS = 11
_SIGMA = 1.5
_LUMA = (0.2125, 0.7154, 0.0721)
_BOX = 11
"""Pixels over which an image is blurred once more."""


def psnr(restored: Tensor, sharp: Tensor, *, peak: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each image.

    Args:
        restored: (N, C, H, W), values from 0 to ``peak``; not clamped or rounded here.
        sharp: the same shape.
        peak: the largest value a pixel can have.
        mask: (N, 1, H, W), the weight of each pixel; None weighs all alike.

    Returns:
        (N,) float64 in dB, over all pixels and channels; inf for equal images.
    """
    restored, sharp = _comparable(restored, sharp)
    error = _mean((restored - sharp).square(), mask)
    return 10 * torch.log10(peak**2 / error)


def ssim(restored: Tensor, sharp: Tensor, *, peak: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Structural similarity of each image, channel by channel.

    Equals scikit-image's ``structural_similarity`` with ``gaussian_weights=True, use_sample_covariance=False``: a Gaussian of
    sigma 1.5 over 11 x 11 pixels, only where it lies wholly inside the image.

    Args:
        restored: (N, C, H, W), values from 0 to ``peak``, H and W at least 11; a ValueError otherwise.
        sharp: the same shape.
        peak: the largest value a pixel can have.
        mask: (N, 1, H, W), how much the similarity around each pixel counts; None counts all alike.

    Returns:
        (N,) float64, at most 1.
    """
    restored, sharp = _comparable(restored, sharp)
    height, width = sharp.shape[-2:]
    if min(height, width) < _TAPS:
        raise ValueError(f"SSIM needs at least {_TAPS} x {_TAPS} pixels, not {height} x {width}")
    border = _TAPS // 2
    inner = None if mask is None else mask[:, :, border:-border, border:-border]
    return _mean(_similarity(*(_smooth(moment) for moment in _moments(restored, sharp)), peak=peak), inner)


def ssim_matlab(restored: Tensor, sharp: Tensor, *, peak: float = 1.0) -> Tensor:
    """Structural similarity of each image as MATLAB's ``ssim`` computes it for an RGB array: one volume of three slices.

    A Gaussian of sigma 1.5 over 11 x 11 x 11 values, the volume continued by its border values on all sides. With three
    channels the third axis of that filter is a fixed mixing of the channels, so no volume is filtered.

    Args:
        restored: (N, 3, H, W), values from 0 to ``peak``.
        sharp: the same shape.
        peak: the largest value a pixel can have.

    Returns:
        (N,) float64, at most 1.
    """
    restored, sharp = _comparable(restored, sharp)
    if sharp.shape[1] != 3:
        raise ValueError(f"MATLAB's SSIM is defined here for 3 channels, not {sharp.shape[1]}")
    mixing = _mixing(sharp)

    def smooth(moment: Tensor) -> Tensor:
        border = _TAPS // 2
        padded = F.pad(moment, (border, border, border, border), mode="replicate")
        return torch.einsum("oc,nchw->nohw", mixing, _smooth(padded))

    return _similarity(*(smooth(moment) for moment in _moments(restored, sharp)), peak=peak).mean(dim=(1, 2, 3))


def blur(image: Tensor) -> Tensor:
    """How blurred each image looks: what is left of its edges when it is blurred once more.

    What is sharp loses most of its edges under a box of 11 pixels, what is blurred keeps them. The larger of the two values
    along the axes counts, for motion blurs along one. Equals scikit-image's ``blur_effect``. Noise makes an image look
    sharper, and so do false edges: the score compares images, and proves nothing about one.

    Args:
        image: (N, 3, H, W), any range, H and W at least 11; a ValueError otherwise.

    Returns:
        (N,) float64 from 0 (sharp) to 1; 1 for an image without any edge.
    """
    if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[-2:]) < _BOX:
        raise ValueError(f"blur is told of (N, 3, H, W) with at least {_BOX} x {_BOX} pixels, not {tuple(image.shape)}")
    image = image.cpu() if image.device.type == "mps" else image
    luma = torch.einsum("c,nchw->nhw", image.new_tensor(_LUMA, dtype=torch.float64), image.double())
    return torch.maximum(_left_of_edges(luma), _left_of_edges(luma.mT))


def _left_of_edges(luma: Tensor) -> Tensor:
    """(N, H, W) to (N,): the share of the change along the last axis that a box along it leaves."""
    border = _BOX // 2
    mirrored = torch.cat([luma[..., :border].flip(-1), luma, luma[..., -border:].flip(-1)], dim=-1)
    before, after = (_edges(each) for each in (luma, F.avg_pool2d(mirrored, (1, _BOX), stride=1)))
    total = before.sum(dim=(1, 2))
    left = torch.minimum(before, after).sum(dim=(1, 2))
    return torch.where(total > 0, left / total, 1.0)


def _edges(luma: Tensor) -> Tensor:
    """Strength of Sobel's edges across the last axis, away from the borders."""
    change = luma[..., 2:] - luma[..., :-2]
    return (change[:, :-2] + 2 * change[:, 1:-1] + change[:, 2:]).abs()[:, 1:, 1:]


def _comparable(restored: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
    if restored.shape != sharp.shape or sharp.ndim != 4:
        raise ValueError(f"two batches (N, C, H, W) of one shape are compared, not {restored.shape} and {sharp.shape}")
    if sharp.device.type == "mps":  # it has no float64
        restored, sharp = restored.cpu(), sharp.cpu()
    return restored.double(), sharp.double()


def _gaussian() -> list[float]:
    weights = [math.exp(-((tap - _TAPS // 2) ** 2) / (2 * _SIGMA**2)) for tap in range(_TAPS)]
    return [weight / sum(weights) for weight in weights]


def _mixing(like: Tensor) -> Tensor:
    """The Gaussian along an axis of three values continued by its ends: row = output channel."""
    rows = [[0.0, 0.0, 0.0] for _ in range(3)]
    for channel in range(3):
        for tap, weight in enumerate(_gaussian()):
            rows[channel][min(max(channel + tap - _TAPS // 2, 0), 2)] += weight
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return x, y, x * x, y * y, x * y


def _smooth(values: Tensor) -> Tensor:
    """Gaussian along both axes, only where it lies inside: (N, C, H, W) to (N, C, H - 10, W - 10)."""
    channels = values.shape[1]
    kernel = torch.tensor(_gaussian(), dtype=values.dtype, device=values.device).expand(channels, 1, _TAPS)
    values = F.conv2d(values, kernel[:, :, :, None], groups=channels)
    return F.conv2d(values, kernel[:, :, None, :], groups=channels)


def _similarity(mean_x: Tensor, mean_y: Tensor, xx: Tensor, yy: Tensor, xy: Tensor, *, peak: float) -> Tensor:
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    variances = xx - mean_x.square() + yy - mean_y.square()
    covariance = xy - mean_x * mean_y
    structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance * structure


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """(N, C, H, W) to (N,), every channel under the same mask (N, 1, H, W)."""
    if mask is None:
        return values.mean(dim=(1, 2, 3))
    weights = mask.to(values).expand_as(values)
    return (values * weights).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))
