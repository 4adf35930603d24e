"""The speed of a net as a user asks for it: our path, its rivals, and the limit, each a ratio of the others."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_cli.cli import main
from deblur_cli.commands import benchmark_speed
from deblur_cli.deblurrer import Deblurrer, devices, load
from deblur_cli.errors import UsageError
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.benchmark import BenchmarkOptions
from deblur_cli.scorer import events, limit, rivals

WIDTH, HEIGHT = 41, 26


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> tuple[str, str]:
    """Paths of two tiny nets."""
    folder = tmp_path_factory.mktemp("weights")
    made: list[str] = []
    for index in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(index)
            net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
        label = Label(
            net="unet", config=to_mapping(net.config), made_with="a test", licence="MIT", trained_on="nothing"
        )
        made.append(str(folder / f"{index}.safetensors"))
        save(Checkpoint(label=label, tensors=net.state_dict()), Path(made[-1]))
    return made[0], made[1]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch):
    """In an empty folder, on one thread, with small matrices."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limit, "_SIDE", 64)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_onnx(monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))


def run(weights: tuple[str, ...], **more) -> list[events.Event]:
    size = f"{WIDTH}x{HEIGHT}"
    options = BenchmarkOptions(weights=weights, device="cpu", speed_only=True, size=size, **{"repeats": 3} | more)
    return list(benchmark_speed.run(options))


def rows(found: list[events.Event]) -> list[events.Pace]:
    return [event for event in found if isinstance(event, events.Pace)]


def notes(found: list[events.Event]) -> list[str]:
    return [str(event) for event in found if isinstance(event, events.Noted)]


def test_without_peers_there_is_our_path_alone(nets) -> None:
    pace, written = run(nets[:1], peers=False, output=("s.json",))
    assert isinstance(pace, events.Pace)
    assert (pace.by, pace.ratio) == ("deblur", None)
    assert len(pace.times) == 3
    assert pace.seconds == sorted(pace.times)[1] > 0
    assert pace.megapixels_per_second == pytest.approx(WIDTH * HEIGHT / 1e6 / pace.seconds)
    assert json.loads(Path("s.json").read_text())["speed"][0]["times"] == list(pace.times)
    assert str(written) == "wrote s.json"


def test_every_row_is_a_ratio_to_the_plain_loop_and_to_the_limit(nets, no_onnx) -> None:
    found = rows(run(nets))
    assert [(pace.weights.name, pace.by) for pace in found] == [
        (name, by) for name in nets for by in ("deblur", "plain")
    ]
    # Two nets of one shape have the same work, whoever does it.
    assert len({round(pace.share * pace.seconds * pace.limit, 9) for pace in found}) == 1
    for ours, plain in (found[:2], found[2:]):
        assert plain.ratio == 1
        assert ours.ratio == pytest.approx(plain.seconds / ours.seconds)
        assert ours.limit == plain.limit > 0  # both fp32
        assert plain.memory is None  # on the CPU it would be that of our path, too
        assert plain.tile == (44, 28)  # the least multiples of four around the image


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_limit_is_that_of_the_precision_of_the_row(nets, no_onnx, monkeypatch, precision: str) -> None:
    rates = {torch.float32: 10.0, torch.bfloat16: 40.0}
    monkeypatch.setattr(limit, "rate", lambda device, dtype: rates[dtype])
    ours, plain = rows(run(nets[:1], precision=precision))
    assert (ours.weights.precision, ours.limit) == (precision, rates[devices.DTYPES[precision]])
    assert (plain.weights.precision, plain.limit) == ("fp32", 10.0)


def test_the_better_of_two_rates_is_the_limit(nets, no_onnx, monkeypatch) -> None:
    tried = iter([3.0, 7.0, 5.0, 6.0])
    monkeypatch.setattr(limit, "rate", lambda device, dtype: next(tried))
    assert {pace.limit for pace in rows(run(nets[:1], precision="fp32"))} == {7.0}


