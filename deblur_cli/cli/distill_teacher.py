"""The words of ``deblur distill-teacher``."""

import time
from typing import Any

import typer

from deblur_cli.cli.run_screen import follow
from deblur_cli.cli.run_words import SAID
from deblur_cli.cli.words import command, option
from deblur_cli.options.distill_teacher import DistillTeacherOptions

_HELP = """Train the semantic prior alone: deblur distill-teacher --dataset photos --data DIR

The prior learns to see in a blurred image what a large recognition net, the teacher, sees in the sharp one. The result is \
what deblur train --prior-weights FILE starts from.

A teacher is timm:NAME (any convolutional classifier, such as timm:resnet50), torchvision:NAME (a segmentation net) or \
asl:tresnet_l (the paper's, with --teacher-weights). Settings may follow, as in \
timm:mobilenetv2_100,pad_type=same,mean=0.5,std=0.5: mean and std normalise RGB in [0, 1], scale=A/B/C multiplies \
the three maps, prior=probability or prior=onehot takes the map of classes of a segmentation net in place of its features.
"""
_EPILOG = """The validation tells for each level how far the prior is from the teacher's view of the sharp image, divided by \
how far the teacher's own view of the blurred image is: below 1 the prior sees through the blur better than its teacher.

--out holds state.pt (what --resume goes on from), last.safetensors and best.safetensors (for --prior-weights) and log.jsonl. \
Ctrl-C saves and stops. Exit codes: 0 finished or out of time, 2 usage, 3 input, 4 weights, 5 device, 130 and 143 stopped by a \
signal.
"""
_PRIOR = "Prior"
_SAID: dict[str, Any] = {
    "preset": option(
        _PRIOR, "--preset", metavar="NAME", help="The net whose prior it will be, such as unet-narrow-sp."
    ),
    "teacher": option(_PRIOR, "--teacher", metavar="FAMILY:NAME", help="timm:NAME, torchvision:NAME or asl:tresnet_l."),
    "teacher_weights": option(_PRIOR, "--teacher-weights", metavar="FILE", help="Its weights; else its library's."),
    "clc": option(_PRIOR, "--clc/--no-clc", help="Cross-level connection, eq. 3.", show_default="as the preset"),
    "reading": option(_PRIOR, "--reading", metavar="NAME", help="Of eq. 2: mse, literal or reviewkd."),
    **SAID,
}


def register(app: typer.Typer) -> None:
    """Add ``deblur distill-teacher``."""
    app.command("distill-teacher", help=_HELP, short_help="Train the semantic prior alone.", epilog=_EPILOG)(
        command(DistillTeacherOptions, _SAID, _distill)
    )


def _distill(options: DistillTeacherOptions) -> None:
    started = time.monotonic()
    from deblur_cli.commands import distill_teacher as workflow

    if code := follow(workflow.run(options, started=started)):
        raise typer.Exit(code)
