"""What the user sees: sentences and a bar on standard error, data on standard output."""

import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from deblur_cli.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def complain(message: str, hint: str = "") -> None:
    """Say what went wrong and what to do next."""
    sys.stderr.write(_complaint(message, hint) + "\n")
    sys.stderr.flush()


def data(row: Mapping[str, Any]) -> None:
    """Write one line of JSON on standard output, at once."""
    with output():
        print(json.dumps(row), flush=True)


@contextmanager
def output() -> Generator[None]:
    """Around what writes on standard output.

    Raises:
        InputError: it takes nothing, such as a file on a full disk.
        BrokenPipeError: nobody reads it any more, as in ``deblur --json ... | head -1``.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"Standard output cannot be written: {error.strerror}.", "Look where > leads.") from error


def drop_output() -> None:
    """Throw away what standard output did not take: Python would try once more, and complain, when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def mend_streams() -> None:
    """Put something in the place of standard streams that are closed, and let a name be written that has no letters there."""
    flags = {"stdin": ("r", os.O_RDONLY), "stdout": ("w", os.O_RDONLY), "stderr": ("w", os.O_WRONLY)}
    for name, (mode, access) in flags.items():
        if getattr(sys, name) is None:
            # Opened in this order each takes the number that is missing, which no photo then gets. What is written to
            # standard output fails, for it is data that somebody wants.
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error does by itself


class Screen:
    """Sentences on standard error, with a bar of photos and tiles below them when that is a terminal.

    rich is imported only for the bar: a batch in a script never waits for it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._photos: TaskID | None = None
        self._tiles: TaskID | None = None
        self._download: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for each in (self._download, self._bar):
            if each is not None:
                each.stop()

    def start(self, photos: int) -> None:
        """Show the bar, if there is somebody to see it."""
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._photos = self._bar.add_task("all", total=photos, unit="photos", visible=photos > 1)
        self._tiles = self._bar.add_task("loading", total=None, unit="tiles")
        self._bar.start()

    def begin(self, photo: str) -> None:
        """Name the photo whose tiles come now."""
        if self._bar is not None and self._tiles is not None:
            self._bar.reset(self._tiles, total=None, description=_printable(photo))

    def tiles(self, done: int, total: int) -> None:
        """Move the bar of tiles."""
        if self._bar is not None and self._tiles is not None:
            self._bar.update(self._tiles, completed=done, total=total)

    def fetching(self, event: Any) -> None:
        """Tell of a download: its size before it starts, then a bar of its own, in the place of the other one.

        An event without ``done`` is something else that the user should know of the weights.
        """
        if not getattr(event, "done", 0):
            self._end_download()
            self.say(str(event))
            if hasattr(event, "done") and not self._quiet and sys.stderr.isatty():
                from deblur_cli.cli.download import bar

                if self._bar is not None:
                    self._bar.stop()
                self._download = bar(event.place.file, event.total)
        elif self._download is not None:
            self._download.update(self._download.task_ids[0], completed=event.done)
            if event.done == event.total:
                self._end_download()

    def _end_download(self) -> None:
        """Take the bar of a download away."""
        if self._download is not None:
            self._download.stop()
            self._download = None
            if self._bar is not None:
                self._bar.start()

    def done(self) -> None:
        """Move the bar of photos by one."""
        if self._bar is not None and self._photos is not None:
            self._bar.advance(self._photos)

    def say(self, sentence: str) -> None:
        """Tell something the user may leave unread; ``-q`` leaves it unsaid."""
        if not self._quiet:
            self._write("\n".join(map(_printable, sentence.split("\n"))))

    def print(self, line: str) -> None:
        """Write what was asked for on standard output."""
        with output():
            print(_printable(line), flush=True)

    def complain(self, message: str, hint: str = "") -> None:
        """Say what went wrong, above the bar."""
        self._write(_complaint(message, hint))

    def _write(self, text: str) -> None:
        bar = self._download or self._bar
        if bar is not None:
            bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def _complaint(message: str, hint: str) -> str:
    return "\n".join(_printable(each) for each in (f"deblur: {message}", hint) if each)


def _printable(text: str) -> str:
    """The text with the unprintable characters of a file name escaped: a name may hold commands for the terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
