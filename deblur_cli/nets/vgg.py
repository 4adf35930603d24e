"""VGG19 up to conv3_3, before its activation: what the perceptual loss looks through.

Paper: Simonyan and Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015.
https://arxiv.org/abs/1409.1556
The paper of the prior calls the layer VGG_3,3; that it is taken before its activation is how DeblurGAN-v2 reads it.
Tensor names are those that torchvision and timm share.
"""

from collections.abc import Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from deblur_cli.errors import WeightsError

_LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256)
"""Channels of each convolution; 0 is a max pooling."""


class VGG19Features(nn.Module):
    """(N, 3, H, W) in [0, 1] to (N, 256, H / 4, W / 4); frozen, but gradients pass through to the image."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for channels in _LAYERS:
            if channels:
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(inplace=True)]
                width = channels
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("_mean", torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002  (the signature is torch's)
        """Stay in evaluation mode."""
        return super().train(mode=False)

    def forward(self, image: Tensor) -> Tensor:
        """What VGG19 sees in ``image``."""
        return self.features((image - cast("Tensor", self._mean)) / cast("Tensor", self._std))


def fill(features: VGG19Features, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Give ``features`` its weights, in place.

    Args:
        features: new.
        tensors: by the names of torchvision and timm, ``features.0.weight``, or without ``features.``; others are left
            aside.
        source: where the tensors come from, for the message.

    Raises:
        WeightsError: a tensor is missing or of another shape.
    """
    bare = {name.removeprefix("features."): values for name, values in tensors.items()}
    wanted = features.features.state_dict()
    unfit = [name for name, values in wanted.items() if name not in bare or bare[name].shape != values.shape]
    if unfit:
        raise WeightsError(
            f"{source} does not hold VGG19: features.{unfit[0]} is missing or of another shape.",
            "Give --perceptual a state dict of torchvision's or timm's VGG19, or say --perceptual none.",
        )
    features.features.load_state_dict({name: bare[name] for name in wanted})
