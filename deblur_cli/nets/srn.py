"""SRN: one U-shaped net that restores three sizes of the image in turn, from a quarter to the whole, with the same weights.

Paper: Tao, Gao, Shen, Wang, Jia. Scale-Recurrent Network for Deep Image Deblurring. CVPR 2018.
https://arxiv.org/abs/1802.01770
This is the net without its LSTM, as the authors compare it. Differs from the source: strided convolutions pad the same on both
sides, and images are resized between pixel areas, as everywhere here; the names of tensors are ours. The semantic prior enters
the decoder, which has the same weights at each size: level i takes the prior's map i, resized to where it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.nets.blocks import run_chain
from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig

_SCALES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class SRNConfig:
    """The dials of an SRN; the defaults are the paper's net (6,881,251 parameters)."""

    width: int = 32
    """Channels at the finest level; doubled at each of the two lower ones."""
    blocks: int = 3
    """Residual blocks per level in the encoder and in the decoder."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoder; None is the plain net."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.blocks < 0:
            raise ValueError(f"width is {self.width} and blocks {self.blocks}; neither fits.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return 4 * 2 ** (_SCALES - 1)

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share: as many as a restored pixel sees at the two finer scales.

        Through the coarsest it sees twice as far, but there a blur is no wider than elsewhere.
        """
        # Four pixels for a block's two 5x5 convolutions, at three levels, in encoder and decoder, at two scales.
        return max(168 * self.blocks + 56, self.prior.reach if self.prior else 0)

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        peak = 4 * self.width + 13  # a residual block and the skip of the finest level, and the images
        if self.prior is None:
            return peak
        waiting = peak + self.prior.kept_per_pixel
        return max(self.prior.values_per_pixel, waiting, 13 + self.prior.fusing_per_pixel(self.width))

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
        self.c1 = nn.Conv2d(width, width, 5, padding=2)
        self.c2 = nn.Conv2d(width, width, 5, padding=2)

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        return self.c2(F.relu(self.c1(features), inplace=True)).add_(features)


class SRN(GuidedNet):
    """Blurred image to a tuple of the restored image and, in training, those of a half and a quarter of the size."""

    def __init__(self, config: SRNConfig) -> None:
        super().__init__()
        self.config = config
        width = (config.width, 2 * config.width, 4 * config.width)

        def level(index: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(width[index]) for _ in range(config.blocks)))

        self.conv1 = nn.Conv2d(6, width[0], 5, padding=2)
        self.enc1 = level(0)
        self.down2 = nn.Conv2d(width[0], width[1], 5, stride=2, padding=2)
        self.enc2 = level(1)
        self.down3 = nn.Conv2d(width[1], width[2], 5, stride=2, padding=2)
        self.enc3 = level(2)
        self.dec3 = level(2)
        self.up2 = nn.ConvTranspose2d(width[2], width[1], 4, stride=2, padding=1)
        self.dec2 = level(1)
        self.up1 = nn.ConvTranspose2d(width[1], width[0], 4, stride=2, padding=1)
        self.dec1 = level(0)
        self.out = nn.Conv2d(width[0], 3, 5, padding=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.guide(config.prior, [(level, width[level]) for level in (2, 1, 0)])

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        images: list[Tensor] = []
        for scale in range(_SCALES - 1, -1, -1):
            seen = _resized(blurred, blurred.shape[-2] >> scale, blurred.shape[-1] >> scale)
            # What a scale has restored is the next one's hint, not its teacher: no gradient goes back.
            hint = _resized(images[-1].detach(), *seen.shape[-2:]) if images else seen
            both = torch.cat((seen, hint), dim=1).to(image.dtype)
            images.append(self._one(both, guidance, keep=scale > 0).to(blurred.dtype))
        return tuple(reversed(images)) if self.training else (images[-1],)

    def _one(self, both: Tensor, guidance: Guidance, *, keep: bool) -> Tensor:
        """One size of the image restored."""
        features = run_chain(self.enc1, F.relu(self.conv1(both), inplace=True))
        skips = [features]
        features = run_chain(self.enc2, F.relu(self.down2(features), inplace=True))
        skips.append(features)
        features = run_chain(self.enc3, F.relu(self.down3(features), inplace=True))
        features = run_chain(self.dec3, guidance.fuse(0, features, keep=keep))
        # A skip is popped where it is added, so that it does not stay in memory while the level is decoded.
        features = F.relu(self.up2(features), inplace=True) + skips.pop()
        features = run_chain(self.dec2, guidance.fuse(1, features, keep=keep))
        features = F.relu(self.up1(features), inplace=True) + skips.pop()
        return self.out(run_chain(self.dec1, guidance.fuse(2, features, keep=keep)))


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image, (height, width), mode="bilinear", align_corners=False)
