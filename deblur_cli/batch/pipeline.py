"""Photos to restored photos, in one process.

While the net works on one photo, one thread reads the next and another writes the last: at most three photos are held. The
net itself stays on the thread that asks, where Ctrl-C falls between two of its operations.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from deblur_cli.batch.events import Begun, Opened, Outcome, begun, failed, outcome
from deblur_cli.errors import DeblurError, InputError
from deblur_cli.files import disk, manifest, routes
from deblur_cli.options.deblur import DeblurOptions

if TYPE_CHECKING:
    from deblur_cli.deblurrer import Deblurrer
    from deblur_cli.files.hub import Told
    from deblur_cli.files.photo import Photo
    from deblur_cli.onnxrunner import OnnxDeblurrer

_STREAM = "-"
_Tiles = Callable[[int, int], None] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """Standard input and output, for ``-``."""

    input: BinaryIO
    output: BinaryIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be done with every photo; it can be sent to another process."""

    options: DeblurOptions
    pen: manifest.Pen | None = None
    """Writes each finished photo down."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A photo that was read."""

    photo: "Photo"
    state: os.stat_result | None
    """Of its file before it was read: a photo that changes meanwhile is another one."""


class Pipeline:
    """A net and two hands. Not to be shared between threads."""

    def __init__(
        self, task: Task, streams: Streams | None = None, *, tiles: _Tiles = None, fetching: "Told | None" = None
    ) -> None:
        """See :func:`deblur_cli.commands.deblur.run` for the last three; without streams there is no ``-``."""
        self._options = task.options
        self._pen = task.pen
        self._streams = streams
        self._tiles = tiles
        self._fetching = fetching
        self._deblurrer: Deblurrer | OnnxDeblurrer | None = None

    def open(self) -> Opened:
        """Load the net, fetched if need be.

        Raises:
            WeightsError, DeviceError, UsageError: as the deblurrer's own ``open``.
        """
        options = self._options
        deblurrer = self._deblurrer = _open(options, self._fetching)
        return Opened(
            weights=options.weights,
            net=deblurrer.label.net,
            device=str(deblurrer.device),
            precision=deblurrer.precision,
        )

    def run(self, waiting: Iterable[routes.Route | None]) -> Generator[Opened | Begun | Outcome]:
        """Restore photo after photo; one that fails does not stop the rest.

        Args:
            waiting: asked for one photo more than the one at hand. None says that no other is known yet: all that is at
                hand is then finished before it is asked again, so that it may wait for the next.

        Yields:
            Opened before the first photo is restored, if the net was not open before; for each photo a Begun, and an Outcome
            in the order of the photos, when the result lies whole in its place. A KeyboardInterrupt is raised on after the
            Outcome of the photo that was being written.
        """
        reader, writer = (ThreadPoolExecutor(1, thread_name_prefix=f"deblur-{name}") for name in ("read", "write"))
        behind: deque[Future[Outcome]] = deque()
        ahead: tuple[routes.Route, Future[_Taken]] | None = None
        try:
            for following in chain(waiting, (None,)):
                current = ahead
                if current is not None:
                    yield begun(current[0])
                    wait(
                        current[1:]
                    )  # before the next one is asked for: of photos that wait there is never more than one
                ahead = None if following is None else (following, reader.submit(self._read, following))
                if current is not None:
                    yield from self._restored(*current, behind, writer)
                del current  # or this photo would stay in memory while the next one is restored
                if following is None:
                    yield from _written(behind)
        except KeyboardInterrupt:
            yield from _written(behind)
            raise
        finally:
            for each in (reader, writer):
                each.shutdown(cancel_futures=True)

    def _restored(
        self, route: routes.Route, reading: Future[_Taken], behind: deque[Future[Outcome]], writer: ThreadPoolExecutor
    ) -> Iterator[Opened | Outcome]:
        """Have the net work on a photo, and hand the result to the one who writes."""
        if isinstance(error := reading.exception(), DeblurError):
            step: Callable[[], Outcome] = partial(failed, route, error)
        else:
            taken = reading.result()
            if self._deblurrer is None:  # only now: what is no photo is told without waiting for a net
                yield self.open()
            step = self._step(route, taken)
            del taken
        del reading
        yield from _written(behind)
        behind.append(writer.submit(step))

    def _read(self, route: routes.Route) -> _Taken:
        """The photo, if its result can be written in the format that is wanted: the net shall not work for nothing."""
        from deblur_cli.files import photo

        state = None if self._pen is None or route.source is None else _state(route.source)
        blurred = photo.read(source(route, self._streams))
        photo.check_fit(blurred, format=self._format(route.target, blurred), name=str(route.target or _STREAM))
        return _Taken(blurred, state)

    def _format(self, path: Path | None, picture: "Photo") -> str:
        """The format of a result: of its name, else the one that was said, else the photo's own."""
        from deblur_cli.files import photo

        word = "" if self._options.format is None else f"x.{self._options.format}"
        return photo.format_of(path or word) if path or word else picture.format

    def _step(self, route: routes.Route, taken: _Taken) -> Callable[[], Outcome]:
        """The last step of a photo's way, for the hand that writes: a failure waits there for its turn, too."""
        deblurrer, blurred = self._deblurrer, taken.photo
        if deblurrer is None:
            raise ValueError("the net is not open")
        try:
            start = time.perf_counter()
            restored = replace(blurred, pixels=deblurrer.restore(blurred.pixels, progress=self._tiles))
            seconds = time.perf_counter() - start
        except DeblurError as error:
            return partial(failed, route, error)
        height, width = blurred.pixels.shape[:2]
        plan = deblurrer.plan_for(height, width)
        told = replace(
            outcome(route, "restored"),
            width=width,
            height=height,
            seconds=round(seconds, 3),
            device=str(deblurrer.device),
            precision=deblurrer.precision,
            tile=(plan.tile_width, plan.tile_height),
            weights=self._options.weights,
        )
        beside = None if route.compare is None else blurred
        return partial(self._write, route, restored, beside, taken.state, told)

    def _write(
        self,
        route: routes.Route,
        restored: "Photo",
        beside: "Photo | None",
        state: os.stat_result | None,
        told: Outcome,
    ) -> Outcome:
        """Put the pictures of one photo in their places; the result comes last, so that it stands for all of them."""
        from deblur_cli.files import sheet

        def sealed(result: os.stat_result) -> None:
            if self._pen is not None and state is not None and route.source is not None and route.target is not None:
                self._pen.write(route.source, route.target, route.compare, photo=state, result=result)
            if beside is not None and route.compare is not None:
                disk.write(route.compare, self._encoded(sheet.side_by_side(beside, restored), route.compare))

        try:
            data = self._encoded(restored, route.target)
            if route.target is None:
                self._send(data)
            else:
                with routes.folder(route.target.parent):
                    disk.write(route.target, data, sealed=sealed)
        except DeblurError as error:
            return failed(route, error)
        return told

    def _encoded(self, picture: "Photo", path: Path | None) -> bytes:
        from deblur_cli.files import photo

        return photo.encode(
            picture,
            format=self._format(path, picture),
            quality=self._options.quality,
            keep_metadata=not self._options.strip_metadata,
            name="" if path is None else str(path),
        )

    def _send(self, data: bytes) -> None:
        if self._streams is None:
            raise ValueError("there is no standard output here")
        try:
            self._streams.output.write(data)
            self._streams.output.flush()
        except BrokenPipeError:
            raise  # nobody reads on: the end of the whole run, and not this photo's failure
        except OSError as error:
            raise InputError(f"Standard output cannot be written: {error.strerror}.", "Say -o FILE.") from error


