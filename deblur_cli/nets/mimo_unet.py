"""MIMO-UNet: one encoder and one decoder that see the image, and restore it, at three sizes.

Paper: Cho, Ji, Hong, Jung, Ko. Rethinking Coarse-to-Fine Approach in Single Image Deblurring. ICCV 2021.
https://arxiv.org/abs/2108.05054
Names of tensors are the authors'. Differs from the source: nothing known; the images of the smaller sizes are not made in
evaluation, and a convolution of a concatenation is computed as the sum of its parts, each at its own size where it is 1x1.
The semantic prior enters the decoder at each level, after the 1x1 convolution that merges the skip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import run_chain
from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class MIMOUNetConfig:
    """The dials of a MIMO-UNet; the defaults are the smaller of the paper's two (6,807,171 parameters)."""

    width: int = 32
    """Channels at full resolution; doubled at each of the two lower levels."""
    blocks: int = 8
    """Residual blocks per level in the encoder and in the decoder; MIMO-UNet+ has 20."""
    dropout: float = 0.0
    """Share of channels that training drops from the merged skips; MIMO-UNet+ has 0.1."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoder; None is the plain net."""

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width is {self.width}; it is even and positive.")
        if self.blocks < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"blocks is {self.blocks} and dropout {self.dropout}; neither fits.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 4

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share: as many as a restored pixel sees to either side."""
        # Two pixels for a block's two 3x3 convolutions, four at half the size, eight at a quarter; encoder and decoder.
        return max(28 * self.blocks + 16, 14 * self.blocks + 24 + self.prior.reach if self.prior else 0)

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        peak = 4.5 * self.width  # the finest skip: all three levels of the encoder, and what is made of them
        if self.prior is None:
            return peak
        waiting = peak + self.prior.kept_per_pixel
        return max(self.prior.values_per_pixel, waiting, self.prior.fusing_per_pixel(self.width))

    @property
    def local(self) -> bool:
        """Tiles equal the whole: nothing here looks further than its convolutions."""
        return True

    @property
    def precisions(self) -> tuple[str, ...]:
        """All: every size predicts a change, which is added to the image in the image's own dtype."""
        return ("fp32", "bf16", "fp16")


