"""DMPHN: an encoder and a decoder per level, each level on smaller patches of the image, from the finest patches up.

Paper: Zhang, Dai, Li, Koniusz. Deep Stacked Hierarchical Multi-patch Network for Image Deblurring. CVPR 2019.
https://arxiv.org/abs/1904.03468
Names of tensors are those of the authors' files, behind the name of the file: ``encoder_lv1.layer1.weight``.
Differs from the source: input in [0, 1], shifted inside; the patches of a level run as one batch. The semantic prior enters
every decoder, in patches as the features are; there are no skips within a level, so f_en of eq. 6 is 0.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from deblur_cli.nets.guided import Guidance, GuidedNet
from deblur_cli.nets.prior import PriorConfig

_GRIDS = ((1, 1), (2, 1), (2, 2), (4, 2))
"""Rows and columns of patches of each level: 1, 2, 4, 8."""
_STRIDE = 4
"""Pixels of the image per value of an encoder's result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DMPHNConfig:
    """The dials of a DMPHN; the defaults are the 1-2-4-8 model (7,232,524 parameters), three levels are 1-2-4."""

    levels: int = 4
    """Levels of patches, each with an encoder and a decoder of its own: 1 to 4."""
    width: int = 32
    """Channels at full resolution; doubled at each of the two lower strides."""
    prior: PriorConfig | None = None
    """The semantic prior that guides the decoders; None is the plain net."""

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= len(_GRIDS) or self.width < 1:
            raise ValueError(f"levels is {self.levels} and width {self.width}; they are 1 to 4 and positive.")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        return _STRIDE * max(_GRIDS[self.levels - 1])

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share; what is left of the seam is the net's own, between its patches."""
        return 128

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients, counted in its code."""
        # The last blocks of a decoder and what led to them. Quarters are copies of features and maps; halves are not.
        patched = self.levels == len(_GRIDS)
        peak = 4.0 * self.width + 3 if patched else 3.75 * self.width + 6
        if self.prior is None:
            return peak
        maps = (2 if patched else 1) * self.prior.kept_per_pixel
        return max(self.prior.values_per_pixel, peak + self.width + maps)

    @property
    def local(self) -> bool:
        """The borders of the patches lie where the image is divided, and a tile is divided elsewhere."""
        return False

    @property
    def precisions(self) -> tuple[str, ...]:
        """Not bf16: the net gives the image itself, of which eight binary digits keep no more than half of 8 bit."""
        return ("fp32", "fp16")


class _Block(nn.Sequential):
    """Convolution, ReLU, convolution, plus the identity."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name is torch's)
        """Refine ``input``; same shape."""
        return super().forward(input).add_(input)


class Encoder(nn.Module):
    """(N, 3, H, W) to (N, 4 ``width``, H / 4, W / 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(3, width, 3, padding=1)
        self.layer2 = _Block(width)
        self.layer3 = _Block(width)
        self.layer5 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.layer6 = _Block(2 * width)
        self.layer7 = _Block(2 * width)
        self.layer9 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.layer10 = _Block(4 * width)
        self.layer11 = _Block(4 * width)

    def forward(self, image: Tensor) -> Tensor:
        """The features of ``image``."""
        for layer in self.children():
            image = layer(image)
        return image


class Decoder(nn.Module):
    """(N, 4 ``width``, H / 4, W / 4) to (N, 3, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer13 = _Block(4 * width)
        self.layer14 = _Block(4 * width)
        self.layer16 = nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)
        self.layer17 = _Block(2 * width)
        self.layer18 = _Block(2 * width)
        self.layer20 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.layer21 = _Block(width)
        self.layer22 = _Block(width)
        self.layer24 = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, features: Tensor, guidance: Guidance, first: int) -> Tensor:
        """The image, or the change to one, that ``features`` tell of; ``first`` is this decoder's first insertion."""
        features = self.layer14(self.layer13(guidance.fuse(first, features)))
        features = self.layer18(self.layer17(guidance.fuse(first + 1, self.layer16(features))))
        return self.layer24(self.layer22(self.layer21(guidance.fuse(first + 2, self.layer20(features)))))


class DMPHN(GuidedNet):
    """Blurred image to a tuple of one restored image."""

    def __init__(self, config: DMPHNConfig) -> None:
        super().__init__()
        self.config = config
        for level in range(1, config.levels + 1):
            self.add_module(f"encoder_lv{level}", Encoder(config.width))
            self.add_module(f"decoder_lv{level}", Decoder(config.width))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                _begin(module)
        self.guide(config.prior, [(stride, config.width * 2**stride) for stride in (2, 1, 0)] * config.levels)

    def _restore(self, blurred: Tensor, image: Tensor, guidance: Guidance) -> tuple[Tensor, ...]:
        image = (blurred - 0.5).to(image.dtype)  # half precision is finer around 0
        change: Tensor | None = None
        features: Tensor | None = None
        for index, level in enumerate(range(self.config.levels, 0, -1)):
            own = self._encode(level, image if change is None else change.add_(image))
            features = own if features is None else own.add_(features)
            change = self._decode(level, features, guidance, 3 * index)
        if change is None:
            raise ValueError("a net without levels")
        return (change.to(blurred.dtype) + 0.5,)

    def _encode(self, level: int, image: Tensor) -> Tensor:
        """The features of a level, (N, 4 ``width``, H / 4, W / 4), from its patches of ``image``."""
        grid = _GRIDS[level - 1]
        return join(self.get_submodule(f"encoder_lv{level}")(split(image, *grid)), *grid)

    def _decode(self, level: int, features: Tensor, guidance: Guidance, first: int) -> Tensor:
        """What a level makes of its features, (N, 3, H, W): pairs of its patches are decoded as one."""
        grid = _GRIDS[max(level - 2, 0)]
        guide = guidance.divided(lambda each: split(each, *grid))
        return join(self.get_submodule(f"decoder_lv{level}")(split(features, *grid), guide, first), *grid)


def split(image: Tensor, rows: int, columns: int) -> Tensor:
    """(N, C, H, W) cut into equal patches, (N ``rows`` ``columns``, C, H / ``rows``, W / ``columns``)."""
    if rows == columns == 1:
        return image
    count, channels, height, width = image.shape
    cut = image.reshape(count, channels, rows, height // rows, columns, width // columns)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // rows, width // columns)


def join(patches: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of :func:`split`."""
    if rows == columns == 1:
        return patches
    _, channels, height, width = patches.shape
    laid = patches.reshape(-1, rows, columns, channels, height, width)
    return laid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows * height, columns * width)


def _begin(convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """The authors' start: N(0, 0.5 sqrt(2 / (k k channels out))), no bias."""
    fan = convolution.kernel_size[0] * convolution.kernel_size[1] * convolution.out_channels
    nn.init.normal_(convolution.weight, std=0.5 * (2 / fan) ** 0.5)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
