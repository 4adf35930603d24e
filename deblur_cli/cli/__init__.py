"""The command line: words become options, events become lines. Nothing below this floor prints or exits."""

import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from deblur_cli.cli import benchmark, deblur, distill_motion, distill_teacher, export, train, weights
from deblur_cli.cli.show import complain, drop_output, mend_streams, output
from deblur_cli.errors import DeblurError, UsageError

# The class under which Typer raises what it cannot parse: click's UsageError, or the copy that newer versions carry inside.
_MISUSE: Any = typer.BadParameter.__base__

_STOPPED = 128 + signal.SIGINT
_UNREAD = 141  # what a shell gives to a program that SIGPIPE ended

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
distill_motion.register(app)
benchmark.register(app)
export.register(app)
weights.register(app)
deblur.register(app)  # last, for its help names the others


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``deblur`` with these words, those of the process by default, and exit with the code that tells how it went.

    A first word that is no subcommand belongs to ``deblur deblur``: ``deblur photo.jpg -o sharp.jpg`` is the main job. A
    photo that is named like a subcommand is reached by ``./train`` or ``deblur deblur train``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    mend_streams()
    with _signals() as caught:
        code = _run(words or ["--help"])
    drop_output()
    sys.exit(128 + caught[0] if caught and code == _STOPPED else code)


def _run(words: list[str]) -> int:
    try:
        code = _invoke(words)
        if not code:
            with output():
                sys.stdout.flush()  # what cannot be written must not count as done
    except (DeblurError, _MISUSE) as error:
        if os.environ.get("DEBLUR_DEBUG"):
            raise
        told = error if isinstance(error, DeblurError) else _misuse(error, words)
        complain(told.message, told.hint)
        return told.exit_code
    except KeyboardInterrupt:
        return _STOPPED
    except BrokenPipeError:
        return _UNREAD
    return code


def _invoke(words: list[str]) -> int:
    """Run the words without Typer's own handling of errors, which hides a closed pipe and a Ctrl-C; the exit code."""
    group: Any = typer.main.get_command(app)
    command = group if words[0] in group.commands else group.commands["deblur"]
    try:
        with output():  # of --help and --version, which act while the words are read
            context = command.make_context("deblur", list(words))
        with context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def _misuse(error: Any, words: list[str]) -> UsageError:
    path = error.ctx.command_path if error.ctx is not None else "deblur"
    photo = next((word for word in words if word.startswith("-") and Path(word).is_file()), None)
    hint = f"Say ./{photo} for the photo of that name." if photo else f"Say {path} --help for all options."
    return UsageError(error.format_message(), hint)


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
