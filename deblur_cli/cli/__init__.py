"""The command line: words become options, events become lines. Nothing below this floor prints or exits."""

import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import typer

from deblur_cli.cli import deblur, distill_teacher, train
from deblur_cli.cli.show import complain, pipe_closed
from deblur_cli.errors import DeblurError, UsageError

# The class under which Typer raises what it cannot parse: click's UsageError, or the copy that newer versions carry inside.
_MISUSE: Any = typer.BadParameter.__base__

_STOPPED = 128 + signal.SIGINT

app = typer.Typer(
    name="deblur",
    # The shell's own completion of file names is worth more than one of options that ends it for `deblur PHOTO`.
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _deblur() -> None:
    """Remove motion blur from photographs."""


train.register(app)
distill_teacher.register(app)
deblur.register(app)  # last, for its help names the others


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``deblur`` with these words, those of the process by default, and exit with the code that tells how it went.

    A first word that is no subcommand belongs to ``deblur deblur``: ``deblur photo.jpg -o sharp.jpg`` is the main job. A
    photo that is named like a subcommand is reached by ``./train`` or ``deblur deblur train``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with _signals() as caught:
        code = _run(words or ["--help"])
    sys.exit(128 + caught[0] if caught and code == _STOPPED else code)


def _run(words: list[str]) -> int:
    try:
        _invoke(words)
        sys.stdout.flush()
    except typer.Exit as ended:
        return ended.exit_code
    except (DeblurError, _MISUSE) as error:
        if os.environ.get("DEBLUR_DEBUG"):
            raise
        told = error if isinstance(error, DeblurError) else _misuse(error)
        complain(told.message, told.hint)
        return told.exit_code
    except KeyboardInterrupt:
        return _STOPPED
    except BrokenPipeError:
        return pipe_closed()
    return 0


def _invoke(words: list[str]) -> None:
    """Run the words without Typer's own handling of errors, which hides a closed pipe and a Ctrl-C."""
    group: Any = typer.main.get_command(app)
    command = group if words[0] in group.commands else group.commands["deblur"]
    with command.make_context("deblur", list(words)) as context:
        command.invoke(context)


def _misuse(error: Any) -> UsageError:
    path = error.ctx.command_path if error.ctx is not None else "deblur"
    return UsageError(error.format_message(), f"Say {path} --help for all options.")


@contextmanager
def _signals() -> Generator[list[int]]:
    """Let the signals that end a process end it as Ctrl-C does, tidily; the list tells which came."""
    caught: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # A signal that is ignored (nohup) or handled by the program around us stays as it is.
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield caught
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
