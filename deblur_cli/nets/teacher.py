"""Teachers (F_P): frozen recognition nets that say what a sharp image contains, for the prior to learn from.

Paper: Take a Prior from Other Tasks for Severe Blur Removal, section 3.1; https://arxiv.org/abs/2302.06898
A teacher sees the sharp image enlarged, so that its maps of strides 2, 4 and 8 fall on strides 1, 2 and 4 of the image.
The paper's is TResNet-L of ASL (Ben-Baruch et al. Asymmetric Loss for Multi-Label Classification. ICCV 2021), of which
it takes conv1, layer1 and layer2. Any classifier of timm with maps at those strides serves, and the segmentation nets
of torchvision, for their features or for the image-level prior of section 3.1.1.
A teacher serves training only: it is part of no net, so no checkpoint contains it. Its tensors come from outside.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.errors import UsageError, WeightsError

_STRIDES = (2, 4, 8)
"""Of the maps that are taken, in pixels of the image that the teacher sees."""
_PROBE = 64
"""Side of the image that a new teacher is tried with, as it sees it."""
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PRIORS = ("features", "probability", "onehot")
_FAMILIES_SAID = "timm:NAME, torchvision:NAME or asl:tresnet_l"

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherSpec:
    """Which net teaches, and how it is fed."""

    family: str
    """Where the net comes from: ``timm``, ``torchvision`` or ``asl``."""
    name: str
    """The net's name there."""
    mean: Triple | None = None
    """Subtracted from RGB in [0, 1] before the net sees it; None takes the net's own."""
    std: Triple | None = None
    """Divided by after ``mean`` is subtracted; None takes the net's own."""
    pad_type: str = ""
    """timm's argument of that name, for nets that came from TensorFlow; empty leaves it out."""
    prior: str = "features"
    """``features``, or the image-level prior of a segmentation net: ``probability`` or ``onehot``, one channel a class."""
    scale: Triple = (1.0, 1.0, 1.0)
    """The maps are multiplied by these, finest first; 1 is the paper's way."""

    def __str__(self) -> str:
        return f"{self.family}:{self.name}"


