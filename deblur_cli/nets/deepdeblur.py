"""DeepDeblur: one plain chain of residual blocks per scale of a Gaussian pyramid, from coarse to fine.

Paper: Nah, Kim, Lee. Deep Multi-Scale Convolutional Neural Network for Dynamic Scene Deblurring. CVPR 2017.
https://arxiv.org/abs/1612.02177
Names of tensors are those of the authors' PyTorch version, and inside the net numbers are theirs: 255 for white, 127.5 taken
away. Differs from the source: the pyramid is made here, from an image in [0, 1], and the images are given back in that range.
There is no decoder: the semantic prior enters each scale in the middle of its chain, with f_en = 0 in eq. 6.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig

_SCALES = 3
_WHITE = 255.0
_SIGMA = 2 / 3
"""Of the Gaussian before an image is halved, in pixels: 2 / 6 of the factor, as scikit-image has it."""
_REACH = 3
"""Pixels to either side that the Gaussian sees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepDeblurConfig:
    """The dials of a DeepDeblur; the defaults are the net with 6 blocks of the prior's paper (3,729,129 parameters)."""

    blocks: int = 6
    """Residual blocks per scale; the authors' own net has 19."""
    width: int = 64
    """Channels."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the chains; None is the plain net."""

    def __post_init__(self) -> None:
        if min(self.blocks, self.width) < 1:
            raise ValueError(f"blocks is {self.blocks} and width {self.width}; both must be positive.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 2 ** (_SCALES - 1)

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share: as many as a restored pixel sees to either side."""
        # Two pixels for each 5x5 convolution at strides 1, 2 and 4; the pyramid and the convolutions that enlarge.
        chains = 28 * (self.blocks + 1) + 24
        if self.prior is None:
            return chains
        # The prior's own way leaves out the first half of the coarsest chain.
        return max(chains, chains - 16 * (self.blocks // 2) - 16 + self.prior.reach)

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        peak = 3 * self.width + 11  # a residual block of the finest scale, what it is shown, and the images before
        if self.prior is None:
            return peak
        return max(
            self.prior.values_per_pixel, peak + self.prior.widths[0], 11 + self.prior.fusing_per_pixel(self.width)
        )

    @property
    def local(self) -> bool:
        """Tiles equal the whole: nothing here looks further than its convolutions."""
        return True

    @property
    def precisions(self) -> tuple[str, ...]:
        """Not bf16: the net gives the image itself, of which eight binary digits keep no more than half of 8 bit."""
        return ("fp32", "fp16")


class _Block(nn.Module):
    """Two 5x5 convolutions with a ReLU between them, plus the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv5(width, width), nn.ReLU(inplace=True), _conv5(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        return self.body(features).add_(features)


class _Chain(nn.Module):
    """One scale: a convolution, the blocks, a convolution."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv5(channels, width), *(_Block(width) for _ in range(blocks)), _conv5(width, 3))


class _Enlarge(nn.Module):
    """(N, 3, H, W) to (N, 3, 2 H, 2 W)."""

    def __init__(self) -> None:
        super().__init__()
        self.uppath = nn.Sequential(_conv5(3, 12), nn.PixelShuffle(2))

    def forward(self, image: Tensor) -> Tensor:
        """What the next finer scale is shown of ``image``."""
        return self.uppath(image)


class DeepDeblur(GuidedNet):
    """Blurred image to a tuple of the restored image and, in training, those of the coarser scales, finest first."""

    def __init__(self, config: DeepDeblurConfig) -> None:
        super().__init__()
        self.config = config
        self.body_models = nn.ModuleList(
            _Chain(6 if scale < _SCALES - 1 else 3, config.width, config.blocks) for scale in range(_SCALES)
        )
        # The finest scale is shown to no other: the authors' list has a gap there, and its names count from it.
        self.conv_end_models = nn.ModuleDict({str(scale): _Enlarge() for scale in range(1, _SCALES)})
        self.guide(config.prior, [(scale, config.width) for scale in range(_SCALES - 1, -1, -1)])

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        pyramid = [blurred]
        while len(pyramid) < _SCALES:
            pyramid.append(halve(pyramid[-1]))
        images: list[Tensor] = []
        seen = _centred(pyramid.pop()).to(image.dtype)
        for index, scale in enumerate(range(_SCALES - 1, -1, -1)):
            restored = self._chain(scale, index, seen, guidance)
            images.append(restored.to(blurred.dtype) / _WHITE + 0.5)
            if scale:
                enlarged = self.conv_end_models[str(scale)](restored)
                seen = torch.cat((_centred(pyramid.pop()).to(image.dtype), enlarged), dim=1)
        return tuple(reversed(images)) if self.training else (images[-1],)

    def _chain(self, scale: int, index: int, seen: Tensor, guidance: Guidance) -> Tensor:
        """What one scale makes of ``seen``; the prior enters before the block in the middle."""
        for place, layer in enumerate(self.body_models[scale].get_submodule("body").children()):
            if place == 1 + self.config.blocks // 2:
                seen = guidance.fuse(index, seen)
            seen = layer(seen)
        return seen


def halve(image: Tensor) -> Tensor:
    """One step down a Gaussian pyramid: (N, C, H, W) to (N, C, H / 2, W / 2), H and W even.

    The same as scikit-image's ``pyramid_gaussian``: a Gaussian of 2/3 of a pixel that sees the image mirrored at its borders,
    then the mean of two by two pixels. Both in one: eight taps along each side.
    """
    bell = [math.exp(-0.5 * (tap / _SIGMA) ** 2) for tap in range(-_REACH, _REACH + 1)]
    taps = [0.5 * (left + right) / sum(bell) for left, right in zip((*bell, 0.0), (0.0, *bell), strict=True)]
    for _ in range(2):
        side = image.shape[-1]
        places = torch.arange(-_REACH, side + _REACH, device=image.device).remainder(2 * side)
        around = image.index_select(-1, torch.minimum(places, 2 * side - 1 - places))
        # Slices, not a convolution, which autocast would round to half precision.
        halved = sum(weight * around[..., tap : tap + side - 1 : 2] for tap, weight in enumerate(taps))
        image = cast("Tensor", halved).transpose(-1, -2)
    return image


def _centred(image: Tensor) -> Tensor:
    return _WHITE * (image - 0.5)


def _conv5(channels: int, wide: int) -> nn.Conv2d:
    return nn.Conv2d(channels, wide, 5, padding=2)
