"""Sharp photographs to the motion prior that a deblurring net is guided by."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deblur_cli import nets, trainer
from deblur_cli.errors import InputError, UsageError
from deblur_cli.files import checkpoint
from deblur_cli.movement import MotionObjective
from deblur_cli.nets.motion import NODE, MotionConfig
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.options.distill_motion import DistillMotionOptions
from deblur_cli.pixels import blurring, shaking
from deblur_cli.trainer import machine, start, words
from deblur_cli.trainer.crew import gathered
from deblur_cli.trainer.data import Data, DataDials
from deblur_cli.trainer.profile import profile
from deblur_cli.trainer.shaken import Insight, Pictured, ShakenPhotos, acquaint
from deblur_cli.trainer.validation import View

_ACQUAINTED = 256
"""Crops whose spectra tell what is usual."""


def run(options: DistillMotionOptions, *, started: float | None = None) -> Iterator[object]:
    """Train the motion prior of ``options.preset``, and tell what happens.

    Args:
        options: checked.
        started: when the command began, on the clock of :func:`time.monotonic`: ``--max-time`` counts from there.

    Yields:
        The events of :func:`deblur_cli.trainer.fit`, whose losses are distances of transfer functions and whose scores are
        those of :class:`deblur_cli.trainer.shaken.Insight`; a Profiled or Previewed alone where only that was asked for.

    Raises:
        DeblurError: the data do not fit.
    """
    began = time.monotonic() if started is None else started
    machine.use_threads(options.threads)
    with gathered(machine.device_of(options.device)) as crew:
        torch.manual_seed(options.seed)
        begun = None if options.motion_weights is None else start.open_motion(options.motion_weights)
        config = _motion_of(options, begun)
        crop = words.crop_of(options, options.recipe, NODE)
        recipe = words.unpacked(DataDials, options).shaking
        data = _data(options, crop)
        plan = words.plan_of(options, options.recipe, count=len(data), device=crew.device)

        def photographs(slots: range) -> ShakenPhotos:
            return ShakenPhotos(
                data.album, recipe, crop=crop, radius=config.radius, slots=slots, seed=plan.seed, device=crew.device
            )

        pairs = photographs(crew.shard(plan.batch))
        if options.preview is not None:
            yield words.write_preview(options, Pictured(pairs))
            return
        net = MotionPrior(config).to(crew.device)
        net.noise.requires_grad_(requires_grad=False)  # only a net that is guided can tell what this is to be
        if begun is not None:
            start.fill_motion(net, begun, str(options.motion_weights))
        elif not options.resume:
            # All the slots: every process of a crew, and one alone, come to the same numbers.
            acquaint(net, photographs(range(plan.batch)), max(1, _ACQUAINTED // plan.batch))
        aim = MotionObjective()
        if options.profile:
            yield profile(net, pairs, objective=aim, plan=plan, crew=crew)
            return
        views = _views(data)
        yield from trainer.fit(
            net,
            pairs,
            objective=aim,
            plan=plan,
            out=Path(options.out),
            label=_label(options, config, data, begun),
            crew=crew,
            validation=Insight(views, recipe, radius=config.radius, crew=crew) if views else None,
            resume=options.resume,
            deadline=None if options.seconds is None else began + options.seconds,
            described=words.described(options, data),
            tensorboard=options.tensorboard,
        )


def _motion_of(options: DistillMotionOptions, begun: checkpoint.Checkpoint | None) -> MotionConfig:
    """The dials of the motion prior that the preset's net has, or of that which is gone on from."""
    moving = {name: config for name, (_, config) in nets.PRESETS.items() if hasattr(config, "motion")}
    if options.preset not in moving:
        raise UsageError(
            f"--preset {options.preset} is none with a motion prior: {', '.join(moving)}.", "Choose one of these."
        )
    chosen: Any = moving[options.preset]
    if begun is not None:
        chosen = start.with_motion_of(chosen, begun, str(options.motion_weights))
    config: MotionConfig = chosen.motion
    if options.max_blur > 2 * config.radius:
        raise UsageError(
            f"--max-blur {options.max_blur:g} is more than this prior can see: {2 * config.radius} px.",
            f"Say --max-blur {2 * config.radius} or less.",
        )
    return config


def _data(options: DistillMotionOptions, crop: int) -> Data:
    """Photographs that are wide enough for a crop and its margin, and views with a margin too."""
    dials = words.unpacked(DataDials, options)
    margins = 2 * shaking.MARGIN
    side = max(NODE, options.val_crop // NODE * NODE) + margins
    # What the data add to a crop goes by the longest movement, what shaking takes off it does not.
    room = crop + margins - 2 * blurring.margin(dials.recipe)
    return Data(replace(dials, val_crop=side), crop=max(room, crop, NODE + margins), multiple=NODE)


def _views(data: Data) -> list[View]:
    """What the prior is validated on: sharp sides with something left inside their margins."""
    found = data.views()
    smallest = NODE + 2 * shaking.MARGIN
    views = [view for view in found if min(view.sharp.shape[:2]) >= smallest]
    if found and not views:
        raise InputError(
            f"No image to validate on has {smallest} x {smallest} pixels.",
            "Name larger ones with --val, or --val-count 0.",
        )
    return views


def _label(
    options: DistillMotionOptions, config: MotionConfig, data: Data, begun: checkpoint.Checkpoint | None
) -> checkpoint.Label:
    return checkpoint.Label(
        kind="prior",
        net="motion",
        config=nets.to_mapping(config),
        made_with=words.made_with("distill-motion", options),
        licence=begun.label.licence if begun else "that of whoever trained it",
        trained_on=data.title,
    )
