"""HINet: two U-Nets in a row, which normalise half of the channels of their deep levels by instance.

Paper: Chen, Lu, Zhang, Chu, Chen. HINet: Half Instance Normalization Network for Image Restoration. CVPR Workshops 2021.
https://arxiv.org/abs/2105.06086
Names of tensors are those of the authors' files. Between the stages stand MPRNet's supervised attention and feature fusion.
Differs from the source: a level of one pixel, whose deviation is 0, is legal; f_de + f_en of eq. 6 is what a level of
either decoder gives after its skip was merged.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.stages import SupervisedAttention

_SLOPE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class HINetConfig:
    """The dials of a HINet; the defaults are the authors' for GoPro (88,668,806 parameters), width 32 is their 0.5x."""

    width: int = 64
    """Channels at full resolution; doubled at each lower level."""
    depth: int = 5
    """Levels, full resolution included."""
    normed: tuple[int, int] = (3, 4)
    """First and last level, from 0, where half of the channels is normalised."""
    prior: PriorConfig | None = None
    """The semantic prior that guides both decoders; None is the plain net."""

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2 or self.depth < 2 or len(self.normed) != 2:
            raise ValueError(
                f"width {self.width}, depth {self.depth}, normed {self.normed}: an even width, two levels."
            )
        if self.prior is not None and self.depth < 4:
            raise ValueError(f"depth is {self.depth}; the decoder's three levels of a prior need 4 or more.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 2 ** (self.depth - 1)

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share; what is left of the seam is each tile's own statistics."""
        return 128

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        # Where the stages meet: what the second is made from, and all of the first that it will need.
        peak = 7.75 * self.width + 3
        if self.prior is None:
            return peak
        return max(self.prior.values_per_pixel, peak + self.prior.kept_per_pixel)

    @property
    def local(self) -> bool:
        """Its statistics are those of the whole image."""
        return False

    @property
    def precisions(self) -> tuple[str, ...]:
        """Not fp16, whose range what is not normalised may leave on its way through two stages."""
        return ("fp32", "bf16")


class _InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation that takes a single pixel too."""

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=True)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name is torch's)
        """``input`` with mean 0 and variance 1 in each channel, then scaled and shifted; (N, C, H, W) to the same."""
        if input.shape[-2:] == (1, 1):
            return (input - input) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return super().forward(input)


class Block(nn.Module):
    """Two convolutions plus a 1x1 shortcut, half of the channels normalised between them where ``normed`` says so."""

    def __init__(self, width: int, wide: int, *, normed: bool = False, down: bool = False, fused: bool = False) -> None:
        super().__init__()
        self.identity = nn.Conv2d(width, wide, 1)
        self.conv_1 = nn.Conv2d(width, wide, 3, padding=1)
        self.conv_2 = nn.Conv2d(wide, wide, 3, padding=1)
        if normed:
            self.norm = _InstanceNorm(wide // 2)
        self.normed = normed
        if down:
            self.downsample = nn.Conv2d(wide, wide, 4, stride=2, padding=1, bias=False)
        if fused:
            self.csff_enc = nn.Conv2d(wide, wide, 3, padding=1)
            self.csff_dec = nn.Conv2d(wide, wide, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, ``width``, H, W) to (N, ``wide``, H, W)."""
        change = self.conv_1(features)
        if self.normed:
            one, other = change.chunk(2, dim=1)
            change = torch.cat((self.norm(one), other), dim=1)
        change = self.conv_2(F.leaky_relu(change, _SLOPE, inplace=True))
        return self.identity(features).add_(F.leaky_relu(change, _SLOPE, inplace=True))


class UpBlock(nn.Module):
    """A level of a decoder: the deeper features enlarged, beside the encoder's, through a block."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(width, wide, 2, stride=2)
        self.conv_block = Block(width, wide)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(N, ``width``, H, W) and (N, ``wide``, 2 H, 2 W) to the shape of the latter."""
        return self.conv_block(torch.cat((self.up(features), skip), dim=1))


class HINet(GuidedNet):
    """Blurred image to a tuple of the restored image and, in training, that of the first stage."""

    def __init__(self, config: HINetConfig) -> None:
        super().__init__()
        self.config = config
        width, deepest = config.width, config.depth - 1
        widths = [width * 2**level for level in range(config.depth)]
        first, last = config.normed

        def down_path(*, fused: bool) -> nn.ModuleList:
            return nn.ModuleList(
                Block(
                    widths[max(level - 1, 0)],
                    widths[level],
                    normed=first <= level <= last,
                    down=level < deepest,
                    fused=fused and level < deepest,
                )
                for level in range(config.depth)
            )

        self.conv_01 = nn.Conv2d(3, width, 3, padding=1)
        self.conv_02 = nn.Conv2d(3, width, 3, padding=1)
        self.down_path_1 = down_path(fused=False)
        self.down_path_2 = down_path(fused=True)
        upward = list(reversed(widths[:-1]))
        self.up_path_1 = nn.ModuleList(UpBlock(2 * wide, wide) for wide in upward)
        self.up_path_2 = nn.ModuleList(UpBlock(2 * wide, wide) for wide in upward)
        self.skip_conv_1 = nn.ModuleList(nn.Conv2d(wide, wide, 3, padding=1) for wide in upward)
        self.skip_conv_2 = nn.ModuleList(nn.Conv2d(wide, wide, 3, padding=1) for wide in upward)
        self.sam12 = SupervisedAttention(width, kernel=3, bias=True)
        self.cat12 = nn.Conv2d(2 * width, width, 1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        places = [(level, widths[level]) for level in (2, 1, 0)]
        self.guide(config.prior, places * 2)

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        seen: list[Tensor] = []
        features: Tensor = self.conv_01(image)
        for block in self.down_path_1:
            if seen:
                features = self._halve(1, seen)
            seen.append(block(features))
        made = self._decode(1, seen.pop(), list(seen), guidance)
        features, early = self.sam12(made[-1], image)
        features = self.cat12(torch.cat((self.conv_02(image), features), dim=1))
        skips: list[Tensor] = []
        for block in self.down_path_2:
            if skips:
                features = self._halve(2, skips)
            features = block(features)
            if seen:
                # What the first stage knew of a level is not needed any more when the second has taken it in.
                features.add_(block.get_submodule("csff_enc")(seen.pop(0)))
                features.add_(block.get_submodule("csff_dec")(made.pop()))
                skips.append(features)
        late = self.last(self._decode(2, features, skips, guidance)[-1])
        images = (blurred + late.to(blurred.dtype), blurred + early.to(blurred.dtype))
        return images if self.training else images[:1]

    def _halve(self, stage: int, seen: list[Tensor]) -> Tensor:
        """The last of ``seen`` at half the size, for the next level."""
        return self.get_submodule(f"down_path_{stage}.{len(seen) - 1}.downsample")(seen[-1])

    def _decode(self, stage: int, features: Tensor, skips: list[Tensor], guidance: Guidance) -> list[Tensor]:
        """What each level of a stage's decoder makes, coarsest first: of the first stage all, of the second the last."""
        made: list[Tensor] = []
        while skips:
            index = self.config.depth - 1 - len(skips)
            skip = self.get_submodule(f"skip_conv_{stage}.{index}")(skips.pop())
            features = self.get_submodule(f"up_path_{stage}.{index}")(features, skip)
            del skip
            if len(skips) < 3:
                features = guidance.fuse(3 * stage - 1 - len(skips), features)
            made = [*made, features] if stage == 1 else [features]
        return made
