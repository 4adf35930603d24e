"""Where mid-exposure lies, told once more: by what was restored at full size.

A movement of few pixels shows in the finest waves, of which half the size holds none, and it is there that the phases of a
movement are looked for before anything is restored at full size. As soon as it is, the filter that takes its slopes to those
of the blurred image tells more of how lopsided the movement was; what is restored need only be moved, and not restored again.
Sources: ours; see :mod:`deblur_cli.nets.phases` for what is gone by, :mod:`deblur_cli.nets.midway` for what is told.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.edges import REACH, slopes_of, window_spectra
from deblur_cli.nets.motion import CELL, NODE, Motion, radius_of
from deblur_cli.nets.phases import quotients
from deblur_cli.nets.wiener import exactly

_POWERS = (0.0, 0.5, 1.0)
"""Of how far places lie from the middle, in widths of the kernel: how much they pull."""
_EXTENT = 5
"""Over how many windows of 64 px, one beside the other, evidence is gathered across and down."""
_PULLS = 1 + 2 * len(_POWERS)
"""What was told before, and the pulls of what was known then and of the evidence."""
_KNOWN = 4
"""Numbers that say how far to go by them: the kernel's width, both noises, how strong slopes are."""
_AROUND = 9
"""Cells, across and down, that pull together."""
_FAR = 4.0
"""Standard deviations beyond which a number counts for no more."""
_STIFF = 0.25
"""Square pixels that every kernel is taken to be wider."""


class Hindsight(nn.Module):
    """Tells mid-exposure anew. With fresh weights it is where it was told to be before.

    All is a sum of pulls, weighed by numbers that do not turn with the image: a photograph on its side has its mid-exposure
    turned alike.
    """

    length: Tensor
    usual: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("length", torch.ones(_PULLS))
        self.register_buffer("usual", torch.zeros(_KNOWN))
        self.register_buffer("spread", torch.ones(_KNOWN))
        self.weigh = nn.Linear(_KNOWN, _PULLS)
        for each in self.weigh.parameters():
            nn.init.zeros_(each)

    def forward(self, blurred: Tensor, restored: Tensor, motion: Motion) -> Tensor:
        """(N, h, w, 2): x and y of mid-exposure in each cell, in pixels from the mean of the movement.

        Args:
            blurred: (N, 3, H, W), sides multiples of :data:`~deblur_cli.nets.motion.NODE`.
            restored: the same restored, in the mean of its movement.
            motion: of it, its odd part and mid-exposure known.
        """
        pulls, known, width = seen(blurred, restored, motion)
        return self.told(pulls, known, width)

    def told(self, pulls: Tensor, known: Tensor, width: Tensor) -> Tensor:
        """Mid-exposure by what :func:`seen` sees."""
        first = pulls[..., 0, :]
        numbers = ((known - self.usual.float()) / self.spread.float()).clamp(-_FAR, _FAR)
        weights = self.weigh(numbers.to(self.weigh.weight.dtype)).float() / self.length.float()
        more = (weights[..., None] * around(pulls)).sum(-2)
        # What stands still is not moved, whatever pulls.
        moved = (width.square() - _STIFF).clamp_min(0).sqrt()
        return first * width + more.clamp(-1, 1) * moved


def around(pulls: Tensor) -> Tensor:
    """The mean of pulls (N, h, w, pulls, 2) over the cells around each."""
    flat = pulls.flatten(-2).permute(0, 3, 1, 2)
    flat = F.avg_pool2d(flat, _AROUND, 1, _AROUND // 2, count_include_pad=False)
    return flat.permute(0, 2, 3, 1).unflatten(-1, pulls.shape[-2:])


def seen(blurred: Tensor, restored: Tensor, motion: Motion) -> tuple[Tensor, Tensor, Tensor]:
    """What tells where mid-exposure lies, cell by cell, in single precision.

    Args:
        blurred: as in :meth:`Hindsight.forward`.
        restored: likewise.
        motion: likewise.

    Returns:
        (N, h, w, pulls, 2), x and y in widths of the kernel; (N, h, w, known), how far they may be gone by; and the width of
        the kernel, (N, h, w, 1) in pixels.
    """
    if motion.odd is None or motion.midway is None:
        raise ValueError("Mid-exposure is told anew where it was told before; of this movement it was not.")
    grey, sharper = (image.detach().float().mean(1, keepdim=True) for image in (blurred, restored))
    # Windows lie on every other line of cells: nodes, of which each stands for four cells.
    found, wanted = (window_spectra(slopes_of(image), apart=True) for image in (sharper, grey))
    (even,), (evident,) = quotients(found, wanted, (_EXTENT,))
    evident, strong = (
        each.repeat_interleave(NODE // CELL, dim=1).repeat_interleave(NODE // CELL, dim=2)
        for each in (evident, even[..., -1:])
    )
    with exactly(evident.device.type):
        kernels, odd = motion.kernels.float(), motion.odd.float()
        width = (kernels @ _places(radius_of(kernels), kernels).square().sum(1) + _STIFF).sqrt()[..., None]
        kinds = [_pulls(odd, width, radius_of(kernels)), _pulls(evident, width, REACH)]
    pulls = torch.cat([motion.midway.float()[..., None, :] / width[..., None], *kinds], dim=-2)
    return pulls, torch.cat([width.log(), motion.noise.float().log(), strong], dim=-1), width


def _places(radius: int, like: Tensor) -> Tensor:
    """(half, 2): x and y of the places of one half of a kernel's plane, its middle last."""
    there = torch.arange(-radius, radius + 1, device=like.device, dtype=torch.float32)
    y, x = torch.meshgrid(there, there, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)[: (2 * radius + 1) ** 2 // 2 + 1]


def _pulls(odd: Tensor, width: Tensor, radius: int) -> Tensor:
    """Where the places of odd kernels (..., half, or without the middle) pull, in widths: (..., powers, 2)."""
    places = _places(radius, odd)[: odd.shape[-1]]
    far = places.norm(dim=1, keepdim=True).clamp_min(1e-3)
    # A kernel's weight lies opposite to where the scene was.
    found = [(odd @ (-places / far * far**power)) / width**power for power in _POWERS]
    return torch.stack(found, dim=-2)
