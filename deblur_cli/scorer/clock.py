"""How long the net takes and how much memory, measured so that two figures can be compared.

A GPU works behind the program's back: the clock is read only when it has come to rest, and never on a first call.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """What a piece of work gave, and what it took."""

    result: T
    seconds: float
    memory: int | None
    """Peak in bytes: of the GPU while it worked, or else of this process since it began; None where nothing tells."""


def time_of(work: Callable[[], T], device: torch.device) -> Timed[T]:
    """Do ``work`` once, between two moments at which ``device`` rests."""
    _rest(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    result = work()
    _rest(device)
    return Timed(result, time.perf_counter() - start, _peak(device))


def pace_of(work: Callable[[], object], device: torch.device, *, warm: int, repeats: int) -> Timed[list[float]]:
    """Do ``work`` over and over, the ``warm`` first times uncounted: the seconds of each, their median, the peak of memory."""
    for _ in range(warm):
        time_of(work, device)
    times = [time_of(work, device) for _ in range(repeats)]
    seconds = [each.seconds for each in times]
    peaks = [each.memory for each in times if each.memory is not None]
    return Timed(seconds, median(seconds), max(peaks) if peaks else None)


def _rest(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
