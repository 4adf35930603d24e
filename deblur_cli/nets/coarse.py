"""Coarse to fine: long waves from an image restored at half its size, where that was restored better.

At half the size a long movement is a short one, which is told better and fits better into windows; what is lost there are the
finest waves, and of those a long movement leaves little. How much of the long waves is taken from there, cell by cell, is
learnt from what can be seen of both sizes: how wide their kernels are, whether both tell of the same movement, whether both
change the image alike. By the same it is learnt how far to go with the finest waves.
Sources: coarse sizes first is Fergus et al. SIGGRAPH 2006 and Nah et al. CVPR 2017; images put together from the octaves of
others Burt and Adelson. ACM Transactions on Graphics 2, 1983; that how much is taken is learnt is ours.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.motion import CELL, DIRECTIONS, Motion, Smaller, radius_of, transfer
from deblur_cli.nets.wiener import exactly

_SEEN, _HIDDEN = 19, 24
"""Numbers that are seen of each cell, and features that are made of them."""
_AROUND = 5
"""Cells, across and down, whose mean is seen beside each."""
_FAR = 4.0
"""Standard deviations beyond which a number counts for no more."""
_MOST = 1.2
"""Shares stay below this."""
_WIDTH, _OURS, _THEIRS = slice(0, 1), slice(12, 13), slice(13, 14)
"""Where in what is seen three logarithms stand: of the kernel's width, of how much full size changes, and of half the size."""
_LEAST, _ENOUGH = 0.5, 1.0
"""Times what full size changes: where half the size changes less than the first nothing is taken, from the second on all is."""
_WIDE, _WIDEST = 6.0, 7.0
"""Pixels: of kernels up to the first width that is not asked, from the second on it is."""
_STIFF = 0.05
"""Square pixels that every kernel is taken to be wider."""
_FAINT, _SAME = 1e-6, 1e-4
"""Added below logarithms: to mean squares of pixels, and of what transfer functions differ by."""


