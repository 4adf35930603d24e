"""What a worker process does: one pipeline, fed with routes through a connection, its events going back the same way."""

import os
import pickle
import signal
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from deblur_cli.batch.events import Outcome, last_words
from deblur_cli.batch.pipeline import Pipeline, Task
from deblur_cli.files.routes import Route


@dataclass(frozen=True, slots=True)
class Told:
    """Something the user should know of the weights."""

    event: Any


@dataclass(frozen=True, slots=True)
class Broken:
    """The end of the whole run: the net cannot be opened, or a mistake of our own."""

    error: BaseException


class _Stop:
    """Turns the signal that ends this process into a KeyboardInterrupt, but never amid a message."""

    def __init__(self) -> None:
        self.sending = False
        self.asked = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough, and the tidying up must not be disturbed
        self.asked = self.sending  # what the run tells of the photos that are being written must not stop it again
        if not self.sending:
            raise KeyboardInterrupt

    def send(self, connection: Connection, message: Any) -> None:
        """Send a message whole."""
        if isinstance(message, Outcome) and message.cause is not None:
            message.cause.add_note("".join(traceback.format_exception(message.cause)))
        self.sending = True
        connection.send(message)
        self.sending = False
        if self.asked:
            self.asked = False
            raise KeyboardInterrupt


def main(connection: Connection, task: Task, threads: int, *, speaks: bool) -> None:
    """Serve until the other end says None, closes, or dies, or this process is asked to end.

    Args:
        connection: Routes come in, then None; one Opened, and then Begun and Outcome for each photo go out, or Broken.
        task: what is to be done with every photo.
        threads: that the net should take, if nobody has said so in the environment.
        speaks: tell what the user should know of the weights, which one of several workers does.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    for name in ("SIGINT", "SIGHUP"):  # they reach the whole group: who shares the work out decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with suppress(KeyboardInterrupt, EOFError, ConnectionError):
        try:

            def told(event: object) -> None:
                stop.send(connection, Told(event))

            pipeline = Pipeline(task, fetching=told if speaks else None)
            stop.send(connection, pipeline.open())
            _serve(pipeline, connection, stop)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again on the other side
            stop.send(connection, Broken(_portable(error)))
    connection.close()


def _serve(pipeline: Pipeline, connection: Connection, stop: _Stop) -> None:
    events = pipeline.run(_incoming(connection))
    try:
        for event in events:
            stop.send(connection, event)
    except KeyboardInterrupt as asked:
        for event in last_words(events, asked):
            connection.send(event)
        raise


def _incoming(connection: Connection) -> Iterator[Route | None]:
    """The routes as they come; None where the next one is not there yet."""
    while True:
        if not connection.poll():
            yield None
        route: Route | None = connection.recv()
        if route is None:
            return
        yield route


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note, for the traceback itself stays behind in this process."""
    text = "".join(traceback.format_exception(error))
    error.add_note(f"\nIn a worker process:\n{text}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - of many kinds, and a foreign one
        return RuntimeError(text)
    return error
