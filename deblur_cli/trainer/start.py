"""What a run begins with: the net's dials from the words of a command, its weights from earlier checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from deblur_cli import nets
from deblur_cli.errors import UsageError, WeightsError
from deblur_cli.files import checkpoint
from deblur_cli.files.checkpoint import Checkpoint
from deblur_cli.nets.mapping import from_mapping
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.prior import PriorConfig

_BACKBONES = tuple(name for name, (_, config) in nets.PRESETS.items() if config.prior is None)
"""What ``--backbone`` can say: the presets without a prior."""

_MOTION = "motion."
"""What the weights of a net's motion prior are called."""
_PHASES, _MIDWAY, _COARSE, _HINDSIGHT = "phases.", "midway.", "coarse.", "hindsight."
"""What the weights of the parts are called that a net may be given later."""
_AGAIN = "again."
"""What the weights of a motion prior's second look are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetWords:
    """What was said of the net."""

    backbone: str
    preset: str | None = None
    prior: bool | None = None
    fusion: str | None = None
    clc: bool | None = None
    mla: bool | None = None


def config_of(words: NetWords) -> tuple[str, Any]:
    """The net's name in the catalogue and its dials.

    Raises:
        UsageError: no such net, no such preset, or dials of a prior that it does not have.
    """
    if words.backbone not in _BACKBONES:
        raise UsageError(f"--backbone {words.backbone} is not one of {', '.join(_BACKBONES)}.", "Choose one of them.")
    preset = _preset(words)
    name, config = nets.PRESETS[preset]
    prior = None if words.prior is False else config.prior or (PriorConfig() if _guided(words) else None)
    said = {key: getattr(words, key) for key in ("fusion", "clc", "mla") if getattr(words, key) is not None}
    if prior is None and said:
        raise UsageError(f"--preset {preset} has no prior.", "Say --prior too.")
    changed: Any = config
    return name, replace(changed, prior=replace(prior, **said) if prior else None)


def _preset(words: NetWords) -> str:
    """The preset's name; with a prior where that was asked for, or where nothing was said of the net but its name."""
    preset = words.preset or words.backbone
    if preset not in nets.PRESETS:
        raise UsageError(f"--preset {preset} is not one of {', '.join(nets.PRESETS)}.", "Choose one of them.")
    net = nets.PRESETS[preset][0]
    if nets.PRESETS[words.backbone][0] != net:
        raise UsageError(f"--preset {preset} is of {net}.", f"Say --backbone {net} too.")
    if words.backbone != net and preset not in {words.backbone, f"{words.backbone}-sp"}:
        raise UsageError(
            f"--backbone {words.backbone} and --preset {preset} both say the dials of {net}.", "Leave one of them out."
        )
    return f"{preset}-sp" if _guided(words) and f"{preset}-sp" in nets.PRESETS else preset


def _guided(words: NetWords) -> bool:
    return words.prior or (words.prior is None and words.preset is None)


def with_widths(config: Any, widths: Sequence[int]) -> Any:
    """The dials with a prior that speaks in these widths."""
    return replace(config, prior=replace(config.prior, widths=tuple(widths)))


def with_prior_of(config: Any, found: Checkpoint, path: str) -> Any:
    """The dials with the extractor of a prior checkpoint; how it is embedded stays.

    Raises:
        WeightsError: it is no prior.
    """
    theirs = _prior_config(found, path)
    ours: PriorConfig = config.prior
    embedding = {"fusion": ours.fusion, "mla": ours.mla, "sat_width": ours.sat_width}
    return replace(config, prior=replace(theirs, **embedding))


def open_motion(path: str) -> Checkpoint:
    """The motion prior that a checkpoint is, or that the net in it is guided by.

    Raises:
        WeightsError: the file cannot be read, or is no motion prior and has none.
    """
    found = checkpoint.load(Path(path))
    label = found.label
    if (label.kind, label.net) == ("prior", "motion"):
        return found
    if label.kind == "prior":
        raise WeightsError(f"'{path}' is a semantic prior, not a motion prior.", "Give it to --prior-weights.")
    dials = label.config.get("motion")
    if not isinstance(dials, Mapping):
        raise WeightsError(
            f"'{path}' is the net {label.net}, which has no motion prior.",
            "Give --motion-weights what distill-motion made, or a net that has one.",
        )
    tensors = {name.removeprefix(_MOTION): value for name, value in found.tensors.items() if name.startswith(_MOTION)}
    alone = replace(label, kind="prior", net="motion", config=cast("Mapping[str, Any]", dials))
    return Checkpoint(label=alone, tensors=tensors)


def with_motion_of(config: Any, found: Checkpoint, path: str) -> Any:
    """The dials with the motion prior of :func:`open_motion`; how the net is told of movement stays, and so does a second look.

    Raises:
        WeightsError: its label cannot be read.
    """
    try:
        theirs = from_mapping(MotionConfig, found.label.config)
    except ValueError as error:
        raise WeightsError(f"The label of '{path}' cannot be read: {error}") from error
    ours: MotionConfig = config.motion
    return replace(config, motion=replace(theirs, steer=ours.steer, looks=max(ours.looks, theirs.looks)))


