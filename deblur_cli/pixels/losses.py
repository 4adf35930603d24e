"""What training minimises: distances between images, and between the maps of student and teacher.

Paper: Take a Prior from Other Tasks for Severe Blur Removal, equations 2, 4, 7 and 8; https://arxiv.org/abs/2302.06898.
Hierarchical context: Chen et al. Distilling Knowledge via Knowledge Review. CVPR 2021.
Differs from the paper: where the norms of its formulas contradict its text, the text is followed (mean-square errors,
means over all elements); the letter of equation 2 is the reading ``"literal"``.

Every sum is taken in float32 or better, whatever precision the nets ran in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Reading = Literal["mse", "literal", "reviewkd"]
"""How equation 2 is read; see :func:`distillation`."""

_POOLINGS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Losses:
    """One step's loss, whole and in parts."""

    total: Tensor
    """Scalar with a graph behind it: what is differentiated."""
    terms: Mapping[str, Tensor]
    """Name to scalar, detached and unweighted: what is reported."""


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference over all elements, a scalar (L_1 of equation 8).

    Args:
        restored: any shape.
        sharp: the same shape.
    """
    return F.l1_loss(_exact(restored), _exact(sharp))


def charbonnier(restored: Tensor, sharp: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference² + eps²), a scalar: an L1 that is smooth at zero, where it is ``eps``.

    Source: Lai et al. Deep Laplacian Pyramid Networks. CVPR 2017.
    """
    difference = _exact(restored) - _exact(sharp)
    return torch.sqrt(difference.square() + eps**2).mean()


def perceptual(features: Callable[[Tensor], Tensor], restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean-square distance of two images as ``features`` sees them, a scalar (L_vgg of equation 8).

    Args:
        features: a frozen net, (N, 3, H, W) in [0, 1] to (N, C, h, w); gradients pass through it to ``restored`` only.
        restored: (N, 3, H, W), not clamped.
        sharp: the same shape.
    """
    with torch.no_grad():
        wanted = features(sharp)
    return F.mse_loss(_exact(features(restored)), _exact(wanted))


def distillation(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, reading: Reading = "mse"
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """How far the student's maps are from the teacher's: the mean over the levels, and each level (equations 2 and 4).

    At every level the difference of the maps is averaged over windows of 1, 2 and 4 pixels, without overlap; a window at the
    border counts only what lies inside.

    Args:
        student: one map (N, C, H, W) per level.
        teacher: the same shapes; a ValueError otherwise.
        reading: ``"mse"`` sums the mean-square errors of the three poolings, as the text says; ``"literal"`` sums their
            Frobenius norms per image and divides by H x W, as the formula says; ``"reviewkd"`` averages the mean-square errors
            with the weights 1, 1/2 and 1/4.

    Returns:
        The total, and the levels, scalars all.
    """
    shapes = [tuple(level.shape) for level in student], [tuple(level.shape) for level in teacher]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(f"the student's maps are {shapes[0]}, the teacher's {shapes[1]}")
    levels = tuple(
        _LEVELS[reading](_exact(ours) - _exact(theirs)) for ours, theirs in zip(student, teacher, strict=True)
    )
    return torch.stack(levels).mean(), levels


def _pooled(difference: Tensor) -> tuple[Tensor, ...]:
    # Averaging is linear, so the difference is averaged once in place of both maps.
    return tuple(
        difference if size == 1 else F.avg_pool2d(difference, size, ceil_mode=True, count_include_pad=False)
        for size in _POOLINGS
    )


def _mse(difference: Tensor) -> Tensor:
    return torch.stack([pooled.square().mean() for pooled in _pooled(difference)]).sum()


def _literal(difference: Tensor) -> Tensor:
    height, width = difference.shape[-2:]
    norms = [torch.linalg.vector_norm(pooled, dim=(1, 2, 3)).mean() for pooled in _pooled(difference)]
    return torch.stack(norms).sum() / (height * width)


def _reviewkd(difference: Tensor) -> Tensor:
    weights = [1 / size for size in _POOLINGS]
    errors = [weight * pooled.square().mean() for weight, pooled in zip(weights, _pooled(difference), strict=True)]
    return torch.stack(errors).sum() / sum(weights)


_LEVELS: Mapping[Reading, Callable[[Tensor], Tensor]] = {"mse": _mse, "literal": _literal, "reviewkd": _reviewkd}


def _exact(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