class Coarse(nn.Module):
    """Fills an image with the long waves of a smaller one. With fresh weights it changes nothing."""

    usual: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(2 * _SEEN))
        self.register_buffer("spread", torch.ones(2 * _SEEN))
        self.see = nn.Conv2d(2 * _SEEN, _HIDDEN, 1)
        self.think = nn.Conv2d(_HIDDEN, _HIDDEN, 1)
        self.take = nn.Conv2d(_HIDDEN, 2, 1)
        for each in self.take.parameters():
            nn.init.zeros_(each)

    def forward(self, blurred: Tensor, restored: Tensor, motion: Motion) -> Tensor:
        """``restored`` with long waves of what was restored at half its size, in its own dtype.

        Args:
            blurred: (N, 3, H, W), sides multiples of :data:`~deblur_cli.nets.motion.NODE`.
            restored: the same restored, in the mean of its movement.
            motion: of it, with what was made of it at half its size.
        """
        longer, finest = offers(blurred, restored, motion)
        known = seen(blurred, F.avg_pool2d(restored.float(), 2), motion)
        some, more = (_spread(each) for each in self.shares(known).split(1, dim=1))
        return (restored.float() + some * longer + more * finest).to(restored.dtype)

    def shares(self, known: Tensor) -> Tensor:
        """How much is taken of the difference between both sizes, and more of the finest waves: (N, 2, h, w).

        Args:
            known: of :func:`seen`.
        """
        trusted = _trusted(known)
        kind = self.see.weight.dtype
        usual, spread = (each.float()[:, None, None] for each in (self.usual, self.spread))
        known = ((self.with_neighbours(known) - usual) / spread).clamp(-_FAR, _FAR).to(kind)
        taken = _MOST * torch.tanh(self.take(F.gelu(self.think(F.gelu(self.see(known))))).float())
        return torch.cat([taken[:, :1] * trusted, taken[:, 1:]], dim=1)

    @staticmethod
    def with_neighbours(known: Tensor) -> Tensor:
        """(N, 2 * numbers, h, w): what is seen of each cell, and its mean over the cells around it."""
        return torch.cat([known, F.avg_pool2d(known, _AROUND, 1, _AROUND // 2, count_include_pad=False)], dim=1)


def offers(blurred: Tensor, restored: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """What there is to be added to ``restored``: how its long waves differ at half the size, and its finest changes once more.

    Args:
        blurred: as in :meth:`Coarse.forward`.
        restored: likewise.
        motion: likewise.

    Returns:
        Two tensors (N, 3, H, W) in single precision.
    """
    before, after = blurred.float(), restored.float()
    changed = after - before
    longer = _smaller(motion).restored.float() - F.avg_pool2d(after, 2)
    return _twice(longer), changed - _twice(F.avg_pool2d(changed, 2))


def seen(blurred: Tensor, half: Tensor, motion: Motion) -> Tensor:
    """What tells, cell by cell, which size was restored better: (N, numbers, H / 32, W / 32) in single precision.

    Args:
        blurred: as in :meth:`Coarse.forward`.
        half: the same restored, and then brought to half its size.
        motion: as in :meth:`Coarse.forward`.
    """
    smaller, low = _smaller(motion), F.avg_pool2d(blurred.float(), 2)
    here, there = half - low, smaller.restored.float() - low
    return torch.cat([_of_movement(motion), _of_images(low, here, there)], dim=1)


def _of_movement(motion: Motion) -> Tensor:
    """(N, 12, h, w): how wide kernels are at both sizes, what is taken for noise, and what they leave of the same waves."""
    small, (high, wide) = _smaller(motion).motion, motion.kernels.shape[1:3]

    def twice(cells: Tensor) -> Tensor:
        return cells.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, :high, :wide]

    with exactly(motion.kernels.device.type):
        widths = [_width(motion.kernels), twice(_width(small.kernels)) + math.log(2)]
        # A wave of 40 px is one of 20 px at half the size.
        left = transfer(motion.kernels)[..., : 2 * DIRECTIONS].unflatten(-1, (2, DIRECTIONS))
        there = twice(transfer(small.kernels)[..., DIRECTIONS : 3 * DIRECTIONS]).unflatten(-1, (2, DIRECTIONS))
    apart = ((left - there).square().mean(-1) + _SAME).log()
    noises = [motion.noise.float().log(), twice(small.noise.float().log())]
    return torch.cat([*widths, *noises, left.mean(-1), there.mean(-1), apart], dim=-1).permute(0, 3, 1, 2)


def _of_images(low: Tensor, here: Tensor, there: Tensor) -> Tensor:
    """(N, 7, h, w): how much both sizes change in the image ``low``, how much alike, and by how they differ, by octaves."""

    def mean(product: Tensor) -> Tensor:
        return F.avg_pool2d(product.mean(1, keepdim=True), CELL // 2)

    ours, theirs, both = mean(here * here), mean(there * there), mean(here * there)
    apart = there - here
    longer, longest = _twice(F.avg_pool2d(apart, 2)), _twice(_twice(F.avg_pool2d(apart, 4)))
    powers = [
        mean(each * each) for each in (low - _twice(F.avg_pool2d(low, 2)), apart - longer, longer - longest, longest)
    ]
    alike = both / (ours * theirs + _FAINT * _SAME).sqrt()
    logarithms = [(each + _FAINT).log() for each in (ours, theirs, *powers)]
    return torch.cat([*logarithms[:2], alike, *logarithms[2:]], dim=1)


def _trusted(known: Tensor) -> Tensor:
    """(N, 1, h, w), 0 to 1: 0 where the movement is wide, and half the size changed so little that it cannot have seen it.

    Of crops that were shaken hardly any is so, and what is learnt of them says nothing of it; of photographs some are.
    """
    ours, theirs = (F.avg_pool2d(known[:, at].exp(), _AROUND, 1, _AROUND // 2) for at in (_OURS, _THEIRS))
    changed = ((theirs / ours - _LEAST) / (_ENOUGH - _LEAST)).clamp(0, 1)
    wide = ((known[:, _WIDTH] - math.log(_WIDE)) / math.log(_WIDEST / _WIDE)).clamp(0, 1)
    return 1 - wide * (1 - changed)


def _smaller(motion: Motion) -> Smaller:
    if motion.smaller is None:
        raise ValueError("Long waves are taken from an image at half the size; there is none.")
    return motion.smaller


def _width(kernels: Tensor) -> Tensor:
    """(N, h, w, 1): the logarithm of the root mean square distance of a kernel's light from its middle, in pixels."""
    radius = radius_of(kernels)
    there = torch.arange(-radius, radius + 1, device=kernels.device, dtype=torch.float32).square()
    far = (there[:, None] + there).flatten()[: kernels.shape[-1]]
    return 0.5 * (kernels.float() @ far + _STIFF).log()[..., None]


def _twice(image: Tensor) -> Tensor:
    """An image at twice its size."""
    return F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)


def _spread(cells: Tensor) -> Tensor:
    """What is said of cells, said of their pixels."""
    return F.interpolate(cells, scale_factor=float(CELL), mode="bilinear", align_corners=False)
