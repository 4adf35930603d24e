"""Photos to restored photos.

While the net works on one photo, one thread reads the next and another writes the last: at most three photos are held. The
net itself stays on the main thread, where Ctrl-C falls between two of its operations.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from deblur_cli.errors import DeblurError, InputError
from deblur_cli.files import routes
from deblur_cli.options.deblur import DeblurOptions

if TYPE_CHECKING:
    from deblur_cli.deblurrer import Deblurrer
    from deblur_cli.files.photo import Photo

_STREAM = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """Standard input and output, for ``-``."""

    input: BinaryIO
    output: BinaryIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The photos are found and every result has its name."""

    photos: int
    others: int
    """Files in folders that are no photos."""
    earlier: int
    """Results of earlier runs, left out."""

    def __str__(self) -> str:
        parts = [_count(self.photos, "photo")]
        if self.others:
            parts.append(f"{_count(self.others, 'other file')} ignored")
        if self.earlier:
            parts.append(f"{_count(self.earlier, 'result')} of earlier runs left out")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The net is loaded."""

    weights: str
    net: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"weights {self.weights} ({self.net}) on {self.device} in {self.precision}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """The net starts on a photo."""

    input: str

    def __str__(self) -> str:
        return self.input


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one photo; exactly one for each."""

    input: str
    output: str
    status: Literal["restored", "skipped", "planned", "failed"]
    compare: str | None = None
    width: int | None = None
    """Pixels, as seen upright."""
    height: int | None = None
    seconds: float | None = None
    """Of the net; reading and writing go on beside it."""
    device: str | None = None
    precision: str | None = None
    tile: tuple[int, int] | None = None
    """Width and height of a tile in pixels."""
    weights: str | None = None
    error: str | None = None
    hint: str | None = None
    exit_code: int = 0
    cause: DeblurError | None = field(default=None, repr=False)
    """What was raised, with its traceback; ``error`` and ``hint`` are its words."""

    def __str__(self) -> str:
        size = "" if self.width is None else f"  {self.width} x {self.height}"
        match self.status:
            case "failed":
                said = self.error or ""
                return said if self.input == _STREAM or Path(self.input).name in said else f"'{self.input}': {said}"
            case "skipped":
                return f"{self.output} is there already; skipped"
            case "planned":
                return f"{self.input} -> {self.output}{size}"
            case "restored":
                return f"{self.input} -> {self.output}{size}  {self.seconds:.1f} s"


def run(
    options: DeblurOptions, streams: Streams, *, tiles: Callable[[int, int], None] | None = None
) -> Generator[Started | Opened | Begun | Outcome]:
    """Restore all photos; one that fails does not stop the rest.

    Args:
        options: what was said.
        streams: where ``-`` reads and writes.
        tiles: told (tiles done, tiles in all) of the photo at hand, from within the net's work, where no event can be yielded.

    Yields:
        One Started, one Opened before the first photo is restored, and for each photo an Outcome, in the order of the photos.
        The Outcome comes when the result lies whole in its place. A KeyboardInterrupt is raised on after the Outcome of
        the photo that was being written.
    """
    found = routes.plan(
        options.inputs,
        routes.Naming(
            output=options.output,
            suffix=options.suffix,
            format=options.format,
            compare=options.compare,
            overwrite=options.overwrite,
            skip_existing=options.skip_existing,
        ),
        recursive=options.recursive,
    )
    yield Started(photos=len(found.routes), others=found.others, earlier=found.earlier)
    for each in found.routes:
        if each.finished:
            yield _outcome(each, "skipped")
    waiting = [each for each in found.routes if not each.finished]
    if options.dry_run:
        yield from _probe_all(waiting, options, streams)
    elif waiting:
        yield from _restore_all(waiting, options, streams, tiles)


def _probe_all(waiting: list[routes.Route], options: DeblurOptions, streams: Streams) -> Iterator[Outcome]:
    """What would be done, from the headers of the photos alone."""
    from deblur_cli.files import photo, weights

    weights.locate(options.weights)
    for route in waiting:
        try:
            facts = photo.probe(_source(route, streams))
        except DeblurError as error:
            yield _failed(route, error)
            continue
        plan = _outcome(route, "planned")
        yield replace(plan, width=facts.width, height=facts.height, weights=options.weights)


def _restore_all(
    waiting: list[routes.Route], options: DeblurOptions, streams: Streams, tiles: Callable[[int, int], None] | None
) -> Iterator[Opened | Begun | Outcome]:
    """Restore photo after photo, with one hand that reads ahead and one that writes behind."""
    reader, writer = (ThreadPoolExecutor(1, thread_name_prefix=f"deblur-{name}") for name in ("read", "write"))
    behind: deque[Future[Outcome]] = deque()
    deblurrer: Deblurrer | None = None
    try:
        ahead = deque([reader.submit(_read, waiting[0], options, streams)])
        for index, route in enumerate(waiting):
            yield Begun(input=_input(route))
            wait(ahead)  # before the next one is asked for: of photos that wait there is never more than one
            ahead.extend(reader.submit(_read, each, options, streams) for each in waiting[index + 1 : index + 2])
            reading = ahead.popleft()
            if isinstance(error := reading.exception(), DeblurError):
                step = partial(_failed, route, error)
            else:
                if deblurrer is None:  # only now: what is no photo is told without waiting for a net
                    deblurrer = _open(options)
                    yield _opened(deblurrer, options)
                step = _restore(route, reading.result(), deblurrer, options, streams, tiles)
            yield from _written(behind)
            behind.append(writer.submit(step))
            del reading, step  # or this photo would stay in memory while the next one is restored
        yield from _written(behind)
    except KeyboardInterrupt:
        yield from _written(behind)
        raise
    finally:
        for each in (reader, writer):
            each.shutdown(cancel_futures=True)


