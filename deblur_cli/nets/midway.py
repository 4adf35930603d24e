"""Where the scene was at mid-exposure: half of the light fell before that, and half after it.

An image is restored to where its movement was in the mean. Truths lie elsewhere: where things were at mid-exposure, which, on
a path that does not turn back, is the median of the movement. The two are as far apart as the movement is lopsided: that is
what the odd parts of kernels say.
Sources: ours; that the truth is the frame at mid-exposure is Nah et al. CVPR 2017 (GoPro), section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.motion import Motion, MotionConfig, half_plane, radius_of
from deblur_cli.nets.wiener import exactly

_POWERS = (0.0, 0.5, 2.0, 3.0)
"""Of how far places lie from the middle, in widths of the kernel: how much they pull."""
_MEDIAN = 1.78
"""How many times the pull of all places alike is how far mid-exposure lies: by least squares, for random paths."""
_SEEN, _WEIGHED = 16, 24
"""Patterns of odd kernels, and features of what weighs them."""
_LOUD = 10.0
"""What odd kernels, which are small numbers, are multiplied by."""
_FAST = 4.0
"""What all that is learnt is multiplied by, so that it is learnt sooner."""
_BEND = -0.75
"""Slope of the cubic between pixels, as OpenCV and PyTorch have it: nearer to -0.5 what is moved gets softer."""
_AROUND = 5
"""Cells, across and down, that are moved by their mean."""
_STIFF = 0.05
"""Square pixels that every kernel is taken to be wider."""


class Midway(nn.Module):
    """Tells where mid-exposure lies by the kernels of the cells. With fresh weights it lies in the mean of the movement.

    All is linear in the odd part, by factors that are not: a movement turned about has its mid-exposure on the other side.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.see = nn.Linear(half_plane(config.radius) - 1, _SEEN, bias=False)
        self.point = nn.Linear(_SEEN, 2, bias=False)
        self.weigh = nn.Sequential(
            nn.Linear(config.width + 2, _WEIGHED), nn.GELU(), nn.Linear(_WEIGHED, len(_POWERS) + _SEEN)
        )
        nn.init.zeros_(self.point.weight)
        last = self.weigh[-1]
        for each in last.parameters():
            nn.init.zeros_(each)

    def forward(self, motion: Motion) -> Tensor:
        """(N, h, w, 2): x and y of mid-exposure in each cell, in pixels from the mean of the movement.

        Args:
            motion: its odd part known.
        """
        if motion.odd is None:
            raise ValueError("Of a movement whose odd part is not known mid-exposure cannot be told.")
        kind = self.see.weight.dtype
        even, odd = motion.kernels.float(), motion.odd.float()
        with exactly(even.device.type):
            pulls, width = _pulls(even, odd)
        lopsided = odd.abs().sum(-1, keepdim=True)
        known = torch.cat([motion.features.to(kind), width.log().to(kind), lopsided.to(kind)], dim=-1)
        weights, more = self.weigh(known).split([len(_POWERS), _SEEN], dim=-1)
        seen = self.see((odd[..., :-1] * _LOUD).to(kind)) * (1 + more)
        found = (weights.float()[..., None] * pulls).sum(-2) + self.point(seen).float()
        places = ((_FAST * found).clamp(-1, 1) * width).permute(0, 3, 1, 2)
        # Neighbours agree, lest straight lines get waves.
        places = F.avg_pool2d(places, _AROUND, 1, _AROUND // 2, count_include_pad=False)
        return places.permute(0, 2, 3, 1)


def _pulls(even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Where the places of kernels (..., half) pull mid-exposure, in widths of the kernel, and that width in pixels.

    Returns:
        (..., powers, 2), x and y, and (..., 1).
    """
    radius = radius_of(even)
    there = torch.arange(-radius, radius + 1, device=even.device, dtype=torch.float32)
    y, x = (at.flatten()[: even.shape[-1]] for at in torch.meshgrid(there, there, indexing="ij"))
    far = (x * x + y * y).sqrt().clamp_min(1e-3)
    width = (even @ (far * far) + _STIFF).sqrt()[..., None]
    # A kernel's weight lies opposite to where the scene was.
    ways = torch.stack([x, y], dim=-1) / -far[:, None]
    pulls = [(odd @ (ways * far[:, None] ** power)) / width**power for power in _POWERS]
    return torch.stack(pulls, dim=-2) * _MEDIAN, width


def midway_through(image: Tensor, midway: Tensor) -> Tensor:
    """``image`` as it was at mid-exposure.

    Args:
        image: (N, C, H, W), in the mean of its movement.
        midway: (N, h, w, 2) of :class:`Midway`, for cells that the image is divided into.
    """
    moved = F.interpolate(midway.permute(0, 3, 1, 2).float(), image.shape[2:], mode="bilinear", align_corners=False)
    across, down = moved[:, :1], moved[:, 1:]
    return _seen_from(_seen_from(image.float(), down, 2), across, 3).to(image.dtype)


def _seen_from(image: Tensor, further: Tensor, dim: int) -> Tensor:
    """What lies ``further`` along ``dim``, (N, 1, H, W) in pixels, by four pixels around it; the border goes on beyond it."""
    # Whole pixels are counted apart from their parts: a place in a wide photo has too few digits for both.
    whole = further.floor()
    part = further - whole
    rest = 1 - part
    last = image.shape[dim] - 1
    here = torch.arange(last + 1, device=image.device)
    first = whole.long() + (here[:, None] if dim == 2 else here)
    weights = (
        _BEND * part * rest * rest,
        ((_BEND + 2) * part - (_BEND + 3)) * part * part + 1,
        ((_BEND + 2) * rest - (_BEND + 3)) * rest * rest + 1,
        _BEND * rest * part * part,
    )
    seen = torch.zeros_like(image)
    for place, weight in enumerate(weights):
        beside = (first + (place - 1)).clamp_(0, last)
        seen = torch.addcmul(seen, image.gather(dim, beside.expand_as(image)), weight)
    return seen
