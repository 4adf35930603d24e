"""Ways to run a net: recorded where that pays, compiled where it is asked for, and plainly where neither can be."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deblur_cli import nets
from deblur_cli.deblurrer import Deblurrer, compiling, running
from deblur_cli.errors import DeviceError, UsageError
from deblur_cli.files import places
from deblur_cli.onnxrunner import OnnxDeblurrer
from deblur_cli.options.deblur import DeblurOptions

CPU = torch.device("cpu")


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, blurred: Tensor) -> tuple[Tensor]:
        self.runs += 1
        return (2 * blurred,)


class Recorder:
    """Records as a GPU would, and says how often."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.shapes: list[tuple[int, ...]] = []
        self.played = 0

    def __call__(self, _net: nn.Module, like: Tensor) -> Callable[[Tensor], Tensor]:
        self.shapes.append(tuple(like.shape))
        if self.error is not None:
            raise self.error

        def play(blurred: Tensor) -> Tensor:
            self.played += 1
            return 2 * blurred

        return play


def test_what_runs_is_what_was_asked_for_and_a_cpu_compiles_nothing_by_itself() -> None:
    net = Doubling()
    assert isinstance(running.runner_of(net, CPU, compiled=None), running.Plain)
    assert isinstance(running.runner_of(net, CPU, compiled=False), running.Plain)
    assert isinstance(running.runner_of(net, torch.device("cuda"), compiled=None), running.Graphed)
    assert isinstance(running.runner_of(net, torch.device("cuda"), compiled=False), running.Plain)


def test_a_shape_is_recorded_when_it_has_come_often_enough_and_no_other() -> None:
    net, recorder = Doubling(), Recorder()
    runner = running.Graphed(net, recorder)
    often, seldom = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 4)
    for _ in range(10):
        assert torch.equal(runner(often), 2 * often)
    for _ in range(3):
        assert torch.equal(runner(seldom), 2 * seldom)
    assert recorder.shapes == [(1, 3, 8, 8)]
    assert (net.runs, recorder.played) == (6, 7)


def test_no_more_than_a_few_shapes_are_recorded() -> None:
    recorder = Recorder()
    runner = running.Graphed(Doubling(), recorder)
    for width in range(1, 9):
        for _ in range(5):
            assert runner(torch.ones(1, 3, 2, width)).eq(2).all()
    assert len(recorder.shapes) == 4


def test_large_batches_are_not_recorded() -> None:
    recorder = Recorder()
    runner = running.Graphed(Doubling(), recorder)
    large = torch.zeros(1, 1, 1, 1).expand(1, 3, 2**11 + 1, 2**11)
    for _ in range(5):
        runner(large)
    assert not recorder.shapes


def test_a_net_that_cannot_be_recorded_runs_plainly() -> None:
    net, recorder = Doubling(), Recorder(RuntimeError("operation not permitted when stream is capturing"))
    runner = running.Graphed(net, recorder)
    for _ in range(9):
        assert runner(torch.ones(1, 3, 4, 4)).eq(2).all()
    assert (len(recorder.shapes), net.runs) == (1, 9)


def test_a_shortage_while_recording_is_passed_on_and_recordings_are_given_back() -> None:
    recorder = Recorder()
    runner = running.Graphed(Doubling(), recorder)
    image = torch.ones(1, 3, 4, 4)
    for _ in range(4):
        runner(image)
    recorder.error = torch.OutOfMemoryError("CUDA out of memory.")
    wider = torch.ones(1, 3, 4, 8)
    for _ in range(3):
        runner(wider)
    with pytest.raises(torch.OutOfMemoryError):
        runner(wider)
    runner.forget()
    played = recorder.played
    for _ in range(9):
        assert runner(image).eq(2).all()
    assert (recorder.played, len(recorder.shapes)) == (played, 2)


def test_numbers_that_a_net_writes_down_are_made_once_while_it_is_recorded() -> None:
    with running.Constants():
        first, again, other = (torch.tensor(each, device="cpu") for each in ([1.0, 2.0], [1.0, 2.0], [1.0, 3.0]))
        assert torch.equal(torch.cat([first, other]), torch.tensor([1.0, 2.0, 1.0, 3.0]))
    assert first is again
    assert first is not other
    assert torch.tensor([1.0, 2.0]) is not first


