"""What each net's own paper compares with the sharp image: the net's name in the catalogue to its reconstruction loss.

A net gives its final image first; in training its earlier stages, latest first, or its smaller scales, largest first,
follow. The sharp image of a smaller scale is made here, in the way of the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.deepdeblur import halve
from deblur_cli.pixels import distances, losses

Reconstruction = Callable[[Sequence[Tensor], Tensor], Tensor]
"""The restored images of a net, final first, and the sharp one, (N, 3, H, W) in [0, 1], to a scalar."""

_Distance = Callable[[Tensor, Tensor], Tensor]

_WHITE = 255.0


def l1_of_final(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Mean absolute difference of the final image: equation 8 of the prior's paper, for the UNet."""
    return losses.l1(restored[0], sharp)


def mse_of_final(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Mean square difference of the final image: DMPHN; the patches' own images are not compared."""
    return distances.mse(restored[0], sharp)


def psnr_of_final(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Minus the PSNR of the final image: NAFNet."""
    return distances.psnr_loss(restored[0], sharp)


def bounded_psnr_of_final(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Minus the PSNR of the final image, of which what is beyond 40 dB hardly counts: sharp crops would rule the others."""
    return distances.psnr_loss(restored[0], sharp, eps=1e-4)


def tutored_psnr_of_final(restored: Sequence[Tensor], taught: Tensor, sharp: Tensor) -> Tensor:
    """The same where a tutor, whose image is ``taught``, tells how much of the sharp image can be had."""
    return _with_the_others(distances.tutored_psnr_loss(restored[0], taught, sharp, eps=1e-4), restored)


def psnr_of_stages(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Half of minus the PSNR, summed over both stages: HINet."""
    return 0.5 * _summed(distances.psnr_loss, restored, [sharp] * len(restored))


def charbonnier_and_edges(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Charbonnier distance + 0.05 edge loss, summed over the stages: MPRNet."""
    targets = [sharp] * len(restored)
    return _summed(losses.charbonnier, restored, targets) + 0.05 * _summed(distances.edge_loss, restored, targets)


def l1_of_pyramid(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Mean absolute difference on the scale of 0 to 255, summed over a Gaussian pyramid: DeepDeblur's PyTorch version."""
    return _WHITE * _summed(losses.l1, restored, gaussian_pyramid(restored, sharp))


def mse_of_scales(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Mean square difference, summed over scales made bilinearly: SRN."""
    return _summed(distances.mse, restored, bilinear_scales(restored, sharp))


def l1_and_frequencies(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """Mean absolute difference + 0.1 that of the spectra, summed over scales made bilinearly: MIMO-UNet."""
    return _with_frequencies(restored, bilinear_scales(restored, sharp))


def l1_and_frequencies_of_stages(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
    """The same over MSSNet's six stages, of which the first is compared with the sharp image halved corner to corner."""
    half = F.interpolate(sharp, scale_factor=0.5, mode="bilinear", align_corners=True)
    targets = [sharp if image.shape == sharp.shape else half for image in restored]
    return _with_frequencies(restored, targets)


def gaussian_pyramid(restored: Sequence[Tensor], sharp: Tensor) -> list[Tensor]:
    """The sharp image at the scales of ``restored``, each of the one before: blurred by a Gaussian, then halved."""
    targets = [sharp]
    for _ in restored[1:]:
        targets.append(halve(targets[-1]))
    return targets


def bilinear_scales(restored: Sequence[Tensor], sharp: Tensor) -> list[Tensor]:
    """The sharp image at the sizes of ``restored``, each straight from the whole, not blurred before: the authors' way."""
    return [
        sharp
        if image.shape == sharp.shape
        else F.interpolate(sharp, image.shape[-2:], mode="bilinear", align_corners=False)
        for image in restored
    ]


RECONSTRUCTIONS: Mapping[str, Reconstruction] = MappingProxyType(
    {
        "motion-unet": l1_of_final,
        "unet": l1_of_final,
        "deepdeblur": l1_of_pyramid,
        "mprnet": charbonnier_and_edges,
        "mimo-unet": l1_and_frequencies,
        "mssnet": l1_and_frequencies_of_stages,
        "srn": mse_of_scales,
        "dmphn": mse_of_final,
        "hinet": psnr_of_stages,
        "nafnet": psnr_of_final,
        "bdirnet": l1_of_final,
    }
)
"""By the names of :data:`deblur_cli.nets.NETS`; BDIRNet's has more to it, see :class:`deblur_cli.objective.BlurDistilling`."""


def _of_final_alone(compare: Reconstruction) -> Reconstruction:
    """``compare``, with which every image has to do."""

    def compared(restored: Sequence[Tensor], sharp: Tensor) -> Tensor:
        return _with_the_others(compare(restored, sharp), restored)

    return compared


CHOSEN: Mapping[str, Reconstruction] = MappingProxyType(
    {"l1": _of_final_alone(l1_of_final), "psnr": _of_final_alone(bounded_psnr_of_final)}
)
"""What may be trained for in place of a net's own: each compares final images only."""


def _with_the_others(loss: Tensor, restored: Sequence[Tensor]) -> Tensor:
    """``loss`` of the final image alone: a crew of processes waits for the gradients of all of them."""
    for image in restored[1:]:
        loss = loss + 0 * image.sum()
    return loss


def _summed(distance: _Distance, restored: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    return torch.stack([distance(image, target) for image, target in zip(restored, targets, strict=True)]).sum()


def _with_frequencies(restored: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    return _summed(losses.l1, restored, targets) + 0.1 * _summed(distances.frequency_l1, restored, targets)
