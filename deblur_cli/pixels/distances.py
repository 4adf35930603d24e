"""How other papers measure what a restored image, or what a net keeps of it, is away from the sharp one.

Every sum is taken in float32 or better, whatever precision the nets ran in.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_BINOMIAL = (0.05, 0.25, 0.4, 0.25, 0.05)
"""Burt and Adelson's generating kernel, of which a Laplacian pyramid is made."""


def mse(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean square of the difference over all elements, a scalar.

    Args:
        restored: any shape.
        sharp: the same shape.
    """
    return F.mse_loss(exact(restored), exact(sharp))


def psnr_loss(restored: Tensor, sharp: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Minus the PSNR in dB of each image against a white of 1, averaged over the batch; a scalar.

    Args:
        restored: (N, ...) in [0, 1], not clamped.
        sharp: the same shape.
        eps: is added to every mean square, so that the loss of equal images is finite (-80 dB).

    Source: HINet (https://arxiv.org/abs/2105.06086) and NAFNet (https://arxiv.org/abs/2204.04676), their code.
    """
    squares = (exact(restored) - exact(sharp)).square().flatten(1).mean(dim=1)
    return 10 / math.log(10) * torch.log(squares + eps).mean()


def tutored_psnr_loss(restored: Tensor, taught: Tensor, sharp: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Minus the PSNR in dB of each image, if what a tutor could not tell is beyond telling, averaged over the batch; a scalar.

    The square of the distance to the sharp image is that to the tutor's image, that from there to the sharp one, and twice
    the product of the two differences. This product is left out: it is 0 in the mean where the tutor tells all that a blurred
    image tells, and most of the noise in a gradient otherwise.

    Args:
        restored: (N, ...) in [0, 1], not clamped.
        taught: the same shape: what the tutor restored.
        sharp: the same shape.
        eps: is added to every mean square.

    Source: ours; learning from a larger net is Hinton et al. Distilling the Knowledge in a Neural Network. arXiv 1503.02531
    """
    there, beyond = (
        (exact(first) - exact(second)).square().flatten(1).mean(dim=1)
        for first, second in ((restored, taught), (taught, sharp))
    )
    return 10 / math.log(10) * torch.log(there + beyond + eps).mean()


def frequency_l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of two images' spectra, real and imaginary parts as elements of their own; a scalar.

    Args:
        restored: (N, C, H, W); the spectrum is that of all H x W frequencies, not normalised.
        sharp: the same shape.

    Source: MIMO-UNet, the multi-scale frequency reconstruction loss at one scale; https://arxiv.org/abs/2108.05054
    """
    # The transform is linear: that of the difference is the difference of the two.
    return torch.view_as_real(torch.fft.fft2(exact(restored) - exact(sharp))).abs().mean()


def edge_loss(restored: Tensor, sharp: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Charbonnier distance of the two images' Laplacians, a scalar.

    Args:
        restored: (N, C, H, W), H and W at least 2.
        sharp: the same shape.
        eps: of the Charbonnier distance.

    Source: Jiang et al. Multi-Scale Progressive Fusion Network. CVPR 2020; as MPRNet's
    code has it, https://arxiv.org/abs/2102.02808
    """
    edges = laplacian(exact(restored) - exact(sharp))  # linear, as the spectrum is
    return torch.sqrt(edges.square() + eps**2).mean()


def laplacian(image: Tensor) -> Tensor:
    """What one level of a Laplacian pyramid keeps of ``image``, (N, C, H, W) to the same.

    That is the image minus its blurred self, which was halved and doubled: blurred, every second pixel of every second
    row kept four times as large among zeros, blurred again. Borders are repeated.
    """
    blurred = _blurred(image)
    sparse = torch.zeros_like(blurred)
    sparse[..., ::2, ::2] = 4 * blurred[..., ::2, ::2]
    return image - _blurred(sparse)


def latent_distance(blurred: Sequence[Tensor], sharp: Sequence[Tensor]) -> Tensor:
    """How far the features of blurred images are from those of the sharp ones, which are not moved; a scalar.

    Per level the mean absolute difference in units of the sharp features' standard deviation; the levels are summed.

    Args:
        blurred: one map (N, C, H, W) per level.
        sharp: the same shapes.
    """
    levels = [
        (exact(ours) - exact(theirs).detach()).abs().mean() / exact(theirs).detach().std().clamp_min(1e-6)
        for ours, theirs in zip(blurred, sharp, strict=True)
    ]
    return torch.stack(levels).sum()


def contrast(blurred: Tensor, sharp: Tensor, *, temperature: float = 0.1) -> Tensor:
    """How badly each blurred image's features tell which sharp image is its own; a scalar, InfoNCE.

    Features are averaged over their pixels and compared by the cosine. Against an image's own sharp counterpart stand all
    other images of the batch, sharp and blurred. The sharp features are not moved. 0 for a batch of one image.

    Args:
        blurred: (N, C, H, W).
        sharp: the same shape.
        temperature: by which cosines are divided.

    Source: van den Oord et al. Representation Learning with Contrastive Predictive Coding. arXiv 1807.03748
    """
    ours = F.normalize(exact(blurred).mean(dim=(2, 3)), dim=1)
    theirs = F.normalize(exact(sharp).detach().mean(dim=(2, 3)), dim=1)
    own = torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    # Products and sums, not matrices, which autocast would round.
    of_sharp, of_blurred = ((ours[:, None] * each[None]).sum(dim=-1) for each in (theirs, ours))
    likeness = torch.cat((of_sharp, of_blurred.masked_fill(own, -math.inf)), dim=1) / temperature
    return F.cross_entropy(likeness, torch.arange(len(ours), device=ours.device))


def exact(values: Tensor) -> Tensor:
    """``values`` in float32, or float64 where they have that."""
    return values if values.dtype == torch.float64 else values.float()


def _blurred(image: Tensor) -> Tensor:
    """``image`` under the generating kernel; slices and no convolution, which autocast would round."""
    reach = len(_BINOMIAL) // 2
    for axis in (-1, -2):
        size = image.shape[axis]
        border = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        around = F.pad(image, border, mode="replicate")
        parts = [weight * around.narrow(axis, tap, size) for tap, weight in enumerate(_BINOMIAL)]
        image = torch.stack(parts).sum(dim=0)
    return image