class Watched(TorchDispatchMode):
    """Refuses operations for which the host waits for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not re.match(r"aten\.(_local_scalar_dense|nonzero|masked_select|unique)", str(func)), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("preset", ["motion-unet-sp", "unet-narrow-sp", "nafnet"])
def test_our_nets_can_be_recorded_as_far_as_a_cpu_can_tell(preset: str) -> None:
    name, config = nets.PRESETS[preset]
    net = nets.build(name, nets.to_mapping(config)).eval()
    blurred = torch.rand(2, 3, 128, 128)
    with torch.inference_mode(), running.Constants() as constants:
        net(blurred)
        made = set(constants._made)
        with Watched():
            net(blurred)
        # The second time nothing new: all of it would be there when the graph is recorded.
        assert set(constants._made) == made


class Compiler:
    """Compiles nothing, and counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, net: nn.Module) -> Callable[[Tensor], Any]:
        def run(blurred: Tensor) -> Any:
            self.calls.append(tuple(blurred.shape))
            if self.error is not None:
                raise self.error
            return net(blurred)

        return run


def test_only_the_first_few_shapes_are_compiled() -> None:
    compiler = Compiler()
    runner = running.Compiled(Doubling(), CPU, compiler)
    for _ in range(2):
        for width in range(1, 9):
            assert runner(torch.ones(1, 3, 2, width)).eq(2).all()
    assert {shape[3] for shape in compiler.calls} == {1, 2, 3, 4}
    assert len(compiler.calls) == 8


def test_a_shortage_is_no_failure_of_the_compiler() -> None:
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("a mistake")):
        with pytest.raises(type(error)):
            running.Compiled(Doubling(), CPU, Compiler(error))(torch.ones(1, 3, 2, 2))


def test_a_failure_of_the_compiler_is_one_sentence() -> None:
    failure = type("InvalidCxxCompiler", (RuntimeError,), {"__module__": "torch._inductor.exc"})
    error = failure("No working C++ compiler found in\n[None, 'g++']")
    with pytest.raises(DeviceError) as told:
        running.Compiled(Doubling(), CPU, Compiler(error))(torch.ones(1, 3, 2, 2))
    assert told.value.message == "The net cannot be compiled here: No working C++ compiler found in."
    assert "leave --compile out" in told.value.hint


def test_code_is_kept_in_the_tools_own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    compiling.prepare(CPU)
    assert places.own_cache() == tmp_path / "deblur"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "deblur" / "compiled")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    compiling.prepare(CPU)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"


def test_a_graph_is_not_compiled_again() -> None:
    with pytest.raises(UsageError, match="--compile is for checkpoints"):
        OnnxDeblurrer.open("x.onnx", compile=True)
    assert DeblurOptions(inputs=("x.png",)).compile is None


PROGRAM = """
import sys, numpy, torch
from pathlib import Path
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import DeblurError
from deblur_cli.files import checkpoint
from torch import nn
torch.set_num_threads(1)

class Small(nn.Module):
    from deblur_cli.nets.unet import UNetConfig
    config = UNetConfig(width=4, blocks=(1, 1, 1), stem=2)
    def forward(self, blurred):
        return ((blurred * 0.5).sin() + 0.25,)

label = checkpoint.Label(net="unet", config={}, made_with="tests", licence="", trained_on="")
dials = dict(device=torch.device("cpu"), precision="fp32", tile=64, overlap=16, strength=1.0, tta=False)
photo = numpy.random.default_rng(0).random((70, 90, 3), numpy.float32)
plain = Deblurrer(Small(), Path("x"), label, **dials).restore(photo)
try:
    made = Deblurrer(Small(), Path("x"), label, compile=True, **dials).restore(photo)
except DeblurError as error:
    print(error.message, "|", error.hint)
    sys.exit(5)
assert numpy.abs(made - plain).max() < 1e-5
from torch._dynamo.utils import counters
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


def _compile(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    around = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    around |= {
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    } | environment
    around["PYTHONPATH"] = str(Path(nets.__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env=around, cwd=folder
    )


@pytest.mark.slow
def test_a_machine_without_a_compiler_says_so_in_a_sentence(tmp_path: Path) -> None:
    done = _compile(tmp_path, CXX="no-such-compiler", PATH="")
    assert done.returncode == 5, done.stderr
    assert done.stdout.startswith("The net cannot be compiled here: ")
    assert "leave --compile out" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not done.stderr


@pytest.mark.slow
def test_what_was_compiled_is_there_for_the_next_process(tmp_path: Path) -> None:
    first, second = _compile(tmp_path), _compile(tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.split() == ["0", "1"]
    assert second.stdout.split() == ["1", "0"]
    assert not first.stderr + second.stderr
    assert (tmp_path / "deblur" / "compiled").is_dir()


def test_a_compiled_deblurrer_is_opened_without_compiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(running, "prepare", lambda _device: Compiler(DeviceError("compiled")))
    deblurrer = Deblurrer.open("fast", device="cpu", compile=True, max_memory=2**36)
    with pytest.raises(DeviceError, match="compiled"):
        deblurrer(torch.rand(3, 64, 64))
