"""What a camera does to light: its response, sensor noise, slight defocus, JPEG. Tensor code for any device."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

# Rec. ITU-T T.81 Annex K, tables K.1 and K.2.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def to_linear(image: Tensor) -> Tensor:
    """Light from sRGB values in [0, 1], by the gamma of 2.2 that GoPro's ``blur_gamma`` uses."""
    return image.clamp_min(0) ** 2.2


def to_srgb(light: Tensor) -> Tensor:
    """SRGB values from light; the inverse of :func:`to_linear`."""
    return light.clamp_min(0) ** (1 / 2.2)


def add_noise(image: Tensor, *, read: Tensor, shot: Tensor, generator: torch.Generator) -> Tensor:
    """``image`` with read noise and shot noise.

    Args:
        image: (N, 3, H, W) in [0, 1].
        read: (N,) standard deviation of the read noise, in units of the range.
        shot: (N,) variance of the shot noise per unit of brightness.
        generator: on the device of ``image``.
    """
    variance = read.view(-1, 1, 1, 1) ** 2 + shot.view(-1, 1, 1, 1) * image.clamp_min(0)
    noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
    return image + variance.sqrt() * noise


def soften(image: Tensor, sigma: float) -> Tensor:
    """``image`` under a Gaussian of ``sigma`` pixels, as a lens slightly out of focus; borders reflect."""
    if sigma <= 0:
        return image
    radius = max(1, math.ceil(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype) / sigma) ** 2)
    taps = (taps / taps.sum()).expand(image.shape[1], 1, 1, -1)
    padded = F.pad(image, (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(padded, taps, groups=image.shape[1]), taps.transpose(2, 3), groups=image.shape[1])


@cache
def _cosines() -> Tensor:
    """The 8x8 orthonormal DCT-II matrix."""
    frequency, place = torch.arange(8.0).view(8, 1), torch.arange(8.0).view(1, 8)
    matrix = torch.cos(math.pi * (2 * place + 1) * frequency / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def _quantise(plane: Tensor, table: Tensor) -> Tensor:
    """One plane (N, H, W), sides multiples of 8, through the 8x8 DCT and back with coefficients rounded to ``table``."""
    count, height, width = plane.shape
    cosines = _cosines().to(plane.device)
    blocks = plane.reshape(count, height // 8, 8, width // 8, 8).transpose(2, 3)
    coefficients = cosines @ blocks @ cosines.T
    coefficients = torch.round(coefficients / table) * table
    return (cosines.T @ coefficients @ cosines).transpose(2, 3).reshape(count, height, width)


def _table(rows: tuple[tuple[int, ...], ...], quality: int, device: torch.device) -> Tensor:
    """The quantisation table at ``quality``, by the scaling that the IJG library made common."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(rows, dtype=torch.float32, device=device) * scale + 50) / 100).floor().clamp(1, 255)


def jpeg(image: Tensor, *, quality: int, halve_colour: bool) -> Tensor:
    """What remains of ``image`` after JPEG.

    Args:
        image: (N, 3, H, W) in [0, 1], any size.
        quality: 1 to 100.
        halve_colour: 4:2:0 instead of 4:4:4.
    """
    height, width = image.shape[2:]
    block = 16 if halve_colour else 8
    padded = F.pad(image, (0, -width % block, 0, -height % block), mode="replicate")
    to_ycc = torch.tensor(_TO_YCC, device=image.device)
    planes = torch.einsum("cd,ndhw->nchw", to_ycc, (padded.clamp(0, 1) * 255).round())
    luma = _quantise(planes[:, 0] - 128, _table(_LUMA, quality, image.device)) + 128
    colour = planes[:, 1:]
    if halve_colour:
        colour = F.avg_pool2d(colour, 2)
    table = _table(_CHROMA, quality, image.device)
    colour = torch.stack([_quantise(colour[:, 0], table), _quantise(colour[:, 1], table)], 1)
    if halve_colour:
        colour = F.interpolate(colour, scale_factor=2.0, mode="bilinear", align_corners=False)
    to_rgb = torch.tensor(_TO_RGB, device=image.device)
    rgb = torch.einsum("cd,ndhw->nchw", to_rgb, torch.cat([luma[:, None], colour], 1))
    return (rgb[:, :, :height, :width] / 255).clamp(0, 1)