def test_the_work_of_a_net_is_twice_its_multiplications() -> None:
    net = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert limit.work(net, 12, 20) == pytest.approx(2 * 3 * 5 * 9 * 12 * 20 / 1e9)
    assert next(net.parameters()).device.type == "cpu"


def test_eight_views_are_eight_times_the_work_and_have_no_rivals(nets, monkeypatch) -> None:
    monkeypatch.setattr(limit, "rate", lambda device, dtype: 1.0)
    (once,) = rows(run(nets[:1], peers=False))
    found = run(nets[:1], tta=True)
    (ours,) = rows(found)
    assert ours.share * ours.seconds == pytest.approx(8 * once.share * once.seconds)
    assert notes(found) == ["Rivals are left out: they restore without --tta."]


def test_the_plain_loop_restores_what_ours_does(nets) -> None:
    image = rivals.noise(WIDTH, HEIGHT)
    plain = rivals.Plain(load(Path(nets[0]))[1], torch.device("cpu")).restore(image)
    ours = Deblurrer.open(nets[0], device="cpu", precision="fp32", tile=0).restore(image)
    assert plain.shape == ours.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(plain.astype(int) - ours.astype(int)).max() <= 1


def test_onnx_runtime_is_a_row_in_the_files_and_in_the_table(nets, capsys) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    words = ("benchmark", "--speed-only", "--size", "40x24", "--device", "cpu", "--weights", nets[0], "--repeats", "1")
    with pytest.raises(SystemExit) as stop:
        main((*words, "--output", "s.json", "--output", "s.csv"))
    assert not stop.value.code
    whole = json.loads(Path("s.json").read_text())["speed"]
    assert [row["by"] for row in whole] == ["deblur", "plain", "ONNX Runtime"]
    assert whole[2]["ratio"] == pytest.approx(whole[1]["seconds"] / whole[2]["seconds"])
    with Path("s.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, whole, strict=True):
        assert line["by"] == row["by"]
        assert all(float(line[name]) == row[name] for name in ("seconds", "ratio", "limit", "share"))
    assert [line["memory"] != "" for line in lines] == [True, False, False]
    out = capsys.readouterr().out
    assert all(word in out for word in ("Times", "Share", "deblur", "plain", "ONNX Runtime"))


def test_without_its_library_a_sentence_stands_for_onnx_runtime(nets, no_onnx) -> None:
    found = run(nets)
    assert [pace.by for pace in rows(found)] == ["deblur", "plain"] * 2
    (said,) = notes(found)  # once, not for each of the weights
    assert "onnxruntime not installed" in said
    assert "pip install 'deblur-cli[onnx]'" in said


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_plain_loop_without_memory_loses_its_row_alone(nets, no_onnx, monkeypatch, error: Exception) -> None:
    def restore(self, pixels):
        raise error

    monkeypatch.setattr(rivals.Plain, "restore", restore)
    found = run(nets[:1])
    (ours,) = rows(found)
    assert (ours.by, ours.ratio) == ("deblur", None)
    assert ours.share > 0
    assert any("plain is left out" in said and "memory" in said for said in notes(found))


def test_a_plain_loop_that_would_not_fit_is_not_begun(nets, no_onnx, monkeypatch) -> None:
    monkeypatch.setattr(rivals.Plain, "needed", lambda self, height, width: 1e18)
    monkeypatch.setattr(rivals.Plain, "restore", lambda self, pixels: pytest.fail("it was begun"))
    assert [pace.by for pace in rows(run(nets[:1]))] == ["deblur"]


def test_another_mistake_of_the_plain_loop_is_not_hidden(nets, monkeypatch) -> None:
    def restore(self, pixels):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(rivals.Plain, "restore", restore)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(nets[:1])


def test_a_file_that_is_there_is_not_replaced_unasked(nets) -> None:
    Path("s.json").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        run(nets[:1], peers=False, output=("s.json",))
    assert Path("s.json").read_text() == "mine"
    run(nets[:1], peers=False, output=("s.json",), overwrite=True)
    assert json.loads(Path("s.json").read_text())["speed"]
