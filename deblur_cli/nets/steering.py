"""Features that are scaled and shifted by what is known of each place of the image (FiLM, Perez et al. AAAI 2018).

What is known is coarse, the features are fine. A CPU goes through them in strips that stay in its caches, each strip once,
where a map of scales and shifts of their size would be written and read again.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.blocks import resize

_STRIP = 2**17
"""Numbers of a strip."""


def steered(features: Tensor, told: Tensor, slope: float) -> Tensor:
    """``features`` scaled and shifted, then through a LeakyReLU; where no gradient is wanted they may be overwritten.

    Args:
        features: (N, C, H, W).
        told: (N, 2 C, h, w): by how much more than once each feature is taken, and what is added; resized bilinearly.
        slope: of the LeakyReLU.
    """
    if not _can_be_overwritten(features, told):
        scale, shift = resize(told, features).chunk(2, dim=1)
        return F.leaky_relu(torch.addcmul(features + shift, features, scale), slope)
    cells, width = told.shape[2], features.shape[3]
    step = features.shape[2] // cells
    places = (torch.arange(step, device=told.device, dtype=torch.float32) + 0.5) / step
    places = places.to(told.dtype)[:, None, None]
    # Along the rows there is little to resize yet: no more of them than there are cells.
    known = [
        F.interpolate(part, size=(cells, width), mode="bilinear").permute(0, 2, 3, 1).contiguous()
        for part in told.chunk(2, dim=1)
    ]
    several = max(1, _STRIP // (step * width * features.shape[1]))
    for inner, scale, shift in zip(features.permute(0, 2, 3, 1), *known, strict=True):
        # Above the middle of the first row of cells, and below that of the last, all rows are told the same.
        _steer(inner[: step // 2], scale[0], shift[0], slope)
        _steer(inner[-(step // 2) :], scale[-1], shift[-1], slope)
        middle = inner[step // 2 : -(step // 2)].unflatten(0, (-1, step))
        for top in range(0, cells - 1, several):
            bottom = min(top + several, cells - 1)
            scales, shifts = (
                torch.lerp(part[top:bottom, None], part[top + 1 : bottom + 1, None], places) for part in (scale, shift)
            )
            _steer(middle[top:bottom], scales, shifts, slope)
    return features


def _can_be_overwritten(features: Tensor, told: Tensor) -> bool:
    """Whether the features are such that strips of them are quick, and no gradient or graph needs them as they are."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or features.device.type != "cpu":
        return False
    whole = features.is_contiguous(memory_format=torch.channels_last)
    return whole and features.shape[2] % (2 * told.shape[2]) == 0 and told.shape[2] > 1


def _steer(strip: Tensor, scale: Tensor, shift: Tensor, slope: float) -> None:
    F.leaky_relu_(strip.addcmul_(strip, scale).add_(shift), slope)
