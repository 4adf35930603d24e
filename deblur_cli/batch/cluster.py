"""Workers on a Ray cluster, one actor for each GPU or for each group of processor cores; photos in, the same events out.

Every node must see the photos, the output folder and the current folder under the same paths. An actor has at most two bundles
of photos: one that it restores, one that waits. When it dies, or its node does, the photos go to the others and a new actor
takes its place; Ray itself repeats nothing, for it does not know which photo may have killed the worker.
"""

import math
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from deblur_cli.batch.backlog import Backlog, Job
from deblur_cli.batch.events import Begun, Opened, Outcome, begun, last_words
from deblur_cli.batch.pipeline import Pipeline, Task
from deblur_cli.errors import DeblurError, DeviceError, InputError, UsageError
from deblur_cli.files import disk, weights
from deblur_cli.files.hub import Fetching, Noted, Told
from deblur_cli.files.routes import Route

_BUNDLE = 8
"""Photos that are sent at once: within a bundle the next photo is read while the net works."""
_BUNDLES = 2
_CORES = 4
"""Of a worker on a processor, if the number of workers is not said."""
_FALSE_STARTS = 3
_LONG = 60.0
"""Seconds after which a start takes longer than it should."""
_PATIENCE = 60.0
"""Seconds for an actor to end with its photo when all is to stop."""


class Hand:
    """One actor: a pipeline. Two bundles and a stop may be told to it at a time, from a thread each."""

    def __init__(self, task: Task, folder: str) -> None:
        self._lock = threading.Lock()
        self._stopping = False
        self._folder = folder
        self._notes: list[Noted] = []
        self._pipeline = Pipeline(task, fetching=self._keep)

    def open(self) -> tuple[Opened | DeblurError, list[Noted]]:
        """Go to the folder from which names are told, and load the net; the error where it would be raised.

        With it comes what the user should know of the weights, such as a licence that forbids commercial use.
        """
        try:
            with self._lock:
                os.chdir(self._folder)
                return self._pipeline.open(), self._notes
        except DeblurError as error:
            return error, self._notes
        except OSError as error:
            refused = InputError(
                f"A node of the cluster cannot see the folder '{self._folder}': {error.strerror}.",
                "Start from a folder that all nodes share.",
            )
            return refused, []

    def _keep(self, event: Fetching | Noted) -> None:
        self._notes += [event] if isinstance(event, Noted) else []

    def restore(self, routes: Sequence[Route]) -> list[Outcome]:
        """The outcomes of these photos in their order; fewer if a stop came."""
        outcomes: list[Outcome] = []
        with self._lock:
            events = self._pipeline.run(() if self._stopping else routes)
            for event in events:
                outcomes += [event] if isinstance(event, Outcome) else []
                if self._stopping:  # told as Ctrl-C is: what is being written is whole, no other photo is begun
                    outcomes += [each for each in last_words(events, KeyboardInterrupt()) if isinstance(each, Outcome)]
        return outcomes

    def stop(self) -> None:
        """Begin no other photo."""
        self._stopping = True


@dataclass(slots=True, eq=False)
class _Actor:
    handle: Any
    opening: Any
    """What is promised of :meth:`Hand.open`; None when it is kept."""
    bundles: dict[Any, list[Job]] = field(default_factory=dict[Any, list[Job]])

    @property
    def held(self) -> list[Job]:
        return [job for jobs in self.bundles.values() for job in jobs]


