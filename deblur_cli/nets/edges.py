"""What edges tell of a movement: how a first guess at the sharp image has to be blurred to become the blurred one.

The power of a spectrum knows nothing of phases. But sharp edges are steps, whatever blurred them: a shock filter makes steps
of the slopes in a first guess, and the filter that takes these steps to the blurred image is the blur, phases and all. It is
found in windows of 128 x 128 px, at half the size of the image, and tells most where there are edges in many directions.
Sources: predicted edges are Cho and Lee. Fast Motion Deblurring. SIGGRAPH Asia 2009; the shock filter is Osher and Rudin. SIAM
Journal on Numerical Analysis 27, 1990.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.motion import NODE, bell, cut
from deblur_cli.nets.wiener import exactly

_STEP = NODE // 2
_SIDE = 2 * _STEP
"""Sides of the windows. All is sought in the image at half its size: it has less noise there, and a quarter of the pixels."""
REACH = 12
"""How far to either side of its middle a movement is looked for: 24 px of the image."""
_POOLS = (3, 5)
"""Over how many windows, across and down, the evidence is gathered."""
_WAVES = 32
"""Kernels are told as the waves that fit in this: it is wider than they are, and so nothing is lost."""
_TOLD = (_WAVES + 1) * (_WAVES // 2 + 1)
EVIDENCE = len(_POOLS) * (_TOLD + 2)
"""Numbers that :func:`evidence` tells of each place."""
_ROUNDS, _PACE = 3, 0.3
_STRONG = 1.2
"""Edges are what is steeper than this many times the mean of the place."""
_DOUBT = 0.1
"""Waves that edges have less of than this share of the mean are not gone by."""
_FAINT = 0.1
"""What is fainter than this share of a kernel's peak is taken for noise."""


def evidence(image: Tensor, guess: Tensor) -> Tensor:
    """What the edges of ``guess`` tell of the movement in ``image``.

    Args:
        image: (N, 1, H, W), grey, sides multiples of :data:`~deblur_cli.nets.motion.NODE`; blurred.
        guess: the same size; what is known of it sharp.

    Returns:
        (N, H / 64, W / 64, :data:`EVIDENCE`) in single precision: for each extent over which it was gathered, the real part of
        the transfer function, about the mean of the movement, at waves of 0 to 16 across and -16 to 16 down in 64 pixels; how
        strong the edges are, as a logarithm; and which share of what was found is no noise.
    """
    image, guess = (F.avg_pool2d(each.float(), 2) for each in (image, guess))
    found, wanted = (window_spectra(each) for each in (strong(slopes_of(shocked(guess))), slopes_of(image)))
    both = products(found, wanted)
    with exactly(image.device.type):
        return torch.cat([_told(gather(both, extent)) for extent in _POOLS], dim=-1)


def shocked(image: Tensor) -> Tensor:
    """``image`` with its slopes made steps: bright grows where the image bends down, dark where it bends up."""
    for _ in range(_ROUNDS):
        wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
        above, below = wide[..., :-2, 1:-1], wide[..., 2:, 1:-1]
        left, right = wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]
        across, down = (right - left) / 2, (below - above) / 2
        twist = (wide[..., 2:, 2:] + wide[..., :-2, :-2] - wide[..., 2:, :-2] - wide[..., :-2, 2:]) / 4
        bend = across.square() * (right + left - 2 * image) + down.square() * (below + above - 2 * image)
        bend = bend + 2 * across * down * twist
        image = image - _PACE * bend.sign() * (across.square() + down.square()).sqrt()
    return image