def fill_motion(motion: nn.Module, found: Checkpoint, path: str) -> None:
    """Give the motion prior the weights of a checkpoint that :func:`with_motion_of` took its dials from.

    A second look that the checkpoint does not have stays new: it changes nothing until it has learnt.

    Raises:
        WeightsError: they do not fit.
    """
    alone = found.label.config.get("looks", 1) == 1
    fresh = {name: value for name, value in motion.state_dict().items() if alone and name.startswith(_AGAIN)}
    try:
        motion.load_state_dict({**fresh, **found.tensors})
    except RuntimeError as error:
        raise WeightsError(
            f"'{path}' is not whole: {str(error).splitlines()[-1].strip()}", "Choose another file."
        ) from error


def fill_prior(net: nn.Module, found: Checkpoint, path: str) -> None:
    """Give the net's prior the weights of a prior checkpoint.

    Raises:
        WeightsError: they do not fit.
    """
    try:
        net.get_submodule("prior").load_state_dict(dict(found.tensors))
    except RuntimeError as error:
        raise WeightsError(
            f"'{path}' does not fit the prior of this net: {str(error).splitlines()[-1].strip()}",
            "Say the --preset that it was distilled for.",
        ) from error


def begin_from(net: nn.Module, name: str, config: Any, found: Checkpoint, path: str) -> frozenset[str]:
    """Give the net the weights of a checkpoint; a prior, a second look and whatever else it does not know stay new.

    Returns:
        The names of the parameters that the checkpoint brought.

    Raises:
        WeightsError: the checkpoint is of another net.
    """
    label = found.label
    if (label.kind, label.net) != ("net", name):
        raise WeightsError(
            f"'{path}' is of {label.kind} {label.net}, not of net {name}.", f"Say --backbone {label.net}."
        )
    theirs, new = _furthered(from_mapping(nets.NETS[name].config, label.config), config)
    if replace(theirs, prior=None) != replace(config, prior=None):
        said = [key for key in _BACKBONES if nets.PRESETS[key] == (name, replace(theirs, prior=None))]
        hint = f"Say --backbone {said[0]}." if said else "Say the --preset that it was trained with."
        raise WeightsError(f"'{path}' has other dials: {_difference(theirs, config)}.", hint)
    fresh = config.prior is not None and theirs.prior is None
    if not fresh and theirs.prior != config.prior:
        raise WeightsError(
            f"'{path}' has another prior: {_difference(theirs.prior, config.prior)}.", "Say the same --prior options."
        )
    missing, unexpected = net.load_state_dict(dict(found.tensors), strict=False)
    new = (*new, *(("prior.", "embed.") if fresh else ()))
    wrong = [*unexpected, *(key for key in missing if not key.startswith(new))]
    if wrong:
        raise WeightsError(
            f"'{path}' is not whole: {wrong[0]} and {len(wrong) - 1} more do not fit.", "Choose another file."
        )
    return frozenset(found.tensors)


def _furthered(theirs: Any, config: Any) -> tuple[Any, tuple[str, ...]]:
    """The dials of a checkpoint with those of ours that need not be there, and how the names begin of what is new by that."""
    new: tuple[str, ...] = ()
    if _looks(config) > _looks(theirs) == 1:
        theirs = replace(theirs, motion=replace(theirs.motion, looks=_looks(config)))
        new = (f"{_MOTION}{_AGAIN}",)
    for dial, part in (("phases", _PHASES), ("midway", _MIDWAY), ("coarse", _COARSE), ("hindsight", _HINDSIGHT)):
        if getattr(config, dial, False) and not getattr(theirs, dial):
            theirs = replace(theirs, **{dial: True})
            new = (*new, part)
    return theirs, new


def _looks(config: Any) -> int:
    """How often the net looks at how the image moved."""
    return config.motion.looks if hasattr(config, "motion") else 0


def _prior_config(found: Checkpoint, path: str) -> PriorConfig:
    if found.label.kind != "prior":
        raise WeightsError(
            f"'{path}' is a net, not a prior.",
            "Give --prior-weights a checkpoint of deblur distill-teacher, or say --init.",
        )
    if found.label.net != "prior":
        raise WeightsError(
            f"'{path}' is a {found.label.net} prior, not a semantic one.", "Give it to --motion-weights."
        )
    known = {key: value for key, value in found.label.config.items() if key in PriorConfig.__dataclass_fields__}
    return from_mapping(PriorConfig, known)


def _difference(theirs: Any, ours: Any) -> str:
    if theirs is None or ours is None:
        return f"{theirs} there, {ours} here"
    left, right = nets.to_mapping(theirs), nets.to_mapping(ours)
    names = [name for name in left if left[name] != right[name] and name != "prior"]
    return ", ".join(f"{name} is {left[name]} there and {right[name]} here" for name in names)
