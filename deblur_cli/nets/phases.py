"""The phases of a movement: what a restored image tells of a kernel's odd part, which no power spectrum holds.

A movement that dwells at one of its ends blurs unlike one that dwells at the other, and their powers are the same. Restored
with the even part of its kernel alone an image comes out nearly right, and the filter that takes its slopes to those of the
blurred image has some of the true phases. They are found in windows of 128 x 128 px at half the size of the image, where it
costs a quarter to restore it and a long movement is a short one.
Sources: ours. That restoring and telling the blur take turns, coarse sizes first, is Fergus et al. SIGGRAPH 2006 and Cho and
Lee SIGGRAPH Asia 2009; that a kernel is a quotient of spectra between layers that learn is Schuler et al. TPAMI 2016.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.edges import (
    REACH,
    gather,
    kernels_of,
    products,
    shocked,
    slopes_of,
    strong,
    window_spectra,
)
from deblur_cli.nets.motion import CELL, NODE, Motion, MotionConfig, half_plane, radius_of
from deblur_cli.nets.wiener import exactly

_POOLS = (3, 7)
"""Over how many windows, across and down, the evidence is gathered."""
_DOUBT = 0.05
"""Waves that the restored image has less of than this share of the mean are not gone by."""
_SEEN = (2 * REACH + 1) ** 2 // 2
"""Numbers of an odd kernel that reaches as far as edges are looked for."""
_WIDTH = 256
"""Features of each cell."""
_AROUND = 7
"""Cells, across and down, that a cell listens to in each of two rounds."""
_LOUD = 10.0
"""What kernels, which are small numbers, are multiplied by."""
_STIFF = 0.05
"""Square pixels that every kernel is taken to be wider: of one that is a point the slope cannot be told."""


class PhasePrior(nn.Module):
    """Adds the odd part of the kernels to what is known of a movement. With fresh weights it is nothing.

    All that is linear in the odd part of the evidence has no bias, and what gates it is even: an image turned upside down has
    the same odd part with the sign turned.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        kinds = 2 * len(_POOLS)
        self.enter = nn.Linear(kinds * _SEEN, _WIDTH, bias=False)
        self.gate = nn.Sequential(
            nn.Linear(kinds * (_SEEN + 1) + config.width, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, 2 * _WIDTH)
        )
        self.spread = nn.ModuleList(
            nn.Conv2d(_WIDTH, _WIDTH, _AROUND, padding=_AROUND // 2, groups=_WIDTH, bias=False) for _ in range(2)
        )
        self.lean = nn.Linear(_WIDTH, half_plane(config.radius) - 1, bias=False)
        nn.init.zeros_(self.lean.weight)

    def forward(self, small: Tensor, restored: Tensor, motion: Motion) -> Motion:
        """``motion`` with the odd part of its kernels.

        Args:
            small: (N, 1, H / 2, W / 2), the blurred image at half its size, grey; H and W multiples of
                :data:`~deblur_cli.nets.motion.NODE`.
            restored: the same restored.
            motion: of the blurred image at its full size.
        """
        kind = self.lean.weight.dtype
        even, odd = (each.to(kind) for each in evidence(small, restored))
        even, odd = (
            each.repeat_interleave(NODE // CELL, dim=1).repeat_interleave(NODE // CELL, dim=2) for each in (even, odd)
        )
        strength, later = self.gate(torch.cat([even, motion.features.to(kind)], dim=-1)).chunk(2, dim=-1)
        leaning = self.enter(odd) * (1 + strength)
        for spread in self.spread:
            leaning = leaning + spread(leaning.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        leaning = torch.tanh(self.lean(leaning * (1 + later)).float())
        return replace(motion, odd=_centred(F.pad(leaning, (0, 1)), motion.kernels))


def _centred(leaning: Tensor, kernels: Tensor) -> Tensor:
    """The odd part of ``kernels`` whose places lean so, and whose middle stays where it is: else the image would be shifted.

    Args:
        leaning: (..., half), how far each place outweighs its mirror image, from -1 to 1 times their weight.
        kernels: (..., half), their even part.
    """
    radius = radius_of(kernels)
    there = torch.arange(-radius, radius + 1, device=kernels.device, dtype=torch.float32)
    y, x = (at.flatten()[: kernels.shape[-1]] for at in torch.meshgrid(there, there, indexing="ij"))
    kernels = kernels.float()
    odd = leaning * kernels
    # The weights of kernels are pushed along a slope, which takes them off the one side and gives them to the other.
    down, across, both = kernels @ (y * y) + _STIFF, kernels @ (x * x) + _STIFF, kernels @ (x * y)
    off_y, off_x, room = odd @ y, odd @ x, down * across - both * both
    slope_y, slope_x = (across * off_y - both * off_x) / room, (down * off_x - both * off_y) / room
    # Neither a place nor its mirror image can weigh less than nothing.
    return (leaning - slope_y[..., None] * y - slope_x[..., None] * x).clamp(-1, 1) * kernels


def evidence(small: Tensor, restored: Tensor) -> tuple[Tensor, Tensor]:
    """What the slopes of ``restored`` tell of the movement in ``small``, of the same size, (N, 1, H, W).

    Returns:
        Two tensors (N, H / 32, W / 32, ...) in single precision, for the slopes as they are and for the steps that a shock
        filter makes of them, and for each extent over which it was gathered: the even part of the kernel that was found, with
        the logarithm of how strong the slopes are; and its odd part.
    """
    small, restored = small.detach().float(), restored.detach().float()
    wanted = window_spectra(slopes_of(small))
    plain = slopes_of(restored)
    steps = strong(slopes_of(shocked(restored)))
    both = [quotients(window_spectra(found), wanted, _POOLS) for found in (plain, steps)]
    even, odd = (torch.cat([each for kind in both for each in kind[part]], dim=-1) for part in (0, 1))
    return even, odd


def quotients(found: Tensor, wanted: Tensor, extents: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """The kernels that take slopes to those of the blurred image, gathered over so many windows across and down.

    Args:
        found: spectra of windows, as :func:`deblur_cli.nets.edges.window_spectra` gives them.
        wanted: those of the blurred image.
        extents: over how many windows.

    Returns:
        For each extent (N, h, w, ...), of the places between windows: the even part, with the logarithm of how strong the
        slopes are last; and the odd part.
    """
    even: list[Tensor] = []
    odd: list[Tensor] = []
    with exactly(wanted.device.type):
        both = products(found, wanted)
        for extent in extents:
            near = gather(both, extent)
            power = near[:, 2]
            mean = power.mean((-1, -2), keepdim=True)
            kernels = kernels_of(near[:, :2] / (power + _DOUBT * mean + 1e-6)[:, None]).flatten(-2)
            ahead, behind = kernels[..., :_SEEN], kernels.flip(-1)[..., :_SEEN]
            even.append(_between(torch.cat([(ahead + behind) * _LOUD, (mean + 1e-3).log().flatten(-2)], dim=-1)))
            odd.append(_between((ahead - behind) * _LOUD))
    return even, odd


def _between(corners: Tensor) -> Tensor:
    """(N, h + 1, w + 1, C) at the corners of a grid to (N, h, w, C) between them."""
    return F.avg_pool2d(corners.permute(0, 3, 1, 2), 2, 1).permute(0, 2, 3, 1)