def slopes_of(image: Tensor) -> Tensor:
    """(N, 1, H, W) to its slopes across and down, (N, 2, H, W)."""
    across = F.pad(image[..., 1:] - image[..., :-1], (0, 1))
    down = F.pad(image[..., 1:, :] - image[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([across, down], dim=1)


def strong(slopes: Tensor) -> Tensor:
    """``slopes`` where they are steeper than is usual around them; elsewhere 0."""
    steep = slopes.square().sum(1, keepdim=True).sqrt()
    usual = F.avg_pool2d(F.pad(F.avg_pool2d(steep, _STEP), (1, 1, 1, 1), mode="replicate"), 3, 1)
    usual = F.interpolate(usual, size=steep.shape[2:], mode="bilinear", align_corners=False)
    return slopes * (steep > _STRONG * usual)


def window_spectra(slopes: Tensor, *, apart: bool = False) -> Tensor:
    """Of windows around the corners of a grid of 32 px: (N, 2, h + 1, w + 1, 64, 33).

    Args:
        slopes: (N, 2, H, W), sides multiples of the grid.
        apart: of every other window down and across alone, a quarter of them: none overlaps another.
    """
    # 31 reflected and one repeated pixel: an image of 32 px has no more to reflect.
    wide = F.pad(F.pad(slopes, (_STEP - 1,) * 4, mode="reflect"), (1,) * 4, mode="replicate")
    windows = wide.unflatten(3, (-1, _SIDE)).unflatten(2, (-1, _SIDE)).transpose(3, 4) if apart else cut(wide, _STEP)
    return torch.fft.rfft2(windows * bell(_STEP, slopes).sqrt())


def products(found: Tensor, wanted: Tensor) -> Tensor:
    """Of the spectra of both slopes: the real and the imaginary part of found* wanted, and |found|^2, (N, 3, ...)."""
    # By real numbers that lie side by side: complex ones cannot be exported, and every other number takes twice the time.
    real, imaginary = (each.contiguous() for each in torch.view_as_real(found).unbind(-1))
    cosine, sine = (each.contiguous() for each in torch.view_as_real(wanted).unbind(-1))
    even, odd = real * cosine + imaginary * sine, real * sine - imaginary * cosine
    return torch.stack([each[:, 0] + each[:, 1] for each in (even, odd, real.square() + imaginary.square())], dim=1)


def gather(windows: Tensor, extent: int) -> Tensor:
    """The mean over ``extent`` x ``extent`` windows around each, of (N, 3, h, w, 64, 33)."""
    counts = torch.ones(windows.shape[2:4], device=windows.device)[:, :, None, None]
    total = windows
    for dim in (-4, -3):
        total, counts = (_sums(each, dim, extent) for each in (total, counts))
    return total / counts


def _sums(windows: Tensor, dim: int, extent: int) -> Tensor:
    """Sums along ``dim`` over ``extent`` neighbours; nothing lies beyond the ends."""
    before = [0] * (-2 * dim)
    before[-2:] = extent // 2, extent // 2
    count, wide = windows.shape[dim], F.pad(windows, before)
    return sum((wide.narrow(dim, start, count) for start in range(1, extent)), start=wide.narrow(dim, 0, count))


def _told(gathered: Tensor) -> Tensor:
    """(N, 3, h + 1, w + 1, 64, 33) to what is told of the places between: (N, h, w, 563)."""
    power = gathered[:, 2]
    mean = power.mean((-1, -2), keepdim=True)
    kernels = kernels_of(gathered[:, :2] / (power + _DOUBT * mean + 1e-6)[:, None])
    kept = kernels.clamp_min(0)
    kept = kept * (kept >= _FAINT * kept.amax((-1, -2), keepdim=True))
    weight = kept.sum((-1, -2), keepdim=True)
    share = weight / kernels.abs().sum((-1, -2), keepdim=True).clamp_min(1e-6)
    waves = _centred(kept / weight.clamp_min(1e-6)).flatten(-2)
    told = torch.cat([waves, (mean + 1e-3).log().flatten(-2), share.flatten(-2)], dim=-1)
    return F.avg_pool2d(told.permute(0, 3, 1, 2), 2, 1).permute(0, 2, 3, 1)


def _turns(places: Tensor, waves: Tensor) -> Tensor:
    return 2 * math.pi * places[..., None] * waves


def kernels_of(response: Tensor) -> Tensor:
    """Transfer functions (N, 2, h, w, 64, 33) to the kernels that have them: (N, h, w, 25, 25)."""
    there = torch.arange(-REACH, REACH + 1, device=response.device, dtype=torch.float32)
    down = _turns(there, torch.arange(_SIDE, device=response.device) / _SIDE)
    across = _turns(there, torch.arange(_STEP + 1, device=response.device) / _SIDE).T
    both = torch.full((_STEP + 1, 1), 2.0, device=response.device)
    both[0] = both[-1] = 1  # every other wave across stands for its mirror image too
    cosines, sines = across.cos() * both, across.sin() * both
    real, imaginary = response.unbind(1)
    even, odd = real @ cosines - imaginary @ sines, imaginary @ cosines + real @ sines
    return (down.cos() @ even - down.sin() @ odd) / _SIDE**2


def _centred(kernels: Tensor) -> Tensor:
    """The real part of the transfer functions of (N, h, w, 25, 25) about their means: (N, h, w, 33, 17)."""
    there = torch.arange(-REACH, REACH + 1, device=kernels.device, dtype=torch.float32)
    middle_down = (kernels.sum(-1) * there).sum(-1, keepdim=True)
    middle_across = (kernels.sum(-2) * there).sum(-1, keepdim=True)
    waves = torch.arange(-_WAVES // 2, _WAVES // 2 + 1, device=kernels.device) / _WAVES
    down = _turns(there - middle_down, waves).transpose(-1, -2)
    across = _turns(there - middle_across, waves[_WAVES // 2 :])
    return down.cos() @ kernels @ across.cos() - down.sin() @ kernels @ across.sin()
