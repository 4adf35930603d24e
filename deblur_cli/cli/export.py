"""The words of ``deblur export``."""

from dataclasses import asdict
from typing import Any

import typer

from deblur_cli.cli.show import Screen, data
from deblur_cli.cli.words import command, option
from deblur_cli.options.export import ExportOptions

_HELP = """Write a net as a file for other programs: deblur export -o net.onnx

deblur photo.jpg --weights net.onnx runs it through ONNX Runtime, without PyTorch. Other programs find in the file's \
metadata what they need: images are (1, 3, height, width) float32 RGB from 0 to 1, sides are multiples of multiple_of, \
neighbouring tiles should share overlap pixels and be no longer than longest, where that is not 0.
"""
_EPILOG = """The file is run before it is kept, on a random and on a real image at three sizes, and compared with PyTorch: \
it may differ by 0.001 in fp32 and by 0.01 in fp16, in images from 0 to 1. One that differs more is not kept.

Exit codes: 0 done, 2 usage, 3 input, 4 weights, or the export differs."""
_FILE, _REPORT = "Export", "Report"
_SAID: dict[str, Any] = {
    "output": option(
        _FILE, "--output", "-o", metavar="FILE", help="The file: .onnx, .pt2 (torch.export) or .safetensors."
    ),
    "weights": option(
        _FILE,
        "--weights",
        metavar="NAME|PATH",
        help="A name of deblur weights list, a file, or hf://owner/repo@revision/file.",
    ),
    "weights_list": option(_FILE, "--weights-list", metavar="FILE", help="A list of weights of your own."),
    "offline": option(_FILE, "--offline", help="Ask no network for weights that are not here."),
    "format": option(_FILE, "--format", metavar="onnx|pt2|safetensors", help="The format, which is that of -o anyway."),
    "precision": option(_FILE, "--precision", metavar="fp32|fp16", help="Of the weights; images are float32 always."),
    "tile": option(
        _FILE, "--tile", metavar="N", help="Make it for N x N pixels only; else for all sizes, where the net allows it."
    ),
    "check_image": option(_FILE, "--check-image", metavar="FILE", help="A photo to check it with; else one is drawn."),
    "overwrite": option(_FILE, "--overwrite", help="Replace a file that exists."),
    "json": option(_REPORT, "--json", help="One line of JSON on standard output."),
}


def register(app: typer.Typer) -> None:
    """Add ``deblur export``."""
    app.command("export", help=_HELP, short_help="Write a net as ONNX, .pt2 or safetensors, checked.", epilog=_EPILOG)(
        command(ExportOptions, _SAID, _export)
    )


def _export(options: ExportOptions) -> None:
    from deblur_cli.commands import export as workflow

    with Screen() as screen:
        for event in workflow.run(options, fetching=screen.fetching):
            screen.say(str(event))
            if options.json and isinstance(event, workflow.Exported):
                data(asdict(event))
