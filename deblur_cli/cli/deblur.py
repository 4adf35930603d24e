"""The words of ``deblur PHOTO``."""

import re
import sys
from typing import Any

import typer

from deblur_cli import __version__
from deblur_cli.cli.show import Screen
from deblur_cli.cli.words import command, option, tile_side
from deblur_cli.errors import UsageError
from deblur_cli.options.deblur import DeblurOptions

_HELP = """Take the motion blur out of photographs: deblur photo.jpg -o sharp.jpg

A folder at once: deblur holiday/ -r -o holiday-sharp/

Without -o the result lies beside the photo as photo-sharp.jpg. Bit depth, transparency, EXIF, XMP, ICC profile and \
resolution are kept. Nothing is overwritten unless you say so.
"""
_EPILOG = """Exit codes: 0 all done, 2 usage, 3 input, 4 weights, 5 device or memory, 6 some photos of a batch failed and the \
others are done, 130 stopped by Ctrl-C, 143 stopped by a termination signal. If not one photo could be restored, the code is \
that of the first failure.

In a folder, hidden files and files that are no photos are left out. So are results of earlier runs: photo-sharp.jpg and \
photo-compare.jpg beside photo.jpg. A photo whose name begins with a dash, or is that of a command, needs ./ before it. \
DEBLUR_DEBUG=1 shows the traceback of an error."""
_OTHERS = "Other commands, each with a --help of its own:"
_OUTPUT, _NET, _MEMORY, _REPORT = "Output", "Restoration", "Machine", "Report"


def _version(said: bool) -> None:
    if said:
        print(f"deblur {__version__}")
        raise typer.Exit


def _size(word: str) -> int:
    """What ``--max-memory`` says, in bytes."""
    said = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", word.strip(), re.IGNORECASE)
    if said is None:
        raise typer.BadParameter("Say a number of bytes, or one that ends in K, M, G or T, such as 2G.")
    return int(float(said[1]) * 1024 ** " kmgt".index(said[2].lower() or " "))


