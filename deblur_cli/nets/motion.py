"""The motion prior: from the blurred image to how the camera and the things before it moved, and a first sharp guess.

A movement leaves its mark on the spectrum of every window of the image: frequencies along its path are missing. That mark is
what :class:`MotionPrior` reads. It learns from photographs that were shaken along known paths, as the semantic prior
learns from a teacher.
Sources: ours; that blur shows in the local spectrum is Fergus et al. SIGGRAPH 2006 and Goldstein and Fattal ECCV 2012, a
motion field from local windows Sun et al. CVPR 2015, a Wiener filter inside a net Dong et al. NeurIPS 2020.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
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
"""Rows of windows that are held at once, one more included."""


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

    def __post_init__(self) -> None:
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


class _Agreement(nn.Module):
    """Each cell listens to its eight neighbours: (N, h, w, C) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.wide = nn.Linear(width, 2 * width)
        self.back = nn.Linear(2 * width, width)

    def forward(self, cells: Tensor) -> Tensor:
        heard = self.spread(self.norm(cells).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return cells + self.back(F.gelu(self.wide(heard)))


class MotionPrior(nn.Module):
    """(N, 3, H, W) in [0, 1], sides multiples of :data:`NODE`, to :class:`Motion`.

    Spectra are seen against those of the usual blurred image: the buffers ``usual`` and ``spread`` hold the mean and the
    deviation of each bin. They are measured once, before the prior is trained, and belong to its weights.
    """

    usual: Tensor
    spread: Tensor

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        width = config.width
        bins = 2 * CELL * (CELL + 1)
        self.register_buffer("usual", torch.zeros(bins))
        self.register_buffer("spread", torch.ones(bins))
        self.enter = nn.Linear(bins, width)
        self.mix = nn.Sequential(*(_Agreement(width) for _ in range(config.blocks)))
        self.norm = nn.LayerNorm(width)
        self.kernel = nn.Linear(width, half_plane(config.radius))
        self.noise = nn.Linear(width, len(config.noise))
        nn.init.zeros_(self.noise.weight)
        with torch.no_grad():
            self.noise.bias.copy_(torch.tensor(config.noise).log())

    def forward(self, blurred: Tensor) -> Motion:
        """How ``blurred`` moved."""
        seen = spectra(blurred)
        unusual = (seen - self.usual) / self.spread
        features = self.norm(self.mix(self.enter(unusual.to(self.enter.weight.dtype))))
        noise = self.noise(features).float().clamp(-9, 2).exp()
        return Motion(torch.softmax(self.kernel(features).float(), -1), noise, features)


def half_plane(radius: int) -> int:
    """How many weights an even kernel of (2 ``radius`` + 1) x (2 ``radius`` + 1) has."""
    side = 2 * radius + 1
    return (side * side + 1) // 2


def spectra(image: Tensor) -> Tensor:
    """The logarithm of the local power spectrum of (N, 3, H, W): (N, H / 32, W / 32, bins), in single precision."""
    grey = F.pad(image.float().mean(1, keepdim=True), (CELL // 2,) * 4, mode="reflect")
    seen = torch.fft.rfft2(_windows(grey, CELL)[:, 0] * _bell(CELL, image))
    return torch.log(seen.real.square() + seen.imag.square() + 1e-3).flatten(-2)


def transfer(kernels: Tensor) -> Tensor:
    """The transfer function of even kernels (..., half) at 60 frequencies, five lengths of wave in twelve directions.

    Returns:
        (..., 60), from 1 (kept) to below 0 (turned over).
    """
    radius = _radius(kernels)
    waves = [
        (length * math.sin(math.pi * turn / DIRECTIONS), length * math.cos(math.pi * turn / DIRECTIONS))
        for length in _RADII
        for turn in range(DIRECTIONS)
    ]
    there = torch.arange(-radius, radius + 1, device=kernels.device, dtype=torch.float32)
    y, x = torch.meshgrid(there, there, indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()])[:, : kernels.shape[-1]]
    return kernels.float() @ torch.cos(2 * math.pi * torch.tensor(waves, device=kernels.device) @ places).T


def deconvolve(image: Tensor, motion: Motion) -> Tensor:
    """First guesses at the sharp image: a Wiener filter for the kernel of each window, overlapping windows blended.

    Args:
        image: (N, 3, H, W), sides multiples of :data:`NODE`.
        motion: of the same image.

    Returns:
        (N, guesses * 3, H, W) in single precision; where nothing moved, nearly the image.
    """
    kernels, noise = (_at_nodes(cells) for cells in (motion.kernels, motion.noise))
    response = _response(kernels)
    across = torch.arange(NODE + 1, device=image.device, dtype=torch.float32) / (2 * NODE)
    down = torch.cat([across, across[1:-1].flip(0)])
    fine = down[:, None].square() + across.square()
    bell = _bell(NODE, image).sqrt()
    filters: list[Tensor] = []
    for guess in range(noise.shape[-1]):
        doubt = noise[..., guess, None, None]
        filters.append(response / (response.square() + doubt * (0.05 + 20 * fine)) * (1 + 0.05 * doubt))
    # 63 reflected and one repeated pixel: an image of 64 px has no more to reflect.
    wide = F.pad(F.pad(image.float(), (NODE - 1,) * 4, mode="reflect"), (1,) * 4, mode="replicate")
    height = image.shape[2] // NODE
    # All windows at once are many times the image: a few rows of one colour at a time, but for a graph that is exported.
    spans = [(0, height)]
    if not torch.compiler.is_compiling():
        spans = [(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]
    rows: list[Tensor] = []
    for top, bottom in spans:
        strip = wide[:, :, top * NODE : (bottom + 2) * NODE]
        chosen = [each[:, top : bottom + 1] for each in filters]
        found: list[list[Tensor]] = [[] for _ in chosen]
        for colour in strip.split(1, dim=1):
            seen = torch.fft.rfft2(_windows(colour, NODE)[:, 0] * bell)
            for guess, each in zip(found, chosen, strict=True):
                guess.append(_overlap(torch.fft.irfft2(seen * each, s=(2 * NODE, 2 * NODE)).mul_(bell)))
        rows.append(torch.cat([each for guess in found for each in guess], dim=1))
    return torch.cat(rows, dim=2)


def _bell(half: int, like: Tensor) -> Tensor:
    """(2 half, 2 half): what neighbours half a window apart add up to is 1 everywhere."""
    turn = torch.arange(2 * half, device=like.device, dtype=torch.float32) * (math.pi / half)
    rise = 0.5 - 0.5 * torch.cos(turn)
    return rise * rise[:, None]


def _radius(kernels: Tensor) -> int:
    return (math.isqrt(2 * kernels.shape[-1] - 1) - 1) // 2


def _windows(image: Tensor, step: int) -> Tensor:
    """(N, C, (h + 1) * step, (w + 1) * step) to windows of twice the step: (N, C, h, w, 2 * step, 2 * step)."""
    count, colours, height, width = image.shape
    blocks = image.view(count, colours, height // step, step, width // step, step)
    rows = torch.cat([blocks[:, :, :-1], blocks[:, :, 1:]], dim=3)
    return torch.cat([rows[..., :-1, :], rows[..., 1:, :]], dim=5).transpose(3, 4)


def _overlap(windows: Tensor) -> Tensor:
    """(N, h + 1, w + 1, 128, 128), the sum of what overlaps: (N, 1, h * 64, w * 64), the outer half windows cut off."""
    upper, lower = windows[..., NODE:, :][:, :-1], windows[..., :NODE, :][:, 1:]
    rows = upper + lower
    both = rows[..., NODE:][:, :, :-1] + rows[..., :NODE][:, :, 1:]
    count, high, wide = both.shape[:3]
    return both.transpose(2, 3).reshape(count, 1, high * NODE, wide * NODE)


def _at_nodes(cells: Tensor) -> Tensor:
    """(N, h, w, C) at the cells to (N, h / 2 + 1, w / 2 + 1, C) where four of them meet."""
    wide = F.pad(cells.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(wide, 2).permute(0, 2, 3, 1)


def _response(kernels: Tensor) -> Tensor:
    """The transfer function of even kernels (..., half) on the grid of ``rfft2`` of one window: (..., 128, 65)."""
    radius = _radius(kernels)
    side = 2 * radius + 1
    half = F.pad(kernels, (0, side * side - kernels.shape[-1]))
    plane = ((half + half.flip(-1)) / 2).unflatten(-1, (side, side))
    room = 2 * NODE - side
    # The middle goes to the corner, where a transform has its origin: that of an even kernel is then real.
    centred = F.pad(plane, (0, room, 0, room)).roll((-radius, -radius), (-2, -1))
    return torch.fft.rfft2(centred).real
