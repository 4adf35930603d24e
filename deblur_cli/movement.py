"""What a motion prior is trained for: how far kernels are from those that shook a photograph."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from deblur_cli.nets.motion import WAVES, Motion, radius_of, transfer, waves_seen
from deblur_cli.pixels import shaking
from deblur_cli.pixels.losses import Losses

_FINEST = 0.4
"""Cycles per pixel: of finer waves even a short movement leaves nothing."""
_MORE = 100
"""Waves anywhere below it that each step looks at."""
_TINY = 1e-6
"""Added below a root, whose slope at 0 has no end."""
_STILL = 0.25
"""Square pixels that every movement is taken to be wider: of one that stands still no place is far from another."""
_SQUARES = 20.0
"""Weight of the squares of :class:`PhaseObjective`, which are small."""


def astray(found: Tensor, true: Tensor, even: Tensor) -> Tensor:
    """How far mid-exposure is from where it truly was: the mean square, in widths of the movement.

    Args:
        found: (N, h, w, 2), x and y in pixels from the mean of the movement.
        true: the same.
        even: (N, h, w, half), the even parts of the true kernels.
    """
    radius = radius_of(even)
    there = torch.arange(-radius, radius + 1, device=even.device, dtype=torch.float32).square()
    wide = (there[:, None] + there).flatten()[: even.shape[-1]]
    width = (even.float() * wide).sum(-1) + _STILL
    return ((found.float() - true).square().sum(-1) / width).mean()


class Movement:
    """How far kernels are from the true ones: the distance of their transfer functions.

    It is taken at the sixty waves of :func:`deblur_cli.nets.motion.transfer` and at a hundred more, others at each step: a
    kernel that is right at the sixty alone may be anything between them.
    """

    def __init__(self) -> None:
        grid = torch.cartesian_prod(torch.fft.fftfreq(64), torch.fft.rfftfreq(64))
        self._waves = grid[grid.norm(dim=1) < _FINEST]

    def __call__(self, found: Motion, even: Tensor, odd: Tensor | None = None) -> Losses:
        """Compare ``found`` with the ``even`` parts of the true kernels, and with the ``odd`` ones where both are known.

        Args:
            found: the kernels of cells, (N, h, w, half).
            even: the same of any radius.
            odd: likewise.

        Returns:
            The terms ``transfer``, at the sixty waves, and ``anywhere``, at the others; the loss is the mean over all.
        """
        kernels = found.kernels
        # By torch's own chance, which a run keeps with its state: a resumed one draws what it would have drawn.
        waves = self._waves[torch.randint(len(self._waves), (_MORE,))].to(kernels.device)
        with torch.autocast(kernels.device.type, enabled=False):
            apart = transfer(kernels) - transfer(even)
            there, here = (each.float() @ shaking.cosines(radius_of(each), waves) for each in (kernels, even))
            further = there - here
            if odd is None or found.odd is None:
                fixed, more = apart.abs().mean(), further.abs().mean()
            else:
                sixty = waves_seen(kernels.device)
                fixed, more = (
                    (real.square() + _leaning(found.odd, odd, at).square() + _TINY).sqrt().mean()
                    for real, at in ((apart, sixty), (further, waves))
                )
        share = _MORE / (_MORE + WAVES)
        terms = {"transfer": fixed.detach(), "anywhere": more.detach()}
        return Losses(torch.lerp(fixed, more, share), terms)


def _leaning(found: Tensor, true: Tensor, waves: Tensor) -> Tensor:
    """How far the imaginary parts of transfer functions are apart, of odd kernels (..., half) of any radii."""
    there, here = (each.float() @ shaking.sines(radius_of(each), waves) for each in (found, true))
    return there - here


class PhaseObjective:
    """The phases of a movement alone, for a net whose other weights stay as they are: nothing is restored at full size."""

    def __init__(self) -> None:
        self._movement = Movement()

    def __call__(self, net: nn.Module, blurred: Tensor, _sharp: Tensor, kernels: Tensor, midway: Tensor) -> Losses:
        """Score ``net`` on a batch whose kernels are known; the terms are ``motion``, see :class:`Movement`, and ``odd``.

        ``odd`` is the mean square of what is left of the odd parts at the sixty waves: a place that is sure of its even part
        learns as much by it as one that is not. A net that tells mid-exposure has the term ``astray`` too, see :func:`astray`.
        """
        motion: Motion = cast("Any", net).moved(blurred)
        even, odd = kernels.unbind(-2)
        far = self._movement(motion, even, odd).total
        with torch.autocast(blurred.device.type, enabled=False):
            left = _leaning(cast("Tensor", motion.odd), odd, waves_seen(odd.device)).square().mean()
        total, terms = far + _SQUARES * left, {"motion": far.detach(), "odd": left.detach()}
        if motion.midway is not None:
            terms["astray"] = astray(motion.midway, midway, even)
            total = total + terms["astray"]
        return Losses(total, {name: value.detach() for name, value in terms.items()})


class MotionObjective:
    """:class:`Movement` alone, for a motion prior that is trained before there is a net to guide."""

    def __init__(self) -> None:
        self._movement = Movement()

    def __call__(self, net: nn.Module, blurred: Tensor, sharp: Tensor) -> Losses:
        """Score ``net``, a :class:`deblur_cli.nets.motion_prior.MotionPrior`, on one batch.

        Args:
            net: the prior.
            blurred: (N, 3, H, W) in [0, 1].
            sharp: what stands here in the place of sharp images: (N, h, w, half), the true kernels of the cells.
        """
        return self._movement(net(blurred), sharp)
