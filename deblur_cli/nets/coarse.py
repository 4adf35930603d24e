"""Coarse to fine: long waves from an image restored at half its size, where it moved far.

At half the size a long movement is a short one, which is told better and fits better into windows; what is lost there are the
finest waves, and of those a long movement leaves little. So the wider a kernel, the more of the long waves is taken from there.
Sources: coarse sizes first is Fergus et al. SIGGRAPH 2006 and Nah et al. CVPR 2017; images put together from the bands of
others Burt and Adelson. ACM Transactions on Graphics 2, 1983; how much is taken is ours.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.motion import CELL, radius_of
from deblur_cli.nets.wiener import exactly

_NEAR = 3.0
"""Up to this width of a kernel, the root mean square distance of its light from its middle in pixels, nothing is taken."""
_WIDE = 6.6
"""From this width on all long waves are."""


def filled(restored: Tensor, smaller: Tensor, kernels: Tensor) -> Tensor:
    """``restored`` with the long waves of ``smaller``, as far as its movement was wide.

    Args:
        restored: (N, 3, H, W), sides even.
        smaller: (N, 3, H / 2, W / 2), restored from the same image at half its size.
        kernels: (N, H / 32, W / 32, half), even, of the cells of the image, in its own pixels.
    """
    change = smaller.float() - F.avg_pool2d(restored.float(), 2)
    share = F.interpolate(_share(kernels), scale_factor=CELL / 2, mode="bilinear", align_corners=False)
    change = F.interpolate(share * change, scale_factor=2.0, mode="bilinear", align_corners=False)
    return restored + change.to(restored.dtype)


def _share(kernels: Tensor) -> Tensor:
    """(N, 1, h, w), 0 to 1: how much of the long waves is taken, by how wide the kernels are."""
    radius = radius_of(kernels)
    there = torch.arange(-radius, radius + 1, device=kernels.device, dtype=torch.float32).square()
    far = (there[:, None] + there).flatten()[: kernels.shape[-1]]
    with exactly(kernels.device.type):
        width = (kernels.float() @ far).clamp_min(1e-6).sqrt()
    return ((width / _NEAR).log() / math.log(_WIDE / _NEAR)).clamp(0, 1)[:, None]