class Cluster:
    """The actors of one run."""

    def __init__(self, task: Task, workers: int | None, *, fetching: Told | None = None) -> None:
        """Connect to the cluster that ``RAY_ADDRESS`` names or that runs here; else start one on this machine.

        Args:
            task: what is to be done with every photo.
            workers: actors; None: one for each GPU, or for every four cores.
            fetching: told if the cluster keeps the run waiting.

        Raises:
            UsageError: Ray is not installed.
            DeviceError: it cannot be reached, or has no GPU although one is wanted.
        """
        self._ray = ray = _library()
        self._task = task
        self._fetching = fetching
        self._own = not ray.is_initialized()
        if self._own:
            _connect(ray)
        nodes: list[dict[str, float]] = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        cores, gpus = ([int(each[name]) for each in nodes if each.get(name, 0) >= 1] for name in ("CPU", "GPU"))
        wanted = task.options.device
        if wanted.startswith("cuda") and not gpus:
            if self._own:
                ray.shutdown()
            raise DeviceError("The Ray cluster has no GPU.", "Say --device cpu.")
        on_gpu = bool(gpus) and wanted != "cpu"
        self._count, self._needs = _on_gpus(gpus, workers) if on_gpu else _on_cores(cores, workers)
        self._abreast = _abreast(gpus if on_gpu else cores, self._needs["num_gpus" if on_gpu else "num_cpus"])
        # The nodes have an environment of their own, in which the list that the user's names is not named.
        listed = task.options.weights_list or os.environ.get(weights.LIST)
        options = replace(task.options, device="cuda" if on_gpu else "cpu", weights_list=listed)
        self._task = replace(task, options=options)
        self._actors: list[_Actor] = []
        self._false_starts = 0
        self._opened = False
        self._waited = False
        self._bundle = _BUNDLE
        self._soiled: set[Path] = set()

    def run(self, routes: Sequence[Route]) -> Generator[Opened | Begun | Outcome]:
        """Restore the photos; see :meth:`deblur_cli.batch.crew.Crew.run`, which tells the same."""
        backlog = Backlog(routes)
        self._task = self._task.divided(max(1, min(self._abreast, self._count, len(routes))))
        self._bundle = max(1, min(_BUNDLE, len(routes) // (2 * self._count)))
        try:
            for _ in range(min(self._count, len(routes))):
                self._hire()
            while backlog.left:
                for each in self._actors:
                    yield from self._feed(each, backlog)
                promised = {ref: each for each in self._actors for ref in self._promises(each)}
                ready = self._first(list(promised))
                yield from self._hear(promised[ready[0]], ready[0], backlog)
        except KeyboardInterrupt:
            yield from self._last_words(backlog)
            raise
        finally:
            self._end()

    def _first(self, promises: list[Any]) -> list[Any]:
        """The first promise that is kept; while no actor has opened its net, the user learns what is waited for."""
        if not self._opened and not self._waited and self._fetching is not None:
            ready, _ = self._ray.wait(promises, num_returns=1, timeout=_LONG)
            if ready:
                return ready
            self._fetching(
                Noted("Ray has not started a worker yet: the cluster is full, or not well. ray status tells.")
            )
            self._waited = True
        return self._ray.wait(promises, num_returns=1)[0]

    def _hire(self) -> None:
        make = self._ray.remote(Hand).options(max_restarts=0, max_task_retries=0, max_concurrency=3, **self._needs)
        handle = make.remote(self._task, str(Path.cwd()))
        self._actors.append(_Actor(handle, handle.open.remote()))

    def _promises(self, actor: _Actor) -> list[Any]:
        return [*([] if actor.opening is None else [actor.opening]), *actor.bundles]

    def _feed(self, actor: _Actor, backlog: Backlog) -> Iterator[Begun]:
        while actor.opening is None and len(actor.bundles) < _BUNDLES:
            jobs = backlog.take(actor.held, len(actor.held) + self._bundle, workers=len(self._actors))
            if not jobs:
                return
            actor.bundles[actor.handle.restore.remote([job.route for job in jobs])] = jobs
            yield begun(jobs[0].route)

    def _hear(self, actor: _Actor, promise: Any, backlog: Backlog) -> Iterator[Opened | Outcome]:
        exceptions = self._ray.exceptions
        try:
            found = self._ray.get(promise)
        except exceptions.RayTaskError:
            raise  # a mistake of our own
        except exceptions.RayError as error:
            yield from self._replace(actor, backlog, error)
            return
        if promise is actor.opening:
            actor.opening, self._false_starts = None, 0
            yield from self._begin(*found)
            return
        for job, outcome in zip(actor.bundles.pop(promise), found, strict=True):
            yield from backlog.done(job, outcome)

    def _begin(self, opened: Opened | DeblurError, notes: Sequence[Noted]) -> Iterator[Opened]:
        if self._fetching is not None and not self._opened:
            for each in notes:
                self._fetching(each)
        if isinstance(opened, DeblurError):
            raise opened
        if not self._opened:
            self._opened = True
            yield replace(opened, device=f"{self._count} Ray workers on {opened.device}")

    def _replace(self, actor: _Actor, backlog: Backlog, error: Exception) -> Iterator[Outcome]:
        """Take the photos of an actor that died, and hire another one if there is still work for it."""
        self._actors.remove(actor)
        self._ray.kill(actor.handle)  # of one that merely cannot be reached two would write the same photos
        self._soiled.update(job.route.target.parent for job in actor.held if job.route.target is not None)
        self._false_starts += actor.opening is not None
        if self._false_starts == _FALSE_STARTS:
            why = str(error).strip().splitlines()[-1]
            raise DeviceError(
                f"The Ray workers end before they begin: {why}", "Look whether every node has this deblur-cli."
            ) from error
        yield from backlog.lost(actor.held)
        if backlog.waiting:
            self._hire()

    def _last_words(self, backlog: Backlog) -> Iterator[Outcome]:
        """Ask all to stop, and tell what they had finished by then, also what was out of turn."""
        for each in self._actors:
            each.handle.stop.remote()
        jobs = {ref: jobs for each in self._actors for ref, jobs in each.bundles.items()}
        ready, _ = self._ray.wait(list(jobs), num_returns=len(jobs), timeout=_PATIENCE) if jobs else ([], [])
        for ref in ready:
            with suppress(self._ray.exceptions.RayError):
                for job, outcome in zip(jobs[ref], self._ray.get(ref), strict=False):
                    yield from backlog.done(job, outcome)
        yield from backlog.rest()

    def _end(self) -> None:
        """See to it that no actor is left, nor anything half-written on this machine."""
        for each in self._actors:
            self._soiled.update(job.route.target.parent for job in each.held if job.route.target is not None)
            self._ray.kill(each.handle)
        if self._own:
            self._ray.shutdown()
        for folder in self._soiled:
            disk.sweep(folder)


def _on_gpus(gpus: Sequence[int], workers: int | None) -> tuple[int, dict[str, float]]:
    """Number of workers and what each needs: a GPU, or the same part of one as the others.

    Args:
        gpus: of each node that has some.
        workers: how many are wanted, if that was said.
    """
    count = workers or sum(gpus)
    return count, {"num_gpus": 1 / math.ceil(count / sum(gpus)), "num_cpus": 0}


def _on_cores(cores: Sequence[int], workers: int | None) -> tuple[int, dict[str, float]]:
    """Number of workers and what each needs: equal groups of cores, none larger than a node, or parts of a core.

    Args:
        cores: of each node that has some.
        workers: how many are wanted, if that was said.
    """
    total = sum(cores) or 1
    count = workers or sum(max(1, each // _CORES) for each in cores) or 1
    each = min(total // count, *cores, total) if total >= count else 1 / math.ceil(count / total)
    return count, {"num_gpus": 0, "num_cpus": each}


def _abreast(sizes: Sequence[int], each: float) -> int:
    """How many workers one node may hold at most: they share its memory.

    Args:
        sizes: GPUs or cores of each node that has some.
        each: what a worker needs of them.
    """
    return max((int(size / each + 1e-6) for size in sizes), default=1)


def _library() -> Any:
    # It would write of workers that died on standard output, among the rows of --json; they are told of by their photos.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        return import_module("ray")
    except ImportError as error:
        raise UsageError(
            "--engine ray needs Ray, which is not installed.", "Install it with: pip install 'deblur-cli[ray]'"
        ) from error


def _connect(ray: Any) -> None:
    """Connect, and keep the signals as they are: Ray would end this process its own way, with photos half told."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody shall be told that photos are restored here
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what newer versions do, and older ones warn of
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    except (OSError, RuntimeError, ValueError, ConnectionError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DeviceError(f"The Ray cluster cannot be reached: {why}", "Look at RAY_ADDRESS, or unset it.") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
