"""BDIRNet: one net distils from an image what blur does not change, another rebuilds a sharp image from that alone.

Paper: Niu, Zhang, Luo, Zhong, Li. Deep robust image deblurring via blur distilling and information comparison in latent
space. Neurocomputing 466 (2021). https://doi.org/10.1016/j.neucom.2021.09.019

From the source, which is its abstract and its list of references: a DistillNet that takes blur away and a RecNet that
reconstructs; a blurred and a sharp image of one scene go through the same DistillNet; what it keeps of the two is contrasted;
SAID inside the DistillNet and SAIR inside the RecNet are statistical and make both robust to interference.

Inferred, because neither the text nor any code of the authors could be had: everything else, which is all numbers, the
structure of both nets (that of our UNet's encoder, mirrored), what SAID and SAIR compute, and the form and the weights of the
losses. No figure of the paper can be expected of this net.

The semantic prior enters the RecNet at the entrance of each level, before SAIR; it is the blurred image's for both paths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import residual_blocks, run_chain
from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig, PriorMaps

_SLOPE = 0.2
_TINY = 1e-6
"""Is added to variances."""
_DISTURBED = 0.5
"""Share of images whose statistics SAID disturbs in training."""
_NOISE = 0.1
"""Largest noise that SAIR adds in training, in standard deviations of a channel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BDIRNetConfig:
    """The dials of a BDIRNet; all of them are ours, see the head of the file."""

    width: int = 32
    """Channels at full resolution; doubled at each of the two lower levels."""
    blocks: tuple[int, int, int] = (3, 3, 6)
    """Residual blocks per level of the DistillNet, finest first; the RecNet has the same at the two finer levels."""
    residual: bool = False
    """Add the blurred image to what is rebuilt from it; without that, what the latents do not hold is lost."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the RecNet; None is the plain net."""

    def __post_init__(self) -> None:
        if len(self.blocks) != 3 or self.width < 1 or min(self.blocks) < 0:
            raise ValueError(f"width is {self.width} and blocks {self.blocks}; they are positive, and three numbers.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 4

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share; what is left of the seam is each tile's own statistics."""
        return 128

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        peak = 4.0 * self.width  # SAID at the finest level: its input, that mixed, and both convolutions' results
        if self.prior is None:
            return peak
        # While the finest map enters, the features of the level below are still there.
        fusing = self.prior.fusing_per_pixel(self.width) + self.width / 2
        return max(self.prior.values_per_pixel, peak + self.prior.kept_per_pixel, fusing)

    @property
    def local(self) -> bool:
        """Its statistics are those of the whole image."""
        return False

    @property
    def precisions(self) -> tuple[str, ...]:
        """fp32 alone: the net gives the image itself, and divides by deviations that may be small."""
        return ("fp32",)


@dataclass(frozen=True, slots=True)
class Distilled:
    """What one pass of a pair through the net leaves behind."""

    restored: tuple[Tensor, ...]
    """From the blurred image, final first, (N, 3, H, W)."""
    rebuilt: Tensor
    """From the sharp image's own latents, (N, 3, H, W)."""
    blurred: tuple[Tensor, ...]
    """Latents of the blurred image, finest first, at strides 1, 2 and 4."""
    sharp: tuple[Tensor, ...]
    """Those of the sharp image."""
    maps: PriorMaps | None
    """Of the prior, which saw the blurred image alone; None without one."""


class StatisticalDistilling(nn.Module):
    """SAID: an image's channel statistics told from its structure, and as much of them let through as a gate says.

    In training some images' statistics are disturbed as far as those of the batch differ: the interference.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = _from_statistics(width)
        self.c1 = nn.Conv2d(width, width, 3, padding=1)
        self.c2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Refine (N, C, H, W) ``features``; same shape."""
        mean, deviation = statistics(features)
        if self.training:
            mean, deviation = _disturbed(mean, deviation)
        gate = self.gate(torch.cat((mean, deviation), dim=1))
        # g * (x - mean) / deviation + (1 - g) * x, as one factor and one shift per channel.
        mixed = torch.addcmul(-gate * mean / deviation, features, gate / deviation + 1 - gate)
        return self.c2(F.leaky_relu(self.c1(mixed), _SLOPE, inplace=True)).add_(features)


class StatisticalReconstruction(nn.Module):
    """SAIR: a residual block whose input is disturbed by noise in training, its channels weighed by their statistics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = _from_statistics(width)
        self.c1 = nn.Conv2d(width, width, 3, padding=1)
        self.c2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Refine (N, C, H, W) ``features``; same shape."""
        mean, deviation = statistics(features)
        weights = self.weigh(torch.cat((mean, deviation), dim=1))
        if self.training:
            strength = _NOISE * torch.rand_like(mean[:, :1])
            features = features + strength * deviation.detach() * torch.randn_like(features)
        return self.c2(F.leaky_relu(self.c1(features), _SLOPE, inplace=True)).add_(features) * weights


class DistillNet(nn.Module):
    """(N, 3, H, W) to latents at strides 1, 2 and 4, the same weights for blurred and sharp images."""

    def __init__(self, config: BDIRNetConfig) -> None:
        super().__init__()
        widths = _widths(config)
        self.enter = nn.ModuleList(
            (
                nn.Conv2d(3, widths[0], 7, padding=3),
                nn.Conv2d(widths[0], widths[1], 5, stride=2, padding=2),
                nn.Conv2d(widths[1], widths[2], 3, stride=2, padding=1),
            )
        )
        self.levels = nn.ModuleList(
            residual_blocks(count, width, slope=_SLOPE) for count, width in zip(config.blocks, widths, strict=True)
        )
        self.said = nn.ModuleList(StatisticalDistilling(width) for width in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """The latents of ``image``, finest first."""
        latents: list[Tensor] = []
        for enter, level, said in zip(self.enter, self.levels, self.said, strict=True):
            image = said(run_chain(level, enter(image)))
            latents.append(image)
        return latents


class RecNet(nn.Module):
    """Latents at strides 1, 2 and 4 to an image (N, 3, H, W)."""

    def __init__(self, config: BDIRNetConfig) -> None:
        super().__init__()
        widths = _widths(config)
        self.sair = nn.ModuleList(StatisticalReconstruction(width) for width in reversed(widths))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1) for width in (widths[1], widths[0])
        )
        self.levels = nn.ModuleList(
            residual_blocks(config.blocks[level], widths[level], slope=_SLOPE) for level in (1, 0)
        )
        self.out = nn.Conv2d(widths[0], 3, 7, padding=3)

    def forward(self, latents: list[Tensor], guidance: Guidance) -> Tensor:
        """The image that ``latents`` tell of, which are taken out of the list so that none waits in memory for nothing."""
        features = self.sair[0](guidance.fuse(0, latents.pop()))
        for index, (up, level) in enumerate(zip(self.up, self.levels, strict=True), 1):
            features = self.sair[index](guidance.fuse(index, up(features).add_(latents.pop())))
            features = run_chain(level, features)
        return self.out(features)


