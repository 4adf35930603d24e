"""The embedding of the semantic prior in a decoder (SPE): aggregation over the levels, then fusion.

Paper: Take a Prior from Other Tasks for Severe Blur Removal, section 3.3; https://arxiv.org/abs/2302.06898
Every fusion is the identity when it is new: a net that is given a prior restores as it did before, bit for bit.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import resize
from deblur_cli.nets.prior import PriorConfig

_SLOPE = 0.1


class MultiLevelAggregate(nn.Module):
    """MLA, eq. 5: M = a * f_pri + f_pri, where the attention a = sigmoid(conv1x1(cat)) sees all three levels.

    The concatenation has the level's own map first, then the others, finest first.
    """

    def __init__(self, widths: Sequence[int], level: int) -> None:
        super().__init__()
        self.level = level
        self.order = (level, *(other for other in range(len(widths)) if other != level))
        self.parts = [widths[i] for i in self.order]
        self.attention = nn.Conv2d(sum(widths), widths[level], 1)

    def forward(self, f_pri: Sequence[Tensor]) -> Tensor:
        """M of this level from the maps of all levels, finest first; in the shape of ``f_pri[level]``."""
        own = f_pri[self.level]
        kernels = self.attention.weight.split(self.parts, dim=1)
        attention = F.conv2d(own, kernels[0], self.attention.bias)
        for other, kernel in zip(self.order[1:], kernels[1:], strict=True):
            # A 1x1 convolution and bilinear resizing commute: whichever is smaller is convolved.
            if other > self.level:
                attention.add_(resize(F.conv2d(f_pri[other], kernel), own))
            else:
                attention.add_(F.conv2d(resize(f_pri[other], own), kernel))
        return torch.addcmul(own, attention.sigmoid_(), own)


class SemanticAttention(nn.Module):
    """SAT, eq. 6: mu * f + sigma, both computed from the prior by two 3x3 convolutions; new: mu is 1, sigma 0.

    Shapes: features (N, ``channels``, H, W) and prior (N, ``width``, H, W) to the shape of features.
    """

    def __init__(self, width: int, channels: int, *, hidden: int = 0) -> None:
        super().__init__()
        hidden = hidden or channels
        self.mu = _two_convolutions(width, hidden, channels, bias=1.0)
        self.sigma = _two_convolutions(width, hidden, channels, bias=0.0)

    def forward(self, features: Tensor, prior: Tensor) -> Tensor:
        """``features`` scaled and shifted by what ``prior`` says of each place."""
        prior = resize(prior, features)
        return torch.addcmul(self.sigma(prior), features, self.mu(prior))


class PriorAddition(nn.Module):
    """The ablation's Add: f + conv1x1(M); new: the convolution is zero."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.change = _constant(nn.Conv2d(width, channels, 1), 0.0)

    def forward(self, features: Tensor, prior: Tensor) -> Tensor:
        """``features`` plus the projected ``prior``; in the shape of ``features``."""
        return self.change(resize(prior, features)).add_(features)


class PriorConcatenation(nn.Module):
    """The ablation's Concat: conv1x1(cat(f, M)), stored as its difference from the identity on f; new: that is zero.

    Stored as a difference because a kernel of ones and zeros is no exact identity where a GPU rounds the factors of a
    convolution (TF32).
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.change = _constant(nn.Conv2d(channels + width, channels, 1), 0.0)

    def forward(self, features: Tensor, prior: Tensor) -> Tensor:
        """``features`` mixed with ``prior``; in the shape of ``features``."""
        both = torch.cat((features, resize(prior, features)), dim=1)
        return self.change(both).add_(features)


class PriorEmbedding(nn.Module):
    """Everything that a net adds to its decoder for the prior.

    Args:
        config: of the prior.
        insertions: (level, channels of the decoder's features) of each place in the decoder; several may share a level.
    """

    def __init__(self, config: PriorConfig, insertions: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        if config.mla:
            self.aggregate = nn.ModuleList(MultiLevelAggregate(config.widths, level) for level in range(3))
        self.mla = config.mla
        self.levels = tuple(level for level, _ in insertions)
        self.fuse = nn.ModuleList(_fusion(config, config.widths[level], channels) for level, channels in insertions)

    def forward(self, f_pri: Sequence[Tensor]) -> list[Tensor]:
        """The map M of each level, finest first, from the prior's ``f_pri``: once per image, for all insertions."""
        return [aggregate(f_pri) for aggregate in self.aggregate] if self.mla else list(f_pri)


def _fusion(config: PriorConfig, width: int, channels: int) -> nn.Module:
    """A new fusion of a prior map of ``width`` channels into features of ``channels``."""
    if config.fusion == "sat":
        return SemanticAttention(width, channels, hidden=config.sat_width)
    return (PriorAddition if config.fusion == "add" else PriorConcatenation)(width, channels)


def _two_convolutions(width: int, hidden: int, channels: int, *, bias: float) -> nn.Sequential:
    """A block that answers ``bias`` everywhere until it is trained."""
    return nn.Sequential(
        nn.Conv2d(width, hidden, 3, padding=1),
        nn.LeakyReLU(_SLOPE, inplace=True),
        _constant(nn.Conv2d(hidden, channels, 3, padding=1), bias),
    )


def _constant(convolution: nn.Conv2d, value: float) -> nn.Conv2d:
    """``convolution`` that answers ``value`` whatever it sees."""
    nn.init.zeros_(convolution.weight)
    nn.init.constant_(cast("Tensor", convolution.bias), value)
    return convolution