def source(route: routes.Route, streams: Streams | None) -> Path | bytes:
    """What the photo is read from: its file, or all of standard input."""
    if route.source is not None:
        return route.source
    if streams is None:
        raise ValueError("there is no standard input here")
    return streams.input.read()


def _state(path: Path) -> os.stat_result | None:
    with suppress(OSError):  # reading it will say so
        return path.stat()
    return None


def _written(behind: deque[Future[Outcome]]) -> Iterator[Outcome]:
    """What has been written by now or is being written; each is told once, wherever a stop falls."""
    while behind:
        told = behind[0].result()
        behind.popleft()
        yield told


def _open(options: DeblurOptions, fetching: "Told | None") -> "Deblurrer | OnnxDeblurrer":
    from deblur_cli.files import hub, origins, weights

    path = weights.locate(options.weights, listed=options.weights_list, offline=options.offline, told=fetching)
    if path.suffix.lower() == ".onnx":  # the one way that never imports torch
        from deblur_cli.onnxrunner import OnnxDeblurrer as Machine
    else:
        from deblur_cli.deblurrer import Deblurrer as Machine
        from deblur_cli.deblurrer import devices

        devices.keep_memory()
    opened = Machine.open(
        path,
        device=options.device,
        precision=options.precision,
        tile=options.tile,
        overlap=options.overlap,
        strength=options.strength,
        tta=options.tta,
    )
    if fetching and (notice := origins.notice(opened.label)):
        fetching(hub.Noted(notice))
    return opened
