"""Photos to restored photos, in one process.

While the net works on one photo, one thread reads the next and another writes the last: at most three photos are held. For a
GPU, which is as quick as they are, there are several of each. With --max-memory it is one photo, and if that does not fit, its
pixels lie on disk. The net itself stays on the thread that asks, where Ctrl-C falls between two of its operations.
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
from typing import TYPE_CHECKING, Any, BinaryIO

from deblur_cli.batch import machine
from deblur_cli.batch.events import Begun, Opened, Outcome, begun, failed, outcome
from deblur_cli.batch.streams import Streams, source
from deblur_cli.errors import DeblurError
from deblur_cli.files import disk, manifest, routes
from deblur_cli.options.deblur import DeblurOptions

if TYPE_CHECKING:
    from deblur_cli.deblurrer import Deblurrer
    from deblur_cli.files.hub import Told
    from deblur_cli.files.photo import Facts, Photo
    from deblur_cli.files.scratch import Scratch
    from deblur_cli.onnxrunner import OnnxDeblurrer

_STREAM = "-"
_HANDS = 8
"""Threads that read, and that write, at most."""
_Tiles = Callable[[int, int], None] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be done with every photo; it can be sent to another process."""

    options: DeblurOptions
    pen: manifest.Pen | None = None
    """Writes each finished photo down."""

    def divided(self, workers: int) -> "Task":
        """The task of each of so many workers on one machine, which share its memory."""
        most = self.options.max_memory
        return self if most is None else replace(self, options=replace(self.options, max_memory=most // workers))


@dataclass(frozen=True, slots=True)
class _Taken:
    """A photo that was read."""

    photo: "Photo"
    state: os.stat_result | None
    """Of its file before it was read: a photo that changes meanwhile is another one."""
    room: "Scratch | None"
    """Where its pixels lie; None: in memory."""


class Pipeline:
    """A net, and hands that read and write. Not to be shared between threads."""

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

    @property
    def _depth(self) -> int:
        """Photos that are read, and that are written, while the net works on one."""
        return 1 if self._deblurrer is None else self._deblurrer.photos_ahead

    def open(self) -> Opened:
        """Load the net; raises what :func:`machine.opened` does."""
        options = self._options
        deblurrer = self._deblurrer = machine.opened(options, self._fetching)
        return Opened(
            weights=options.weights,
            net=deblurrer.label.net,
            device=str(deblurrer.device),
            precision=deblurrer.precision,
        )

    def run(self, waiting: Iterable[routes.Route | None]) -> Generator[Opened | Begun | Outcome]:
        """Restore photo after photo; one that fails does not stop the rest.

        Args:
            waiting: asked for one photo more than the one at hand, for a GPU for some more. None says that no other is known
                yet: all that is at hand is then finished before it is asked again, so that it may wait for the next.

        Yields:
            Opened before the first photo is restored, if the net was not open before; for each photo a Begun, and an Outcome
            in the order of the photos, when the result lies whole in its place. A KeyboardInterrupt is raised on after the
            Outcome of the photo that was being written.
        """
        reader, writer = (ThreadPoolExecutor(_HANDS, thread_name_prefix=f"deblur-{name}") for name in ("read", "write"))
        behind: deque[Future[Outcome]] = deque()
        ahead: deque[tuple[routes.Route, Future[_Taken]]] = deque()
        try:
            for following in chain(waiting, (None,)):
                if self._options.max_memory is not None:
                    yield from self._alone(following, reader, behind, writer)
                    continue
                if following is None:
                    while ahead:
                        yield from self._first(ahead, None, reader, behind, writer)
                    yield from _written(behind)
                elif len(ahead) < self._depth:
                    ahead.append((following, reader.submit(self._read, following)))
                else:
                    yield from self._first(ahead, following, reader, behind, writer)
        except KeyboardInterrupt:
            yield from _written(behind)
            raise
        finally:
            for each in (reader, writer):
                each.shutdown(cancel_futures=True)

    def _first(
        self,
        ahead: deque[tuple[routes.Route, Future[_Taken]]],
        following: routes.Route | None,
        reader: ThreadPoolExecutor,
        behind: deque[Future[Outcome]],
        writer: ThreadPoolExecutor,
    ) -> Iterator[Opened | Begun | Outcome]:
        """Restore the first of the photos that wait; the following one is read meanwhile."""
        yield begun(ahead[0][0])
        wait(ahead[0][1:])  # before another one is read: no more photos wait than were said
        route, reading = ahead.popleft()
        if following is not None:
            ahead.append((following, reader.submit(self._read, following)))
        yield from self._restored(route, reading, behind, writer)

    def _alone(
        self,
        route: routes.Route | None,
        reader: ThreadPoolExecutor,
        behind: deque[Future[Outcome]],
        writer: ThreadPoolExecutor,
    ) -> Iterator[Opened | Begun | Outcome]:
        """Read, restore and write one photo while no other is in memory."""
        if route is None:
            return
        yield begun(route)
        probing = reader.submit(self._probe, route)
        wait((probing,))
        if probing.exception() is None and self._deblurrer is None:
            yield self.open()  # first, for what it takes of the memory is not there for the photo
        reading = reader.submit(self._read, route)
        wait((reading,))
        yield from self._restored(route, reading, behind, writer)
        yield from _written(behind)

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
        yield from _written(behind, left=self._depth - 1)
        behind.append(writer.submit(step))

    def _read(self, route: routes.Route) -> _Taken:
        """The photo, if its result can be written in the format that is wanted: the net shall not work for nothing."""
        from deblur_cli.files import photo

        state = None if self._pen is None or route.source is None else _state(route.source)
        room = self._room(route)
        if room is None or route.source is None:
            blurred = photo.read(source(route, self._streams))
            photo.check_fit(blurred, format=self._format(route.target, blurred.format), name=_name(route))
        else:
            from deblur_cli.files import large

            blurred = large.read(route.source, room)
            large.check_fit(blurred, room, format=self._format(route.target, blurred.format), name=_name(route))
        if route.compare is not None:
            from deblur_cli.files import sheet

            sheet.check_fit(blurred, format=self._format(route.compare, blurred.format), name=str(route.compare))
        return _Taken(blurred, state, room)

    def _probe(self, route: routes.Route) -> "Facts | None":
        """What the header of the photo tells, if it is a file and that must be known before it is read."""
        if self._options.max_memory is None or route.source is None or disk.is_pipe(route.source):
            return None
        from deblur_cli.files import large

        return large.probe(route.source)

    def _room(self, route: routes.Route) -> "Scratch | None":
        """Room on disk for the pixels of a photo that are too many for ``--max-memory``.

        Raises:
            DeviceError: even some of them are.
        """
        facts = self._probe(route)
        if self._options.max_memory is None or route.source is None or facts is None:
            return None
        from deblur_cli.files import large

        folder = Path() if route.target is None else route.target.parent
        sort = self._format(route.target, facts.format)
        return large.room_for(route.source, facts, format=sort, most=self._options.max_memory, folder=folder)

    def _format(self, path: Path | None, own: str) -> str:
        """The format of a result: of its name, else the one that was said, else the photo's ``own``."""
        from deblur_cli.files import photo

        word = "" if self._options.format is None else f"x.{self._options.format}"
        return photo.format_of(path or word) if path or word else own

    def _step(self, route: routes.Route, taken: _Taken) -> Callable[[], Outcome]:
        """The last step of a photo's way, for the hand that writes: a failure waits there for its turn, too."""
        deblurrer, blurred, room = self._deblurrer, taken.photo, taken.room
        if deblurrer is None:
            raise ValueError("the net is not open")
        try:
            start = time.perf_counter()
            if room is None:
                restored = replace(blurred, pixels=deblurrer.restore(blurred.pixels, progress=self._tiles))
            else:
                restored = self._restored_on_disk(deblurrer, blurred, room)
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
            damaged=blurred.damaged,
            notices=blurred.notices,
        )
        beside = None if route.compare is None else blurred
        return partial(self._write, route, restored, beside, taken.state, told, room)

    def _restored_on_disk(self, deblurrer: "Deblurrer | OnnxDeblurrer", blurred: "Photo", room: "Scratch") -> "Photo":
        from deblur_cli.files import large

        def tiles(done: int, total: int) -> None:
            room.rest()
            if self._tiles is not None:
                self._tiles(done, total)

        restored = large.twin(blurred, room)
        deblurrer.restore(blurred.pixels, into=restored.pixels, progress=tiles)
        room.rest()
        return restored

    def _write(
        self,
        route: routes.Route,
        restored: "Photo",
        beside: "Photo | None",
        state: os.stat_result | None,
        told: Outcome,
        room: "Scratch | None",
    ) -> Outcome:
        """Put the pictures of one photo in their places; the result comes last, so that it stands for all of them."""

        def sealed(result: os.stat_result) -> None:
            if self._pen is not None and state is not None and route.source is not None and route.target is not None:
                self._pen.write(route.source, route.target, route.compare, photo=state, result=result)
            if beside is not None and route.compare is not None:
                from deblur_cli.files import sheet

                disk.write(
                    route.compare, self._encoded(sheet.side_by_side(beside, restored, room), route.compare, room)
                )

        try:
            data = self._encoded(restored, route.target, room)
            if route.target is None:
                if self._streams is None:
                    raise ValueError("there is no standard output here")
                self._streams.send(data, room)
            else:
                with routes.folder(route.target.parent):
                    disk.write(route.target, data, sealed=sealed)
        except DeblurError as error:
            return failed(route, error)
        return told

    def _encoded(
        self, picture: "Photo", path: Path | None, room: "Scratch | None"
    ) -> bytes | Callable[[BinaryIO], None]:
        """The bytes of a picture's file; of one that lies on disk, what writes them."""
        from deblur_cli.files import photo

        name = "" if path is None else str(path)
        dials: dict[str, Any] = {
            "format": self._format(path, picture.format),
            "quality": self._options.quality,
            "name": name,
        }
        dials["keep_metadata"] = not self._options.strip_metadata
        if room is None:
            return photo.encode(picture, **dials)
        from deblur_cli.files import large

        return lambda out: large.write(out, picture, room, **dials)


def _name(route: routes.Route) -> str:
    """What messages call the result."""
    return str(route.target or _STREAM)


def _state(path: Path) -> os.stat_result | None:
    with suppress(OSError):  # reading it will say so
        return path.stat()
    return None


def _written(behind: deque[Future[Outcome]], *, left: int = 0) -> Iterator[Outcome]:
    """What has been written by now, or is being written but for ``left`` photos; each is told once, wherever a stop falls."""
    while len(behind) > left or (behind and behind[0].done()):
        told = behind[0].result()
        behind.popleft()
        yield told
