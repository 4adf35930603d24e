"""Batches made ready while the net trains on the one before."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

from deblur_cli.errors import DeblurError
from deblur_cli.trainer.sources import Batch, PairSource

_PATIENCE = 0.2
"""Seconds between two looks at whether the run is to stop, while a batch is waited for."""


class Feed:
    """The batches of a source in the order of their steps, on the device of the training."""

    def __init__(self, source: PairSource, *, start: int, steps: int, device: torch.device) -> None:
        self._source = source
        self._device = device
        self._next = start
        self._steps = steps
        self._threads = ThreadPoolExecutor(source.threads, "feed") if source.threads else None
        self._ready: deque[Future[Batch]] = deque()
        self.waited = 0.0
        """Seconds that the training spent waiting for batches so far."""

    def __enter__(self) -> Self:
        self._order()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def take(self, stopped: Callable[[], bool]) -> Batch | None:
        """The next batch; None when ``stopped`` says so before it is ready."""
        began = time.perf_counter()
        pair = self._take(stopped)
        if pair is not None and not self._source.on_device:
            # Not blocking: the copy waits in the device's queue, not here.
            pair = tuple(each.to(self._device, non_blocking=True) for each in pair)
        self.waited += time.perf_counter() - began
        return pair

    def _take(self, stopped: Callable[[], bool]) -> Batch | None:
        if not self._threads:
            self._next += 1
            return self._source.batch(self._next - 1)
        while True:
            try:
                pair = self._ready[0].result(timeout=_PATIENCE)
            except TimeoutError:
                if stopped():
                    return None
                continue
            except DeblurError:
                # A signal that stops the run may have ended its workers too.
                if stopped():
                    return None
                raise
            self._ready.popleft()
            self._order()
            return pair

    def _order(self) -> None:
        if not self._threads:
            return
        while len(self._ready) < 2 * self._source.threads + 1 and self._next < self._steps:
            self._ready.append(self._threads.submit(self._make, self._next))
            self._next += 1

    def _make(self, step: int) -> Batch:
        pair = self._source.batch(step)
        return tuple(each.pin_memory() for each in pair) if self._device.type == "cuda" else pair
