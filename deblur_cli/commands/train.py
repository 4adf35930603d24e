"""Pairs, or sharp photographs, to a checkpoint."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from deblur_cli import foreign, movement, nets, objective, trainer
from deblur_cli.deblurrer import loading
from deblur_cli.errors import DeblurError, UsageError, WeightsError
from deblur_cli.files import checkpoint, weights
from deblur_cli.nets.teacher import Teacher
from deblur_cli.options.train import TrainOptions
from deblur_cli.reconstruction import CHOSEN, RECONSTRUCTIONS
from deblur_cli.trainer import augmented, machine, start, words
from deblur_cli.trainer.crew import Crew, gathered
from deblur_cli.trainer.data import Data, DataDials
from deblur_cli.trainer.plan import Plan
from deblur_cli.trainer.profile import profile
from deblur_cli.trainer.sources import PairSource
from deblur_cli.trainer.validation import Validation

_OWN = "that of whoever trained it"
"""The licence of weights that began from nothing."""
_JOINED = 0.1
"""Factor of the learning rate of a trained net that is given a new prior."""


def run(options: TrainOptions, *, started: float | None = None) -> Iterator[object]:
    """Train as ``options`` say, and tell what happens.

    Args:
        options: checked.
        started: when the command began, on the clock of :func:`time.monotonic`: ``--max-time`` counts from there.

    Yields:
        The events of :func:`deblur_cli.trainer.fit`; a Profiled or Previewed alone where only that was asked for.

    Raises:
        DeblurError: the data, the checkpoints or the teacher do not fit.
    """
    began = time.monotonic() if started is None else started
    machine.use_threads(options.threads)
    with gathered(machine.device_of(options.device)) as crew:
        torch.manual_seed(options.seed)
        name, config = start.config_of(words.unpacked(start.NetWords, options))
        _agree(options, config)
        crop = words.crop_of(options, options.recipe, config.multiple_of)
        data = Data(words.unpacked(DataDials, options), crop=crop, multiple=config.multiple_of)
        if options.preview is not None:
            yield words.write_preview(options, _source(options, data, _plan(options, config, data, crew), crew))
            return
        begun = _begin(options, name, config, crop, crew)
        plan = _plan(options, config, data, crew)
        pairs = _source(options, data, plan, crew)
        if options.profile:
            yield profile(begun.net, pairs, objective=begun.objective, plan=plan, crew=crew)
            return
        out = Path(options.out)
        views = data.views()
        yield from trainer.fit(
            begun.net,
            pairs,
            objective=begun.objective,
            plan=plan,
            out=out,
            label=_label(options, name, begun, data),
            crew=crew,
            validation=Validation(views, crew, sheet=out / "validation.png") if views else None,
            resume=options.resume,
            deadline=None if options.seconds is None else began + options.seconds,
            rate_of=begun.rate_of,
            described={**words.described(options, data), "perceptual": _perceptual(options)},
            tensorboard=options.tensorboard,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """A net that is ready to learn, and what for."""

    net: nn.Module
    objective: objective.DeblurObjective | movement.PhaseObjective
    rate_of: Callable[[str], float]
    licence: str
    """Of the weights that it began from."""


def _plan(options: TrainOptions, config: Any, data: Data, crew: Crew) -> Plan:
    """The numbers of the run; nobody but the user himself chooses a precision that the net does not stand."""
    plan = words.plan_of(options, options.recipe, count=len(data), device=crew.device)
    if options.precision == "auto" and plan.precision not in config.precisions:
        return replace(plan, precision="fp32")
    return plan


def _source(options: TrainOptions, data: Data, plan: Plan, crew: Crew) -> PairSource:
    """The batches, changed as the recipe says."""
    recipe = options.recipe
    dials = augmented.Changes(
        saturation=recipe.saturation,
        saturated=recipe.saturated,
        grey=recipe.grey,
        colours=recipe.colours,
        grain=recipe.grain,
    )
    source = data.source(
        batch=plan.batch,
        seed=plan.seed,
        crew=crew,
        turns=recipe.turns,
        kernels_too=options.motion_truth > 0 or options.phases_alone,
    )
    return augmented.Augmented(source, dials, seed=plan.seed, slots=crew.shard(plan.batch)) if dials else source


def _begin(options: TrainOptions, name: str, config: Any, crop: int, crew: Crew) -> _Begun:
    """The net with the weights it starts from, and its objective."""
    published = options.init is not None and foreign.is_published(Path(options.init))
    found = None
    if options.init is not None:
        found = foreign.load(Path(options.init)) if published else checkpoint.load(Path(options.init))
    config, prior, motion = _priors(options, config)
    teacher = None if options.phases_alone else _teacher(options, config, crew, fixed=prior is not None)
    if teacher is not None:
        config = start.with_widths(config, teacher.widths)
    net = nets.build(name, nets.to_mapping(config))
    brought = frozenset[str]()
    if found is not None:
        brought = start.begin_from(net, name, config, found, str(options.init))
    _fill(options, net, prior, motion)
    if options.phases_alone:
        _leave_the_phases(net)
        licence = _licence(options, [] if found is None else [found.label.licence])
        return _Begun(net=net, objective=movement.PhaseObjective(), rate_of=lambda _: 1.0, licence=licence)
    tutor = None if options.tutor is None else _tutor(options.tutor, name, crop, crew)
    kind = objective.BlurDistilling if name == "bdirnet" else objective.DeblurObjective
    aim = kind(
        reconstruction=CHOSEN[options.loss] if options.loss else RECONSTRUCTIONS[name],
        features=objective.open_features(_perceptual(options), device=crew.device),
        teacher=teacher,
        alpha=options.alpha,
        beta=options.beta,
        reading=cast("Any", options.reading),
        tutor=None if tutor is None else tutor.net,
        truth=options.motion_truth,
    )
    labels = [each.label for each in (found, prior, motion) if each is not None]
    used = [each.licence for each in (*labels, tutor) if each is not None]
    return _Begun(net=net, objective=aim, rate_of=_rate_of(options, net, brought), licence=_licence(options, used))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tutor:
    """A trained net to learn from."""

    net: objective.Tutor
    licence: str


def _tutor(said: str, name: str, crop: int, crew: Crew) -> _Tutor:
    """What ``--tutor`` names, on the device of the run.

    Raises:
        UsageError: it cannot teach this net.
        WeightsError: the weights cannot be had.
    """
    if name == "bdirnet":
        raise UsageError("--tutor is not for bdirnet, which learns from the sharp image's features.", "Leave it out.")
    label, net = loading.load(weights.locate(said))
    multiple: int = cast("Any", net).config.multiple_of
    if crop % multiple:
        fitting = max(1, round(crop / multiple)) * multiple
        raise UsageError(
            f"--crop {crop} is not a multiple of {multiple}, as the tutor needs.", f"Say --crop {fitting}."
        )
    return _Tutor(net=objective.Tutor(net.to(crew.device).to(memory_format=torch.channels_last)), licence=label.licence)


def _priors(
    options: TrainOptions, config: Any
) -> tuple[Any, checkpoint.Checkpoint | None, checkpoint.Checkpoint | None]:
    """The dials with those of the priors that the net is to start from, and these: the semantic one, that of movement."""
    semantic = None if options.prior_weights is None else checkpoint.load(Path(options.prior_weights))
    moving = None if options.motion_weights is None else start.open_motion(options.motion_weights)
    if config.prior is None and (semantic or options.freeze_prior or options.teacher):
        raise UsageError("This net has no prior.", "Say --prior, or leave the options of the prior out.")
    meant = moving or options.freeze_motion or options.motion_rate != 1 or options.motion_truth
    if getattr(config, "motion", None) is None and meant:
        raise UsageError(
            "This net has no motion prior.", "Say --backbone motion-unet, or leave the options of the motion prior out."
        )
    if semantic is not None:
        config = start.with_prior_of(config, semantic, str(options.prior_weights))
    if moving is not None:
        config = start.with_motion_of(config, moving, str(options.motion_weights))
    return config, semantic, moving


def _fill(
    options: TrainOptions, net: nn.Module, semantic: checkpoint.Checkpoint | None, moving: checkpoint.Checkpoint | None
) -> None:
    """Give the net the weights of its priors, and freeze what is to stay as it is."""
    if semantic is not None:
        start.fill_prior(net, semantic, str(options.prior_weights))
    if moving is not None:
        start.fill_motion(net.get_submodule("motion"), moving, str(options.motion_weights))
    for frozen, part in ((options.freeze_prior, "prior"), (options.freeze_motion, "motion")):
        if frozen:
            net.get_submodule(part).requires_grad_(requires_grad=False)


def _agree(options: TrainOptions, config: Any) -> None:
    """Refuse sharp images that lie where the net does not leave what it restores.

    Raises:
        UsageError: it moves that to mid-exposure, and shaken crops are sharp in the mean of their movement.
    """
    asked = options.shaken > 0 and options.sharp_at == "mean" and not options.phases_alone
    if asked and getattr(config, "midway", False):
        raise UsageError(
            "--sharp-at mean: this net moves what it restores to mid-exposure.", "Say --sharp-at middle too."
        )


def _leave_the_phases(net: nn.Module) -> None:
    """Freeze all but the phases of a net, and what tells mid-exposure by them.

    Raises:
        UsageError: it does not see them.
    """
    phases = getattr(net, "phases", None)
    if not isinstance(phases, nn.Module):
        raise UsageError("This net does not see the phases of a movement.", "Say --preset motion-unet-phases-sp.")
    net.requires_grad_(requires_grad=False)
    phases.requires_grad_(requires_grad=True)
    midway = getattr(net, "midway", None)
    if isinstance(midway, nn.Module):
        midway.requires_grad_(requires_grad=True)


def _licence(options: TrainOptions, used: Sequence[str]) -> str:
    """Of the weights that the run began from and learns from, this time or, where it is resumed, the first time."""
    if options.resume:
        with suppress(DeblurError):  # a run stands in its state alone; this file is what it gives away
            return checkpoint.read_label(Path(options.out) / "last.safetensors").licence
    return " and ".join(dict.fromkeys(each for each in used if each != _OWN)) or _OWN


def _perceptual(options: TrainOptions) -> str:
    return options.perceptual or options.recipe.perceptual


def _rate_of(options: TrainOptions, net: nn.Module, brought: frozenset[str]) -> Callable[[str], float]:
    """The factor of each parameter's learning rate: where a new prior joins weights that were there, they go slowly.

    So may a motion prior, which was taught the truth and is now told by the image alone.
    """
    joined = any(key.startswith("embed.") and key not in brought for key, _ in net.named_parameters())
    said = options.init_rate if options.init_rate is not None else _JOINED if joined else 1.0
    moving = options.motion_rate
    return lambda key: (said if key in brought else 1.0) * (moving if key.startswith("motion.") else 1.0)


def _teacher(options: TrainOptions, config: Any, crew: Crew, *, fixed: bool) -> Teacher | None:
    """What the prior learns from; None where it does not learn."""
    if config.prior is None or options.freeze_prior or not options.distill:
        return None
    try:
        return objective.open_teacher(
            options.teacher or objective.teacher_for(config.prior.widths),
            Path(options.teacher_weights) if options.teacher_weights else None,
            stem=getattr(config, "stem", 1),
            widths=config.prior.widths if fixed or options.teacher is None else None,
            device=crew.device,
        )
    except WeightsError as error:
        if options.teacher is not None or options.teacher_weights:
            raise
        others = "Or say --teacher timm:mobilenetv2_100 for another teacher, or --no-prior to train the net alone."
        raise WeightsError(error.message, f"{error.hint} {others}") from error


def _label(options: TrainOptions, name: str, begun: _Begun, data: Data) -> checkpoint.Label:
    return checkpoint.Label(
        net=name,
        config=nets.to_mapping(cast("Any", begun.net).config),
        made_with=words.made_with("train", options),
        licence=begun.licence,
        trained_on=data.title,
    )
