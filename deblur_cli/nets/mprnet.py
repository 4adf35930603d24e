"""MPRNet: two stages of encoder and decoder on patches of the image, a third at full resolution, or the first alone.

Paper: Zamir et al. Multi-Stage Progressive Image Restoration. CVPR 2021. https://arxiv.org/abs/2102.02808
Names of tensors are the authors'. ``stages=1`` is what Take a Prior from Other Tasks for Severe Blur Removal (Table 1) calls
MPRNet with a dagger: the first stage, its image made by the 1x1 convolution of the attention that follows it.
Differs from the source: nothing known; ``patched=False`` shows each stage the whole image. The semantic prior enters the
decoders of the first two stages: it sees the whole image once, and its maps are divided as the features are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deblur_cli.nets.blocks import run_chain
from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.stages import Block, Decoder, Encoder, SupervisedAttention, Up


@dataclass(frozen=True, kw_only=True, slots=True)
class MPRNetConfig:
    """The dials of an MPRNet; the defaults are the whole net (20,127,073 parameters)."""

    width: int = 96
    """Channels of the first level."""
    growth: int = 48
    """Channels that each lower level has more."""
    original_growth: int = 32
    """Channels that the third stage, at original resolution, has more than ``width``."""
    original_blocks: int = 8
    """Channel attention blocks in each of the three groups of the third stage."""
    reduction: int = 4
    """Channels of a block per hidden channel of its attention."""
    stages: int = 3
    """3 is the whole net, 1 the first stage alone (5,754,817 parameters)."""
    patched: bool = True
    """Encode quarters of the image in the first stage and halves in the second; False takes it whole."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoders; None is the plain net."""

    def __post_init__(self) -> None:
        if self.stages not in {1, 3}:
            raise ValueError(f"stages is {self.stages}; it is 1 or 3.")
        if not 1 <= self.reduction <= self.width:
            raise ValueError(f"reduction {self.reduction} is to lie between 1 and width {self.width}.")
        if min(self.growth, self.original_growth, self.original_blocks) < 0:
            raise ValueError("growth, original_growth and original_blocks must not be negative.")

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the three levels."""
        return self.width, self.width + self.growth, self.width + 2 * self.growth

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 8 if self.patched else 4

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share: no overlap makes tiles equal the whole here, see :attr:`local`."""
        return 128

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        fine, middle, coarse = self.widths
        lists = 2 * (fine + middle / 4 + coarse / 16)  # encoder and decoder of one stage
        share = 0.5 if self.patched else 1.0  # of the image that is decoded at once
        third = lists + 5 * (fine + self.original_growth) + 6 if self.stages == 3 else 0.0
        if self.prior is None:
            return max(lists + 2 * share * fine, third)
        fusing = self.prior.fusing_per_pixel(fine) - self.prior.widths[0] - fine
        first = lists + share * max(2 * fine, fusing) + self.prior.kept_per_pixel
        return max(self.prior.values_per_pixel, first, third)

    @property
    def local(self) -> bool:
        """Not so: channel attention averages over all that the net is shown."""
        return False

    @property
    def precisions(self) -> tuple[str, ...]:
        """Not fp16, whose range three stages that normalise nothing may leave."""
        return ("fp32", "bf16")


