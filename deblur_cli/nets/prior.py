"""The semantic prior (SPL): from the blurred image to what a teacher would see in the sharp one.

Paper: Take a Prior from Other Tasks for Severe Blur Removal, section 3.2; https://arxiv.org/abs/2302.06898
The extractor F_S gives three maps m, the cross-level connection makes f_pri of them (eq. 3). ``nets/embedding.py`` puts
f_pri into a net's decoder.
Differs from the paper: nothing known; it leaves F_S open but for the three levels, and ours is a plain encoder whose 1x1
heads speak in the teacher's widths.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import residual_blocks, resize, run_chain

Fusion = Literal["sat", "add", "concat"]
"""How the prior enters a decoder: semantic attention (eq. 6), or the ablation's addition and concatenation."""

_SLOPE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorConfig:
    """The dials of the semantic prior; the defaults are the paper's, with TResNet-L as the teacher."""

    widths: tuple[int, int, int] = (76, 76, 152)
    """Channels of the teacher's maps, finest first; the prior's maps have the same."""
    channels: tuple[int, int, int] = (32, 64, 128)
    """Channels inside the extractor F_S, finest level first."""
    blocks: tuple[int, int, int] = (3, 4, 8)
    """Residual blocks of F_S per level."""
    fusion: Fusion = "sat"
    """How a map enters the decoder."""
    clc: bool = True
    """Cross-level connection (eq. 3); without it f_pri is m."""
    mla: bool = True
    """Multi-level aggregation (eq. 5); without it each level is embedded as it is."""
    clc_maps: int = 1
    """Attention maps of eq. 3: 1 weighs both terms, 2 gives each its own."""
    clc_sigmoid: bool = True
    """Squash the attention of eq. 3 to [0, 1]."""
    sat_width: int = 0
    """Hidden channels of the semantic attention; 0 takes the decoder level's own, as the paper."""

    def __post_init__(self) -> None:
        if self.fusion not in get_args(Fusion):
            raise ValueError(f"fusion is {self.fusion!r}; it is one of {', '.join(get_args(Fusion))}.")
        if self.clc_maps not in {1, 2}:
            raise ValueError(f"clc_maps is {self.clc_maps}; it is 1 or 2.")
        for name, sizes in (("widths", self.widths), ("channels", self.channels)):
            if len(sizes) != 3 or min(sizes) < 1:
                raise ValueError(f"{name} is {sizes}; it is three positive numbers.")
        if len(self.blocks) != 3 or min(*self.blocks, self.sat_width) < 0:
            raise ValueError(f"blocks is {self.blocks} and sat_width {self.sat_width}; neither may be negative.")

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel while the maps are made, where they lie at strides 1, 2 and 4."""
        fine, middle, coarse = self.widths
        return 4 * fine + middle / 2 + coarse / 16

    @property
    def kept_per_pixel(self) -> float:
        """Numbers per image pixel of the maps that wait for a decoder."""
        fine, middle, coarse = self.widths
        return fine + middle / 4 + coarse / 16

    def fusing_per_pixel(self, channels: int) -> float:
        """The same while the finest map enters features of ``channels``: both, and what is made of them."""
        fine = self.widths[0]
        if self.fusion == "sat":
            return fine + 3 * channels + (self.sat_width or channels)
        return fine + 2 * channels if self.fusion == "add" else 2 * fine + 3 * channels

    @property
    def reach(self) -> int:
        """Pixels to either side that a fusion sees of the image through the maps, where the finest lies at stride 1."""
        fine, middle, coarse = self.blocks
        return 20 + 2 * fine + 4 * middle + 8 * coarse


@dataclass(frozen=True, slots=True)
class PriorMaps:
    """What the prior says of one batch, three levels, finest first: (N, ``widths[i]``, H, W) at strides s, 2s and 4s.

    s is the stem of the net that the prior belongs to.
    """

    m: tuple[Tensor, Tensor, Tensor]
    """The extractor's own maps, before the cross-level connection; eq. 2 compares these with the teacher's."""
    f_pri: tuple[Tensor, Tensor, Tensor]
    """The maps after the cross-level connection; eq. 4 compares these, and these are embedded."""


class PriorExtractor(nn.Module):
    """F_S: (N, 3, H, W) in [0, 1] to three maps in the teacher's widths, at strides ``stem`` times 1, 2 and 4."""

    def __init__(self, config: PriorConfig, *, stem: int = 1) -> None:
        super().__init__()
        self.stem = stem
        fine, middle, coarse = config.channels
        end = 7 if stem == 1 else 3
        self.enter = nn.ModuleList(
            (
                nn.Conv2d(3 * stem**2, fine, end, padding=end // 2),
                nn.Conv2d(fine, middle, 3, stride=2, padding=1),
                nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            )
        )
        self.levels = nn.ModuleList(
            residual_blocks(count, width, slope=_SLOPE)
            for count, width in zip(config.blocks, config.channels, strict=True)
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(width, wide, 1) for width, wide in zip(config.channels, config.widths, strict=True)
        )

    def forward(self, blurred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps m of ``blurred``, finest first."""
        features = F.pixel_unshuffle(blurred, self.stem)
        maps: list[Tensor] = []
        for enter, level, head in zip(self.enter, self.levels, self.heads, strict=True):
            features = F.leaky_relu(enter(features), _SLOPE, inplace=True)
            features = run_chain(level, features)
            maps.append(head(features))
        return maps[0], maps[1], maps[2]


class CrossLevelConnection(nn.Module):
    """CLC, eq. 3: a map and the next deeper one, brought to its size and width, weighed by one attention.

    f_pri = a * m + a * u with u = up(conv(deeper)) and a = sigmoid(conv(cat(m, u))).
    """

    def __init__(self, width: int, deeper: int, *, maps: int = 1, sigmoid: bool = True) -> None:
        super().__init__()
        self.match = nn.Conv2d(deeper, width, 1)
        self.attention = nn.Conv2d(2 * width, maps * width, 1)
        self.maps = maps
        self.sigmoid = sigmoid

    def forward(self, fine: Tensor, deep: Tensor) -> Tensor:
        """f_pri at the level of ``fine``: m of this level and ``deep``: m of the next; in the shape of ``fine``."""
        matched = self.match(deep)
        # A 1x1 convolution and bilinear resizing commute: the part of the attention that sees u is computed at the
        # deeper level's size, for a quarter of the work and without the concatenation.
        of_fine, of_deep = self.attention.weight.split(self.match.out_channels, dim=1)
        attention = F.conv2d(fine, of_fine, self.attention.bias).add_(resize(F.conv2d(matched, of_deep), fine))
        if self.sigmoid:
            attention = attention.sigmoid_()
        if self.maps == 1:
            return attention * resize(matched, fine).add_(fine)
        own, other = attention.chunk(2, dim=1)
        return torch.addcmul(own * fine, other, resize(matched, fine))


class SemanticPrior(nn.Module):
    """The whole branch: F_S and, where ``config.clc`` says so, the cross-level connections of levels 1 and 2."""

    def __init__(self, config: PriorConfig, *, stem: int = 1) -> None:
        super().__init__()
        self.config = config
        self.extract = PriorExtractor(config, stem=stem)
        fine, middle, coarse = config.widths
        if config.clc:
            self.connect = nn.ModuleList(
                CrossLevelConnection(width, deeper, maps=config.clc_maps, sigmoid=config.clc_sigmoid)
                for width, deeper in ((fine, middle), (middle, coarse))
            )

    def forward(self, blurred: Tensor) -> PriorMaps:
        """The prior's maps of ``blurred``: (N, 3, H, W) in [0, 1], H and W multiples of four times the stem."""
        m = self.extract(blurred.to(next(self.parameters()).dtype))
        if not self.config.clc:
            return PriorMaps(m, m)
        first, second = self.connect
        return PriorMaps(m, (first(m[0], m[1]), second(m[1], m[2]), m[2]))
