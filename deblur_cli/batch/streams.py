"""Standard input and output as a source of photos and as a place for one."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from deblur_cli.errors import InputError
from deblur_cli.files import routes

if TYPE_CHECKING:
    from deblur_cli.files.scratch import Scratch


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """Standard input and output, for ``-``."""

    input: BinaryIO
    output: BinaryIO

    def send(self, data: bytes | Callable[[BinaryIO], None], room: "Scratch | None") -> None:
        """Write a photo: its bytes, or what writes them to a file, which then lies in ``room`` first.

        Raises:
            InputError: the output takes no more.
            BrokenPipeError: nobody reads on: the end of the whole run, and not this photo's failure.
        """
        try:
            if room is None or isinstance(data, bytes):
                self.output.write(cast("bytes", data))
            elif callable(data):
                with room.file() as whole:  # for whoever writes it must be able to go back in it
                    data(whole)
                    whole.seek(0)
                    shutil.copyfileobj(whole, self.output)
            self.output.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise InputError(f"Standard output cannot be written: {error.strerror}.", "Say -o FILE.") from error


def source(route: routes.Route, streams: Streams | None) -> Path | bytes:
    """What the photo is read from: its file, or all of standard input."""
    if route.source is not None:
        return route.source
    if streams is None:
        raise ValueError("there is no standard input here")
    return streams.input.read()
