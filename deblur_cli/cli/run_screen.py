"""A training run on the terminal: a bar where there is one, plain lines where there is none."""

import sys
from collections.abc import Iterable
from typing import Any

from deblur_cli.cli.show import Screen

_SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


def follow(events: Iterable[Any]) -> int:
    """Tell every event as it comes; the exit code: 0, or 130 and 143 where a signal stopped the run."""
    code = 0
    with _RunScreen() as screen:
        for event in events:
            screen.tell(event)
            code = _SIGNALS.get(getattr(event, "reason", ""), code)
    return code


class _RunScreen(Screen):
    """Lines on standard error; steps move a bar there if it is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: Any = None

    def tell(self, event: Any) -> None:
        """Say the event, or move the bar."""
        kind = type(event).__name__
        if kind == "Step" and self._bar is not None:
            losses = (
                f"loss {event.losses['total']:.4f}  {event.crops_per_second:.1f} crops/s  {event.waiting:.0%} waiting"
            )
            self._bar.update(self._steps, completed=event.step, description=losses)
        elif kind == "Saved" and self._bar is not None:
            pass
        else:
            self.say(str(event))
        if kind == "Started":
            self._begin(event.step, event.steps)

    def _begin(self, step: int, steps: int) -> None:
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
            speed_estimate_period=600,
        )
        self._steps = self._bar.add_task("starting", total=steps, completed=step)
        self._bar.start()
