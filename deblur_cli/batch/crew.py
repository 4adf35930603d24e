"""Several worker processes on one machine, one for each GPU or as many as are wanted; photos in, the same events out.

A worker has at most three photos in its hands: one that is read, one that is restored, one that is written. When it dies, the
photos go to the others, and a new worker takes its place. The processes are spawned, not forked: no worker holds another one's
connection, so each end sees at once when the other is gone.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from deblur_cli.batch import worker
from deblur_cli.batch.backlog import Backlog, Job
from deblur_cli.batch.events import Begun, Opened, Outcome
from deblur_cli.batch.pipeline import Task
from deblur_cli.errors import DeviceError
from deblur_cli.files import disk
from deblur_cli.files.routes import Route

if TYPE_CHECKING:
    from deblur_cli.files.hub import Told

_ROOM, _ROOM_OF_GPU = 3, 9
"""Photos in the hands of a worker: for a GPU more are read and written at once."""
_FALSE_STARTS = 3
"""Workers in a row that die before they have opened the net."""
_PATIENCE = 60.0
"""Seconds that a worker may take to finish what it writes when all is to end."""
_EVENTS = (Opened, Begun, Outcome, worker.Told, worker.Broken)


@dataclass(slots=True, eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection
    place: str
    open: bool = False
    held: deque[Job] = field(default_factory=deque[Job])


class Crew:
    """The workers of one run."""

    def __init__(self, task: Task, places: Sequence[str], *, fetching: "Told | None" = None) -> None:
        """One worker for each place.

        Args:
            task: what is to be done with every photo; its device is that of the place.
            places: devices, one for each worker; a device may come more than once.
            fetching: told what the user should know of the weights.
        """
        self._task = task
        self._places = places
        self._fetching = fetching
        self._workers: list[_Worker] = []
        self._false_starts = 0
        self._opened = False
        self._soiled: set[Path] = set()

    def run(self, routes: Sequence[Route]) -> Generator[Opened | Begun | Outcome]:
        """Restore the photos.

        Yields:
            One Opened; a Begun for each photo when a worker starts on it; for each photo an Outcome, in the order of the
            photos. A KeyboardInterrupt is raised on after the Outcomes of what was being written.

        Raises:
            WeightsError, DeviceError, UsageError: the net cannot be opened, or the workers end before they begin.
        """
        backlog = Backlog(routes)
        try:
            self._places = self._places[: len(routes)]
            for place in self._places:
                self._hire(place, speaks=not self._workers)
            while backlog.left:
                for each in self._workers:
                    self._feed(each, backlog)
                ready = wait([each.connection for each in self._workers])
                for each in [each for each in self._workers if each.connection in ready]:
                    yield from self._hear(each, backlog)
            self._dismiss()
        except KeyboardInterrupt:
            yield from self._last_words(backlog)
            raise
        finally:
            self._end()

    def _hire(self, place: str, *, speaks: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        task = replace(self._task, options=replace(self._task.options, device=place))
        threads = max(1, _cores() // len(self._places))
        process = context.Process(
            target=worker.main, args=(theirs, task, threads), kwargs={"speaks": speaks}, daemon=True
        )
        with _undisturbed():
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours, place))

    def _feed(self, hand: _Worker, backlog: Backlog) -> None:
        if not hand.open:
            return
        room = _ROOM_OF_GPU if hand.place.startswith("cuda") else _ROOM
        for job in backlog.take(hand.held, room, workers=len(self._workers)):
            hand.held.append(job)
            with suppress(OSError):  # it is dead, and that is heard where it speaks
                hand.connection.send(job.route)

    def _hear(self, hand: _Worker, backlog: Backlog) -> Iterator[Opened | Begun | Outcome]:
        try:
            event = _received(hand.connection)
        except (EOFError, OSError, UnpicklingError):
            yield from self._replace(hand, backlog)
        else:
            yield from self._take_in(hand, event, backlog)

    def _take_in(self, hand: _Worker, event: Any, backlog: Backlog) -> Iterator[Opened | Begun | Outcome]:
        match event:
            case Outcome():
                yield from backlog.done(hand.held.popleft(), event)
            case Begun():
                yield event
            case Opened():
                hand.open = True
                self._false_starts = 0
                if not self._opened:
                    self._opened = True
                    yield replace(event, device=self._where(event.device))
            case worker.Broken():
                raise event.error
            case _:
                if self._fetching is not None:
                    self._fetching(event.event)

    def _where(self, device: str) -> str:
        """The devices in words."""
        if len(set(self._places)) == 1:
            return f"{len(self._places)} workers on {device}"
        return ", ".join(self._places)

    def _replace(self, hand: _Worker, backlog: Backlog) -> Iterator[Outcome]:
        """Take the photos of a worker that died, and hire another one if there is still work for it."""
        self._workers.remove(hand)
        hand.connection.close()
        hand.process.join()
        self._soiled.update(job.route.target.parent for job in hand.held if job.route.target is not None)
        if not hand.open:
            self._false_starts += 1
        if self._false_starts == _FALSE_STARTS:
            raise DeviceError(
                f"The worker processes on {hand.place} end before they begin, the last one with code {hand.process.exitcode}.",
                "Look whether the memory suffices: say fewer --workers, or restore one photo with --workers 1.",
            )
        yield from backlog.lost(hand.held)
        if backlog.waiting:
            self._hire(hand.place)

    def _dismiss(self) -> None:
        """Let the workers go home."""
        for each in self._workers:
            with suppress(OSError):
                each.connection.send(None)

    def _last_words(self, backlog: Backlog) -> Iterator[Outcome]:
        """Ask all to stop, and tell what they had finished by then, also what was out of turn."""
        for each in self._workers:
            each.process.terminate()
        for each in self._workers:
            with suppress(EOFError, OSError, UnpicklingError):
                while each.connection.poll(_PATIENCE):
                    event = _received(each.connection)
                    if isinstance(event, Outcome):
                        yield from backlog.done(each.held.popleft(), event)
        yield from backlog.rest()

    def _end(self) -> None:
        """See to it that no worker is left, nor anything half-written."""
        for each in self._workers:
            if each.held or not each.open:
                each.process.terminate()
            each.connection.close()
        for each in self._workers:
            each.process.join(_PATIENCE)
            if each.process.is_alive():
                each.process.kill()
                each.process.join()
            self._soiled.update(job.route.target.parent for job in each.held if job.route.target is not None)
        for folder in self._soiled:
            disk.sweep(folder)


def places(device: str, workers: int | None) -> list[str]:
    """The device of each worker: one worker for each GPU for ``cuda:all``, else one in all, unless a number is said.

    Raises:
        DeviceError: there is no GPU.
    """
    if device != "cuda:all":
        return [device] * (workers or 1)
    import torch

    from deblur_cli.deblurrer import devices

    devices.choose("cuda")
    count = torch.cuda.device_count()
    return [f"cuda:{index % count}" for index in range(workers or count)]


def _received(connection: Connection) -> Any:
    """The next message.

    Raises:
        EOFError, OSError, UnpicklingError: the other end is gone, maybe amid a message.
    """
    event = connection.recv()
    if not isinstance(event, _EVENTS):
        raise UnpicklingError("not a message of a worker")
    return event


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _undisturbed() -> Generator[None]:
    """Around the start of a process: Ctrl-C waits, here and in the new process until that is ready for it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # or the first process would start it, which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
