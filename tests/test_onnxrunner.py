"""The deblurrer without torch: the laws of the other one, on graphs so small that their answers are known."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import deblur_cli
from deblur_cli.cli import main
from deblur_cli.errors import DeviceError, InputError, UsageError, WeightsError
from deblur_cli.files import exported, graph, photo
from deblur_cli.files.label import Label
from deblur_cli.onnxrunner import OnnxDeblurrer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LABEL = Label(net="unet", config={}, made_with="tests", licence="Apache-2.0", trained_on="nothing")
FACTS = {"multiple_of": 4, "overlap": 16, "values_per_pixel": 8.0, "local": True, "precision": "fp32"}
ALONE = {name: value for name, value in os.environ.items() if name != "DEBLUR_DEBUG"} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(Path(deblur_cli.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
}


def _save(path: Path, *nodes: Any, texts: dict[str, str] | None = None, **facts: Any) -> Path:
    """A graph of these nodes, each fed by the last, with metadata like those of an export."""
    image = ("image", onnx.TensorProto.FLOAT, [1, 3, "height", "width"])
    body = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, [*fed, *more], [out], **dials) for kind, fed, more, out, dials in _chained(nodes)],
        "net",
        [onnx.helper.make_tensor_value_info(*image)],
        [onnx.helper.make_tensor_value_info("restored", *image[1:])],
        [onnx.numpy_helper.from_array(np.float32(each[1]), f"number{at}") for at, each in enumerate(nodes) if each[1:]],
    )
    whole = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    said = exported.to_texts(exported.Facts(label=LABEL, **(FACTS | facts))) if texts is None else texts
    onnx.helper.set_model_props(whole, said)
    onnx.save(whole, path)
    return path


def _chained(nodes: tuple[Any, ...]) -> list[tuple[str, list[str], list[str], str, dict[str, Any]]]:
    names = ["image", *(f"map{at}" for at in range(len(nodes) - 1)), "restored"]
    pool = {"kernel_shape": [7, 7], "pads": [3, 3, 3, 3], "count_include_pad": 1}
    return [
        (each[0], [names[at]], [f"number{at}"] if each[1:] else [], names[at + 1], pool if "Pool" in each[0] else {})
        for at, each in enumerate(nodes)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def idle(folder: Path) -> Path:
    """Changes nothing."""
    return _save(folder / "idle.onnx", ("Identity",))


@pytest.fixture(scope="module")
def brighter(folder: Path) -> Path:
    """Adds an eighth."""
    return _save(folder / "brighter.onnx", ("Add", 0.125))


@pytest.fixture(scope="module")
def pool(folder: Path) -> Path:
    """Sees 3 pixels around each, and black beyond the border of what it is shown."""
    return _save(folder / "pool.onnx", ("AveragePool",))


def _photo(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    dice = np.random.default_rng(height * 1000 + width)
    if dtype == "float32":
        return dice.normal(0.5, 0.5, (height, width, channels)).astype(np.float32)
    return dice.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 110),
    st.integers(1, 110),
    st.sampled_from([1, 3]),
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.sampled_from([0, 64, None]),
    st.booleans(),
)
def test_where_the_net_corrects_nothing_the_photo_comes_back_to_the_last_bit(
    idle: Path, height: int, width: int, channels: int, dtype: str, tile: int | None, tta: bool
) -> None:
    pixels = _photo(height, width, channels, dtype)
    restored = OnnxDeblurrer.open(idle, tile=tile, tta=tta).restore(pixels)
    assert restored.dtype == pixels.dtype
    assert np.array_equal(restored, pixels)


@pytest.mark.parametrize("size", [(1, 1), (17, 1001), (64, 64), (683, 3)])
def test_a_net_of_one_size_takes_photos_of_all(folder: Path, size: tuple[int, int]) -> None:
    path = _save(folder / "fixed.onnx", ("Identity",), tile=64)
    deblurrer = OnnxDeblurrer.open(path)
    assert np.array_equal(deblurrer.restore(_photo(*size)), _photo(*size))
    plan = deblurrer.plan_for(*size)
    assert (plan.tile_height, plan.tile_width) == (64, 64)


def test_a_net_that_was_changed_for_large_tiles_gets_none_unless_told(folder: Path) -> None:
    path = _save(folder / "changed.onnx", ("Identity",), longest=64, local=False)
    plan = OnnxDeblurrer.open(path).plan_for(500, 700)
    assert max(plan.tile_height, plan.tile_width) <= 64
    plan = OnnxDeblurrer.open(path, overlap=80).plan_for(500, 700)
    assert 64 < plan.tile_height <= 160
    assert OnnxDeblurrer.open(path, tile=0).plan_for(500, 700).count == 1


def test_tiled_equals_whole(pool: Path) -> None:
    pixels = _photo(230, 175, dtype="float32").clip(0, 1)
    whole = OnnxDeblurrer.open(pool, tile=0).restore(pixels)
    deblurrer = OnnxDeblurrer.open(pool, tile=64)
    told: list[tuple[int, int]] = []
    tiled = deblurrer.restore(pixels, progress=lambda done, of: told.append((done, of)))
    assert np.allclose(tiled, whole, atol=1e-6)
    assert not np.allclose(whole, pixels, atol=0.1)
    count = deblurrer.plan_for(230, 175).count
    assert count > 4
    assert told == [(done + 1, count) for done in range(count)]


@pytest.mark.parametrize(("dtype", "peak"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_photo_gets_the_nets_correction_in_its_own_numbers(
    brighter: Path, dtype: str, peak: int, strength: float
) -> None:
    pixels = _photo(30, 20, dtype=dtype)
    restored = OnnxDeblurrer.open(brighter, strength=strength).restore(pixels)
    expected = pixels + np.float64(0.125 * strength * peak)
    expected = expected if peak == 1 else np.clip(np.rint(expected), 0, peak)
    assert np.abs(restored - expected).max() <= (1e-6 if peak == 1 else 0)


def test_a_photo_or_a_net_that_gives_no_numbers_is_told(brighter: Path, folder: Path) -> None:
    pixels = _photo(20, 20, dtype="float32")
    pixels[3, 4, 1] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        OnnxDeblurrer.open(brighter).restore(pixels)
    path = _save(folder / "huge.onnx", ("Add", 1.0), ("Mul", 1e38), ("Mul", 1e38), precision="fp16")
    with pytest.raises(WeightsError, match="not numbers") as caught:
        OnnxDeblurrer.open(path).restore(_photo(20, 20))
    assert "fp32" in caught.value.hint


class _Greedy:
    """A graph for which memory ends beyond ``limit`` pixels, from its third tile on."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen: list[int] = []

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image.shape[2] * image.shape[3])
        if self.seen[-1] > self.limit and len(self.seen) > 2:
            raise MemoryError
        return image + np.float32(0.125)