class _Conv(nn.Module):
    """A convolution that keeps the size, or with ``stride`` 2 halves or (``up``) doubles it, and a ReLU if wanted."""

    def __init__(
        self, channels: int, wide: int, kernel: int = 3, *, relu: bool = True, stride: int = 1, up: bool = False
    ) -> None:
        super().__init__()
        kind, padding = (nn.ConvTranspose2d, kernel // 2 - 1) if up else (nn.Conv2d, kernel // 2)
        layers: list[nn.Module] = [kind(channels, wide, kernel, stride=stride, padding=padding)]
        self.main = nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """What the convolution makes of ``features``."""
        return self.main(features)

    def joined(self, parts: Sequence[Tensor], like: Tensor) -> Tensor:
        """The same of the concatenation of ``parts``, nearest-resized to the size of ``like``; for 1x1 convolutions.

        It is never made: repeating commutes with a 1x1 convolution, so that coarse parts are convolved as they are.
        """
        convolution = cast("nn.Conv2d", self.main[0])
        kernels = convolution.weight.split([part.shape[1] for part in parts], dim=1)
        size = like.shape[-2:]
        total: Tensor | None = None
        for part, kernel in zip(parts, kernels, strict=True):
            seen = F.interpolate(part, size) if part.shape[-1] > size[-1] else part
            seen = F.conv2d(seen, kernel, convolution.bias if total is None else None)
            seen = F.interpolate(seen, size) if seen.shape[-1] < size[-1] else seen
            total = seen if total is None else total.add_(seen)
        return self.main[1:](total)


class _Block(nn.Module):
    """Two convolutions with a ReLU between them, plus the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(_Conv(width, width), _Conv(width, width, relu=False))

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        return self.main(features).add_(features)


class _Level(nn.Module):
    """The residual blocks of one level of the encoder or decoder."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Block(width) for _ in range(blocks)))

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        return run_chain(self.layers, features)


class _Shallow(nn.Module):
    """SCM: an image of a smaller size to features of ``width`` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _Conv(3, width // 4),
            _Conv(width // 4, width // 2, 1),
            _Conv(width // 2, width // 2),
            _Conv(width // 2, width - 3, 1),
        )
        self.conv = _Conv(width, width, 1, relu=False)

    def forward(self, image: Tensor) -> Tensor:
        """The features of ``image``."""
        return self.conv.joined((image, run_chain(self.main, image)), image)


class _Attend(nn.Module):
    """FAM: the encoder's features, and what a smaller image says of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.merge = _Conv(width, width, relu=False)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Both in one; same shape."""
        return self.merge(features * image).add_(features)


class _Skip(nn.Module):
    """AFF: the encoder's features of all three levels, merged for one level of the decoder."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_Conv(width, wide, 1), _Conv(wide, wide, relu=False))

    def forward(self, encoded: Sequence[Tensor], like: Tensor) -> Tensor:
        """Three maps, finest first, at the size of ``like``."""
        return self.conv[1](cast("_Conv", self.conv[0]).joined(encoded, like))


class MIMOUNet(GuidedNet):
    """Blurred image to a tuple of the restored image and, in training, those of a half and a quarter of the size."""

    def __init__(self, config: MIMOUNetConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle, coarse = width = (config.width, 2 * config.width, 4 * config.width)
        self.Encoder = nn.ModuleList(_Level(each, config.blocks) for each in width)
        self.feat_extract = nn.ModuleList(
            (
                _Conv(3, fine),
                _Conv(fine, middle, stride=2),
                _Conv(middle, coarse, stride=2),
                _Conv(coarse, middle, 4, stride=2, up=True),
                _Conv(middle, fine, 4, stride=2, up=True),
                _Conv(fine, 3, relu=False),
            )
        )
        self.Decoder = nn.ModuleList(_Level(each, config.blocks) for each in reversed(width))
        self.Convs = nn.ModuleList((_Conv(coarse, middle, 1), _Conv(middle, fine, 1)))
        self.ConvsOut = nn.ModuleList((_Conv(coarse, 3, relu=False), _Conv(middle, 3, relu=False)))
        self.AFFs = nn.ModuleList((_Skip(sum(width), fine), _Skip(sum(width), middle)))
        self.FAM1, self.FAM2 = _Attend(coarse), _Attend(middle)
        self.SCM1, self.SCM2 = _Shallow(coarse), _Shallow(middle)
        self.guide(config.prior, [(2, coarse), (1, middle), (0, fine)])

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        # A skip is popped where it is used, so that it does not stay in memory while the level is decoded.
        features, skips = self._encode(image)
        images: list[Tensor] = []
        for index, level in enumerate(self.Decoder):
            if index:
                features = self.feat_extract[2 + index](features)
                merge = cast("_Conv", self.Convs[index - 1])
                features = merge.joined((features, skips.pop()), features)
            features = level(guidance.fuse(index, features))
            out = (*self.ConvsOut, self.feat_extract[5])[index]
            if self.training or index == 2:
                seen = blurred[..., :: 4 >> index, :: 4 >> index]
                images.append(seen + out(features).to(blurred.dtype))
        return tuple(reversed(images))

    def _encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The coarsest features, and the skips of the decoder's two finer levels, the middle one last."""
        encoded: list[Tensor] = [self.Encoder[0](self.feat_extract[0](image))]
        for level, (shallow, attend) in enumerate(((self.SCM2, self.FAM2), (self.SCM1, self.FAM1)), 1):
            seen = shallow(image[..., :: 2**level, :: 2**level])  # nearest: every second pixel
            features = attend(self.feat_extract[level](encoded[-1]), seen)
            encoded.append(self.Encoder[level](features))
        skips = [cast("_Skip", merge)(encoded, like) for merge, like in zip(self.AFFs, encoded, strict=False)]
        return encoded[-1], [F.dropout2d(skip, self.config.dropout, self.training) for skip in skips]
