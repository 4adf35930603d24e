"""The pace of a run."""

import time
from collections.abc import Generator
from contextlib import contextmanager


class Clock:
    """Measures crops per second and the share of waiting, from one reading to the next."""

    def __init__(self, *, batch: int, step: int, waited: float = 0.0) -> None:
        self._batch = batch
        self._step = step
        self._waited = waited
        self._since = time.perf_counter()

    def read(self, step: int, waited: float) -> tuple[float, float]:
        """Crops per second, and the share of the time spent waiting, since the last reading.

        Args:
            step: steps taken so far.
            waited: seconds waited so far.
        """
        now = time.perf_counter()
        seconds = max(1e-9, now - self._since)
        pace = (step - self._step) * self._batch / seconds
        waiting = min(1.0, (waited - self._waited) / seconds)
        self._step, self._waited, self._since = step, waited, now
        return pace, waiting

    @contextmanager
    def paused(self) -> Generator[None]:
        """Leave out the time spent inside."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began