_SAID: dict[str, Any] = {
    "inputs": typer.Argument(
        metavar="INPUT",
        help="Photos, folders, patterns such as '**/*.jpg', or - for standard input.",
        show_default=False,
    ),
    "output": option(
        _OUTPUT,
        "--output",
        "-o",
        metavar="PATH",
        help="A file, a folder (ending in /, existing, or for several photos), or - for standard output.",
    ),
    "recursive": option(
        _OUTPUT, "--recursive", "-r", help="Go into the folders of folders, and mirror them in the output folder."
    ),
    "format": option(
        _OUTPUT,
        "--format",
        metavar="NAME",
        help="jpg, png, tif, webp, avif, bmp or heic; else that of -o or the photo.",
    ),
    "suffix": option(
        _OUTPUT, "--suffix", metavar="TEXT", help="Ends the names of results; -sharp beside the photos if left out."
    ),
    "overwrite": option(_OUTPUT, "--overwrite", help="Replace results that exist."),
    "skip_existing": option(_OUTPUT, "--skip-existing", help="Leave photos alone whose result exists."),
    "shard": option(
        _OUTPUT,
        "--shard",
        metavar="I/N",
        help="Only the photos of share I of N, from 1/N to N/N, by their names: for several machines.",
    ),
    "manifest": option(
        _OUTPUT,
        "--manifest",
        metavar="FILE|FOLDER/",
        help="Write down what is done; the same command again skips that, and redoes what changed.",
    ),
    "quality": option(_OUTPUT, "--quality", metavar="1..100", help="Of JPEG, WebP, AVIF and HEIC."),
    "strip_metadata": option(
        _OUTPUT,
        "--strip-metadata",
        help="Write no EXIF, XMP or resolution; the colour profile stays, or colours would change.",
    ),
    "compare": option(
        _OUTPUT, "--compare", help="Write also photo-compare.jpg: blurred on the left, restored on the right."
    ),
    "strength": option(_NET, "--strength", metavar="0..1", help="How much of the correction is applied."),
    "tta": option(
        _NET, "--tta", help="Average over eight turned and mirrored views: slower by eight, slightly better."
    ),
    "weights": option(
        _NET,
        "--weights",
        metavar="NAME|PATH",
        help="A name of deblur weights list, a file, or hf://owner/repo@revision/file.",
    ),
    "weights_list": option(_NET, "--weights-list", metavar="FILE", help="A list of weights of your own."),
    "offline": option(_NET, "--offline", help="Ask no network for weights that are not here."),
    "device": option(_MEMORY, "--device", metavar="auto|cpu|cuda[:N|:all]|mps", help="Where the net runs."),
    "workers": option(
        _MEMORY,
        "--workers",
        metavar="N",
        help="Processes that share the photos; else one, or one for each GPU of cuda:all.",
    ),
    "engine": option(
        _MEMORY, "--engine", metavar="local|ray", help="Where the workers are: on this machine, or on a Ray cluster."
    ),
    "precision": option(_MEMORY, "--precision", metavar="auto|fp32|bf16|fp16", help="Numbers the net computes with."),
    "compile": option(
        _MEMORY,
        "--compile/--no-compile",
        show_default="auto",
        help="Compile the net: minutes the first time, then kept on disk; for many photos of one size.",
    ),
    "tile": option(
        _MEMORY,
        "--tile",
        metavar="auto|N|0",
        parser=tile_side,
        show_default="auto",
        help="Side of a tile in pixels; 0 takes the whole photo at once.",
    ),
    "overlap": option(
        _MEMORY, "--overlap", metavar="N", help="Pixels that neighbouring tiles share; else as many as the net needs."
    ),
    "max_memory": option(
        _MEMORY,
        "--max-memory",
        metavar="SIZE",
        parser=_size,
        show_default="what is free",
        help="Most memory, such as 2G or 500M, shared by all workers; larger photos are worked on from disk.",
    ),
    "dry_run": option(_REPORT, "--dry-run", help="Say what would be done, and write nothing."),
    "json": option(_REPORT, "--json", help="One line of JSON per photo on standard output."),
    "quiet": option(_REPORT, "--quiet", "-q", help="Say nothing but errors."),
    "verbose": option(_REPORT, "--verbose", "-v", help="Say also which net works, where, and on what tiles."),
    "version": option(_REPORT, "--version", is_eager=True, callback=_version, help="Show the version and exit."),
}


def register(app: typer.Typer) -> None:
    """Add ``deblur deblur``; its help names the commands that were registered before."""
    registered = [*app.registered_commands, *app.registered_groups]
    others = [f"deblur {each.name}: {each.short_help}" for each in registered]
    app.command(
        "deblur",
        help=_HELP,
        epilog="\n\n".join((_EPILOG, *([_OTHERS, *others] if others else []))),
        context_settings={"help_option_names": ["-h", "--help"]},
    )(command(DeblurOptions, _SAID, _deblur))


def _deblur(options: DeblurOptions) -> None:
    _check_terminal(options)
    from deblur_cli.cli.report import Report
    from deblur_cli.commands import deblur as workflow

    with Screen(quiet=options.quiet) as screen:
        report = Report(options, screen)
        streams = workflow.Streams(input=sys.stdin.buffer, output=sys.stdout.buffer)
        events = workflow.run(options, streams, tiles=screen.tiles, fetching=screen.fetching)
        try:
            for event in events:
                report.tell(event)
        except KeyboardInterrupt as stop:
            # Where the stop fell between two events, the command has yet to hear of it; it may have last outcomes to tell.
            for event in workflow.last_words(events, stop):
                report.tell(event)
            report.stopped()
            raise
        report.finished()
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _check_terminal(options: DeblurOptions) -> None:
    """Refuse to write a photo into a terminal, or to wait for one to be typed."""
    streamed = options.inputs == ("-",)
    to_output = options.output == "-" or (streamed and options.output is None)
    if to_output and sys.stdout.isatty():
        raise UsageError(
            "Standard output is a terminal, which shows no photos.", "Say -o FILE, or redirect with > FILE."
        )
    if to_output and options.json:
        raise UsageError("--json and the photo cannot both go to standard output.", "Say -o FILE.")
    if streamed and sys.stdin.isatty():
        raise UsageError("Standard input is a terminal; - waits for a photo from a pipe.", "Say deblur - < FILE.")
