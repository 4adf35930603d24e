"""Blurred and sharp pairs from sharp photographs: motion during an exposure, then what cameras do.

The sharp image of a pair is the scene at the middle of the exposure, as in GoPro (Nah et al. CVPR 2017): nothing is shifted
between the two. Everything is drawn from one seeded generator on the CPU, so that a seed gives the same movements on every
device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.pixels import camera, motion


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What blur the world is thought to hold."""

    min_length: float = 0.0
    """Shortest path of the camera over the exposure, in pixels."""
    max_length: float = 40.0
    """Longest path, in pixels."""
    skew: float = 1.0
    """1 draws lengths evenly between the two; more favours short ones: it is the power to which the lot is raised."""
    still: float = 0.1
    """Share of crops that are not blurred at all."""
    objects: float = 0.3
    """Share of blurred crops in which something moves by itself."""
    kernels: float = 0.0
    """Share of blurred crops under a measured kernel in place of a movement, where :func:`blur` is given kernels."""
    trembling: float = 0.0
    """Share of blurred crops whose camera trembles: the path winds, where others sweep."""
    linear: float = 0.5
    """Share of crops averaged in linear light (GoPro ``blur_gamma``); the others as sRGB values (GoPro ``blur``)."""
    lights: float = 0.3
    """Share of the crops averaged in linear light whose highlights exceed the range, so that lights draw streaks."""
    noise: float = 0.5
    """Share of crops with sensor noise."""
    read_noise: float = 0.01
    """Largest standard deviation of the read noise; 1 is the whole range."""
    shot_noise: float = 0.0005
    """Largest variance of the shot noise per unit of brightness."""
    defocus: float = 0.2
    """Share of blurred crops that are also slightly out of focus, by up to 0.8 px."""
    jpeg: float = 0.4
    """Share of crops that went through JPEG."""
    jpeg_quality: tuple[int, int] = (60, 98)
    """Lowest and highest JPEG quality."""
    max_samples: int = 40
    """Most time samples per exposure."""


def margin(recipe: Recipe) -> int:
    """Pixels of context that :func:`blur` takes off each border."""
    return int(recipe.max_length) + 8


