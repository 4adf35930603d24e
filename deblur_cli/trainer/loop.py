"""Pairs in, checkpoints out: the loop around :class:`deblur_cli.trainer.learner.Learner`."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from deblur_cli.errors import DeblurError, InputError, UsageError
from deblur_cli.files import checkpoint
from deblur_cli.trainer.clock import Clock
from deblur_cli.trainer.course import Course
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.events import Saved, Started, Step, Stopped, Unsaved, Validated
from deblur_cli.trainer.feed import Feed
from deblur_cli.trainer.journal import Event, Journal
from deblur_cli.trainer.learner import HALF, Learner, Objective
from deblur_cli.trainer.plan import Plan
from deblur_cli.trainer.sources import PairSource
from deblur_cli.trainer.spell import Spell
from deblur_cli.trainer.state import State, load, path_in, save

Validation = Callable[[nn.Module], Mapping[str, float]]
"""Scores a net; the first score decides, higher is better. Every process of the crew calls it and gets the same."""

_SCORED_ON = ("val", "val_count", "val_crop", "hold_out", "scored", "data", "dataset", "blur_key", "longest")
_SCORED_UNDER = (
    "max_blur",
    "blur_skew",
    "still",
    "objects",
    "trembling",
    "soft",
    "noise",
    "read_noise",
    "jpeg",
    "teacher",
    "reading",
)
_SCORING = _SCORED_ON + _SCORED_UNDER
"""Dials that decide what a score means: where one has changed, the best score of before says nothing."""
_VOTE_EVERY = 5
"""Steps between two votes of a crew on whether to stop."""


def fit(
    net: nn.Module,
    pairs: PairSource,
    *,
    objective: Objective,
    plan: Plan,
    out: Path,
    label: checkpoint.Label,
    crew: Crew,
    validation: Validation | None = None,
    resume: bool = False,
    deadline: float | None = None,
    rate_of: Callable[[str], float] | None = None,
    described: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> Iterator[Event]:
    """Train ``net`` in place, and tell what happens.

    Args:
        net: moved to the device of the crew.
        pairs: batches by the number of the step; closed at the end.
        objective: what is minimised.
        plan: the numbers of the run.
        out: folder of ``state.pt``, ``last.safetensors``, ``best.safetensors`` and ``log.jsonl``; the same for all of a crew.
        label: what the checkpoints say of themselves; the scores are filled in here.
        crew: this process among its peers.
        validation: scores the averaged net.
        resume: continue the run in ``out``.
        deadline: on the clock of :func:`time.monotonic`; the run is saved and left before it.
        rate_of: parameter name to factor of its learning rate; None is 1 for all.
        described: further dials, told when a resumed run changes them. ``pairs`` describes the source.
        tensorboard: write TensorBoard's events too.

    Yields:
        Started, then Step, Validated, Saved and Unsaved as they come, at last Stopped. Only the one process of the crew that
        writes tells anything.

    Raises:
        UsageError: ``out`` holds a run that was not to be resumed.
        DeblurError: nothing to resume, another net's run, gradients that stay broken, or a last save that failed.
    """
    with closing(pairs), Spell(deadline) as spell:
        _prepare(out, resume=resume)
        learner = Learner(net, objective, plan, crew, rate_of)
        told = dict(described or {})
        run = _Run(
            learner=learner,
            pairs=pairs,
            source=told.pop("pairs", "pairs"),
            plan=plan,
            out=out,
            label=label,
            crew=crew,
            validation=validation,
            spell=spell,
            dials={name: str(value) for name, value in asdict(plan).items()} | told,
        )
        if resume:
            run.restore()
        if not crew.writes:
            for _ in run.events():
                pass
            return
        with Journal(out, start=run.step, tensorboard=tensorboard) as journal:
            for event in run.events():
                journal.note(event)
                yield event


def _prepare(out: Path, *, resume: bool) -> None:
    """Make the folder of a new run."""
    if resume:
        return
    if path_in(out).exists():
        raise UsageError(
            f"'{out}' holds a run already.", "Go on with it by --resume, or name another folder with --out."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"'{out}' cannot be made: {error.strerror}.", "Name another folder with --out.") from error


@dataclass(slots=True, kw_only=True)
class _Run:
    """A run under way."""

    learner: Learner
    pairs: PairSource
    source: str
    plan: Plan
    out: Path
    label: checkpoint.Label
    crew: Crew
    validation: Validation | None
    spell: Spell
    dials: Mapping[str, str]
    clock: Clock = field(init=False)
    step: int = 0
    best: float | None = None
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    course: Course = field(default_factory=Course)
    read_step: int = 0
    """When the losses were last read."""
    saved: float = field(default_factory=time.monotonic)
    """When the state was last written, or tried to be."""
    saved_step: int = 0
    slowest: float = 0.0
    """Seconds that a step and what it brought took at most."""
    saving: float = 0.0
    """Seconds that the last save took."""

    def restore(self) -> None:
        """Take the place of the run that the folder holds."""
        found = load(self.out, net=self.label.net, config=self.label.config)
        self.learner.restore(found.learner)
        self.step = self.saved_step = found.step
        self.read_step = found.step - found.step % self.plan.log_every
        before = found.dials
        same = all(before.get(name) == self.dials.get(name) for name in _SCORING)
        self.best = found.best if same else None
        self.changed = {name: (before[name], now) for name, now in self.dials.items() if before.get(name, now) != now}
        # Other data or another objective have losses of their own.
        self.course = Course() if self.changed else Course.restored(found.course)

    def events(self) -> Iterator[Event]:
        """Run until finished or stopped."""
        yield self._started()
        self.clock = Clock(batch=self.plan.batch, step=self.step)
        reason = ""
        with Feed(self.pairs, start=self.step, steps=self.plan.steps, device=self.crew.device) as feed:
            while self.step < self.plan.steps and not reason:
                yield from self._next(feed)
                reason = self._stop()
                if not reason and self._due_to_save():
                    yield self._save()
        if self.crew.writes:
            yield from self._last_save()
        yield Stopped(step=self.step, steps=self.plan.steps, reason=reason or "finished", path=self.out)

    def _started(self) -> Started:
        return Started(
            step=self.step,
            steps=self.plan.steps,
            net=self.label.net,
            parameters=self.learner.parameters,
            device=str(self.crew.device) + (f" x {self.crew.size}" if self.crew.size > 1 else ""),
            precision=self.plan.precision,
            pairs=self.source,
            changed=self.changed,
        )

    def _next(self, feed: Feed) -> Iterator[Event]:
        """One step, and what it brings besides itself."""
        began = time.monotonic()
        pair = feed.take(lambda: self.crew.size == 1 and bool(self.spell.reason))
        if pair is None:
            return
        self.learner.step(pair, self.step)
        self.step += 1
        finished = self.step == self.plan.steps
        if finished or self.step % self.plan.log_every == 0:
            yield self._measured(feed)
        if self.validation is not None and (finished or self.step % self.plan.validate_every == 0):
            with self.clock.paused():
                yield from self._validated(self.validation)
        self.slowest = max(self.slowest, time.monotonic() - began)
        ahead = _VOTE_EVERY if self.crew.size > 1 else 1
        self.spell.reserve = 1 + ahead * self.slowest + 2 * self.saving

    def _measured(self, feed: Feed) -> Step:
        losses, skipped, row = self.learner.read()
        if row >= self.plan.patience:
            raise self._diverged(f"The last {row} steps had no finite gradient")
        self._watch(losses["total"])
        gradient = losses.pop("gradient")
        pace, waiting = self.clock.read(self.step, feed.waited)
        return Step(
            step=self.step,
            steps=self.plan.steps,
            losses=losses,
            gradient=gradient,
            rate=self.plan.rate_at(self.step - 1),
            crops_per_second=pace,
            waiting=waiting,
            seconds_left=(self.plan.steps - self.step) * self.plan.batch / pace,
            skipped=skipped,
        )

    def _watch(self, loss: float) -> None:
        """Give up a run whose loss climbs and climbs; its numbers may stay finite to the end."""
        steps, self.read_step = self.step - self.read_step, self.step
        if self.step - steps < self.plan.warmup or not math.isfinite(loss):
            return
        self.course.note(loss, steps)
        if self.course.lost:
            best, last = self.course.best, self.course.last
            raise self._diverged(f"The loss has climbed from {best:.3g} to {last:.3g} and stays there")

    def _diverged(self, why: str) -> DeblurError:
        good = f"The state of step {self.saved_step:,} in '{path_in(self.out)}' is the last good one."
        return DeblurError(
            f"{why}: the run has diverged at step {self.step:,}. {good if self.saved_step else 'Nothing was saved before.'}",
            "Go on from it with --resume and a smaller --lr, with --clip 0.5, or with --precision fp32."
            if self.saved_step
            else "Begin anew with a smaller --lr, with --clip 0.5, or with --precision fp32.",
        )

    def _validated(self, validation: Validation) -> Iterator[Validated | Unsaved]:
        half = HALF.get(self.plan.precision)
        with torch.no_grad(), torch.autocast(self.crew.device.type, half or torch.bfloat16, enabled=half is not None):
            scores = dict(validation(self.learner.settle()))
        first = next(iter(scores.values()))
        best = math.isfinite(first) and (self.best is None or first > self.best)
        if best:
            self.best = first
        self.label = replace(self.label, scores={name: score for name, score in scores.items() if math.isfinite(score)})
        yield Validated(step=self.step, scores=scores, best=best)
        if best and self.crew.writes and (trouble := self._keep("best")):
            yield trouble

    def _due_to_save(self) -> bool:
        # What is saved is to be gone on from: a loss that climbs may be the beginning of the end.
        return (
            self.crew.writes
            and not self.course.climbing
            and time.monotonic() - self.saved > self.plan.save_minutes * 60
        )

    def _save(self) -> Saved | Unsaved:
        began = self.saved = time.monotonic()
        found = State(
            step=self.step,
            net=self.label.net,
            config=dict(self.label.config),
            dials=self.dials,
            best=self.best,
            learner=self.learner.state(),
            course=self.course.state(),
        )
        try:
            save(found, self.out)
        except OSError as error:
            return Unsaved(step=self.step, reason=error.strerror or str(error))
        self.saved_step = self.step
        trouble = self._keep("last")
        self.saving = time.monotonic() - began
        return trouble or Saved(step=self.step, path=path_in(self.out))

    def _keep(self, name: str) -> Unsaved | None:
        """Write a checkpoint of the averaged weights."""
        notes = f"{self.label.notes} Averaged weights after {self.step:,} steps.".strip()
        kept = checkpoint.Checkpoint(label=replace(self.label, notes=notes), tensors=self.learner.settle().state_dict())
        try:
            checkpoint.save(kept, self.out / f"{name}.safetensors")
        except InputError as error:
            return Unsaved(step=self.step, reason=error.message)
        return None

    def _last_save(self) -> Iterator[Saved | Unsaved]:
        last = self._save()
        yield last
        if isinstance(last, Unsaved):
            raise InputError(
                f"The run could not be saved at step {self.step:,}: {last.reason}; what was saved at step "
                f"{self.saved_step:,} is whole.",
                f"Make room, then go on with --resume --out {self.out}.",
            )

    def _stop(self) -> str:
        """Why to stop now; a crew agrees on it."""
        if self.crew.size == 1:
            return self.spell.reason
        if self.step % _VOTE_EVERY:
            return ""
        return (self.spell.reason or "a peer") if self.crew.any(flag=bool(self.spell.reason)) else ""
