"""The words of ``deblur train``."""

import time
from typing import Any

import typer

from deblur_cli.cli.run_screen import follow
from deblur_cli.cli.run_words import PACE, SAID
from deblur_cli.cli.words import command, option
from deblur_cli.options.recipes import RECIPES
from deblur_cli.options.train import TrainOptions

_HELP = """Train a net: deblur train --dataset photos --data DIR

With nothing but --backbone NAME this is the recipe and the loss of that net's paper on GoPro, found under --data, DEBLUR_DATA \
or the cache, guided by the prior, which learns from the paper's teacher (--teacher-weights FILE: it is on no hub); --no-prior \
trains the net as its paper has it. Any folder of sharp photographs will do instead: they are blurred on the fly. Several \
processes: torchrun --nproc-per-node K -m deblur_cli train ...
"""
_EPILOG = """--out holds state.pt (what --resume goes on from), last.safetensors and best.safetensors (for deblur --weights) \
and log.jsonl. Ctrl-C saves and stops. Exit codes: 0 finished or out of time, 2 usage, 3 input, 4 weights, 5 device, 130 \
and 143 stopped by a signal.
"""
_NET = "Net"
_SAID: dict[str, Any] = {
    "backbone": option(_NET, "--backbone", metavar="NAME", help=f"Which net: {', '.join(RECIPES)}."),
    "preset": option(
        _NET, "--preset", metavar="NAME", help="Named dials of that net, such as unet-narrow-sp; else the paper's."
    ),
    "init": option(
        _NET,
        "--init",
        metavar="FILE",
        help="Start from this checkpoint, ours or the authors' own; a prior it lacks starts as the identity.",
    ),
    "prior": option(
        _NET, "--prior/--no-prior", help="Guide the net by a semantic prior.", show_default="as the preset"
    ),
    "prior_weights": option(
        _NET, "--prior-weights", metavar="FILE", help="Start the prior from deblur distill-teacher's."
    ),
    "freeze_prior": option(_NET, "--freeze-prior", help="Leave the prior's extractor as it is."),
    "motion_weights": option(
        _NET,
        "--motion-weights",
        metavar="FILE",
        help="Start the motion prior from deblur distill-motion's, or a net's.",
    ),
    "freeze_motion": option(_NET, "--freeze-motion", help="Leave the motion prior as it is."),
    "motion_rate": option(PACE, "--motion-rate", metavar="X", help="Factor of the learning rate of the motion prior."),
    "phases_alone": option(
        _NET, "--phases-alone", help="Let nothing learn but the phases of the movement, with --shaken 1."
    ),
    "motion_truth": option(
        _NET, "--motion-truth", metavar="X", help="Weight of what is known of the movement, in crops of --shaken."
    ),
    "fusion": option(_NET, "--fusion", metavar="sat|add|concat", help="How the prior enters the decoder."),
    "clc": option(_NET, "--clc/--no-clc", help="Cross-level connection, eq. 3.", show_default="as the preset"),
    "mla": option(_NET, "--mla/--no-mla", help="Multi-level aggregation, eq. 5.", show_default="as the preset"),
    "distill": option(_NET, "--distill/--no-distill", help="Train the prior against a teacher."),
    "teacher": option(_NET, "--teacher", metavar="FAMILY:NAME", help="timm:NAME, torchvision:NAME or asl:tresnet_l."),
    "teacher_weights": option(_NET, "--teacher-weights", metavar="FILE", help="Its weights; else its library's."),
    "reading": option(_NET, "--reading", metavar="NAME", help="Of eq. 2: mse, literal or reviewkd."),
    "loss": option(
        _NET, "--loss", metavar="l1|psnr", help="Of the final image; else the reconstruction loss of the net's paper."
    ),
    "tutor": option(
        _NET,
        "--tutor",
        metavar="WEIGHTS",
        help="Learn from the images of this trained net too: a small net learns sooner what a large one can tell.",
    ),
    "perceptual": option(
        _NET,
        "--perceptual",
        metavar="vgg19|none|FILE",
        help="What the perceptual loss looks through; else the recipe's.",
    ),
    "alpha": option(_NET, "--alpha", metavar="X", help="Weight of the perceptual loss."),
    "beta": option(_NET, "--beta", metavar="X", help="Weight of the distillation loss."),
    "init_rate": option(
        PACE,
        "--init-rate",
        metavar="X",
        help="Factor of the learning rate of what --init brought; else 0.1 where a new prior joins it.",
    ),
    **SAID,
}


def register(app: typer.Typer) -> None:
    """Add ``deblur train``."""
    app.command("train", help=_HELP, short_help="Train a net on pairs or on sharp photographs.", epilog=_EPILOG)(
        command(TrainOptions, _SAID, _train)
    )


def _train(options: TrainOptions) -> None:
    started = time.monotonic()
    from deblur_cli.commands import train as workflow

    if code := follow(workflow.run(options, started=started)):
        raise typer.Exit(code)