class _Attention(nn.Module):
    """Scale each channel by what its mean over the image says."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(width, width // reduction, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // reduction, width, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """The factors, (N, C, 1, 1)."""
        return self.conv_du(features.mean((2, 3), keepdim=True))


class _Block(nn.Module):
    """CAB: two convolutions and channel attention, plus the identity; the activation is the whole net's own."""

    def __init__(self, width: int, reduction: int, activation: nn.Module) -> None:
        super().__init__()
        self.CA = _Attention(width, reduction)
        self.body = nn.Sequential(_conv3(width, width), activation, _conv3(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        change = self.body(features)
        return torch.addcmul(features, change, self.CA(change))


class _Group(nn.Module):
    """ORB: a chain of blocks and a convolution, plus the identity."""

    def __init__(self, width: int, count: int, block: Block) -> None:
        super().__init__()
        self.body = nn.Sequential(*(block(width) for _ in range(count)), _conv3(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        return run_chain(self.body, features).add_(features)


class _Original(nn.Module):
    """ORSNet, the third stage: groups at original resolution, each fed with one level of the second stage."""

    def __init__(self, config: MPRNetConfig, block: Block) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        wide = fine + config.original_growth
        for group in (1, 2, 3):
            self.add_module(f"orb{group}", _Group(wide, config.original_blocks, block))
        for side in ("enc", "dec"):
            self.add_module(f"up_{side}1", Up(middle, fine))
            self.add_module(f"up_{side}2", nn.Sequential(Up(coarse, middle), Up(middle, fine)))
            for group in (1, 2, 3):
                self.add_module(f"conv_{side}{group}", nn.Conv2d(fine, wide, 1, bias=False))

    def forward(self, features: Tensor, encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
        """Refine ``features`` with the lists of the second stage; same shape."""
        for level in range(3):
            features = self.get_submodule(f"orb{level + 1}")(features)
            features = self._seen("enc", level, encoded[level]).add_(features)
            features = self._seen("dec", level, decoded[level]).add_(features)
        return features

    def _seen(self, side: str, level: int, features: Tensor) -> Tensor:
        """One map of the second stage in the size and width of the third."""
        if level:
            features = self.get_submodule(f"up_{side}{level}")(features)
        return self.get_submodule(f"conv_{side}{level + 1}")(features)


class _Head(nn.Module):
    """What is left of the supervised attention where no stage follows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(width, 3, 1, bias=False)


class MPRNet(GuidedNet):
    """Blurred image to a tuple of the restored image and, in training, those of the second and the first stage."""

    def __init__(self, config: MPRNetConfig) -> None:
        super().__init__()
        self.config = config
        width, widths = config.width, config.widths
        activation = nn.PReLU()  # one for all blocks

        def block(width: int) -> _Block:
            return _Block(width, config.reduction, activation)

        def shallow() -> nn.Sequential:
            return nn.Sequential(_conv3(3, width), block(width))

        self.shallow_feat1 = shallow()
        self.stage1_encoder = Encoder(widths, block, crossed=False)
        self.stage1_decoder = Decoder(widths, block)
        insertions = [(level, widths[level]) for level in (2, 1, 0)]
        if config.stages == 1:
            self.sam12 = _Head(width)
        else:
            wide = width + config.original_growth
            self.shallow_feat2, self.shallow_feat3 = shallow(), shallow()
            self.stage2_encoder = Encoder(widths, block, crossed=True)
            self.stage2_decoder = Decoder(widths, block)
            self.stage3_orsnet = _Original(config, block)
            self.sam12, self.sam23 = SupervisedAttention(width), SupervisedAttention(width)
            self.concat12, self.concat23 = _conv3(2 * width, width), _conv3(2 * width, wide)
            self.tail = _conv3(wide, 3)
            insertions *= 2
        self.guide(config.prior, insertions)

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        halves = image.chunk(2, dim=2) if self.config.patched else (image,)
        guides = guidance.halves() if self.config.patched else (guidance,)
        lists = [self._first(half, guide) for half, guide in zip(halves, guides, strict=True)]
        del guides
        if isinstance(self.sam12, _Head):
            return (_added(blurred, torch.cat([self.sam12.conv2(decoded[0]) for _, decoded in lists], dim=2)),)
        changes: list[Tensor] = []
        encoded = [self._second(half, changes, *lists.pop(0)) for half in halves]
        final, change = self._third(image, encoded, guidance)
        if not self.training:
            return (_added(blurred, final),)
        return _added(blurred, final), _added(blurred, change), _added(blurred, torch.cat(changes, dim=2))

    def _first(self, half: Tensor, guidance: Guidance) -> tuple[list[Tensor], list[Tensor]]:
        """The first stage's lists of encoder and decoder, of half an image or the whole."""
        encoded = self._encode_first(half)
        return encoded, self.stage1_decoder(encoded, guidance.fuse)

    def _second(
        self, half: Tensor, changes: list[Tensor], encoded: list[Tensor], decoded: list[Tensor]
    ) -> list[Tensor]:
        """The second stage's list of the encoder, of the same part; ``changes`` gets that of the first stage's image."""
        features, change = self.sam12(decoded[0], half)
        changes.append(change)
        features = self.concat12(torch.cat((run_chain(self.shallow_feat2, half), features), dim=1))
        return self.stage2_encoder(features, (encoded, decoded))

    def _third(self, image: Tensor, parts: list[list[Tensor]], guidance: Guidance) -> tuple[Tensor, Tensor]:
        """The changes of the third and the second stage's image, from the second's parts, which are emptied."""
        encoded = [torch.cat(level, dim=2) for level in zip(*parts, strict=True)]
        parts.clear()

        def fuse(place: int, features: Tensor) -> Tensor:
            return guidance.fuse(3 + place, features)

        decoded = self.stage2_decoder(encoded, fuse)
        seen, change = self.sam23(decoded[0], image)
        features = torch.cat((run_chain(self.shallow_feat3, image), seen), dim=1)
        del seen
        features = self.concat23(features)
        return self.tail(self.stage3_orsnet(features, encoded, decoded)), change

    def _encode_first(self, half: Tensor) -> list[Tensor]:
        """The first stage's features of half an image; where that is patched, of its left and right, side by side."""
        parts = half.chunk(2, dim=3) if self.config.patched else (half,)
        encoded = [self.stage1_encoder(run_chain(self.shallow_feat1, part)) for part in parts]
        return [torch.cat(level, dim=3) for level in zip(*encoded, strict=True)]


def _added(blurred: Tensor, change: Tensor) -> Tensor:
    return blurred + change.to(blurred.dtype)


def _conv3(channels: int, wide: int) -> nn.Conv2d:
    return nn.Conv2d(channels, wide, 3, padding=1, bias=False)
