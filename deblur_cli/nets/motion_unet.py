"""MotionUNet: the paper's UNet, guided by its semantic prior and by a motion prior of ours.

The motion prior tells what moved where: the net is given a Wiener filter's first guesses beside the blurred image, and the
residual blocks of its two lower levels are scaled and shifted by what is known of the movement. With fresh weights none of
this changes anything: a trained UNet's weights, with or without a semantic prior, can be taken over.
Papers: see :mod:`deblur_cli.nets.unet` for the net, :mod:`deblur_cli.nets.motion` for the prior; scaling and shifting of
features is Perez et al. FiLM. AAAI 2018.
"""

from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import ResidualBlock, run_chain
from deblur_cli.nets.coarse import Coarse
from deblur_cli.nets.embedding import PriorEmbedding
from deblur_cli.nets.hindsight import Hindsight
from deblur_cli.nets.midway import Midway, midway_through
from deblur_cli.nets.motion import NODE, WAVES, Motion, MotionConfig, Smaller, transfer
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.nets.phases import PhasePrior
from deblur_cli.nets.prior import PriorConfig, PriorMaps, SemanticPrior
from deblur_cli.nets.steering import steered
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.nets.wiener import changes


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionUNetConfig:
    """The dials of a MotionUNet."""

    width: int = 32
    """Channels at the resolution of the stem; doubled at each of the two lower levels."""
    blocks: tuple[int, int, int] = (2, 3, 4)
    """Residual blocks per level, the same number in encoder and decoder."""
    stem: int = 2
    """Pixel-unshuffle factor of the input."""
    motion: MotionConfig = field(default_factory=MotionConfig)
    """The motion prior."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoder; None is the net without it."""
    phases: bool = False
    """Whether the image is restored at half its size first, to tell the odd part of its kernels by."""
    midway: bool = False
    """Whether what is restored is moved to where it was at mid-exposure, which that odd part tells."""
    coarse: bool = False
    """Whether long waves are taken from the image restored at half and a quarter of its size, where that is better."""
    hindsight: bool = False
    """Whether mid-exposure is told once more, by what was restored at full size."""

    def __post_init__(self) -> None:
        UNetConfig(width=self.width, blocks=self.blocks, stem=self.stem)
        if self.midway and not self.phases:
            raise ValueError("midway: mid-exposure is told by phases; a net without them cannot tell it.")
        if self.hindsight and not self.midway:
            raise ValueError("hindsight: mid-exposure is told once more; a net without midway does not tell it once.")
        if self.coarse and not self.phases:
            raise ValueError("coarse: for phases an image is restored at half its size; a net without them does not.")

    @property
    def unet(self) -> UNetConfig:
        """The net without its motion prior."""
        return UNetConfig(width=self.width, blocks=self.blocks, stem=self.stem, prior=self.prior)

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels: the grid on which movement is seen."""
        return max(NODE, self.unet.multiple_of)

    @property
    def grid(self) -> int:
        """Corners of tiles must be multiples of this, in pixels: with phases movement is seen at half the size too."""
        return 2 * self.multiple_of if self.phases else self.multiple_of

    @property
    def unpadded(self) -> int:
        """Sides that are multiples of this, in pixels, need nothing added at half and at a quarter of the size either."""
        return 2 * self.grid if self.coarse else self.grid

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share, so that the seam cannot be seen: measured, see ``tests/bench_tiling.py``."""
        if self.phases:
            return 640
        return 320 if self.motion.looks == 1 else 448

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        fine = self.width / self.stem**2
        kept = 0.0 if self.prior is None else self.prior.kept_per_pixel / self.stem**2
        steering = 4 * fine + 3.5 + kept  # a steered block of the middle level, and the finest features that wait
        deconvolving = 52.0  # two rows of windows and their filters, which are half of a small tile; a CPU takes one
        return max(self.unet.values_per_pixel + fine, steering, deconvolving)

    @property
    def local(self) -> bool:
        """Tiles equal the whole: windows lie on one grid, and cells listen to their neighbours only.

        Those at a quarter of the size do not: on its grid, of 256 px, too much would be added at the borders, by mirroring.
        """
        return not self.coarse

    @property
    def precisions(self) -> tuple[str, ...]:
        """All: spectra and filters are computed in single precision whatever the weights are in."""
        return ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Told:
    """Restored images, and what the priors said on the way."""

    restored: tuple[Tensor, ...]
    """As :meth:`MotionUNet.forward` returns them."""
    maps: PriorMaps | None
    """Of the semantic prior; None where the net has none."""
    motion: Motion
    """Of the motion prior."""


