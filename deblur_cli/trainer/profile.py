"""How fast a run would be, without running it."""

import copy
import time
from contextlib import closing

import torch
from torch import nn

from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.events import Profiled
from deblur_cli.trainer.feed import Feed
from deblur_cli.trainer.learner import Learner, Objective
from deblur_cli.trainer.plan import Plan
from deblur_cli.trainer.sources import Batch, PairSource

_WARM = 20
_MEASURED = 100
_PLAIN = 5


def profile(net: nn.Module, pairs: PairSource, *, objective: Objective, plan: Plan, crew: Crew) -> Profiled:
    """Train for a moment and measure; the net is spoilt afterwards.

    Args:
        net: as :func:`deblur_cli.trainer.fit` takes it, like the other arguments.
        pairs: closed at the end.
        objective: what is minimised.
        plan: of the run; ``steps`` bounds the measurement too.
        crew: this process among its peers.
    """
    plain = copy.deepcopy(net)
    learner = Learner(net, objective, plan, crew)
    warm = min(_WARM, plan.steps // 2)
    last = min(plan.steps, warm + _MEASURED)
    began, waited = time.perf_counter(), 0.0
    pair: Batch | None = None
    with closing(pairs), Feed(pairs, start=0, steps=last, device=crew.device) as feed:
        for step in range(last):
            if step == warm:
                learner.read()  # waits for the device
                began, waited = time.perf_counter(), feed.waited
            pair = feed.take(lambda: False)
            if pair is not None:
                learner.step(pair, step)
        learner.read()
        seconds = time.perf_counter() - began
        waited = feed.waited - waited
    if pair is None:
        raise ValueError("there was nothing to measure")
    return Profiled(
        steps=last - warm,
        crops_per_second=(last - warm) * plan.batch / seconds,
        waiting=min(1.0, waited / seconds),
        plain_crops_per_second=_plain(plain, objective, pair) * crew.size,
    )


def _plain(fresh: nn.Module, objective: Objective, pair: Batch) -> float:
    """Crops per second of a loop as one writes it first: float32, channels first, an optimiser of many small steps."""
    fresh = fresh.to(pair[0].device).train()
    optimiser = torch.optim.AdamW(fresh.parameters())
    pair = tuple(each.contiguous() for each in pair)
    began = time.perf_counter()
    for step in range(_PLAIN + 1):
        objective(fresh, *pair).total.backward()
        optimiser.step()
        optimiser.zero_grad()
        if step == 0:
            began = time.perf_counter()
    float(next(fresh.parameters()).detach().flatten()[0])  # waits for the device
    return _PLAIN * pair[0].shape[0] / (time.perf_counter() - began)
