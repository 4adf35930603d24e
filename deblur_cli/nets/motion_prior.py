"""The motion prior: from the blurred image to how the camera and the things before it moved.

It looks at spectra first, see :mod:`deblur_cli.nets.motion`, and then at edges, see :mod:`deblur_cli.nets.edges`. It learns
from photographs that were shaken along known paths, as the semantic prior learns from a teacher.
Sources: ours; what each look goes by has its own.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.edges import EVIDENCE, evidence
from deblur_cli.nets.motion import CELL, NODE, Motion, MotionConfig, half_plane, spectra
from deblur_cli.nets.wiener import middle

_AGAIN = 256
"""Features of each cell at the second look."""
_AROUND = 7
"""Cells, across and down, that a cell listens to in each round of the second look: a hand shakes all of them alike."""


class _Agreement(nn.Module):
    """Each cell listens to its neighbours, ``extent`` across and down: (N, h, w, C) to the same."""

    def __init__(self, width: int, extent: int = 3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Conv2d(width, width, extent, padding=extent // 2, groups=width)
        self.wide = nn.Linear(width, 2 * width)
        self.back = nn.Linear(2 * width, width)

    def forward(self, cells: Tensor) -> Tensor:
        heard = self.spread(self.norm(cells).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return cells + self.back(F.gelu(self.wide(heard)))


class MotionPrior(nn.Module):
    """(N, 3, H, W) in [0, 1], sides multiples of :data:`NODE`, to :class:`Motion`.

    Spectra are seen against those of the usual blurred image: the buffers ``usual`` and ``spread`` hold the mean and the
    deviation of each bin, of each size of the image. They are measured once, before the prior is trained, and belong to its
    weights.
    """

    usual: Tensor
    spread: Tensor

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        width = config.width
        bins = 2 * CELL * (CELL + 1) * config.scales
        self.register_buffer("usual", torch.zeros(bins))
        self.register_buffer("spread", torch.ones(bins))
        self.scales = config.scales
        self.enter = nn.Linear(bins, width)
        self.mix = nn.Sequential(*(_Agreement(width) for _ in range(config.blocks)))
        self.norm = nn.LayerNorm(width)
        self.kernel = nn.Linear(width, half_plane(config.radius))
        self.noise = nn.Linear(width, len(config.noise))
        nn.init.zeros_(self.noise.weight)
        with torch.no_grad():
            self.noise.bias.copy_(torch.tensor(config.noise).log())
        # Last, so that the same seed gives the first look the weights it has alone.
        self.again = None if config.looks == 1 else _SecondLook(config)

    def forward(self, blurred: Tensor) -> Motion:
        """How ``blurred`` moved."""
        seen = self.look(blurred)
        unusual = (seen - self.usual) / self.spread
        features = self.norm(self.mix(self.enter(unusual.to(self.enter.weight.dtype))))
        told = self.kernel(features), self.noise(features), features
        first = _motion(*told)
        if self.again is None:
            return first
        return _motion(*(known + more for known, more in zip(told, self.again(blurred, first), strict=True)))

    def look(self, blurred: Tensor) -> Tensor:
        """The spectra that each cell goes by: (N, H / 32, W / 32, bins)."""
        seen = spectra(blurred)
        if self.scales == 1:
            return seen
        far = spectra(F.avg_pool2d(blurred.float().mean(1, keepdim=True), 2))
        # Four cells share what is seen around their common middle.
        return torch.cat([seen, far.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)], dim=-1)


class _SecondLook(nn.Module):
    """What the edges of a first guess add to what is known of each cell. With fresh weights that is nothing."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        width = config.width
        self.enter = nn.Linear(EVIDENCE, _AGAIN)
        self.recall = nn.Linear(width, _AGAIN)
        self.mix = nn.Sequential(_Agreement(_AGAIN, _AROUND), _Agreement(_AGAIN, _AROUND))
        self.norm = nn.LayerNorm(_AGAIN)
        self.sizes = [half_plane(config.radius), len(config.noise), width]
        self.more = nn.Linear(_AGAIN, sum(self.sizes))
        nn.init.zeros_(self.more.weight)
        nn.init.zeros_(self.more.bias)

    def forward(self, blurred: Tensor, first: Motion) -> tuple[Tensor, ...]:
        """What is to be added to the kernels, as logits, to the logarithm of the noise, and to the features."""
        kind = self.enter.weight.dtype
        # A shock filter has no slope to learn by: what it is given is taken as it stands.
        known = Motion(first.kernels.detach(), first.noise.detach(), first.features.detach())
        grey = blurred.detach().float().mean(1, keepdim=True)
        seen = evidence(grey, middle(grey, known)).to(kind)
        seen = self.enter(seen).repeat_interleave(NODE // CELL, dim=1).repeat_interleave(NODE // CELL, dim=2)
        return self.more(self.norm(self.mix(seen + self.recall(first.features)))).split(self.sizes, dim=-1)


def _motion(kernels: Tensor, noise: Tensor, features: Tensor) -> Motion:
    """From the logits of the kernels, the logarithm of the noise, and the features."""
    return Motion(torch.softmax(kernels.float(), -1), noise.float().clamp(-9, 2).exp(), features)
