"""Random movements of a camera or an object during one exposure, as fields of displacement.

A movement has three translations' worth of freedom and three rotations' (roll, pitch, yaw): each time sample is a homography
of the whole frame, seen here through the window of one crop that lies somewhere in that frame.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_FRAME = 1000.0
"""Half the long side of the frame that crops are thought to lie in, in pixels (2 MP)."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Where the scene lies at each of K time samples, for N crops; all zero at the middle sample ``K // 2``."""

    shift: Tensor
    """(N, K, 2) translation x, y in pixels."""
    roll: Tensor
    """(N, K) rotation about the frame's centre in radians."""
    tilt: Tensor
    """(N, K, 2) pitch and yaw as the change of perspective per pixel."""
    zoom: Tensor
    """(N, K) change of scale."""
    centre: Tensor
    """(N, 2) the crop's centre relative to the frame's, in pixels."""

    @property
    def samples(self) -> int:
        """The number of time samples K."""
        return self.shift.shape[1]

    def to(self, device: torch.device) -> "Movement":
        """The same movement on ``device``."""
        return Movement(*(getattr(self, name).to(device) for name in ("shift", "roll", "tilt", "zoom", "centre")))


def _walk(count: int, samples: int, axes: int, generator: torch.Generator, trembling: Tensor | None = None) -> Tensor:
    """Paths of unit length: inertia with jerks. (count, samples, axes), zero at the middle sample.

    Each path draws its own nervousness, from a straight line at constant speed to the trembling of a hand.
    """
    nervous = torch.rand(count, 1, 1, generator=generator) ** 2 * 1.5
    if trembling is not None:
        nervous = torch.where(trembling.view(-1, 1, 1), 0.8 + nervous * 4 / 3, nervous)
    speed = torch.randn(count, 1, axes, generator=generator)
    speed = speed / speed.norm(dim=2, keepdim=True).clamp_min(1e-6)
    pushes = torch.randn(count, samples, axes, generator=generator)
    jerks = torch.rand(count, samples, 1, generator=generator) < 2.0 / samples
    pushes = torch.where(jerks, 4 * pushes, pushes) * nervous * math.sqrt(8 / samples)
    velocity = [speed[:, 0]]
    for step in range(1, samples):
        velocity.append(0.85 * velocity[-1] + 0.15 * speed[:, 0] + pushes[:, step])
    path = torch.stack(velocity, 1).cumsum(1)
    length = path.diff(dim=1).norm(dim=2).sum(1).clamp_min(1e-6)
    path = path / length[:, None, None]
    return path - path[:, samples // 2, None]


def draw(lengths: Tensor, samples: int, generator: torch.Generator, *, trembling: Tensor | None = None) -> Movement:
    """A random movement per entry of ``lengths``.

    Args:
        lengths: (N,) length of the path at the crop, in pixels; 0 is standing still.
        samples: time samples K over the exposure, at least 2.
        generator: a CPU generator; the only source of chance.
        trembling: (N,) bool: where a hand trembles, so that the path winds; None is nowhere.
    """
    count = lengths.shape[0]
    centre = (torch.rand(count, 2, generator=generator) * 2 - 1) * torch.tensor([_FRAME, _FRAME * 0.66])
    share = torch.rand(count, generator=generator) ** 2 * 0.6
    spin = _walk(count, samples, 1, generator)[..., 0]
    radius = centre.norm(dim=1).clamp_min(_FRAME / 3)
    tilt = _walk(count, samples, 2, generator) * (lengths * share * 0.3 / _FRAME**2)[:, None, None]
    zoom = _walk(count, samples, 1, generator)[..., 0] * (lengths * share * 0.3 / _FRAME)[:, None]
    return Movement(
        shift=_walk(count, samples, 2, generator, trembling) * (lengths * (1 - share))[:, None, None],
        roll=spin * (lengths * share / radius)[:, None],
        tilt=tilt,
        zoom=zoom,
        centre=centre,
    )


def add(first: Movement, second: Movement) -> Movement:
    """Both movements at once: an object's own on top of the camera's. They share the first one's place in the frame."""
    return Movement(
        first.shift + second.shift,
        first.roll + second.roll,
        first.tilt + second.tilt,
        first.zoom + second.zoom,
        first.centre,
    )


def grid(movement: Movement, sample: int, *, height: int, width: int, margin: int) -> Tensor:
    """Where each pixel of the crop looks into the wider crop at one time sample.

    Returns:
        (N, height, width, 2), in the units of ``torch.nn.functional.grid_sample`` with ``align_corners=False`` for an image
        that is ``margin`` pixels wider on each side.
    """
    device = movement.shift.device
    y = torch.arange(height, device=device) - (height - 1) / 2
    x = torch.arange(width, device=device) - (width - 1) / 2
    here = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (H, W, 2), relative to the crop's centre
    frame = here + movement.centre[:, None, None, :]
    angle = movement.roll[:, sample]
    scale = 1 + movement.zoom[:, sample]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # (N, 2, 2)
    depth = 1 + (frame * movement.tilt[:, sample][:, None, None, :]).sum(-1, keepdim=True)
    moved = (frame @ turn.transpose(1, 2)[:, None] + movement.shift[:, sample][:, None, None, :]) / depth
    looked = moved - movement.centre[:, None, None, :]
    half = torch.tensor([width / 2 + margin, height / 2 + margin], device=device)
    return looked / half