def _written(behind: deque[Future[Outcome]]) -> Iterator[Outcome]:
    """What has been written by now or is being written; each is told once, wherever a stop falls."""
    while behind:
        outcome = behind[0].result()
        behind.popleft()
        yield outcome


def _open(options: DeblurOptions) -> "Deblurrer":
    from deblur_cli.deblurrer import Deblurrer, devices

    devices.keep_memory()
    return Deblurrer.open(
        options.weights,
        device=options.device,
        precision=options.precision,
        tile=options.tile,
        overlap=options.overlap,
        strength=options.strength,
        tta=options.tta,
    )


def _opened(deblurrer: "Deblurrer", options: DeblurOptions) -> Opened:
    return Opened(
        weights=options.weights,
        net=deblurrer.label.net,
        device=str(deblurrer.device),
        precision=deblurrer.precision,
    )


def _source(route: routes.Route, streams: Streams) -> Path | bytes:
    return streams.input.read() if route.source is None else route.source


def _read(route: routes.Route, options: DeblurOptions, streams: Streams) -> "Photo":
    """The photo, if its result can be written in the format that is wanted: the net shall not work for nothing."""
    from deblur_cli.files import photo

    blurred = photo.read(_source(route, streams))
    photo.check_fit(blurred, format=_format(route.target, blurred, options), name=str(route.target or _STREAM))
    return blurred


def _format(path: Path | None, picture: "Photo", options: DeblurOptions) -> str:
    """The format of a result: of its name, else the one that was said, else the photo's own."""
    from deblur_cli.files import photo

    word = "" if options.format is None else f"x.{options.format}"
    return photo.format_of(path or word) if path or word else picture.format


def _restore(
    route: routes.Route,
    blurred: "Photo",
    deblurrer: "Deblurrer",
    options: DeblurOptions,
    streams: Streams,
    tiles: Callable[[int, int], None] | None,
) -> Callable[[], Outcome]:
    """The last step of a photo's way, for the hand that writes: a failure waits there for its turn, too."""
    try:
        start = time.perf_counter()
        restored = replace(blurred, pixels=deblurrer.restore(blurred.pixels, progress=tiles))
        seconds = time.perf_counter() - start
    except DeblurError as error:
        return partial(_failed, route, error)
    height, width = blurred.pixels.shape[:2]
    plan = deblurrer.plan_for(height, width)
    outcome = replace(
        _outcome(route, "restored"),
        width=width,
        height=height,
        seconds=round(seconds, 3),
        device=str(deblurrer.device),
        precision=deblurrer.precision,
        tile=(plan.tile_width, plan.tile_height),
        weights=options.weights,
    )
    beside = None if route.compare is None else blurred
    return partial(_write, route, restored, beside, outcome, options, streams)


def _write(
    route: routes.Route,
    restored: "Photo",
    beside: "Photo | None",
    outcome: Outcome,
    options: DeblurOptions,
    streams: Streams,
) -> Outcome:
    """Put the pictures of one photo in their places; the result comes last, so that it stands for all of them."""
    from deblur_cli.files import sheet

    try:
        if beside is not None:
            _put(sheet.side_by_side(beside, restored), route.compare, options, streams)
        _put(restored, route.target, options, streams)
    except DeblurError as error:
        return _failed(route, error)
    return outcome


def _put(picture: "Photo", path: Path | None, options: DeblurOptions, streams: Streams) -> None:
    from deblur_cli.files import photo

    keep = not options.strip_metadata
    if path is not None:
        with routes.folder(path.parent):
            photo.write(picture, path, quality=options.quality, keep_metadata=keep)
        return
    sort = _format(None, picture, options)
    data = photo.encode(picture, format=sort, quality=options.quality, keep_metadata=keep)
    try:
        streams.output.write(data)
        streams.output.flush()
    except BrokenPipeError:
        raise  # nobody reads on: the end of the whole run, and not this photo's failure
    except OSError as error:
        raise InputError(f"Standard output cannot be written: {error.strerror}.", "Say -o FILE.") from error


def _outcome(route: routes.Route, status: Literal["restored", "skipped", "planned", "failed"]) -> Outcome:
    compare = None if route.compare is None else str(route.compare)
    output = _STREAM if route.target is None else str(route.target)
    return Outcome(input=_input(route), output=output, status=status, compare=compare)


def _failed(route: routes.Route, error: DeblurError) -> Outcome:
    told = _outcome(route, "failed")
    return replace(told, error=error.message, hint=error.hint or None, exit_code=error.exit_code, cause=error)


def _input(route: routes.Route) -> str:
    return _STREAM if route.source is None else str(route.source)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
