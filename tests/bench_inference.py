"""How fast the default path is, as ratios within one run. Run by hand, on a quiet machine:

    python tests/bench_inference.py [--net unet-narrow] [--size 1024] [--rounds 5] [--compile] [--photo] [--busy]

Every row restores the same image with the same net and weights; the rows take turns, so that whatever else the machine does
falls on all alike, and the best round of each counts. Rows whose library is missing are left out. ``--photo`` compares what
users meet: the whole image at once through eager fp32 NCHW, as research demos do it, and the deblurrer with its tiles, in this
order, because the command tells the allocator to keep its memory.
``--busy`` is for a machine that is not quiet: one thread, and its processor time instead of the clock.
"""

import argparse
import importlib.util
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli import nets
from deblur_cli.deblurrer import Deblurrer, devices
from deblur_cli.files import checkpoint

_LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def _build(name: str) -> nn.Module:
    net, config = nets.PRESETS[name]
    torch.manual_seed(0)
    return nets.build(net, nets.to_mapping(config)).eval().requires_grad_(requires_grad=False)


def _eager(
    name: str, image: Tensor, dtype: torch.dtype, layout: str, *, compiled: bool = False
) -> Callable[[], object]:
    net = _build(name).to(dtype).to(memory_format=_LAYOUTS[layout])
    run = torch.compile(net) if compiled else net
    image = image.contiguous(memory_format=_LAYOUTS[layout])

    def restore() -> object:
        with torch.inference_mode():
            return run(image)

    return restore


def _onnx(name: str, image: Tensor, folder: Path) -> Callable[[], object]:
    import onnxruntime

    path = folder / "net.onnx"
    torch.onnx.export(_build(name), (image,), path, dynamo=importlib.util.find_spec("onnxscript") is not None)
    dials = onnxruntime.SessionOptions()
    dials.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, dials, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, feed)


def _deblurrer(name: str, image: Tensor, folder: Path, precision: str) -> Callable[[], object]:
    net, config = nets.PRESETS[name]
    label = checkpoint.Label(
        net=net, config=nets.to_mapping(config), made_with="bench", licence="none", trained_on="nothing"
    )
    path = folder / "net.safetensors"
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=_build(name).state_dict()), path)
    deblurrer = Deblurrer.open(path, device="cpu", precision=precision)
    photo = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return lambda: deblurrer.restore(np.ascontiguousarray(photo))


def _rows(said: argparse.Namespace, folder: Path) -> dict[str, Callable[[], object]]:
    image = torch.rand(1, 3, said.size, said.size)
    half = "bf16" if devices.has_bf16(torch.device("cpu")) else "fp32"
    rows = {"fp32 NCHW, eager": _eager(said.net, image, torch.float32, "NCHW")}
    if said.photo:
        return rows | {f"deblur, {half}, tiles": _deblurrer(said.net, image, folder, half)}
    rows |= {
        "fp32 channels_last, eager": _eager(said.net, image, torch.float32, "channels_last"),
        "bf16 NCHW, eager": _eager(said.net, image, torch.bfloat16, "NCHW"),
        "bf16 channels_last, eager (default)": _eager(said.net, image, torch.bfloat16, "channels_last"),
    }
    if said.compile:
        rows["fp32 channels_last, torch.compile"] = _eager(
            said.net, image, torch.float32, "channels_last", compiled=True
        )
        rows["bf16 channels_last, torch.compile"] = _eager(
            said.net, image, torch.bfloat16, "channels_last", compiled=True
        )
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        rows["fp32 ONNX Runtime"] = _onnx(said.net, image, folder)
    return rows


def _matrix_rate(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """What the processor can do in a plain matrix product, in Gflop/s: the limit of everything above."""
    side = 2048
    left, right = torch.randn(side, side, dtype=dtype), torch.randn(side, side, dtype=dtype)
    seconds = min(_seconds(lambda: left @ right, clock) for _ in range(5))
    return 2 * side**3 / seconds / 1e9


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def _multiplications(name: str) -> float:
    """Multiplications of the net per pixel of the photo."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        _build(name)(torch.empty(1, 3, 256, 256))
    return counter.get_total_flops() / 2 / 256**2


def _best(
    rows: dict[str, Callable[[], object]], said: argparse.Namespace, clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds of the best round of each row, after one to warm up."""
    best = dict.fromkeys(rows, float("inf"))
    # What the command does to the allocator would speed up the plain loop too, so with --photo that is measured before.
    turns = [[name] for name in rows] if said.photo else [list(rows)]
    for names in turns:
        if said.photo and names[0].startswith("deblur"):
            devices.keep_memory()
        for round_ in range(said.rounds + 1):
            for name in names:
                seconds = _seconds(rows[name], clock)
                best[name] = min(best[name], seconds) if round_ else best[name]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="unet-narrow", choices=nets.PRESETS)
    parser.add_argument("--size", type=int, default=1024, help="side of the square image in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: minutes")
    parser.add_argument("--photo", action="store_true", help="the whole deblurrer against a whole image")
    parser.add_argument("--busy", action="store_true", help="one thread, processor time")
    said = parser.parse_args()
    clock = time.process_time if said.busy else time.perf_counter
    if said.busy:
        torch.set_num_threads(1)
    print(f"{said.net}, {said.size} x {said.size}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{platform.processor() or platform.machine()}; load before: {Path('/proc/loadavg').read_text().split()[0]}")
    rates = {dtype: _matrix_rate(dtype, clock) for dtype in (torch.float32, torch.bfloat16)}
    print("matrix rate: " + ", ".join(f"{dtype} {rate:.0f} Gflop/s" for dtype, rate in rates.items()))
    work = 2 * _multiplications(said.net) * said.size**2 / 1e9
    with tempfile.TemporaryDirectory() as folder:
        best = _best(_rows(said, Path(folder)), said, clock)
    first = next(iter(best.values()))
    print(f"{'':38}{'seconds':>9}{'Mpixel/s':>10}{'Gflop/s':>9}{'times':>7}")
    for name, seconds in best.items():
        print(f"{name:38}{seconds:9.3f}{said.size**2 / seconds / 1e6:10.2f}{work / seconds:9.0f}{first / seconds:7.2f}")
    print(f"peak memory of all: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
