"""UNet: the paper's plain baseline, a three-level encoder and decoder with additive skips.

Paper: Li et al. Dynamic Scene Deblurring by Depth Guided Model. IEEE TIP 2020: its image branch, without depth input,
is the "UNet [17]" of Take a Prior from Other Tasks for Severe Blur Removal, section 4.1.
Differs from the source: input in [0, 1] with a plain residual to the image in place of tanh; the second activation of
a block is optional. The first half of the bottleneck is the encoder's third level, the second half the decoder's.
``stem=2`` reads and writes pixel-unshuffled images: four times less work, for machines without a GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import residual_blocks, run_chain
from deblur_cli.nets.embedding import PriorEmbedding
from deblur_cli.nets.prior import PriorConfig, PriorMaps, SemanticPrior


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig:
    """The dials of a UNet; the defaults are the paper's net (2,623,619 parameters)."""

    width: int = 32
    """Channels at full resolution; doubled at each of the two lower levels."""
    blocks: tuple[int, int, int] = (3, 3, 3)
    """Residual blocks per level, the same number in encoder and decoder."""
    stem: int = 1
    """Pixel-unshuffle factor of the input: 1 is the paper's net, 2 works at half resolution throughout."""
    act_last: bool = False
    """A second LeakyReLU in every residual block, before the sum."""
    tanh_head: bool = False
    """Squash the residual with tanh before it is added to the image."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoder; None is the plain net."""

    def __post_init__(self) -> None:
        if len(self.blocks) != 3 or min(self.width, self.stem, *self.blocks) < 1:
            raise ValueError(
                f"width {self.width}, stem {self.stem} and three blocks {self.blocks} must all be positive."
            )

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 4 * self.stem

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share, so that the seam cannot be seen: measured, see ``tests/bench_tiling.py``."""
        return 96 * self.stem

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        peak = 3.5 * self.width  # a residual block of the finest level: its input and both maps, and the level below
        if self.prior is not None:
            fine, middle, coarse = self.prior.widths
            connecting = 4 * fine + middle / 2 + coarse / 16
            peak = max(connecting, 4.5 * self.width + fine)
        return peak / self.stem**2

    @property
    def local(self) -> bool:
        """Tiles equal the whole: nothing here looks further than its convolutions, but for the prior's two attentions."""
        return True

    @property
    def precisions(self) -> tuple[str, ...]:
        """All: the residual is small, and is added in the image's own dtype."""
        return ("fp32", "bf16", "fp16")


class UNet(nn.Module):
    """Blurred image to a tuple of one restored image."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = (config.width, 2 * config.width, 4 * config.width)
        image = 3 * config.stem**2
        # A pixel of an unshuffled image already sees 2x2 pixels: 3x3 there covers what 7x7 covers at full resolution.
        end, middle = (7, 5) if config.stem == 1 else (3, 3)

        def level(index: int) -> nn.Sequential:
            return residual_blocks(config.blocks[index], width[index], act_last=config.act_last)

        self.conv1 = nn.Conv2d(image, width[0], end, padding=end // 2)
        self.enc1 = level(0)
        self.down2 = nn.Conv2d(width[0], width[1], middle, stride=2, padding=middle // 2)
        self.enc2 = level(1)
        self.down3 = nn.Conv2d(width[1], width[2], 3, stride=2, padding=1)
        self.enc3 = level(2)
        self.dec3 = level(2)
        self.up2 = nn.ConvTranspose2d(width[2], width[1], 4, stride=2, padding=1)
        self.dec2 = level(1)
        self.up1 = nn.ConvTranspose2d(width[1], width[0], 4, stride=2, padding=1)
        self.dec1 = level(0)
        self.out = nn.Conv2d(width[0], image, end, padding=end // 2)
        self.prior = None if config.prior is None else SemanticPrior(config.prior, stem=config.stem)
        self.embed = None if config.prior is None else PriorEmbedding(config.prior, tuple(enumerate(width)))

    def forward(self, blurred: Tensor) -> tuple[Tensor, ...]:
        """Restore ``blurred``.

        Args:
            blurred: (N, 3, H, W) float RGB in [0, 1], H and W multiples of ``config.multiple_of``.

        Returns:
            One restored image, (N, 3, H, W) in the dtype of ``blurred``: the net may run in half precision, the residual
            is added to the image in the image's own.
        """
        image = blurred.to(self.conv1.weight.dtype)
        # The prior goes first: its maps are wide, and nothing of the encoder need wait in memory meanwhile.
        if self.prior is None or self.embed is None:
            return self._restore(blurred, image, [])
        return self._restore(blurred, image, self.embed(self.prior(image).f_pri))

    def forward_with_prior(self, blurred: Tensor) -> tuple[tuple[Tensor, ...], PriorMaps]:
        """Restore ``blurred`` as :meth:`forward` does, and show the prior's maps too, for the distillation loss."""
        if self.prior is None or self.embed is None:
            raise ValueError("This net has no prior.")
        image = blurred.to(self.conv1.weight.dtype)
        maps: PriorMaps = self.prior(image)
        return self._restore(blurred, image, self.embed(maps.f_pri)), maps

    def _restore(self, blurred: Tensor, image: Tensor, embedded: list[Tensor]) -> tuple[Tensor, ...]:
        """Encoder and decoder; ``embedded`` has the prior's map of each level, finest first, and is emptied."""
        features = run_chain(self.enc1, self.conv1(F.pixel_unshuffle(image, self.config.stem)))
        skips = [features]
        features = run_chain(self.enc2, self.down2(features))
        skips.append(features)
        features = run_chain(self.enc3, self.down3(features))
        features = run_chain(self.dec3, self._fuse(2, features, embedded))
        # A skip is popped where it is added, so that it does not stay in memory while the level is decoded.
        features = run_chain(self.dec2, self._fuse(1, self.up2(features).add_(skips.pop()), embedded))
        features = run_chain(self.dec1, self._fuse(0, self.up1(features).add_(skips.pop()), embedded))
        residual = F.pixel_shuffle(self.out(features), self.config.stem)
        if self.config.tanh_head:
            residual = torch.tanh(residual)
        return (blurred + residual.to(blurred.dtype),)

    def _fuse(self, level: int, features: Tensor, embedded: list[Tensor]) -> Tensor:
        """Eq. 6 at one decoder level: ``features`` is f_de + f_en, the last map of ``embedded`` is this level's."""
        return features if self.embed is None else self.embed.fuse[level](features, embedded.pop())