def blur(
    sharp: Tensor, other: Tensor, recipe: Recipe, generator: torch.Generator, kernels: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """Pairs (blurred, sharp) from sharp crops.

    Args:
        sharp: (N, 3, H + 2m, W + 2m) in [0, 1], m from :func:`margin`.
        other: the same shape: where moving objects are taken from.
        recipe: what to draw from.
        generator: a CPU generator; the only source of chance.
        kernels: one for each crop, as :func:`blur_with_kernel` takes them, for the share of crops that the recipe says; sides
            of at most twice the margin. None at all draws as if there were no such thing.

    Returns:
        Two tensors (N, 3, H, W) in [0, 1] on the device of ``sharp``.
    """
    edge = margin(recipe)
    count = sharp.shape[0]
    chance = torch.rand(count, 4, generator=generator)
    share = torch.rand(count, generator=generator) ** recipe.skew
    lengths = recipe.min_length + share * (recipe.max_length - recipe.min_length)
    lengths = torch.where(chance[:, 0] < recipe.still, 0.0, lengths)
    shaken = torch.zeros(count, dtype=torch.bool)
    if kernels:
        shaken = (torch.rand(count, generator=generator) < recipe.kernels) & (lengths > 0)
        lengths = torch.where(shaken, 0.0, lengths)
    moves = (chance[:, 1] < recipe.objects) & (lengths > 0)
    linear = chance[:, 2] < recipe.linear
    glow = torch.where(chance[:, 3] < recipe.lights, 1 + 7 * torch.rand(count, generator=generator), 1.0)
    samples = int(min(recipe.max_samples, max(8.0, float(lengths.max()) * 1.3)))
    trembling = torch.rand(count, generator=generator) < recipe.trembling if recipe.trembling else None
    scene = _Scene.draw(sharp, other, lengths, moves, samples, edge, generator, trembling)
    blurred, still = _expose(scene, linear.to(sharp.device), glow.to(sharp.device))
    for index in shaken.nonzero().flatten().tolist():
        one = slice(index, index + 1)
        blurred[one] = _shake(sharp[one], kernels[index], linear[one], glow[one])[:, :, edge:-edge, edge:-edge]
    return _photograph(blurred, lengths + shaken, recipe, generator), still


def blur_with_kernel(sharp: Tensor, kernel: Tensor) -> Tensor:
    """``sharp`` under one measured shake kernel, the same everywhere.

    Args:
        sharp: (N, 3, H, W).
        kernel: (h, w), odd sides, not negative; normalised here. Its centre of mass is moved to its middle, so that the pair
            is not shifted.

    Returns:
        (N, 3, H, W); borders reflect.
    """
    kernel = (kernel / kernel.sum()).to(sharp)
    height, width = kernel.shape
    y = (kernel.sum(1) * torch.arange(height, device=sharp.device)).sum()
    x = (kernel.sum(0) * torch.arange(width, device=sharp.device)).sum()
    shift = (round(height // 2 - float(y)), round(width // 2 - float(x)))
    room = max(8, *(abs(distance) for distance in shift))  # what is rolled over one edge comes back at the other
    kernel = torch.roll(F.pad(kernel, (room,) * 4), shift, (0, 1)).flip(0, 1)
    sides = (kernel.shape[1] // 2, kernel.shape[0] // 2)
    padded = F.pad(sharp, (sides[0], sides[0], sides[1], sides[1]), mode="reflect")
    return F.conv2d(padded, kernel.expand(sharp.shape[1], 1, -1, -1), groups=sharp.shape[1])


@dataclass(frozen=True, slots=True)
class _Scene:
    """A background, an object before it, and how both move."""

    background: Tensor
    thing: Tensor
    mask: Tensor
    camera: motion.Movement
    own: motion.Movement
    edge: int

    @classmethod
    def draw(
        cls,
        sharp: Tensor,
        other: Tensor,
        lengths: Tensor,
        moves: Tensor,
        samples: int,
        edge: int,
        generator: torch.Generator,
        trembling: Tensor | None,
    ) -> "_Scene":
        # An object moves by itself on top of the camera: both together stay inside the margin.
        steady = torch.where(moves, torch.rand(lengths.shape, generator=generator), 1.0)
        shake = motion.draw(lengths * steady, samples, generator, trembling=trembling)
        own = motion.draw(lengths * (1 - steady), samples, generator)
        mask = _blobs(sharp.shape[0], sharp.shape[2], sharp.shape[3], generator)
        mask = mask * moves.view(-1, 1, 1, 1)
        place = sharp.device
        return cls(sharp, other, mask.to(place), shake.to(place), motion.add(shake, own).to(place), edge)

    def at(self, sample: int, glow: Tensor, *, linear: Tensor) -> Tensor:
        """The scene (N, 3, H, W) at one time sample, as light where ``linear``."""
        height, width = (side - 2 * self.edge for side in self.background.shape[2:])
        size = {"height": height, "width": width, "margin": self.edge}
        seen = _look(self.background, motion.grid(self.camera, sample, **size))
        if bool(self.mask.any()):
            where = motion.grid(self.own, sample, **size)
            cover = _look(self.mask, where)
            seen = seen + cover * (_look(self.thing, where) - seen)
        return _light(seen, glow, linear)


def _shake(sharp: Tensor, kernel: Tensor, linear: Tensor, glow: Tensor) -> Tensor:
    """``sharp`` under a measured kernel, as values; averaged as light where ``linear``."""
    linear, glow = linear.to(sharp.device), glow.to(sharp.device)
    mean = blur_with_kernel(_light(sharp, glow, linear), kernel)
    return (camera.to_srgb(mean) if bool(linear.any()) else mean).clamp(0, 1)


def _look(image: Tensor, where: Tensor) -> Tensor:
    return F.grid_sample(image, where, mode="bilinear", padding_mode="reflection", align_corners=False)


def _light(image: Tensor, glow: Tensor, linear: Tensor) -> Tensor:
    """Light where ``linear``, brighter by ``glow`` where the image is nearly white; values elsewhere."""
    pick = linear.view(-1, 1, 1, 1)
    highlight = ((image.amin(1, keepdim=True) - 0.9) / 0.1).clamp(0, 1) ** 2  # a blue sky is no light
    light = camera.to_linear(image) * (1 + (glow.view(-1, 1, 1, 1) - 1) * highlight)
    return torch.where(pick, light, image)


def _expose(scene: _Scene, linear: Tensor, glow: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over the exposure, and the sharp scene at its middle, both as sRGB values.

    Both are exposed alike: what glows is clipped in the sharp image too, so that what stands still is not changed.
    """
    samples = scene.camera.samples
    total = scene.at(0, glow, linear=linear)
    for sample in range(1, samples):
        total += scene.at(sample, glow, linear=linear)
    middle = scene.at(samples // 2, glow, linear=linear)
    pick = linear.view(-1, 1, 1, 1)
    blurred, sharp = (
        torch.where(pick, camera.to_srgb(light), light).clamp(0, 1) for light in (total / samples, middle)
    )
    return blurred, sharp


def _blobs(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Soft masks (N, 1, H, W) of a few rounded shapes that cover about a third of the crop."""
    seeds = torch.randn(count, 1, 5, 5, generator=generator)
    field = F.interpolate(seeds, size=(height, width), mode="bicubic", align_corners=False)
    threshold = 0.2 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
    softness = 8 + 40 * torch.rand(count, 1, 1, 1, generator=generator)
    return torch.sigmoid((field - threshold) * softness)


def _photograph(image: Tensor, lengths: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """What a camera makes of the exposure: defocus, noise, JPEG, each item by its own lot."""
    count = image.shape[0]
    chance = torch.rand(count, 7, generator=generator)
    local = torch.Generator(image.device).manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
    noisy = (chance[:, 0] < recipe.noise).float()
    read = noisy * chance[:, 1] * recipe.read_noise
    shot = noisy * chance[:, 2] * recipe.shot_noise
    low, high = recipe.jpeg_quality
    parts = list(image.split(1))
    for index in range(count):
        if lengths[index] > 0 and chance[index, 3] < recipe.defocus:
            parts[index] = camera.soften(parts[index], float(chance[index, 4]) * 0.8)
    image = camera.add_noise(torch.cat(parts), read=read.to(image.device), shot=shot.to(image.device), generator=local)
    parts = list(image.clamp(0, 1).split(1))
    for index in range(count):
        if chance[index, 5] < recipe.jpeg:
            quality = low + round(float(chance[index, 6]) * (high - low))
            parts[index] = camera.jpeg(parts[index], quality=quality, halve_colour=index % 2 == 0)
    return torch.cat(parts)
