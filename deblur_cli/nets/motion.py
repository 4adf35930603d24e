"""How an image moved, cell by cell: spectra in which a movement shows, kernels that say what it was, and the dials of a prior.

A movement leaves its mark on the spectrum of every window of the image: frequencies along its path are missing. That mark is
what :class:`deblur_cli.nets.motion_prior.MotionPrior` reads.
Sources: ours; that blur shows in the local spectrum is Fergus et al. SIGGRAPH 2006 and Goldstein and Fattal ECCV 2012, a
motion field from local windows Sun et al. CVPR 2015.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CELL = 32
"""Pixels between neighbouring estimates: each looks at the 64 x 64 px around its cell."""
NODE = 64
"""Pixels between neighbouring windows of the deconvolution, which are 128 x 128 px."""

_RADII = (1 / 40, 1 / 20, 1 / 10, 1 / 6, 1 / 4)
DIRECTIONS = 12
"""In which :func:`transfer` looks at waves of each length."""
WAVES = len(_RADII) * DIRECTIONS
"""At how many frequencies it looks."""
_ROWS = 4
"""Rows of cells that a CPU looks at together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionConfig:
    """The dials of the motion prior."""

    width: int = 384
    """Features of each cell."""
    blocks: int = 3
    """Rounds in which neighbouring cells agree."""
    radius: int = 20
    """Longest movement to either side of its middle, in pixels."""
    noise: tuple[float, float] = (0.02, 0.15)
    """Two first guesses: the noise, as a share of the signal, that the Wiener filter of each begins with."""
    steer: int = 96
    """Channels that tell the net about the movement."""
    scales: int = 1
    """At how many sizes of the image spectra are seen: 2 sees windows of 128 px too, in which long paths show."""
    looks: int = 1
    """How often the image is looked at: a second look goes by the edges of the first guess at the sharp image."""

    def __post_init__(self) -> None:
        if self.scales not in {1, 2}:
            raise ValueError(f"scales is {self.scales}; spectra are seen at 1 or 2 sizes of the image.")
        if self.looks not in {1, 2}:
            raise ValueError(f"looks is {self.looks}; an image is looked at once or twice.")
        if min(self.width, self.blocks, self.radius, self.steer, *self.noise) <= 0:
            raise ValueError(f"The dials of a motion prior are positive numbers; these are {self}.")
        if self.radius > NODE // 2:
            raise ValueError(f"radius is {self.radius}; windows of {2 * NODE} px hold movements of {NODE // 2} px.")


@dataclass(frozen=True, slots=True)
class Motion:
    """How an image moved, cell by cell; h and w are its sides divided by :data:`CELL`."""

    kernels: Tensor
    """(N, h, w, half): the even part of the blur kernel of each cell: the weights of one half of its plane, row by row, and
    last of its middle. They add up to 1."""
    noise: Tensor
    """(N, h, w, guesses): what each first guess takes for noise, as a share of the signal."""
    features: Tensor
    """(N, h, w, width): what else was seen."""
    odd: Tensor | None = None
    """(N, h, w, half): the odd part of the kernels, where it is known: of each place of that half of the plane, by how much
    more it weighs than its mirror image; of the middle 0."""
    midway: Tensor | None = None
    """(N, h, w, 2): where it is known, x and y of where the scene was at mid-exposure, in pixels from the mean of the
    movement."""
    smaller: "Smaller | None" = None
    """Where it is wanted: what was made of the image at half its size."""


@dataclass(frozen=True, slots=True)
class Smaller:
    """What was made of an image at half its size."""

    restored: Tensor
    """(N, 3, H / 2, W / 2)."""
    motion: Motion
    """How it moved there, in its own pixels; of as many cells as there are, and some more where it had to be filled up."""


def half_plane(radius: int) -> int:
    """How many weights an even kernel of (2 ``radius`` + 1) x (2 ``radius`` + 1) has."""
    side = 2 * radius + 1
    return (side * side + 1) // 2


def spectra(image: Tensor) -> Tensor:
    """The logarithm of the local power spectrum of (N, C, H, W): (N, H / 32, W / 32, bins), in single precision."""
    red, *others = image.float().unbind(1)
    grey = sum(others, start=red)[:, None] / image.shape[1]
    wide = F.pad(grey, (CELL // 2,) * 4, mode="reflect")
    height, taper = image.shape[2] // CELL, bell(CELL, image)
    strips = [wide]
    # A CPU is faster with what its caches hold: a few rows of cells. A graph that is exported cannot count them.
    if image.device.type == "cpu" and not torch.compiler.is_compiling():
        strips = [wide[:, :, top * CELL : (top + _ROWS + 1) * CELL] for top in range(0, height, _ROWS)]
    return torch.cat([_power(cut(strip, CELL)[:, 0] * taper) for strip in strips], dim=1)


def _power(windows: Tensor) -> Tensor:
    """The logarithm of the power spectrum of windows (..., 64, 64): (..., bins)."""
    squares = torch.view_as_real(torch.fft.rfft2(windows)).square()
    return torch.log(squares[..., 0] + squares[..., 1] + 1e-3).flatten(-2)


def transfer(kernels: Tensor) -> Tensor:
    """The transfer function of even kernels (..., half) at 60 frequencies, five lengths of wave in twelve directions.

    Returns:
        (..., 60), from 1 (kept) to below 0 (turned over).
    """
    radius = radius_of(kernels)
    there = torch.arange(-radius, radius + 1, device=kernels.device, dtype=torch.float32)
    y, x = torch.meshgrid(there, there, indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()])[:, : kernels.shape[-1]]
    return kernels.float() @ torch.cos(2 * math.pi * waves_seen(kernels.device) @ places).T


def waves_seen(device: torch.device) -> Tensor:
    """(60, 2): the waves that :func:`transfer` looks at, y and x in cycles per pixel."""
    waves = [
        (length * math.sin(math.pi * turn / DIRECTIONS), length * math.cos(math.pi * turn / DIRECTIONS))
        for length in _RADII
        for turn in range(DIRECTIONS)
    ]
    return torch.tensor(waves, device=device)


def bell(half: int, like: Tensor) -> Tensor:
    """(2 half, 2 half): what neighbours half a window apart add up to is 1 everywhere."""
    turn = torch.arange(2 * half, device=like.device, dtype=torch.float32) * (math.pi / half)
    rise = 0.5 - 0.5 * torch.cos(turn)
    return rise * rise[:, None]


def radius_of(kernels: Tensor) -> int:
    """The radius of even kernels (..., half), in pixels."""
    return (math.isqrt(2 * kernels.shape[-1] - 1) - 1) // 2


def cut(image: Tensor, step: int) -> Tensor:
    """(N, C, (h + 1) * step, (w + 1) * step) to windows of twice the step: (N, C, h, w, 2 * step, 2 * step)."""
    count, colours, height, width = image.shape
    blocks = image.view(count, colours, height // step, step, width // step, step)
    rows = torch.cat([blocks[:, :, :-1], blocks[:, :, 1:]], dim=3)
    return torch.cat([rows[..., :-1, :], rows[..., 1:, :]], dim=5).transpose(3, 4)
