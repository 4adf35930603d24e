"""What two or more nets share."""

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a LeakyReLU between them, plus the identity.

    Shapes: (N, C, H, W) to the same. ``act_last`` adds a second LeakyReLU before the sum, as in the depth-guided
    network (Li et al. TIP 2020).
    """

    def __init__(self, width: int, *, slope: float = 0.2, act_last: bool = False) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(width, width, 3, padding=1)
        self.c2 = nn.Conv2d(width, width, 3, padding=1)
        self.slope = slope
        self.act_last = act_last

    def forward(self, features: Tensor) -> Tensor:
        """Refine ``features``; same shape."""
        # A convolution needs its input for the gradient, never its output: that may be overwritten.
        change = self.c2(F.leaky_relu(self.c1(features), self.slope, inplace=True))
        if self.act_last:
            change = F.leaky_relu(change, self.slope)
        return change.add_(features)


def residual_blocks(count: int, width: int, *, slope: float = 0.2, act_last: bool = False) -> nn.Sequential:
    """A chain of ``count`` residual blocks of one width."""
    return nn.Sequential(*(ResidualBlock(width, slope=slope, act_last=act_last) for _ in range(count)))


def run_chain(chain: nn.Module, features: Tensor) -> Tensor:
    """Apply the blocks of a chain one by one; unlike calling it, no map but the current one stays in memory."""
    for block in chain.children():
        features = block(features)
    return features


def resize(features: Tensor, like: Tensor) -> Tensor:
    """``features`` at the height and width of ``like``, bilinear."""
    if features.shape[-2:] == like.shape[-2:]:
        return features
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
