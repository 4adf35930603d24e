"""The words of ``deblur distill-motion``."""

import time
from typing import Any

import typer

from deblur_cli.cli.run_screen import follow
from deblur_cli.cli.run_words import SAID
from deblur_cli.cli.words import command, option
from deblur_cli.options.distill_motion import MEANINGLESS, DistillMotionOptions

_HELP = """Train the motion prior alone: deblur distill-motion --data DIR

The prior learns to tell from a blurred image how it moved. Any folder of sharp photographs will do: each crop is shaken along \
a random path, so that the truth is known. The result is what deblur train --backbone motion-unet --motion-weights FILE starts \
from.
"""
_EPILOG = """The validation tells how much of the transfer function's variance the prior explains (1 is all of it): seen on \
the whole, r2_1 to r2_5 for waves of 40, 20, 10, 6 and 4 px.

--out holds state.pt (what --resume goes on from), last.safetensors and best.safetensors (for --motion-weights) and log.jsonl. \
Ctrl-C saves and stops. Exit codes: 0 finished or out of time, 2 usage, 3 input, 4 weights, 5 device, 130 and 143 stopped by a \
signal.
"""
_SAID: dict[str, Any] = {
    "preset": option("Prior", "--preset", metavar="NAME", help="The net whose motion prior it will be."),
    "motion_weights": option(
        "Prior",
        "--motion-weights",
        metavar="FILE",
        help="Go on from this motion prior, or from that of a net; it says its size itself.",
    ),
    **{name: word for name, word in SAID.items() if name not in MEANINGLESS},
    "dataset": option("Data", "--dataset", metavar="photos", help="Sharp photographs; nothing else can be shaken."),
}


def register(app: typer.Typer) -> None:
    """Add ``deblur distill-motion``."""
    app.command("distill-motion", help=_HELP, short_help="Train the motion prior alone.", epilog=_EPILOG)(
        command(DistillMotionOptions, _SAID, _distill)
    )


def _distill(options: DistillMotionOptions) -> None:
    started = time.monotonic()
    from deblur_cli.commands import distill_motion as workflow

    if code := follow(workflow.run(options, started=started)):
        raise typer.Exit(code)
