"""The photos that several workers share: who gets which, and in which order the outcomes are told.

A photo that was in the hands of a worker when it died is under suspicion: it may be what killed it. It is given out again,
and alone, so that it takes no other photo with it; after a third death it is given up.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deblur_cli.batch.events import Outcome, failed
from deblur_cli.errors import DeviceError
from deblur_cli.files.routes import Route

DEATHS = 3
"""Workers that one photo may cost."""


@dataclass(slots=True)
class Job:
    """A photo on its way through the workers."""

    index: int
    route: Route
    deaths: int = 0


class Backlog:
    """What is yet to be given out and to be told."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._given = 0
        self._suspects: deque[Job] = deque()
        self._early: dict[int, Outcome] = {}
        self._told = 0

    @property
    def left(self) -> bool:
        """Whether an outcome is still to come."""
        return self._told < len(self._routes)

    @property
    def waiting(self) -> int:
        """Photos that no worker has."""
        return len(self._routes) - self._given + len(self._suspects)

    def take(self, held: Sequence[Job], room: int, *, workers: int) -> list[Job]:
        """Photos for a worker.

        Args:
            held: those that it has.
            room: those that it may have in all. It gets fewer where the others would have nothing left.
            workers: that share what is waiting.
        """
        if any(each.deaths for each in held):
            return []
        if self._suspects and not held:
            return [self._suspects.popleft()]
        fresh = len(self._routes) - self._given
        count = max(0, min(room - len(held), math.ceil(fresh / workers)))
        self._given += count
        return [Job(index, self._routes[index]) for index in range(self._given - count, self._given)]

    def done(self, job: Job, outcome: Outcome) -> Iterator[Outcome]:
        """Take in an outcome; all whose turn has come by that, in the order of the photos."""
        self._early[job.index] = outcome
        while self._told in self._early:
            yield self._early.pop(self._told)
            self._told += 1

    def lost(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Take back the photos of a worker that died; the outcomes of those that are given up, and what these held up."""
        for job in jobs:
            job.deaths += 1
            if job.deaths < DEATHS:
                self._suspects.append(job)
                continue
            error = DeviceError(
                f"The worker process ended {DEATHS} times while it had '{job.route.source}'.",
                "Look whether the memory suffices: say fewer --workers, or a smaller --tile.",
            )
            yield from self.done(job, failed(job.route, error))

    def rest(self) -> Iterator[Outcome]:
        """The outcomes whose turn will not come because the run was stopped."""
        for index in sorted(self._early):
            yield self._early.pop(index)
