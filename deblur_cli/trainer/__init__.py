"""The trainer: pairs in, checkpoints out.

``fit`` is the whole of it: a generator that trains a net in place and yields what happens. A :class:`~plan.Plan` holds the
numbers, a :class:`~sources.PairSource` the data, an objective the loss, a :class:`~crew.Crew` the other processes.
"""

from deblur_cli.trainer.loop import fit
from deblur_cli.trainer.plan import Plan

__all__ = ["Plan", "fit"]