class BDIRNet(GuidedNet):
    """Blurred image to a tuple of one restored image; for training also a pair to both sides' images and latents."""

    def __init__(self, config: BDIRNetConfig) -> None:
        super().__init__()
        self.config = config
        self.distill = DistillNet(config)
        self.reconstruct = RecNet(config)
        self.guide(config.prior, [(level, _widths(config)[level]) for level in (2, 1, 0)])

    def forward_pair(self, blurred: Tensor, sharp: Tensor) -> Distilled:
        """Both images through the one DistillNet and the one RecNet.

        Args:
            blurred: (N, 3, H, W) float RGB in [0, 1], H and W multiples of 4.
            sharp: the same scene without blur, same shape.
        """
        dtype = next(self.parameters()).dtype
        maps: PriorMaps | None = None if self.prior is None else self.prior(blurred.to(dtype))
        embedded = self.embed(maps.f_pri) if self.embed is not None and maps is not None else ()
        of_blurred = self.distill(blurred.to(dtype))
        of_sharp = self.distill(sharp.to(dtype))
        restored = self.reconstruct(list(of_blurred), Guidance(self.embed, embedded)).to(blurred.dtype)
        # The sharp image is never added to what is rebuilt from it: the latents must hold all of it.
        rebuilt = self.reconstruct(list(of_sharp), Guidance(self.embed, embedded)).to(sharp.dtype)
        restored = restored + blurred if self.config.residual else restored
        return Distilled((restored,), rebuilt, tuple(of_blurred), tuple(of_sharp), maps)

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        restored = self.reconstruct(self.distill(image), guidance).to(blurred.dtype)
        return (blurred + restored if self.config.residual else restored,)


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (N, C, H, W) ``features``, (N, C, 1, 1) each."""
    variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True, correction=0)
    return mean, (variance + _TINY).sqrt()


def _disturbed(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Statistics of some of the images moved by as much as the batch's differ; those of a single image stay."""
    chosen = (torch.rand_like(mean[:, :1]) < _DISTURBED).to(mean.dtype)
    moved = [
        each + chosen * torch.randn_like(each) * each.detach().std(dim=0, keepdim=True, correction=0)
        for each in (mean, deviation)
    ]
    return moved[0], torch.maximum(moved[1], 0.1 * deviation)  # a deviation stays positive


def _from_statistics(width: int) -> nn.Sequential:
    """A weight in (0, 1) for each channel from the (N, 2 ``width``, 1, 1) statistics."""
    hidden = max(1, width // 2)
    return nn.Sequential(
        nn.Conv2d(2 * width, hidden, 1), nn.LeakyReLU(_SLOPE, inplace=True), nn.Conv2d(hidden, width, 1), nn.Sigmoid()
    )


def _widths(config: BDIRNetConfig) -> tuple[int, int, int]:
    return config.width, 2 * config.width, 4 * config.width