class _SteeredBlock(nn.Module):
    """A residual block whose inner features are scaled and shifted by what is known of the movement."""

    def __init__(self, block: nn.Module, steer: int) -> None:
        super().__init__()
        if not isinstance(block, ResidualBlock):
            raise TypeError("only a residual block can be steered")
        self.c1 = block.c1
        self.c2 = block.c2
        self.slope = block.slope
        self.steer = nn.Conv2d(steer, 2 * block.c1.out_channels, 1)
        nn.init.zeros_(self.steer.weight)
        if self.steer.bias is not None:
            nn.init.zeros_(self.steer.bias)

    def forward(self, features: Tensor, movement: Tensor) -> Tensor:
        inner = self.c1(features)
        # A 1x1 convolution and bilinear resizing commute: it is computed where the movement is known.
        inner = steered(inner, self.steer(movement), self.slope)
        return self.c2(inner).add_(features)


class MotionUNet(nn.Module):
    """Blurred image to a tuple of one restored image."""

    conv1: nn.Conv2d
    enc1: nn.Module
    down2: nn.Conv2d
    enc2: nn.Module
    down3: nn.Conv2d
    enc3: nn.Module
    dec3: nn.Module
    up2: nn.ConvTranspose2d
    dec2: nn.Module
    up1: nn.ConvTranspose2d
    dec1: nn.Module
    out: nn.Conv2d

    def __init__(self, config: MotionUNetConfig) -> None:
        super().__init__()
        self.config = config
        for name, part in UNet(replace(config.unet, prior=None)).named_children():
            self.add_module(name, part)
        for name in ("enc2", "enc3", "dec3", "dec2"):
            blocks = (_SteeredBlock(block, config.motion.steer) for block in self.get_submodule(name).children())
            self.add_module(name, nn.ModuleList(blocks))
        guesses = len(config.motion.noise) * 3 * config.stem**2
        self.look = nn.Conv2d(guesses, config.width, 3, padding=1, bias=False)
        nn.init.zeros_(self.look.weight)
        self.motion = MotionPrior(config.motion)
        self.tell = nn.Linear(WAVES + config.motion.width, config.motion.steer)
        self.phases = PhasePrior(config.motion) if config.phases else None
        self.midway = Midway(config.motion) if config.midway else None
        self.coarse = Coarse() if config.coarse else None
        self.hindsight = Hindsight() if config.hindsight else None
        # The semantic prior comes last, so that the same seed gives the rest the weights of the net without it.
        widths = (config.width, 2 * config.width, 4 * config.width)
        self.prior = None if config.prior is None else SemanticPrior(config.prior, stem=config.stem)
        self.embed = None if config.prior is None else PriorEmbedding(config.prior, tuple(enumerate(widths)))

    def forward(self, blurred: Tensor) -> tuple[Tensor, ...]:
        """Restore ``blurred``.

        Args:
            blurred: (N, 3, H, W) float RGB in [0, 1], H and W multiples of ``config.multiple_of``.

        Returns:
            One restored image, (N, 3, H, W) in the dtype of ``blurred``.
        """
        motion = self.moved(blurred)
        return self._finished(blurred, self._restored(blurred, motion), motion)

    def forward_with_prior(self, blurred: Tensor) -> tuple[tuple[Tensor, ...], PriorMaps]:
        """Restore ``blurred`` as :meth:`forward` does, and show the prior's maps too, for the distillation loss."""
        if self.prior is None:
            raise ValueError("This net has no prior.")
        told = self.forward_with_motion(blurred)
        return told.restored, cast("PriorMaps", told.maps)

    def forward_with_motion(self, blurred: Tensor) -> Told:
        """Restore ``blurred`` as :meth:`forward` does, and show what the priors said."""
        motion = self.moved(blurred)
        image, movement, entered = self._begin(blurred, motion)
        maps: PriorMaps | None = None if self.prior is None else self.prior(image)
        embedded = [] if self.embed is None or maps is None else self.embed(maps.f_pri)
        restored = self._steered(blurred, entered, movement, embedded)
        return Told(self._finished(blurred, restored, motion), maps, motion)

    def moved(self, blurred: Tensor) -> Motion:
        """How ``blurred`` moved; the odd part of the kernels and mid-exposure too, where the net sees them."""
        motion: Motion = self.motion(blurred)
        if self.phases is None:
            return motion
        small = F.avg_pool2d(blurred, 2)
        # Nothing is learnt by this way: to restore well at full size is what all else is trained for.
        with torch.no_grad():
            smaller = self._restored_small(small, 1 if self.coarse is None else 2)
        grey, sharper = (image.mean(1, keepdim=True) for image in (small, smaller.restored))
        motion = self.phases(grey, sharper, motion)
        if self.coarse is not None:
            motion = replace(motion, smaller=smaller)
        return motion if self.midway is None else replace(motion, midway=self.midway(motion))

    def _restored_small(self, small: Tensor, sizes: int) -> Smaller:
        """``small`` restored by the even part of its kernels alone, its long waves from so many ``sizes`` less one."""
        height, width = small.shape[2:]
        unit = self.config.multiple_of
        # Less is added here than where the whole had to be a multiple of more: what is mirrored moved the other way.
        whole = F.pad(small, (0, -width % unit, 0, -height % unit), mode="replicate")
        motion = self.motion(whole)
        restored = self._restored(whole, motion)[0]
        if sizes > 1 and self.coarse is not None:
            smaller = self._restored_small(F.avg_pool2d(whole, 2), sizes - 1)
            restored = self.coarse(whole, restored, replace(motion, smaller=smaller))
        return Smaller(restored[..., :height, :width], motion)

    def _restored(self, blurred: Tensor, motion: Motion) -> tuple[Tensor, ...]:
        """One restored image, of one that moved so, in the mean of its movement."""
        image, movement, entered = self._begin(blurred, motion)
        embedded: list[Tensor] = []
        if self.prior is not None and self.embed is not None:
            embedded = self.embed(self.prior(image).f_pri)
        return self._steered(blurred, entered, movement, embedded)

    def _finished(self, blurred: Tensor, restored: tuple[Tensor, ...], motion: Motion) -> tuple[Tensor, ...]:
        """Images with long waves from the smaller one, and as they were at mid-exposure, where these are known."""
        if self.coarse is not None:
            restored = tuple(self.coarse(blurred, image, motion) for image in restored)
        midway = motion.midway
        if midway is not None:
            if self.hindsight is not None:
                midway = self.hindsight(blurred, restored[0], motion)
            restored = tuple(midway_through(image, midway) for image in restored)
        return restored

    def _begin(self, blurred: Tensor, motion: Motion) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The image in the dtype of the weights, what is known of the movement, and the first features.

        Movement goes first, the prior's wide maps after it: of the guesses nothing is left in memory by then but features.
        """
        image = blurred.to(self.conv1.weight.dtype)
        return image, self._movement(motion), [self._enter(blurred, image, motion)]

    def _movement(self, motion: Motion) -> Tensor:
        """What the steered blocks are told: (N, steer, H / 32, W / 32)."""
        kind = self.tell.weight.dtype
        known = torch.cat([transfer(motion.kernels).to(kind), motion.features.to(kind)], dim=-1)
        return F.leaky_relu(self.tell(known), 0.2).permute(0, 3, 1, 2)

    def _enter(self, blurred: Tensor, image: Tensor, motion: Motion) -> Tensor:
        """The first features, of the blurred image and of what the first guesses would change in it."""
        stem = self.config.stem
        # Strip by strip: of what the guesses change in the image nothing is ever held but its small copy for the net.
        strips = [_unshuffled(strip.clamp(-0.5, 0.5).to(image.dtype), stem) for strip in changes(blurred, motion)]
        looked = self.look(torch.cat(strips, dim=2))
        return self.conv1(F.pixel_unshuffle(image, stem)).add_(looked)

    def _steered(
        self, blurred: Tensor, skips: list[Tensor], movement: Tensor, embedded: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """The UNet from its first features, which ``skips`` holds, its lower levels steered."""

        def level(chain: nn.Module, features: Tensor) -> Tensor:
            for block in chain.children():
                features = block(features, movement)
            return features

        def fused(index: int, features: Tensor) -> Tensor:
            return features if self.embed is None else self.embed.fuse[index](features, embedded.pop())

        skips.append(run_chain(self.enc1, skips.pop()))
        skips.append(level(self.enc2, self.down2(skips[0])))
        features = level(self.enc3, self.down3(skips[1]))
        features = level(self.dec3, fused(2, features))
        features = level(self.dec2, fused(1, self.up2(features).add_(skips.pop())))
        features = run_chain(self.dec1, fused(0, self.up1(features).add_(skips.pop())))
        residual = F.pixel_shuffle(self.out(features), self.config.stem)
        return (blurred + residual.to(blurred.dtype),)


def _unshuffled(planes: Tensor, stem: int) -> Tensor:
    """What ``F.pixel_unshuffle`` makes of (N, C, H, W), its channels last in memory: in a third of the time."""
    count, colours, height, width = planes.shape
    parts = planes.view(count, colours, height // stem, stem, width // stem, stem)
    beside = [parts[:, colour, :, down] for colour in range(colours) for down in range(stem)]
    return torch.stack(beside, dim=3).flatten(3).permute(0, 3, 1, 2)