def _greedy(limit: int, **facts: Any) -> tuple[OnnxDeblurrer, _Greedy]:
    net: Any = _Greedy(limit)
    said = exported.Facts(label=LABEL, **(FACTS | facts))
    return OnnxDeblurrer(Path("x.onnx"), net, said, tile=None, overlap=None, strength=1.0, tta=False), net


def test_a_shortage_of_memory_halves_the_tile_and_goes_on() -> None:
    deblurrer, net = _greedy(64 * 64)
    pixels = _photo(700, 600, dtype="float32")
    assert np.array_equal(deblurrer.restore(pixels), pixels + np.float32(0.125))
    assert max(net.seen[-1:]) <= net.limit < max(net.seen)
    assert deblurrer.plan_for(700, 600).tile_height <= 64


@pytest.mark.parametrize(("facts", "pixels"), [({}, "32 pixels"), ({"tile": 64}, "64 pixels")])
def test_a_shortage_at_the_smallest_tile_is_told(facts: dict[str, int], pixels: str) -> None:
    with pytest.raises(DeviceError, match=pixels):
        _greedy(1, **facts)[0].restore(_photo(900, 900))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_a_real_shortage_of_memory_is_survived(pool: Path) -> None:
    program = f"""
import resource, numpy
from pathlib import Path
from deblur_cli.onnxrunner import OnnxDeblurrer
photo = numpy.random.default_rng(0).integers(0, 256, (2400, 2400, 3), numpy.uint8)
deblurrer = OnnxDeblurrer.open({str(pool)!r}, tile=0)
deblurrer.restore(photo[:64, :64])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
deblurrer.restore(photo)
print(deblurrer.plan_for(2400, 2400).tile_height)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=ALONE)
    assert done.returncode == 0, done.stderr
    assert 32 <= int(done.stdout) <= 1200


def test_a_whole_run_never_imports_torch(pool: Path, tmp_path: Path) -> None:
    Image.fromarray(_photo(50, 70)).save(tmp_path / "x.png")
    Image.fromarray(_photo(40, 30)).save(tmp_path / "y.jpg")
    program = f"""
