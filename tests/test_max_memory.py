"""``--max-memory``: photos that are worked on from disk give the same bytes, and the process keeps to what was said."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from deblur_cli.batch import pipeline
from deblur_cli.cli import main
from deblur_cli.commands import deblur
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import DeviceError, UsageError
from deblur_cli.files import large, memory, photo
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.deblur import DeblurOptions


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a checkpoint that changes photos visibly."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(width=4, blocks=(1, 1, 1), stem=2))
    label = Label(
        net="unet", config=to_mapping(net.config), made_with="a test", licence="Apache-2.0", trained_on="nothing"
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(Checkpoint(label=label, tensors=net.state_dict()), path)
    return str(path)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def draw(name: str, alpha: bool = False) -> str:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4 if alpha else 3), dtype=np.uint8)
    Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC).save(name)
    return name


@pytest.mark.parametrize("source", ["a.png", "a.tif", "a.jpg", "alpha.png", "deep.tif"])
@pytest.mark.parametrize("sort", ["png", "tif", "jpg"])
def test_bytes_are_the_same_from_disk_and_from_memory(
    source: str, sort: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "deep.tif":
        values = np.random.default_rng(0).integers(0, 65536, (120, 160, 3), np.uint16)
        tifffile.imwrite(source, values, photometric="rgb", compression="zlib", rowsperstrip=7)
    else:
        draw(source, alpha=source.startswith("alpha"))
    words = (source, "--format", sort, "--tile", "64", "--overlap", "16", "--compare", "--weights", weights, "-q")
    words += ("--device", "cpu")
    code = 2 if source.startswith("alpha") and sort == "jpg" else 0
    assert code_of(*words, "-o", "whole/") == code
    monkeypatch.setattr(large, "_SHARE", 0)
    used: list[object] = []
    on_disk = pipeline.Pipeline._restored_on_disk
    monkeypatch.setattr(pipeline.Pipeline, "_restored_on_disk", lambda *given: used.append(given) or on_disk(*given))
    assert code_of(*words, "-o", "disk/", "--max-memory", "64G") == code
    assert len(used) == (not code)
    results = {folder: sorted(Path(folder).glob("*")) for folder in ("whole", "disk")}
    assert len(results["whole"]) == (0 if code else 2)
    assert [each.name for each in results["whole"]] == [each.name for each in results["disk"]]
    for first, second in zip(results["whole"], results["disk"], strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_standard_output_takes_the_same_bytes(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("a.tif")
    told = []
    for share in (1, 0):
        monkeypatch.setattr(large, "_SHARE", share)
        out = BytesIO()
        options = DeblurOptions(
            inputs=("a.tif",), output="-", weights=weights, device="cpu", tile=64, overlap=16, max_memory=2**36
        )
        assert not [
            each for each in deblur.run(options, deblur.Streams(input=BytesIO(), output=out)) if str(each) == ""
        ]
        told.append(out.getvalue())
    assert told[0] == told[1]
    assert [each.name for each in Path().iterdir()] == ["a.tif"]


def test_too_little_memory_is_one_sentence(weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    draw("a.png")
    assert code_of("a.png", "--weights", weights, "--device", "cpu", "--max-memory", "20M") == 5
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("deblur: --max-memory 20M is too little for 'a.png' of 160 x 120 pixels")
    assert said[1].startswith("Say --max-memory ")
    assert len(said) == 2
    assert [each.name for each in Path().iterdir()] == ["a.png"]


def test_tiles_that_do_not_fit_are_refused_with_what_would_suffice(weights: str) -> None:
    most = memory.used_bytes() + 2**20
    deblurrer = Deblurrer.open(weights, device="cpu", precision="fp32", max_memory=most)
    with pytest.raises(DeviceError, match="too little for this net and a photo of 3000 x 2000") as refused:
        deblurrer.plan_for(2000, 3000)
    enough = int(refused.value.hint.split()[2].rstrip("M")) * 2**20
    plan = Deblurrer.open(weights, device="cpu", precision="fp32", max_memory=enough).plan_for(2000, 3000)
    assert plan.tile_height < 2000
    assert most < enough < most + 2**30


@pytest.mark.parametrize(("word", "size"), [("2G", 2**31), ("500M", 500 * 2**20), ("1.5g", 3 * 2**29), ("2GiB", 2**31)])
def test_sizes_are_said_as_people_say_them(word: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[DeblurOptions] = []
    monkeypatch.setattr(deblur, "run", lambda options, *_rest, **_more: said.append(options) or iter(()))
    code_of("x.png", "--max-memory", word)
    assert said[0].max_memory == size


@pytest.mark.parametrize("word", ["much", "-2G", "2X", "0", "12"])
def test_sizes_that_are_none_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("x.png", "--max-memory", word) == 2
    assert "max-memory" in capsys.readouterr().err


def test_workers_share_the_memory(weights: str) -> None:
    options = DeblurOptions(inputs=("a.png",), weights=weights, max_memory=2**32)
    task = pipeline.Task(options=options).divided(4)
    assert task.options == replace(options, max_memory=2**30)


def test_a_number_that_is_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-memory 5 is too little"):
        DeblurOptions(inputs=("a.png",), max_memory=5)


@pytest.mark.parametrize(("options", "size"), [({"subsampling": 0}, 6 * 168 * 120), ({}, 3 * 176 * 128)])
def test_what_a_progressive_jpeg_holds_beside_its_pixels_is_counted(options: dict[str, int], size: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (119, 161, 3), dtype=np.uint8))
    for name, progressive in (("plain.jpg", False), ("steps.jpg", True)):
        noise.save(name, progressive=progressive, **options)
    plain, steps = (photo.probe(Path(name)) for name in ("plain.jpg", "steps.jpg"))
    assert plain.coefficients == 0
    assert steps == replace(plain, coefficients=size)
    assert large.bytes_in_memory(steps, 100) - large.bytes_in_memory(plain, 100) == size
    bands = [large.bytes_in_bands(Path("steps.jpg"), each, "png") for each in (plain, steps)]
    assert bands[1] - bands[0] == size


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are measured as Linux tells them")
@pytest.mark.parametrize("sort", ["tif", pytest.param("jpg", marks=pytest.mark.slow)])
def test_the_process_keeps_to_what_was_said(weights: str, sort: str) -> None:
    """A photo whose pixels alone, twice, are more than what is left beside the libraries."""
    side = 4000
    row = np.repeat(np.random.default_rng(0).integers(0, 256, (1, side // 8, 3), np.uint8), 8, axis=1)
    pixels = np.broadcast_to(row, (side, side, 3))
    if sort == "tif":
        tifffile.imwrite("a.tif", np.ascontiguousarray(pixels), photometric="rgb", rowsperstrip=16)
    else:
        Image.fromarray(np.ascontiguousarray(pixels)).save(
            f"a.{sort}", **({"compress_level": 1} if sort == "png" else {})
        )
    code = f"""
import json, sys
from deblur_cli.cli import main
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.files import large, memory
import torch
torch.set_num_threads(1)
Deblurrer.open({weights!r}, device="cpu", precision="fp32", max_memory=2**36)
import PIL.Image, tifffile, deblur_cli.files.large
most = memory.used_bytes() + 160 * 2**20
try:
    main(["a.{sort}", "-q", "--weights", {weights!r}, "--device", "cpu", "--max-memory", str(most)])
except SystemExit as stop:
    # Not getrusage: its peak is that of the process that began this one, if that is larger.
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps([stop.code or 0, most, peak]))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(deblur.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code, most, peak = json.loads(done.stdout)
    assert code == 0, done.stderr
    assert peak <= most, (peak - most) / 2**20
