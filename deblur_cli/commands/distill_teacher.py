"""A large recognition net to the small semantic prior that a deblurring net is guided by."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from deblur_cli import nets, objective, trainer
from deblur_cli.errors import UsageError
from deblur_cli.files import checkpoint
from deblur_cli.nets.prior import PriorConfig, SemanticPrior
from deblur_cli.options.distill_teacher import DistillTeacherOptions
from deblur_cli.trainer import machine, sources, words
from deblur_cli.trainer.crew import Crew, gathered
from deblur_cli.trainer.data import Data, DataDials
from deblur_cli.trainer.profile import profile
from deblur_cli.trainer.validation import View


def run(options: DistillTeacherOptions, *, started: float | None = None) -> Iterator[object]:
    """Train the prior of ``options.preset`` against a teacher, and tell what happens.

    Args:
        options: checked.
        started: when the command began, on the clock of :func:`time.monotonic`: ``--max-time`` counts from there.

    Yields:
        The events of :func:`deblur_cli.trainer.fit`, whose losses are the distances of the three levels and whose scores are
        those of :class:`Closeness`; a Profiled or Previewed alone where only that was asked for.

    Raises:
        DeblurError: the data or the teacher do not fit.
    """
    began = time.monotonic() if started is None else started
    machine.use_threads(options.threads)
    with gathered(machine.device_of(options.device)) as crew:
        torch.manual_seed(options.seed)
        wanted, stem = _prior_of(options)
        multiple = 4 * stem
        crop = words.crop_of(options, options.recipe, multiple)
        data = Data(words.unpacked(DataDials, options), crop=crop, multiple=multiple)
        if options.preview is not None:
            batch = options.batch or options.recipe.batch
            yield words.write_preview(options, data.source(batch=batch, seed=options.seed, crew=crew))
            return
        teacher = objective.open_teacher(
            options.teacher or objective.teacher_for(wanted.widths),
            Path(options.teacher_weights) if options.teacher_weights else None,
            stem=stem,
            device=crew.device,
        )
        config = replace(wanted, widths=teacher.widths)
        net = SemanticPrior(config, stem=stem)
        aim = objective.DistillObjective(teacher, reading=cast("Any", options.reading))
        plan = words.plan_of(options, options.recipe, count=len(data), device=crew.device)
        pairs = data.source(batch=plan.batch, seed=plan.seed, crew=crew)
        if options.profile:
            yield profile(net, pairs, objective=aim, plan=plan, crew=crew)
            return
        views = data.views()
        yield from trainer.fit(
            net,
            pairs,
            objective=aim,
            plan=plan,
            out=Path(options.out),
            label=_label(options, config, stem, data),
            crew=crew,
            validation=Closeness(views, crew, aim) if views else None,
            resume=options.resume,
            deadline=None if options.seconds is None else began + options.seconds,
            described=words.described(options, data),
            tensorboard=options.tensorboard,
        )


class Closeness:
    """Scores a prior: how near it comes, seeing blurred views, to what its teacher sees in the sharp ones."""

    def __init__(self, views: Sequence[View], crew: Crew, aim: objective.DistillObjective) -> None:
        self._views = views
        self._crew = crew
        self._aim = aim

    def __call__(self, net: nn.Module) -> Mapping[str, float]:
        """The scores; every process of the crew gets the same.

        Returns:
            ``ratio_1`` to ``ratio_3``, finest level first: the distance of the prior's maps of the blurred views from the
            teacher's of the sharp ones, divided by the distance of the teacher's own maps of the blurred views. Below 1 the
            prior works. First of all ``closer``, 1 minus their mean.
        """
        distances = torch.zeros(2, 3, dtype=torch.float32, device=self._crew.device)
        for view in self._views[self._crew.rank :: self._crew.size]:
            blurred, sharp = (sources.stack([image]).to(self._crew.device) for image in (view.blurred, view.sharp))
            distances += torch.stack(self._aim.distances(net, blurred, sharp))
        ours, theirs = self._crew.sum(distances).tolist()
        ratios = [mine / other if other else float("inf") for mine, other in zip(ours, theirs, strict=True)]
        return {"closer": 1 - sum(ratios) / 3} | {f"ratio_{level}": ratio for level, ratio in enumerate(ratios, 1)}


def _prior_of(options: DistillTeacherOptions) -> tuple[PriorConfig, int]:
    """The dials of the prior that the preset's net has, and the stem of that net."""
    guided = [name for name, (_, config) in nets.PRESETS.items() if config.prior is not None]
    if options.preset not in guided:
        raise UsageError(
            f"--preset {options.preset} is none with a prior: {', '.join(guided)}.", "Choose one of these."
        )
    config = nets.PRESETS[options.preset][1]
    prior = cast("PriorConfig", config.prior)
    if options.clc is not None:
        prior = replace(prior, clc=options.clc)
    return prior, int(getattr(config, "stem", 1))


def _label(options: DistillTeacherOptions, config: PriorConfig, stem: int, data: Data) -> checkpoint.Label:
    return checkpoint.Label(
        kind="prior",
        net="prior",
        config={**nets.to_mapping(config), "stem": stem},
        made_with=words.made_with("distill-teacher", options),
        licence="that of whoever trained it",
        trained_on=data.title,
    )
