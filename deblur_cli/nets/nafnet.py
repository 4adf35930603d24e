"""NAFNet: blocks without activations, where products of channels take their place.

Paper: Chen, Chu, Zhang, Sun. Simple Baselines for Image Restoration. ECCV 2022. https://arxiv.org/abs/2204.04676
With TLC of Chu, Chen, Chen, Lu. Improving Image Restoration by Revisiting Global Information Aggregation. ECCV 2022.
https://arxiv.org/abs/2112.04491: outside training, channel attention averages over a window and not over the whole image.
Names of tensors are those of the authors' files.
Differs from the source: sizes that are no multiple of 16 are continued by whoever calls, not by zeros in here; f_de + f_en of
eq. 6 is what enters a level of the decoder after its skip was added.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import run_chain
from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig

_LEVELS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class NAFNetConfig:
    """The dials of a NAFNet; the defaults are the authors' width 32 for GoPro (17,111,907 parameters)."""

    width: int = 32
    """Channels at full resolution; doubled at each of the four lower levels."""
    encoder: tuple[int, int, int, int] = (1, 1, 1, 28)
    """Blocks per level on the way down, finest first."""
    middle: int = 1
    """Blocks at the lowest level."""
    decoder: tuple[int, int, int, int] = (1, 1, 1, 1)
    """Blocks per level on the way up, coarsest first."""
    window: int = 384
    """Side, in pixels of the image, of what channel attention averages over outside training (TLC); 0 is the whole."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoder; None is the plain net."""

    def __post_init__(self) -> None:
        if len(self.encoder) != _LEVELS or len(self.decoder) != _LEVELS or self.width < 1:
            raise ValueError(
                f"width {self.width}, encoder {self.encoder} and decoder {self.decoder}: four levels each."
            )
        if min(*self.encoder, *self.decoder, self.middle, self.window) < 0:
            raise ValueError("encoder, middle, decoder and window must not be negative.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 2**_LEVELS

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share; what is left of the seam is what the attention of either sees alone."""
        return 128

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        # In a block of the finest level its input and both sides of the depthwise convolution.
        peak = 5.0 * self.width
        if self.prior is None:
            return peak
        return max(
            self.prior.values_per_pixel, self.prior.fusing_per_pixel(self.width), peak + self.prior.kept_per_pixel
        )

    @property
    def local(self) -> bool:
        """Channel attention sees the whole image, or with each of its many windows further."""
        return False

    @property
    def precisions(self) -> tuple[str, ...]:
        """Not fp16, whose range products of channels may leave."""
        return ("fp32", "bf16")


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each pixel over its channels: (N, C, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name is torch's)
        """``input`` with mean 0 and variance 1 in each pixel, then scaled and shifted by channel."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Sequential):
    """A weight for each channel from its mean: over the image in training, over a window around each pixel otherwise."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.window = window

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name is torch's)
        """``input`` weighted; (N, C, H, W) to the same."""
        height, width = input.shape[-2:]
        if self.training or not 0 < self.window < max(height, width):
            return input * super().forward(input)
        # The 1x1 convolution comes before the border is repeated: the same values from fewer pixels.
        weights = self[1](window_means(input, self.window))
        rows, columns = height - weights.shape[-2], width - weights.shape[-1]
        border = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return input * F.pad(weights, border, mode="replicate")


class Block(nn.Module):
    """The paper's figure 3c: depthwise convolution, gate and attention, then a gated pair of 1x1 convolutions."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.sca = ChannelAttention(width, window)
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.norm1 = ChannelNorm(width)
        self.norm2 = ChannelNorm(width)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        change = gate(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.conv3(self.sca(change)) * self.beta
        del change  # or it would stay in memory to the end
        return features + self.conv5(gate(self.conv4(self.norm2(features)))) * self.gamma


class NAFNet(GuidedNet):
    """Blurred image to a tuple of one restored image."""

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(_LEVELS + 1)]

        def level(count: int, width: int, stride: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width, config.window // stride) for _ in range(count)))

        self.intro = nn.Conv2d(3, config.width, 3, padding=1)
        self.ending = nn.Conv2d(config.width, 3, 3, padding=1)
        self.encoders = nn.ModuleList(
            level(count, widths[depth], 2**depth) for depth, count in enumerate(config.encoder)
        )
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths[:-1])
        self.middle_blks = level(config.middle, widths[-1], 2**_LEVELS)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2))
            for width in reversed(widths[1:])
        )
        self.decoders = nn.ModuleList(
            level(count, widths[depth], 2**depth)
            for depth, count in zip(reversed(range(_LEVELS)), config.decoder, strict=True)
        )
        self.guide(config.prior, [(depth, widths[depth]) for depth in (2, 1, 0)])

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        features: Tensor = self.intro(image)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(run_chain(encoder, features))
            features = down(skips[-1])
        features = run_chain(self.middle_blks, features)
        for place, (up, decoder) in enumerate(zip(self.ups, self.decoders, strict=True)):
            # A skip is popped where it is added, so that it does not stay in memory while the level is decoded.
            features = up(features).add_(skips.pop())
            if place:
                features = guidance.fuse(place - 1, features)
            features = run_chain(decoder, features)
        return (blurred + self.ending(features).to(blurred.dtype),)


def gate(features: Tensor) -> Tensor:
    """The product of both halves of the channels: (N, 2 C, H, W) to (N, C, H, W)."""
    one, other = features.chunk(2, dim=1)
    return one * other


def window_means(features: Tensor, side: int) -> Tensor:
    """The mean of every square of ``side`` that fits, and of what there is where the image is shorter than that.

    Shapes: (N, C, H, W) to (N, C, H - side + 1, W - side + 1), each at least 1; in the dtype of ``features``, summed in
    float32.
    """
    means = features.float()
    for dim in (-2, -1):
        length = min(side, means.shape[dim])
        sums = means.cumsum(dim)
        means = sums.narrow(dim, length - 1, sums.shape[dim] - length + 1).clone()
        means.narrow(dim, 1, means.shape[dim] - 1).sub_(sums.narrow(dim, 0, means.shape[dim] - 1))
        means /= length
    return means.to(features.dtype)
