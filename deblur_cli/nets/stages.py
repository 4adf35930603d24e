"""What stages of restoration are built of: the encoder, the decoder and the supervised attention of MPRNet.

Paper: Zamir et al. Multi-Stage Progressive Image Restoration. CVPR 2021. https://arxiv.org/abs/2102.02808
MSSNet builds its stages of the same encoder and decoder around another block, HINet has the same attention with wider
kernels. All three work at strides 1, 2 and 4; lists of features are finest first. Names of tensors are the authors'.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from deblur_cli.nets.blocks import resize, run_chain

Block = Callable[[int], nn.Module]
"""Width to a new block that keeps the shape of its input."""
Fuse = Callable[[int, Tensor], Tensor]
"""Place in a decoder (0 is the deepest level) and the features there to those with the prior in them."""


class Down(nn.Module):
    """(N, ``width``, H, W) to (N, ``wider``, H / 2, W / 2): bilinear, then a 1x1 convolution."""

    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Upsample(scale_factor=0.5, mode="bilinear"), nn.Conv2d(width, wider, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """``features`` at half the size."""
        return self.down(features)


class Up(nn.Module):
    """(N, ``width``, H, W) to (N, ``narrower``, 2 H, 2 W): bilinear, then a 1x1 convolution."""

    def __init__(self, width: int, narrower: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(width, narrower, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """``features`` at twice the size."""
        return self.up(features)


class Encoder(nn.Module):
    """(N, ``widths[0]``, H, W) to three maps in ``widths``; ``crossed`` adds what an earlier stage saw (CSFF)."""

    def __init__(self, widths: Sequence[int], block: Block, *, crossed: bool) -> None:
        super().__init__()
        self.encoder_level1, self.encoder_level2, self.encoder_level3 = (_level(width, block) for width in widths)
        self.down12 = Down(widths[0], widths[1])
        self.down23 = Down(widths[1], widths[2])
        self.crossed = crossed
        if crossed:
            for level, width in enumerate(widths, 1):
                self.add_module(f"csff_enc{level}", nn.Conv2d(width, width, 1, bias=False))
                self.add_module(f"csff_dec{level}", nn.Conv2d(width, width, 1, bias=False))

    def forward(
        self, features: Tensor, earlier: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None
    ) -> list[Tensor]:
        """Three levels of ``features``.

        Args:
            features: of the stage's input.
            earlier: the lists of encoder and decoder of the stage before; where that worked at half the size, they are
                resized. Needed where ``crossed``.
        """
        fine = self._cross(0, run_chain(self.encoder_level1, features), earlier)
        middle = self._cross(1, run_chain(self.encoder_level2, self.down12(fine)), earlier)
        coarse = self._cross(2, run_chain(self.encoder_level3, self.down23(middle)), earlier)
        return [fine, middle, coarse]

    def _cross(self, level: int, features: Tensor, earlier: tuple[Sequence[Tensor], Sequence[Tensor]] | None) -> Tensor:
        if not self.crossed or earlier is None:
            return features
        for side, seen in zip(("enc", "dec"), earlier, strict=True):
            convolution = self.get_submodule(f"csff_{side}{level + 1}")
            features = convolution(resize(seen[level], features)).add_(features)
        return features


class Decoder(nn.Module):
    """Three maps in ``widths`` to three of the same shapes."""

    def __init__(self, widths: Sequence[int], block: Block) -> None:
        super().__init__()
        self.decoder_level1, self.decoder_level2, self.decoder_level3 = (_level(width, block) for width in widths)
        self.skip_attn1 = block(widths[0])
        self.skip_attn2 = block(widths[1])
        self.up21 = Up(widths[1], widths[0])
        self.up32 = Up(widths[2], widths[1])

    def forward(self, encoded: Sequence[Tensor], fuse: Fuse) -> list[Tensor]:
        """Decode ``encoded``; eq. 6 of the prior applies to each level's input, with f_en behind its skip's block."""
        # Nothing is named on its way, so that a level's input does not stay in memory while the level is decoded.
        coarse = run_chain(self.decoder_level3, fuse(0, encoded[2]))
        middle = run_chain(self.decoder_level2, fuse(1, self.up32(coarse).add_(self.skip_attn2(encoded[1]))))
        fine = run_chain(self.decoder_level1, fuse(2, self.up21(middle).add_(self.skip_attn1(encoded[0]))))
        return [fine, middle, coarse]


class SupervisedAttention(nn.Module):
    """SAM: an image from the features, and the features weighed by what that image shows."""

    def __init__(self, width: int, *, kernel: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=bias)
        self.conv2 = nn.Conv2d(width, 3, kernel, padding=kernel // 2, bias=bias)
        self.conv3 = nn.Conv2d(3, width, kernel, padding=kernel // 2, bias=bias)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh (N, ``width``, H, W) ``features``.

        Returns:
            The features for the next stage, and the change, (N, 3, H, W), that makes ``image`` this stage's own.
        """
        change = self.conv2(features)
        attention = self.conv3(change + image).sigmoid_()
        return torch.addcmul(features, self.conv1(features), attention), change


def _level(width: int, block: Block) -> nn.Sequential:
    return nn.Sequential(block(width), block(width))
