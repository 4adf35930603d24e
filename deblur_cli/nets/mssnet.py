"""MSSNet: stages of encoder and decoder at three scales of the image, one, two and three of them from coarse to fine.

Paper: Kim, Lee, Cho. MSSNet: Multi-Scale-Stage Network for Single Image Deblurring. ECCV Workshops 2022.
https://arxiv.org/abs/2202.09652
Names of tensors are the authors'. Differs from the source: nothing known; the images that only training compares are not made
in evaluation. The semantic prior enters the decoders: level i of each takes the prior's map i, resized to where it is.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import run_chain
from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.stages import Decoder, Encoder, Fuse

Guided = Literal["all", "scale3", "last"]
"""Which decoders the prior enters."""

_STAGES = ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3))
"""Scale and stage, in the order of their work."""
_GUIDED = {"all": _STAGES, "scale3": _STAGES[3:], "last": _STAGES[5:]}


@dataclass(frozen=True, kw_only=True, slots=True)
class MSSNetConfig:
    """The dials of an MSSNet; the defaults are the paper's (15,614,497 parameters)."""

    widths: tuple[int, int, int] = (54, 96, 138)
    """Channels of the three levels of every stage; 20, 60, 100 is the paper's small net, 80, 130, 180 its large one."""
    guided: Guided = "all"
    """Which decoders the prior enters: all six, those of the full-size scale, or the last alone."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoders; None is the plain net."""

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise ValueError(f"widths is {self.widths}; it is three positive numbers.")
        if self.guided not in get_args(Guided):
            raise ValueError(f"guided is {self.guided!r}; it is one of {', '.join(get_args(Guided))}.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 16

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share: no overlap makes tiles quite equal the whole here, see :attr:`local`."""
        return 256

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        fine, middle, coarse = self.widths
        lists = 2 * (fine + middle / 4 + coarse / 16)  # encoder and decoder of one stage at full size
        if self.prior is None:
            return 1 + lists + max(3 * fine, fine + 0.75 * middle)
        fusing = self.prior.fusing_per_pixel(fine) - self.prior.widths[0] - fine
        peak = 1 + lists + max(3 * fine, fine + 0.75 * middle, fusing)
        return max(self.prior.values_per_pixel, peak + self.prior.kept_per_pixel)

    @property
    def local(self) -> bool:
        """Not so: the image is halved corner to corner, which shifts its pixels by where they lie in all that is shown."""
        return False

    @property
    def precisions(self) -> tuple[str, ...]:
        """All: the net predicts a change, which is added to the image in the image's own dtype."""
        return ("fp32", "bf16", "fp16")


class _Block(nn.Module):
    """Two convolutions, plus the identity; the activation between them is the whole net's own."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv3(width, width), activation, _conv3(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        return self.body(features).add_(features)


class _ScaleUp(nn.Module):
    """(N, C, H, W) to (N, C, 2 H, 2 W): bilinear, then a 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scaleUp = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(width, width, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """``features`` for the next scale."""
        return self.scaleUp(features)


class _Tail(nn.Module):
    """(N, C, H, W) to an image of (N, 3, 2 H, 2 W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tail = _conv3(width, 12)

    def forward(self, features: Tensor) -> Tensor:
        """The image's change."""
        return F.pixel_shuffle(self.tail(features), 2)


class MSSNet(GuidedNet):
    """Blurred image to a tuple of the restored image and, in training, those of the five stages before, latest first."""

    def __init__(self, config: MSSNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.widths[0]
        activation = nn.PReLU()  # one for all blocks

        def block(width: int) -> _Block:
            return _Block(width, activation)

        for scale, channels in ((1, 12), (2, 12), (3, 3)):
            self.add_module(f"shallow_feat{scale}", nn.Sequential(_conv3(channels, width), block(width)))
        for scale, stage in _STAGES:
            first = (scale, stage) == (1, 1)
            self.add_module(f"E{scale}_{stage}", Encoder(config.widths, block, crossed=not first))
            self.add_module(f"D{scale}_{stage}", Decoder(config.widths, block))
            tail = _conv3(width, 3) if scale == 3 else _Tail(width)
            self.add_module(f"tail{scale}_{stage}", tail)
        self.up_scale1_feat, self.up_scale2_feat = _ScaleUp(width), _ScaleUp(width)
        self.fusion12, self.fusion23 = _conv3(2 * width, width), _conv3(2 * width, width)
        levels = [(level, config.widths[level]) for level in (2, 1, 0)]
        self.guide(config.prior, levels * len(_GUIDED[config.guided]))

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        half = F.interpolate(blurred, scale_factor=0.5, mode="bilinear", align_corners=True)
        lists: list[list[Tensor]] = []
        images: list[Tensor] = []
        for scale, stage in _STAGES:
            seen = half if scale == 1 else blurred
            encoded = self._encode(scale, stage, seen.to(image.dtype), lists)
            decoder = self.get_submodule(f"D{scale}_{stage}")
            lists = [encoded, decoder(encoded, self._fuse_at(scale, stage, guidance))]
            del encoded
            if self.training or (scale, stage) == _STAGES[-1]:
                change = self.get_submodule(f"tail{scale}_{stage}")(lists[1][0])
                images.append(seen + change.to(blurred.dtype))
        return tuple(reversed(images))

    def _encode(self, scale: int, stage: int, image: Tensor, lists: list[list[Tensor]]) -> list[Tensor]:
        """The encoder's list of one stage; ``lists`` has those of encoder and decoder of the stage before, and is emptied."""
        encoder = self.get_submodule(f"E{scale}_{stage}")
        if stage > 1:
            encoded = encoder(lists[1][0], (lists[0], lists[1]))
        elif scale > 1:
            encoded = encoder(self._enter_from(scale, image, lists[1][0]), (lists[0], lists[1]))
        else:
            encoded = encoder(self._enter(scale, image))
        lists.clear()
        return encoded

    def _enter(self, scale: int, image: Tensor) -> Tensor:
        """The features of ``image`` alone with which a scale begins."""
        entrance = self.get_submodule(f"shallow_feat{scale}")
        return run_chain(entrance, image if scale == 3 else F.pixel_unshuffle(image, 2))

    def _enter_from(self, scale: int, image: Tensor, coarser: Tensor) -> Tensor:
        """The same with what the scale before has made of its own."""
        enlarge = self.get_submodule(f"up_scale{scale - 1}_feat")
        fusion = self.get_submodule(f"fusion{scale - 1}{scale}")
        return fusion(torch.cat((self._enter(scale, image), enlarge(coarser)), dim=1))

    def _fuse_at(self, scale: int, stage: int, guidance: Guidance) -> Fuse:
        """The prior's insertions into one decoder."""
        guided = _GUIDED[self.config.guided]
        if (scale, stage) not in guided:
            return lambda _, features: features
        first = 3 * guided.index((scale, stage))
        return lambda place, features: guidance.fuse(first + place, features)


def _conv3(channels: int, wide: int) -> nn.Conv2d:
    return nn.Conv2d(channels, wide, 3, padding=1, bias=False)
