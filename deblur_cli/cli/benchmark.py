"""The words of ``deblur benchmark``."""

from contextlib import closing
from typing import Any

import typer

from deblur_cli.cli.score_screen import ScoreScreen
from deblur_cli.cli.words import command, option, tile_side
from deblur_cli.options.benchmark import BenchmarkOptions

_HELP = """Measure weights as the field does: deblur benchmark --dataset gopro --weights default --output results.json

A data set is found under --data, DEBLUR_DATA or the cache, in any of the layouts it is handed round in. --dataset pairs takes \
any folder of pairs, --dataset synthetic any folder of sharp photographs: each is blurred in four ways, the same on every \
run. --dataset blurred takes blurred photographs without sharp ones: no PSNR, but a blur score before and after.

--protocol gopro rounds to 8 bits and takes PSNR over RGB and MATLAB's SSIM (as MPRNet, Restormer, NAFNet); realblur matches \
brightness and aligns before it compares; nah is that of DeepDeblur (GoPro's blur_gamma, per-channel SSIM), mimo that of \
MIMO-UNet (floats, not rounded). Files with more than 8 bits are rounded to 8, as the protocols have it.
"""
_EPILOG = """Groups of the table: severe, medium and mild are the thirds of the images by the PSNR of the input, or by its \
blur score where there is no PSNR; a class is what names begin with, such as a sequence or a folder. Gain is over the input, \
Worse the share of images that lost. A blur score that falls is no proof: noise and false edges lower it, too.

--ablation DIR holds the nets of the paper's Table 4: DIR/Net0/best.safetensors to DIR/Net6/best.safetensors, as deblur train \
--out leaves them with --no-prior, --fusion, --no-clc, --no-mla. Several processes: torchrun --nproc-per-node K -m deblur_cli \
benchmark ...

Seconds are read when the device rests, after one restoration that does not count. Memory is the peak of the GPU, or of the \
whole process on other devices. --speed-only sets the net beside itself in a plain loop of PyTorch (eager, fp32, NCHW, no \
tiles) and in ONNX Runtime, and beside the rate of a matrix product on the same device.

An image that cannot be read ends the run: a score over fewer images is a wrong score. Ctrl-C keeps the scores so far in \
--output results.json for --resume.
"""
_DATA, _NET, _MACHINE, _OUTPUT = "Data", "Comparison", "Machine", "Output"

_SAID: dict[str, Any] = {
    "dataset": option(
        _DATA,
        "--dataset",
        metavar="NAME",
        help="gopro, hide, realblur-j, realblur-r, reds, pairs (any folder of pairs), synthetic (sharp photographs) or "
        "blurred (without sharp ones).",
    ),
    "data": option(
        _DATA, "--data", metavar="DIR", help="The data set or the photographs; else DEBLUR_DATA or the cache."
    ),
    "download": option(_DATA, "--download", help="Fetch GoPro (9.5 GB) first, if it is not there."),
    "blur_key": option(_DATA, "--blur-key", metavar="NAME", help="blur or blur_gamma, where a set has both."),
    "limit": option(_DATA, "--limit", metavar="N", help="Score so many images, evenly chosen; the result says so."),
    "subset": option(_DATA, "--subset", help="Accept another number of pairs than the set is known to have."),
    "longest": option(
        _DATA,
        "--longest",
        metavar="PX",
        show_default="1280 for synthetic",
        help="synthetic, blurred: reduce larger photographs to this; 0: leave them.",
    ),
    "seed": option(_DATA, "--seed", metavar="N", help="synthetic: another one gives other movements."),
    "weights": option(
        _NET, "--weights", metavar="NAME|PATH", help="Say it several times for several rows.", show_default="default"
    ),
    "weights_list": option(_NET, "--weights-list", metavar="FILE", help="A list of weights of your own."),
    "offline": option(_NET, "--offline", help="Ask no network for weights that are not here."),
    "ablation": option(
        _NET, "--ablation", metavar="DIR", help="The nets of the paper's Table 4 in place of --weights."
    ),
    "protocol": option(
        _NET,
        "--protocol",
        metavar="NAME",
        help="gopro, realblur, nah or mimo; blind for blurred photographs.",
        show_default="that of the data set",
    ),
    "lpips": option(_NET, "--lpips", metavar="none|alex|vgg", help="Measure LPIPS; needs pip install lpips."),
    "compare_paper": option(
        _NET, "--compare-paper", help="Show the paper's Tables 1, 2 or 4 beside what was measured."
    ),
    "tta": option(_NET, "--tta", help="Average over eight turned and mirrored views."),
    "device": option(_MACHINE, "--device", metavar="auto|cpu|cuda[:N]|mps", help="Where the net runs."),
    "precision": option(_MACHINE, "--precision", metavar="auto|fp32|bf16|fp16", help="Numbers the net computes with."),
    "compile": option(
        _MACHINE,
        "--compile/--no-compile",
        show_default="auto",
        help="Compile the net: minutes the first time, then kept on disk; for many photos of one size.",
    ),
    "tile": option(
        _MACHINE,
        "--tile",
        metavar="auto|N|0",
        parser=tile_side,
        show_default="auto",
        help="Side of a tile in pixels; 0 takes the whole image at once.",
    ),
    "overlap": option(
        _MACHINE, "--overlap", metavar="N", help="Pixels that neighbouring tiles share; else as the net needs."
    ),
    "speed_only": option(_MACHINE, "--speed-only", help="Measure time and memory on random images, and nothing else."),
    "peers": option(
        _MACHINE, "--peers/--no-peers", help="Measure the speed of plain PyTorch and of ONNX Runtime beside it."
    ),
    "size": option(_MACHINE, "--size", metavar="WxH", help="Of the random images."),
    "repeats": option(_MACHINE, "--repeats", metavar="N", help="How often the speed is measured; the median counts."),
    "output": option(
        _OUTPUT,
        "--output",
        "-o",
        metavar="FILE",
        help="results.json with everything, results.csv per image; say both.",
        show_default=False,
    ),
    "resume": option(_OUTPUT, "--resume", help="Go on with the results.json of --output."),
    "overwrite": option(_OUTPUT, "--overwrite", help="Replace the files of --output."),
    "save_images": option(_OUTPUT, "--save-images", metavar="DIR", help="Write every restored image, as PNG."),
    "report": option(_OUTPUT, "--report", metavar="DIR", help="Write one page with pictures to slide over, and plots."),
    "quiet": option(_OUTPUT, "--quiet", "-q", help="Say nothing but the table and errors."),
}


def register(app: typer.Typer) -> None:
    """Add ``deblur benchmark``."""
    app.command("benchmark", help=_HELP, short_help="Measure weights on a data set, or their speed.", epilog=_EPILOG)(
        command(BenchmarkOptions, _SAID, _benchmark)
    )


def _benchmark(options: BenchmarkOptions) -> None:
    from deblur_cli.commands import benchmark, benchmark_speed

    run = benchmark_speed.run if options.speed_only else benchmark.run
    with ScoreScreen(quiet=options.quiet) as screen, closing(run(options, fetching=screen.fetching)) as events:
        try:
            for event in events:
                screen.tell(event)
        except KeyboardInterrupt:
            events.close()  # which saves
            record = None if options.speed_only else options.record
            kept = f"; the scores so far are kept in {record}." if record else "; nothing was kept."
            screen.complain("stopped" + kept, "Say --resume to go on from here." if record else "")
            raise
        screen.finished()