class Teacher(nn.Module):
    """A sharp image to three maps at strides ``stem``, 2 ``stem`` and 4 ``stem``; frozen whatever is asked of it.

    Args:
        maps: (N, 3, H, W) normalised to three maps, finest first; its ``trunk`` holds the tensors by published names.
        spec: with ``mean`` and ``std`` said.
        stem: of the net that is taught.
        enlarge: how many times larger than it is the teacher sees the sharp image.
    """

    def __init__(self, maps: "_Maps", spec: TeacherSpec, *, stem: int, enlarge: float) -> None:
        super().__init__()
        self.maps = maps
        self.spec = spec
        self.stem = stem
        self.enlarge = enlarge
        self.widths = _try(maps, spec)
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002  (the signature is torch's)
        """Stay in evaluation mode: a teacher does not learn."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, sharp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Say what ``sharp`` contains.

        Args:
            sharp: (N, 3, H, W) float RGB in [0, 1], H and W multiples of four times the stem.

        Returns:
            (N, ``widths[i]``, H / s, W / s) where s is the stem times 1, 2, 4, times the spec's ``scale``.
        """
        seen = sharp
        if self.enlarge != 1:
            size = [round(side * self.enlarge) for side in sharp.shape[-2:]]
            seen = F.interpolate(sharp, size, mode="bilinear", align_corners=False)
        maps = self.maps((seen - cast("Tensor", self._mean)) / cast("Tensor", self._std))
        fitted: list[Tensor] = []
        for level, scale in enumerate(self.spec.scale):
            size = [side // (self.stem << level) for side in sharp.shape[-2:]]
            fitted.append(self._resized(maps[level], size) * scale)
        return fitted[0], fitted[1], fitted[2]

    def _resized(self, features: Tensor, size: list[int]) -> Tensor:
        if list(features.shape[-2:]) == size:
            return features
        if self.spec.prior == "onehot":  # labels must not be mixed
            return F.interpolate(features, size, mode="nearest-exact")
        return F.interpolate(features, size, mode="bilinear", align_corners=False)


def parse(text: str, facts: Mapping[str, str] | None = None) -> TeacherSpec:
    """The teacher that ``text`` names.

    Args:
        text: ``family:name``, then ``,key=value`` for any of mean, std, pad_type, prior and scale; a value of three
            numbers is written ``0.1/0.2/0.3``. For example ``timm:mobilenetv2_100,pad_type=same,mean=0.5,std=0.5``.
        facts: what the file with the weights says of them: mean, std and pad_type, which ``text`` overrules, and under
            ``timm`` the name of the net.

    Raises:
        UsageError: the text does not parse.
        WeightsError: the file is of another net.
    """
    facts = facts or {}
    words, *settings = text.split(",")
    found = re.fullmatch(r"(timm|torchvision|asl):([\w.-]+)", words)
    if found is None:
        raise UsageError(f"--teacher {text!r} is not a teacher: {_FAMILIES_SAID} was expected.", "Say one of these.")
    family, name = found.groups()
    held = facts.get("timm")
    if family == "timm" and held is not None and held != name.split(".")[0]:
        raise WeightsError(f"The weights are of {held}, not of {name}.", f"Say --teacher timm:{held}.")
    said = {key: facts[key] for key in ("mean", "std", "pad_type") if key in facts}
    for setting in settings:
        key, _, value = setting.partition("=")
        said[key] = value
    try:
        return TeacherSpec(family=family, name=name, **{key: _SETTINGS[key](value) for key, value in said.items()})
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"--teacher {text!r} does not parse: {error}.",
            f"Write settings as key=value, separated by commas; the keys are {', '.join(_SETTINGS)}.",
        ) from error


def build(spec: TeacherSpec, *, stem: int = 1) -> Teacher:
    """The teacher of ``spec`` with random weights, tried for the strides of its maps.

    Args:
        spec: from :func:`parse`.
        stem: pixel-unshuffle factor of the net that is taught, whose levels are at strides ``stem`` times 1, 2 and 4.

    Raises:
        UsageError: the library does not know the name, or its maps do not fit.
    """
    if spec.prior != "features" and spec.family != "torchvision":
        raise UsageError(f"{spec} is no segmentation net, so it has no prior={spec.prior}.", "Leave out prior=.")
    maps, mean, std = _FAMILIES[spec.family](spec)
    full = replace(spec, mean=spec.mean or mean, std=spec.std or std)
    # A segmentation map is read at the size of the photo; features lie one octave deeper than the levels they teach.
    return Teacher(maps, full, stem=stem, enlarge=1 if spec.prior != "features" else _STRIDES[0] / stem)


def fill(teacher: Teacher, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Give ``teacher`` its weights, in place.

    Args:
        teacher: from :func:`build`.
        tensors: by the names of the library, or for ``asl`` by those of its authors; what the teacher lacks, such as the
            classifier and the deep layers, is left aside.
        source: where the tensors come from, for the message.

    Raises:
        WeightsError: a tensor is missing or of another shape.
    """
    if teacher.spec.family == "asl":
        tensors = {_timm_name(name): _batch_norm(name, values) for name, values in tensors.items()}
    trunk = teacher.maps.trunk
    wanted = {name: values for name, values in trunk.state_dict().items() if not name.endswith("num_batches_tracked")}
    unfit = [name for name, values in wanted.items() if name not in tensors or tensors[name].shape != values.shape]
    if unfit:
        raise WeightsError(
            f"{source} does not hold {teacher.spec}: of {len(wanted)} tensors {len(unfit)} are missing or of another "
            f"shape, the first is {unfit[0]}.",
            f"Give --teacher the name of the net that the file holds: {_FAMILIES_SAID}.",
        )
    trunk.load_state_dict({name: tensors[name] for name in wanted}, strict=False)


class _Maps(nn.Module):
    """A trunk with published names that gives three maps of a normalised image, finest first."""

    def __init__(self, trunk: nn.Module, take: Callable[[nn.Module, Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self.trunk = trunk
        self._take = take

    def forward(self, image: Tensor) -> Sequence[Tensor]:
        return self._take(self.trunk, image)


_Built = tuple[_Maps, Triple, Triple]


def _timm(spec: TeacherSpec) -> _Built:
    import timm

    arguments: dict[str, Any] = {"pad_type": spec.pad_type} if spec.pad_type else {}
    try:
        net = cast("Any", timm.create_model(spec.name, pretrained=False, num_classes=0, **arguments))
        strides = [stage["reduction"] for stage in net.feature_info]
        taps = [strides.index(stride) for stride in _STRIDES]
        net.prune_intermediate_layers(taps, prune_norm=True, prune_head=True)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"timm cannot build {spec.name}: {error}", "Choose a name of timm.list_models().") from error
    except (AttributeError, ValueError) as error:
        raise _unfit(spec) from error

    def take(trunk: nn.Module, image: Tensor) -> Sequence[Tensor]:
        forward = cast("Any", trunk).forward_intermediates
        return forward(image, indices=taps, stop_early=True, intermediates_only=True)

    return _Maps(net, take), tuple(net.pretrained_cfg["mean"]), tuple(net.pretrained_cfg["std"])


def _asl(spec: TeacherSpec) -> _Built:
    if spec.name != "tresnet_l":
        raise UsageError(f"The only teacher of ASL here is asl:tresnet_l, not {spec}.", "Say --teacher asl:tresnet_l.")
    maps, _, _ = _timm(spec)  # timm's own port of the same net; only the names of the tensors differ
    return maps, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def _torchvision(spec: TeacherSpec) -> _Built:
    from torchvision.models import get_model, list_models, segmentation

    known = list_models(module=segmentation)
    if spec.name not in known:
        raise UsageError(f"{spec} is no segmentation net of torchvision.", f"Choose one of {', '.join(known)}.")
    net = get_model(spec.name, weights=None, weights_backbone=None)
    if spec.prior != "features":
        return _Maps(net, partial(_labels, spec.prior)), *_IMAGENET
    return _Maps(
        net, partial(_stages, ("relu", "layer1", "layer2") if "resnet" in spec.name else ("1", "3", "6"))
    ), *_IMAGENET


def _stages(names: Sequence[str], trunk: nn.Module, image: Tensor) -> Sequence[Tensor]:
    """What the stages of these names make of ``image`` on its way through the backbone; the rest does not run."""
    maps: list[Tensor] = []
    for name, stage in cast("nn.Module", trunk.backbone).named_children():
        image = stage(image)
        if name in names:
            maps.append(image)
        if len(maps) == len(names):
            break
    return maps


def _labels(prior: str, trunk: nn.Module, image: Tensor) -> Sequence[Tensor]:
    """The segmentation of ``image``, one channel a class, the same for all levels."""
    logits = trunk(image)["out"]
    if prior == "probability":
        return [logits.softmax(dim=1)] * 3
    return [F.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(-1, 1).to(image.dtype)] * 3


_FAMILIES: Mapping[str, Callable[[TeacherSpec], _Built]] = {"timm": _timm, "asl": _asl, "torchvision": _torchvision}


@torch.no_grad()
def _try(maps: _Maps, spec: TeacherSpec) -> tuple[int, int, int]:
    """The widths of the maps, if their strides are right."""
    try:
        tried = maps.eval()(torch.zeros(1, 3, _PROBE, _PROBE))
    except (AssertionError, RuntimeError, ValueError) as error:  # nets that take one size of image only
        raise _unfit(spec) from error
    sizes = [tuple(level.shape[-2:]) for level in tried]
    exact = [(_PROBE // stride, _PROBE // stride) for stride in _STRIDES]
    # TResNet begins at stride 4: its first map is enlarged twice, as SPN (arXiv 2112.04107) did with the same net.
    if spec.prior == "features" and sizes not in (exact, [exact[1], *exact[1:]]):
        raise _unfit(spec)
    return tried[0].shape[1], tried[1].shape[1], tried[2].shape[1]


def _unfit(spec: TeacherSpec) -> UsageError:
    return UsageError(
        f"The maps of {spec} do not fit: a teacher needs maps at strides 2, 4 and 8, for images of any size.",
        "Choose a convolutional classifier, such as timm:tresnet_l, timm:resnet50 or timm:mobilenetv2_100.",
    )


def _timm_name(name: str) -> str:
    """A tensor's name in timm's TResNet from its name in ASL's checkpoint."""
    name = re.sub(
        r"(conv\d)\.0\.([01])\.", r"\1.\2.", name
    )  # with stride 2 the pair stands before the anti-alias filter
    return re.sub(
        r"(conv\d|downsample\.1)\.([01])\.", lambda found: f"{found[1]}.{('conv', 'bn')[int(found[2])]}.", name
    )


def _batch_norm(name: str, values: Tensor) -> Tensor:
    """In-place ABN scales by the absolute value of its weight plus its eps; batch norm by its weight."""
    is_scale = re.search(r"(conv\d|downsample\.1)(\.0)?\.1\.weight$", name)
    return values.abs() + 1e-5 if is_scale else values


def _triple(text: str) -> Triple:
    numbers = [float(number) for number in text.split("/")]
    if len(numbers) not in {1, 3}:
        raise ValueError(f"{text!r} is neither one number nor three")
    return numbers[0], numbers[len(numbers) // 2], numbers[-1]


def _prior(text: str) -> str:
    if text not in _PRIORS:
        raise ValueError(f"prior={text} is none of {', '.join(_PRIORS)}")
    return text


_SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "mean": _triple,
    "std": _triple,
    "pad_type": str,
    "prior": _prior,
    "scale": _triple,
}
