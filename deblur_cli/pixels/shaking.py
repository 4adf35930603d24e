"""The same movement everywhere in a crop: random paths, crops blurred along them, and the even kernels that belong to them.

A movement that all pixels share is a convolution, and a convolution is a product of spectra: that is what makes this many times
cheaper than :mod:`deblur_cli.pixels.blurring`, and what gives each crop one kernel that a motion prior can learn from. Paths
are drawn on the CPU from one seeded generator, so that a seed gives the same ones on every device.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.pixels import camera, motion

MARGIN = 32
"""Pixels of context that :func:`expose` takes off each border: no path reaches further, and what a transform carries over the
border stays in it."""
_SAMPLES = 48
"""Time samples of an exposure."""
_SHORT, _MIDDLE, _LONG = (2.0, 7.0), (5.0, 16.0), 12.0
"""Lengths in pixels; the longest of the third kind is the recipe's."""
_SHARES = (0.35, 0.7)
"""Where the first kind of length ends, and the second."""
_BULK = (0.12, 0.5)
"""Half axes of something that moves by itself, as shares of the crop's side."""
_SOFT = 4.0
"""Pixels over which it fades into what is behind it."""
_SWINGS = 3
"""Swings of a hand, one upon another."""
_SPREAD = (0.5, 2.5)
"""Standard deviations of what spreads a point, in pixels: with less, a sampled kernel would ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaking:
    """How a crop is shaken and photographed."""

    longest: float = 40.0
    """Longest path, in pixels."""
    still: float = 0.06
    """Share of crops that do not move."""
    trembling: float = 0.25
    """Share of crops whose path winds, where others sweep; half of these swing to and fro, as a hand does, and come back."""
    soft: float = 0.0
    """Share of crops that are out of focus too, or of which something else has spread every point."""
    objects: float = 0.3
    """Share of crops in part of which something moves by itself."""
    linear: float = 0.5
    """Share of crops averaged in linear light; the others as sRGB values."""
    noise: float = 0.5
    """Share of crops with sensor noise."""
    read_noise: float = 0.01
    """Largest standard deviation of the read noise; 1 is the whole range."""
    shot_noise: float = 0.0005
    """Largest variance of the shot noise per unit of brightness."""
    jpeg: float = 0.4
    """Share of crops that went through JPEG."""
    jpeg_quality: tuple[int, int] = (60, 98)
    """Lowest and highest JPEG quality."""
    sharp_at: str = "mean"
    """Where the sharp image of a pair lies: in the ``mean`` of the movement, or at the ``middle`` of the exposure, as in GoPro.
    Hands do not move evenly: the two lie apart, and a blurred image hardly tells by how much."""


def draw(count: int, recipe: Shaking, generator: torch.Generator, *, radius: int) -> Tensor:
    """Random paths (count, K, 2): x, y in pixels at each of K time samples, their mean at the origin.

    Args:
        count: how many.
        recipe: what to draw from.
        generator: a CPU generator; the only source of chance.
        radius: paths that reach further to any side, in pixels, are drawn smaller.
    """
    kind, place, stays, winds = torch.rand(4, count, generator=generator)
    short, middle, long = (
        low + place * (high - low) for low, high in (_SHORT, _MIDDLE, (_LONG, max(_LONG, recipe.longest)))
    )
    lengths = torch.where(kind < _SHARES[0], short, torch.where(kind < _SHARES[1], middle, long))
    lengths = torch.where(stays < recipe.still, 0.0, lengths.clamp_max(recipe.longest))
    drawn = motion.draw(torch.ones(count), _SAMPLES, generator, trembling=winds < recipe.trembling).shift
    if recipe.trembling:
        swings = (winds < recipe.trembling) & (torch.rand(count, generator=generator) < 0.5)
        drawn = torch.where(swings[:, None, None], _swung(count, generator), drawn)
    drawn = drawn - drawn.mean(1, keepdim=True)
    unit = drawn.diff(dim=1).norm(dim=2).sum(1).clamp_min(1e-6)
    paths = drawn * (lengths / unit)[:, None, None]
    reach = paths.abs().amax((1, 2))
    return paths * (radius / reach.clamp_min(radius))[:, None, None]


def _swung(count: int, generator: torch.Generator) -> Tensor:
    """Paths (count, K, 2) that drift and swing: slow swings are wide, fast ones narrow."""
    time = torch.linspace(0, 1, _SAMPLES)[:, None]
    path = time * torch.randn(count, 1, 2, generator=generator)
    for swing in range(1, _SWINGS + 1):
        pace = swing * (0.4 + 0.8 * torch.rand(count, 1, 1, generator=generator))
        start = 2 * math.pi * torch.rand(count, 1, 2, generator=generator)
        width = torch.randn(count, 1, 2, generator=generator) / pace
        path = path + width * torch.sin(2 * math.pi * pace * time + start)
    return path


def spread(count: int, recipe: Shaking, generator: torch.Generator) -> Tensor | None:
    """How every point is spread before anything moves: like a Gaussian, round or not; None where the recipe has none.

    Args:
        count: of how many crops.
        recipe: what to draw from.
        generator: a CPU generator; the only source of chance.

    Returns:
        (count, 3): the variances across and down and the covariance, in square pixels; 0 where nothing is spread.
    """
    if not recipe.soft:
        return None
    lots = torch.rand(count, 5, generator=generator)
    low, high = _SPREAD
    broad = low + lots[:, 1].square() * (high - low)
    narrow = broad * torch.where(lots[:, 2] < 0.5, 1.0, 0.3 + 0.7 * lots[:, 3])
    narrow = narrow.clamp_min(low)
    cosine, sine = (math.pi * lots[:, 4]).cos(), (math.pi * lots[:, 4]).sin()
    broad, narrow = broad.square(), narrow.square()
    across = broad * cosine.square() + narrow * sine.square()
    down = broad * sine.square() + narrow * cosine.square()
    both = (broad - narrow) * cosine * sine
    return torch.stack([across, down, both], dim=1) * (lots[:, :1] < recipe.soft)


def _softened(down: Tensor, across: Tensor, soft: Tensor) -> Tensor:
    """(N, H, W): what is left of waves (H,) and (W,), in cycles per pixel, where points are spread by ``soft``, (N, 3)."""
    wide, high, both = (each[:, None, None] for each in soft.to(down.device).unbind(1))
    down = down[:, None]
    variance = wide * across.square() + high * down.square() + 2 * both * down * across
    return torch.exp(-2 * math.pi**2 * variance)


def even_kernels(paths: Tensor, radius: int, soft: Tensor | None = None) -> Tensor:
    """The even part of each path's kernel, folded to one half of its plane.

    Args:
        paths: (N, K, 2), x and y within ``radius`` of the origin.
        radius: of the kernels, in pixels.
        soft: (N, 3) of :func:`spread`: what it carries further than ``radius`` is left out.

    Returns:
        (N, half): the weights of the upper half of the plane, row by row, each with that of its mirror image, and last of its
        middle. They add up to 1.
    """
    # A path and its mirror image at the origin: their mean is even.
    plane = _plane(torch.cat([paths, -paths], dim=1), radius, soft)
    half = plane[:, : plane.shape[1] // 2 + 1].clone()
    half[:, :-1] *= 2
    return half / half.sum(1, keepdim=True)


def odd_kernels(paths: Tensor, radius: int, soft: Tensor | None = None) -> Tensor:
    """The odd part of each path's kernel, folded as :func:`even_kernels` folds its even part.

    Args:
        paths: as there.
        radius: likewise.
        soft: likewise.

    Returns:
        (N, half): of each place by how much more it weighs than its mirror image; 0 in the middle. A pixel that looks to the
        left gets what lies there: the kernel that the image is convolved with has its weight on the right.
    """
    plane = _plane(-paths, radius, soft)
    ahead = plane[:, : plane.shape[1] // 2 + 1]
    behind = plane.flip(1)[:, : plane.shape[1] // 2 + 1]
    return (ahead - behind) / plane.sum(1, keepdim=True)


def _plane(paths: Tensor, radius: int, soft: Tensor | None) -> Tensor:
    """(N, side * side): how long each path dwells where, about the origin, rows from above."""
    side = 2 * radius + 1
    there = paths.clamp(-radius, radius) + radius
    corner = there.floor().clamp_max(side - 2)
    across, down = (there - corner).unbind(-1)
    left, top = corner.long().unbind(-1)
    plane = paths.new_zeros(paths.shape[0], side * side)
    for below, high in ((0, 1 - down), (1, down)):
        for beside, wide in ((0, 1 - across), (1, across)):
            plane.scatter_add_(1, (top + below) * side + left + beside, high * wide)
    if soft is not None:
        wide = 2 * side
        left_of = _softened(torch.fft.fftfreq(wide), torch.fft.rfftfreq(wide), soft)
        waves = torch.fft.rfft2(plane.view(-1, side, side), s=(wide, wide)) * left_of
        # What went over the left and upper borders has come back at the others, which are cut off.
        plane = torch.fft.irfft2(waves, s=(wide, wide))[:, :side, :side].clamp_min(0).flatten(1)
    return plane


def cosines(radius: int, waves: Tensor) -> Tensor:
    """(half, F): the matrix that takes folded even kernels to their transfer function at F waves.

    Args:
        radius: of the kernels, in pixels.
        waves: (F, 2), y and x in cycles per pixel.
    """
    return torch.cos(_turns(radius, waves)).T


def sines(radius: int, waves: Tensor) -> Tensor:
    """(half, F): the same for folded odd kernels, whose transfer function is imaginary: what it takes is its negative."""
    return torch.sin(_turns(radius, waves)).T


def _turns(radius: int, waves: Tensor) -> Tensor:
    """(F, half): how far each wave has turned at each place of the upper half of a plane."""
    there = torch.arange(-radius, radius + 1, device=waves.device, dtype=waves.dtype)
    y, x = torch.meshgrid(there, there, indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()])[:, : (2 * radius + 1) ** 2 // 2 + 1]
    return 2 * math.pi * waves @ places


def expose(image: Tensor, paths: Tensor, soft: Tensor | None = None) -> Tensor:
    """The mean of ``image`` over its path.

    Args:
        image: (N, C, H + 2m, W + 2m), m being :data:`MARGIN`; light or values.
        paths: (N, K, 2): by how far each pixel looks to the right and down at each time sample, in pixels.
        soft: (N, 3) of :func:`spread`; None is sharp.

    Returns:
        (N, C, H, W). Between pixels the image is taken for linear, as :mod:`deblur_cli.pixels.blurring` takes it: both kinds
        of blur are then one, and :func:`even_kernels` are those that blur.
    """
    height, width = image.shape[2:]
    x, y = paths.to(image.device).unbind(-1)
    down = torch.fft.fftfreq(height, device=image.device)
    across = torch.fft.rfftfreq(width, device=image.device)
    response = _looks(down, y).transpose(1, 2) @ _looks(across, x)
    if soft is not None:
        response = response * _softened(down, across, soft)
    seen = torch.fft.rfft2(image) * (response / paths.shape[1])[:, None]
    return torch.fft.irfft2(seen, s=(height, width))[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _looks(waves: Tensor, offsets: Tensor) -> Tensor:
    """(N, K, F) complex: what ``waves`` (F,), in cycles per pixel, are at ``offsets`` (N, K) from where they are 1."""
    turn = (2 * math.pi * waves).to(torch.float32)
    whole = offsets.floor()
    part = (offsets - whole)[..., None]
    phase = whole[..., None] * turn
    one = torch.ones((), device=turn.device)
    return torch.polar(one.expand_as(phase), phase) * torch.lerp(
        one + 0j, torch.polar(one.expand_as(turn), turn), part + 0j
    )


def photograph(
    sharp: Tensor, paths: Tensor, recipe: Shaking, generator: torch.Generator, *, soft: Tensor | None = None
) -> Tensor:
    """What a camera makes of ``sharp`` while it is shaken.

    Args:
        sharp: (N, 3, H + 2m, W + 2m) in [0, 1], m being :data:`MARGIN`.
        paths: (N, K, 2) of :func:`draw`.
        recipe: how it is exposed, and what noise and JPEG do.
        generator: a CPU generator; the only source of chance.
        soft: (N, 3) of :func:`spread`; None is sharp.

    Returns:
        (N, 3, H, W) in [0, 1], in steps of 1 / 255, on the device of ``sharp``.
    """
    lots = torch.rand(sharp.shape[0], 6, generator=generator).tolist()
    local = torch.Generator(sharp.device).manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
    low, high = recipe.jpeg_quality
    parts: list[Tensor] = []
    # One by one: a processor then works in memory that it has at hand, which is more than half of the time.
    spreads = [None] * len(lots) if soft is None else soft.split(1)
    for image, path, spreading, (light, noisy, read, shot, packed, quality) in zip(
        sharp.split(1), paths.split(1), spreads, lots, strict=True
    ):
        linear = light < recipe.linear
        seen = expose(camera.to_linear(image) if linear else image, path, spreading).clamp(0, 1)
        seen = camera.to_srgb(seen) if linear else seen
        if noisy < recipe.noise:
            sigma, variance = (
                torch.full((1,), most, device=sharp.device)
                for most in (read * recipe.read_noise, shot * recipe.shot_noise)
            )
            seen = camera.add_noise(seen, read=sigma, shot=variance, generator=local).clamp(0, 1)
        if packed < recipe.jpeg:
            wanted = low + round(quality * (high - low))
            seen = camera.jpeg(seen, quality=wanted, halve_colour=len(parts) % 2 == 0)
        parts.append(seen)
    return torch.cat(parts).mul_(255).round_().div_(255)


def intrude(
    blurred: Tensor, kernels: Tensor, recipe: Shaking, generator: torch.Generator, *, cell: int
) -> tuple[Tensor, Tensor]:
    """Crops into some of which an oval of the next crop has moved, by that one's own path.

    Args:
        blurred: (N, 3, H, W), H and W multiples of ``cell``.
        kernels: (N, ..., half), of each crop.
        recipe: how many.
        generator: a CPU generator; the only source of chance.
        cell: pixels that share a kernel.

    Returns:
        The crops, (N, 3, H, W), and the kernels of their cells, (N, H / cell, W / cell, ..., half): where an oval covers a
        part of a cell, that part of its kernel is the oval's.
    """
    count, _, height, width = blurred.shape
    lots = torch.rand(count, 6, generator=generator)
    low, high = _BULK
    sides = torch.tensor([height, width], dtype=torch.float32)
    middle = lots[:, 1:3] * sides
    axes = (low + lots[:, 3:5] * (high - low)) * sides.min()
    angle = lots[:, 5] * math.pi
    y, x = (torch.arange(side, dtype=torch.float32) for side in (height, width))
    down = (y - middle[:, :1])[:, :, None]
    across = (x - middle[:, 1:])[:, None, :]
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    long = (across * cosine + down * sine) / axes[:, 0, None, None]
    broad = (down * cosine - across * sine) / axes[:, 1, None, None]
    # How far inside the rim a pixel lies, in pixels, nearly; half in and half out on the rim.
    inside = (1 - (long.square() + broad.square()).sqrt()) * axes.amin(1)[:, None, None]
    cover = (inside / _SOFT + 0.5).clamp(0, 1) * (lots[:, 0] < recipe.objects)[:, None, None]
    cover = cover[:, None].to(blurred.device)
    mixed = torch.lerp(blurred, blurred.roll(1, 0), cover)
    shares = F.avg_pool2d(cover, cell)[:, 0].view(count, height // cell, width // cell, *[1] * (kernels.dim() - 1))
    return mixed, torch.lerp(kernels[:, None, None], kernels.roll(1, 0)[:, None, None], shares)
