"""What training is for: the losses of a net that restores, and of the priors that guide it.

Paper: Take a Prior from Other Tasks for Severe Blur Removal, section 3.3; https://arxiv.org/abs/2302.06898
Here the frozen nets that losses look through are built and given their weights; they belong to the objective, never to
the net that is trained.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from deblur_cli.errors import UsageError, WeightsError
from deblur_cli.files import teachers
from deblur_cli.movement import Movement, astray
from deblur_cli.nets import teacher as teaching
from deblur_cli.nets import vgg
from deblur_cli.nets.bdirnet import Distilled
from deblur_cli.nets.motion import Motion
from deblur_cli.nets.motion_unet import Told
from deblur_cli.nets.prior import PriorMaps
from deblur_cli.nets.teacher import Teacher
from deblur_cli.nets.vgg import VGG19Features
from deblur_cli.pixels import distances, losses
from deblur_cli.pixels.losses import Losses, Reading
from deblur_cli.reconstruction import Reconstruction, l1_of_final, tutored_psnr_of_final

_TEACHERS: Mapping[tuple[int, ...], str] = {(76, 76, 152): "asl:tresnet_l", (16, 24, 32): "timm:mobilenetv2_100"}
"""By the widths of their maps: the teachers that the presets are made for, the paper's first."""
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Tutor:
    """What a trained net makes of a blurred image, (N, 3, H, W) to the same, and no gradient.

    Args:
        net: of the catalogue, on the device of the run; it is frozen here, and computes as it does for photographs.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net.eval().requires_grad_(requires_grad=False)
        self._stands = {_HALF.get(each) for each in cast("Any", net).config.precisions}

    def __call__(self, blurred: Tensor) -> Tensor:
        """What it restores; in mixed precision where the run is and the net stands that."""
        kind = blurred.device.type
        mixed = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) in self._stands
        with torch.no_grad(), nullcontext() if mixed else torch.autocast(kind, enabled=False):
            return self._net(blurred)[0]


class DeblurObjective:
    """Equation 7: reconstruction + ``alpha`` perceptual + ``beta`` distillation.

    Args:
        reconstruction: of the net that is trained; each net's paper has its own.
        features: what the perceptual term looks through; None leaves the term out.
        teacher: what the net's prior learns from; None leaves the term out, and then a net with a prior is Net0* of the
            paper's ablation.
        alpha: weight of the perceptual term.
        beta: weight of the distillation term.
        reading: of equation 2; see :func:`deblur_cli.pixels.losses.distillation`.
        tutor: takes part in the reconstruction, which is then that of
            :func:`deblur_cli.reconstruction.tutored_psnr_of_final`; None leaves it to ``reconstruction``.
        truth: weight of the distances of the motion prior's kernels, and of mid-exposure where it tells that, from those that
            are known; 0 leaves them out.
    """

    def __init__(
        self,
        *,
        reconstruction: Reconstruction = l1_of_final,
        features: nn.Module | None = None,
        teacher: Teacher | None = None,
        alpha: float = 0.01,
        beta: float = 0.1,
        reading: Reading = "mse",
        tutor: Tutor | None = None,
        truth: float = 0.0,
    ) -> None:
        self._reconstruction = reconstruction
        self._features = features
        self._teacher = teacher
        self._alpha = alpha
        self._beta = beta
        self._reading: Reading = reading
        self._tutor = tutor
        self._truth = truth
        self._movement = Movement()

    def __call__(self, net: nn.Module, blurred: Tensor, sharp: Tensor, *known: Tensor) -> Losses:
        """Score ``net`` on one batch.

        Args:
            net: with ``forward_with_prior`` where there is a teacher, and ``forward_with_motion`` where there is a truth.
            blurred: (N, 3, H, W) in [0, 1].
            sharp: the same.
            known: of the movement, where it is known: the even and the odd parts of the true kernels of the cells,
                (N, h, w, 2, half), and x and y of mid-exposure, (N, h, w, 2), in pixels from the mean of the movement.

        Returns:
            The terms ``reconstruction``, ``perceptual``, ``prior``, ``motion`` and ``astray``, those that there are, and those
            of the net's own. ``motion`` and ``astray`` are 0 in a batch whose movement is not known.
        """
        restored, maps, terms, total = self._reconstruct(net, blurred, sharp, known)
        if self._features is not None:
            terms["perceptual"] = losses.perceptual(self._features, restored[0], sharp)
            total = total + self._alpha * terms["perceptual"]
        if self._teacher is not None and maps is not None:
            terms["prior"], _ = losses.distillation(maps.f_pri, self._teacher(sharp), reading=self._reading)
            total = total + self._beta * terms["prior"]
        return Losses(total, {name: value.detach() for name, value in terms.items()})

    def _reconstruct(
        self, net: nn.Module, blurred: Tensor, sharp: Tensor, known: tuple[Tensor, ...], /
    ) -> tuple[Sequence[Tensor], PriorMaps | None, dict[str, Tensor], Tensor]:
        """The restored images, the prior's maps where they are wanted, and the net's own loss: its terms and their sum."""
        maps, motion = None, None
        if self._truth:
            seen: Told = cast("Any", net).forward_with_motion(blurred)
            restored, maps, motion = seen.restored, seen.maps, seen.motion
        elif self._teacher is None:
            restored = net(blurred)
        else:
            restored, maps = cast("Any", net).forward_with_prior(blurred)
        if self._tutor is None:
            total = self._reconstruction(restored, sharp)
        else:
            total = tutored_psnr_of_final(restored, self._tutor(blurred), sharp)
        terms = {"reconstruction": total}
        if motion is not None:
            told = self._told(motion, known)
            total = total + self._truth * torch.stack(list(told.values())).sum()
            terms |= told
        return restored, maps, terms, total

    def _told(self, motion: Motion, known: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """How far what the motion prior said is from what is known."""
        names = ["motion"] if motion.midway is None else ["motion", "astray"]
        if not known:
            return {name: motion.kernels.new_zeros(()) for name in names}
        even, odd = known[0].unbind(-2)
        far = {"motion": self._movement(motion, even, odd).total}
        return far if motion.midway is None else far | {"astray": astray(motion.midway, known[1], even)}


class BlurDistilling(DeblurObjective):
    """The same for :class:`deblur_cli.nets.bdirnet.BDIRNet`, which is shown the sharp image too.

    Both sides' images are reconstructed; of the latents, those of the blurred image are drawn to those of the sharp one
    (term ``latent``, weight 0.1) and told from those of the other images (``contrast``, weight 0.05). The sharp image's
    own reconstruction keeps latents that say nothing from being a way out.
    """

    def _reconstruct(
        self, net: nn.Module, blurred: Tensor, sharp: Tensor, _known: tuple[Tensor, ...], /
    ) -> tuple[Sequence[Tensor], PriorMaps | None, dict[str, Tensor], Tensor]:
        found: Distilled = cast("Any", net).forward_pair(blurred, sharp)
        terms = {
            "reconstruction": self._reconstruction(found.restored, sharp),
            "rebuilt": self._reconstruction((found.rebuilt,), sharp),
            "latent": distances.latent_distance(found.blurred, found.sharp),
            "contrast": distances.contrast(found.blurred[-1], found.sharp[-1]),
        }
        total = terms["reconstruction"] + terms["rebuilt"] + 0.1 * terms["latent"] + 0.05 * terms["contrast"]
        return found.restored, found.maps, terms, total


class DistillObjective:
    """Equation 4 alone, for a prior that is trained before there is a net to guide.

    Args:
        teacher: what the prior learns from.
        reading: of equation 2; see :func:`deblur_cli.pixels.losses.distillation`.
    """

    def __init__(self, teacher: Teacher, *, reading: Reading = "mse") -> None:
        self._teacher = teacher
        self._reading: Reading = reading

    def __call__(self, net: nn.Module, blurred: Tensor, sharp: Tensor) -> Losses:
        """Score ``net``, a :class:`deblur_cli.nets.prior.SemanticPrior`, on one batch; the terms are the three levels."""
        total, levels = losses.distillation(net(blurred).f_pri, self._teacher(sharp), reading=self._reading)
        return Losses(total, {f"level_{level}": value.detach() for level, value in enumerate(levels, 1)})

    @torch.no_grad()
    def distances(self, net: nn.Module, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """How far from the teacher's view of ``sharp`` are the prior's and the teacher's own view of ``blurred``.

        Returns:
            (3,) each, finest level first. The first divided by the second is what the prior is worth: below 1 it sees
            through the blur better than its teacher.
        """
        wanted = self._teacher(sharp)
        maps: PriorMaps = net(blurred)
        _, ours = losses.distillation(maps.f_pri, wanted, reading=self._reading)
        _, theirs = losses.distillation(self._teacher(blurred), wanted, reading=self._reading)
        return torch.stack(ours), torch.stack(theirs)


def teacher_for(widths: Sequence[int]) -> str:
    """What ``--teacher`` would say for a prior that speaks in these widths.

    Raises:
        UsageError: no teacher is known by them.
    """
    known = _TEACHERS.get(tuple(widths))
    if known is None:
        raise UsageError(f"No teacher is known for maps of {_said(widths)} channels.", "Name one with --teacher.")
    return known


def open_teacher(
    text: str,
    weights: Path | None = None,
    *,
    stem: int = 1,
    widths: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Teacher:
    """The teacher that ``--teacher`` names, with its weights, on ``device``.

    Args:
        text: see :func:`deblur_cli.nets.teacher.parse`.
        weights: of ``--teacher-weights``; None takes those that the teacher's library publishes.
        stem: of the net that is taught.
        widths: of the prior that is there already; None takes any teacher.
        device: where it computes.

    Raises:
        UsageError: the text does not parse, or the maps do not fit.
        WeightsError: the weights cannot be had, or are of another net.
    """
    spec = teaching.parse(text)
    found = None if weights is None else teachers.read(weights)
    if found is not None:
        spec = teaching.parse(text, found.facts)
    teacher = teaching.build(spec, stem=stem)
    if widths is not None and tuple(widths) != teacher.widths:
        raise UsageError(
            f"The maps of {spec} do not fit: they have {_said(teacher.widths)} channels, the prior {_said(widths)}.",
            "Choose with --teacher the one that the prior was trained with.",
        )
    found = found or teachers.fetch(spec.family, spec.name)
    teaching.fill(teacher, found.tensors, source=found.source)
    return teacher.to(device).to(memory_format=torch.channels_last)


def open_features(choice: str, *, device: torch.device | str = "cpu") -> VGG19Features | None:
    """What the perceptual term looks through, on ``device``.

    Args:
        choice: of ``--perceptual``: ``vgg19``, ``none``, or the path of a file with VGG19's weights.
        device: where it computes.

    Raises:
        WeightsError: the weights cannot be had, or are of another net.
    """
    if choice == "none":
        return None
    found = teachers.fetch_vgg19() if choice == "vgg19" else _read_vgg19(Path(choice))
    features = VGG19Features()
    vgg.fill(features, found.tensors, source=found.source)
    return features.to(device).to(memory_format=torch.channels_last)


def _read_vgg19(path: Path) -> teachers.Weights:
    try:
        return teachers.read(path)
    except WeightsError as error:
        raise WeightsError(error.message, "Give --perceptual vgg19, none, or a file with VGG19's weights.") from error


def _said(widths: Sequence[int]) -> str:
    return "/".join(map(str, widths))