import sys
from deblur_cli.cli import main
try:
    main(["x.png", "y.jpg", "-o", "out/", "--compare", "--json", "-v", "--weights", {str(pool)!r}])
except SystemExit as stop:
    assert stop.code == 0, stop.code
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"torch", "torchvision", "safetensors", "onnx", "cv2", "timm"}}, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=ALONE
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["status"], first["device"], first["precision"]) == ("restored", "cpu (onnx)", "fp32")
    assert (first["tile"], first["width"], second["output"]) == ([72, 52], 70, str(Path("out/y.jpg")))
    assert photo.read(tmp_path / "out/x.png").pixels.shape == (50, 70, 3)
    assert "unet) on cpu (onnx) in fp32" in done.stderr


def test_files_that_are_no_export_are_refused_in_a_sentence(folder: Path, idle: Path) -> None:
    (folder / "empty.onnx").touch()
    (folder / "torn.onnx").write_bytes(idle.read_bytes()[:90])
    (folder / "folder.onnx").mkdir()
    texts = exported.to_texts(exported.Facts(label=LABEL, **FACTS))
    cases = {
        "empty.onnx": "is empty",
        "torn.onnx": "torn or no ONNX file",
        "folder.onnx": "torn or no ONNX file|folder|directory",
        "missing.onnx": "does not exist",
        _save(folder / "foreign.onnx", ("Identity",), texts={}).name: "has no label",
        _save(folder / "range.onnx", ("Identity",), texts=texts | {"value_range": "[0, 255]"}).name: "has no label",
        _save(folder / "spoilt.onnx", ("Identity",), texts=texts | {"overlap": "wide"}).name: "cannot be read",
        _save(folder / "odd.onnx", ("Identity",), texts=texts | {"tile": "7"}).name: "cannot be read",
        _save(folder / "newer.onnx", ("Identity",), texts=texts | {"format": "99"}).name: "format 99",
    }
    for name, said in cases.items():
        with pytest.raises(WeightsError, match=said) as caught:
            OnnxDeblurrer.open(folder / name)
        assert "\n" not in str(caught.value)
        assert caught.value.hint


def test_what_the_file_cannot_do_is_refused(idle: Path, folder: Path) -> None:
    fixed = _save(folder / "fixed64.onnx", ("Identity",), tile=64)
    cases: list[tuple[type[Exception], str, Path, dict[str, Any]]] = [
        (DeviceError, "not on cuda", idle, {"device": "cuda"}),
        (UsageError, "exported in fp32", idle, {"precision": "bf16"}),
        (UsageError, "--tile 20 is too small", idle, {"tile": 20}),
        (UsageError, "tiles of 64 pixels", fixed, {"tile": 128}),
        (UsageError, "--tile 64 is too small", fixed, {"overlap": 40}),
    ]
    for kind, said, path, dials in cases:
        with pytest.raises(kind, match=said):
            OnnxDeblurrer.open(path, **dials)
    assert OnnxDeblurrer.open(fixed, tile=64, precision="fp32", device="cpu").precision == "fp32"


@pytest.mark.parametrize("wrong", [{"strength": 1.5}, {"tile": -1}, {"overlap": -1}])
def test_dials_that_cannot_be_are_the_callers_mistake(idle: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"strength|negative"):
        OnnxDeblurrer.open(idle, **wrong)


def test_without_the_library_the_extra_is_named(
    idle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    Image.fromarray(_photo(20, 20)).save("x.png")
    with pytest.raises(SystemExit) as stop:
        main(["x.png", "--weights", str(idle)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "pip install 'deblur-cli[onnxruntime]'" in said
    assert len(said.splitlines()) == 2


def test_a_graph_of_another_kind_is_refused(folder: Path) -> None:
    two = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    out = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1])
    body = onnx.helper.make_graph([onnx.helper.make_node("Add", ["a", "b"], ["c"])], "net", two, [out])
    onnx.save(
        onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8),
        folder / "two.onnx",
    )
    with pytest.raises(WeightsError, match="one image"):
        graph.load(folder / "two.onnx")
