"""Exports: every net as a file for other programs, and no file that does something else than the net."""

import errno
import json
import os
import runpy
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor, nn

import deblur_cli
from deblur_cli import exporter, nets
from deblur_cli.cli import app, main
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import UsageError, WeightsError
from deblur_cli.exporter import forms, proof, writing
from deblur_cli.files import checkpoint, exported, graph
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.motion_unet import MotionUNetConfig
from deblur_cli.nets.nafnet import NAFNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.unet import UNetConfig
from deblur_cli.onnxrunner import OnnxDeblurrer
from deblur_cli.options.export import ExportOptions

pytestmark = pytest.mark.usefixtures("one_thread")

for _library in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_library)

TINY = UNetConfig(width=4, blocks=(1, 1, 1), prior=PriorConfig(widths=(4, 4, 4), channels=(4, 4, 4), blocks=(1, 0, 1)))


def _net(name: str = "unet", config: Any = TINY) -> nn.Module:
    """A net of which every part does something."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = nets.build(name, nets.to_mapping(config))
        for values in net.parameters():
            values.add_(torch.randn_like(values), alpha=0.05)
    return net.eval().requires_grad_(requires_grad=False)


def _label(net: nn.Module, name: str = "unet") -> checkpoint.Label:
    config = nets.to_mapping(net.config)
    return checkpoint.Label(net=name, config=config, made_with="tests", licence="CC0-1.0", trained_on="nothing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    net = _net()
    checkpoint.save(checkpoint.Checkpoint(label=_label(net), tensors=net.state_dict()), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


def _code(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["export", *map(str, words)])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def made(weights: Path, folder: Path) -> Path:
    """The tiny net as an .onnx file."""
    assert _code("--weights", weights, "-o", folder / "made.onnx") == 0
    return folder / "made.onnx"


def _photo(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    drawn = proof.drawn(height, width, torch.Generator().manual_seed(1))[0].permute(1, 2, 0).numpy()[:, :, :channels]
    return drawn if dtype == "float32" else np.rint(drawn * np.iinfo(dtype).max).astype(dtype)


def test_no_export_tells_where_it_was_made(made: Path, weights: Path, tmp_path: Path) -> None:
    assert _code("--weights", weights, "-o", tmp_path / "net.pt2") == 0
    with zipfile.ZipFile(tmp_path / "net.pt2") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    for name, content in {**parts, "onnx": made.read_bytes()}.items():
        for folder in (Path(deblur_cli.__file__).parent, Path(torch.__file__).parent, tmp_path):
            assert str(folder).encode() not in content, name


def test_an_export_is_of_one_version_of_onnx_and_of_sizes_that_are_not_fixed(made: Path) -> None:
    import onnx

    model = onnx.load(made)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    sides = [each.dim_param for each in model.graph.input[0].type.tensor_type.shape.dim]
    assert all(sides[2:])
    assert sides[2] != sides[3]


@pytest.mark.parametrize("command", ["info", "convert", "publish"])
def test_what_an_export_is_can_be_asked_but_it_is_no_checkpoint(
    made: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"info": ["--json"], "convert": ["-o", str(tmp_path / "x.safetensors")], "publish": ["--repo", "owner/x"]}
    with pytest.raises(SystemExit) as stop:
        main(["weights", command, str(made), *more[command]])
    told = capsys.readouterr()
    if command == "info":
        assert json.loads(told.out)["trained_on"] == "nothing"
    else:
        assert stop.value.code == 4
        assert "is an exported net, and a checkpoint is needed here" in told.err


def test_an_export_tells_what_other_programs_need(made: Path, weights: Path) -> None:
    facts = exported.from_texts(made, graph.load(made).metadata)
    assert facts.label == checkpoint.read_label(weights)
    assert (facts.multiple_of, facts.overlap, facts.tile) == (TINY.multiple_of, TINY.overlap, 0)
    assert (facts.precision, facts.local, facts.values_per_pixel) == ("fp32", True, TINY.values_per_pixel)


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint16", 3), ("float32", 3), ("uint8", 1)])
def test_through_onnx_a_photo_becomes_what_torch_makes_of_it(
    made: Path, weights: Path, dtype: str, channels: int
) -> None:
    pixels = _photo(53, 90, channels, dtype)
    dials: dict[str, Any] = {"tta": channels == 1, "strength": 0.9}
    expected = Deblurrer.open(weights, device="cpu", precision="fp32", **dials).restore(pixels)
    restored = OnnxDeblurrer.open(made, **dials).restore(pixels)
    assert not np.array_equal(restored, pixels)
    step = 1e-4 if dtype == "float32" else 7 if dtype == "uint16" else 1
    assert np.abs(restored.astype(np.float64) - expected).max() <= step
    assert np.mean(restored != expected) < 0.05 or dtype != "uint8"


def test_in_tiles_too(made: Path, weights: Path) -> None:
    pixels = _photo(300, 420, dtype="float32")
    dials = {"device": "cpu", "precision": "fp32", "tile": 256}
    deblurrer = OnnxDeblurrer.open(made, **dials)
    assert deblurrer.plan_for(300, 420) == Deblurrer.open(weights, **dials).plan_for(300, 420)
    assert deblurrer.plan_for(300, 420).count > 1
    assert np.allclose(deblurrer.restore(pixels), Deblurrer.open(weights, **dials).restore(pixels), atol=1e-4)


def test_half_precision_and_one_size_are_checked_with_a_photo_of_mine(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(_photo(100, 300)).save(tmp_path / "mine.png")
    words = ("--precision", "fp16", "--tile", "256", "--check-image", tmp_path / "mine.png", "--json")
    assert _code("--weights", weights, "-o", tmp_path / "half.onnx", *words) == 0
    said = capsys.readouterr()
    row = json.loads(said.out)
    assert (row["precision"], row["tile"], row["multiple_of"], row["format"]) == ("fp16", 256, 4, "onnx")
    assert 0 < row["difference"] <= 0.01
    assert row["bytes"] == (tmp_path / "half.onnx").stat().st_size
    with pytest.raises(SystemExit):
        main(["weights", "info", str(tmp_path / "half.onnx"), "--json"])
    assert json.loads(capsys.readouterr().out)["precision"] == "fp16"
    assert "photo image, 256 x 256: largest difference from PyTorch" in said.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["half.onnx", "mine.png"]
    restored = OnnxDeblurrer.open(tmp_path / "half.onnx").restore(_photo(70, 300))
    expected = Deblurrer.open(weights, device="cpu", precision="fp32").restore(_photo(70, 300)).astype(int)
    assert np.abs(restored[:50] - expected[:50]).max() <= 3


def test_a_pt2_file_runs_without_this_program(weights: Path, tmp_path: Path) -> None:
    assert _code("--weights", weights, "-o", tmp_path / "net.pt2") == 0
    texts = {"deblur.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=texts)
    assert json.loads(texts["deblur.json"])["multiple_of"] == "4"
    assert exported.from_texts(Path(), exported.of_program(tmp_path / "net.pt2")).multiple_of == 4
    image = proof.drawn(64, 36, torch.Generator().manual_seed(0))
    assert torch.equal(program.module()(image), _net()(image)[0])


def test_plain_safetensors_are_a_checkpoint_with_the_facts_of_an_export(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plain.safetensors"
    assert _code("--weights", weights, "-o", path) == 0
    told = capsys.readouterr().err
    assert told.count("largest difference from PyTorch 0 (at most 0.001)") == 6
    assert {"8 x 4", "4 x 4"} & {line.split(", ")[1].split(":")[0] for line in told.splitlines() if "random" in line}
    assert checkpoint.read_label(path) == checkpoint.read_label(weights)
    pixels = _photo(40, 50)
    both = [Deblurrer.open(each, device="cpu").restore(pixels) for each in (path, weights)]
    assert np.array_equal(*both)


def test_an_export_that_does_something_else_leaves_no_file(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(proof, "BOUNDS", {"fp16": 1e-12})
    path = tmp_path / "half.safetensors"
    path.write_bytes(b"before")
    assert _code("--weights", weights, "-o", path, "--precision", "fp16", "--overwrite") == 4
    assert "was not kept" in capsys.readouterr().err
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_is_told_by_the_name_that_was_said(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    for name in ("net.safetensors", "net.pt2"):
        assert _code("--weights", weights, "-o", tmp_path / name) == 3
        assert f"'{tmp_path / name}' cannot be written: No space left on device." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_told_before_the_work(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.onnx").touch()
    (tmp_path / "folder.onnx").mkdir()
    image = tmp_path / "image.png"
    image.write_text("no picture")
    cases: list[tuple[tuple[str | Path, ...], int, str]] = [
        (("-o", tmp_path / "there.onnx"), 2, "is there already"),
        (("-o", tmp_path / "x.onnx", "--tile", "100"), 2, "--tile 100 is too small"),
        (("-o", tmp_path / "x.onnx", "--tile", "301"), 2, "Say --tile 300 or 304."),
        (("-o", tmp_path / "x.onnx", "--check-image", image), 3, "image.png"),
        (("-o", tmp_path / "none" / "x.safetensors"), 3, "cannot be written"),
        (("-o", tmp_path / "folder.onnx", "--overwrite"), 2, "is a folder"),
        (("-o", tmp_path / "y.onnx", "--weights", tmp_path / "there.onnx"), 4, "a checkpoint is needed here"),
    ]
    for words, code, said in cases:
        assert _code("--weights", weights, *words) == code
        assert said in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert _code("--weights", weights, "-o", tmp_path / "x.onnx") == 2
    assert "pip install 'deblur-cli[onnx]'" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder.onnx", "image.png", "there.onnx"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"output": "net"}, "does not end in .onnx, .pt2, .safetensors"),
        ({"output": "net.onnx", "format": "pt2"}, "does not end in .pt2"),
        ({"output": "net.onnx", "format": "tflite"}, "--format tflite"),
        ({"output": "net.onnx", "precision": "bf16"}, "--precision bf16"),
        ({"output": "net.onnx", "tile": 0}, "--tile 0"),
        ({"output": "net.safetensors", "tile": 256}, "no graph"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        ExportOptions(**wrong)
    assert said in str(caught.value)
    assert caught.value.hint


def test_every_option_has_a_word_and_help_never_waits_for_torch() -> None:
    params = typer.main.get_command(app).commands["export"].params
    assert {each.name for each in params} == {each.name for each in fields(ExportOptions)}
    program = """
import sys
from deblur_cli.cli import main
for words in (["export", "--help"], ["export", "-o", "x"]):
    try:
        main(words)
    except SystemExit:
        pass
assert not {"torch", "onnxruntime", "onnx", "numpy"} & set(sys.modules)
"""
    place = str(Path(deblur_cli.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, env=os.environ | {"PYTHONPATH": place}
    )


class _Awkward(nn.Module):
    """What torch's exporter stumbles over where sizes are not fixed: parts, remainders and halves of sizes."""

    config = replace(TINY, prior=None)

    def forward(self, blurred: Tensor) -> tuple[Tensor, ...]:
        upper, lower = blurred.chunk(2, dim=2)
        left, right = lower.chunk(2, dim=3)
        image = torch.cat((torch.cat((left + 0.25, right), 3), upper * 0.5), 2)
        height, width = image.shape[-2] >> 1, image.shape[-1] >> 2
        places = torch.arange(-3, image.shape[-1] - 3).remainder(image.shape[-1])
        small = nn.functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
        return (image.index_select(-1, places) + nn.functional.interpolate(small, image.shape[-2:]),)


def test_what_the_exporter_to_onnx_cannot_say_is_said_for_it(tmp_path: Path) -> None:
    net = _Awkward().eval()
    facts = exported.Facts(
        label=_label(net), multiple_of=4, overlap=0, values_per_pixel=9.0, local=False, precision="fp32"
    )
    again = writing.write(net, facts, tmp_path / "net.onnx", "onnx")
    for each in proof.compare(net, again, [(4, 8), (36, 20), (64, 100)], photo=None, bound=1e-6):
        assert each.passed, each


def test_a_net_whose_mode_depends_on_the_size_is_exported_in_its_safe_form() -> None:
    config = NAFNetConfig(width=4, encoder=(1, 1, 1, 1), window=48)
    net = _net("nafnet", config)
    settled = forms.settle("nafnet", net)
    safe = settled.net
    assert settled.longest == 48
    assert safe.config == replace(config, window=0)
    told = forms.notes(settled, "onnx")
    assert "TLC" in told[0]
    assert "tiles of at most 48 pixels" in told[0]
    assert "whole tile" in told[1]
    small, large = torch.rand(1, 3, 48, 48), torch.rand(1, 3, 48, 96)
    assert torch.allclose(safe(small)[0], net(small)[0], atol=1e-5)
    assert not torch.allclose(safe(large)[0], net(large)[0], atol=1e-5)
    assert forms.settle("nafnet", _net("nafnet", replace(config, window=0))).longest == 0
    assert forms.notes(forms.settle("unet", _net()), "onnx") == []


def test_the_list_of_forms_names_nets_and_dials_that_there_are() -> None:
    for name, form in forms.FORMS.items():
        assert form.dials
        assert form.alike in form.dials
        nets.build(name, nets.to_mapping(nets.NETS[name].config(**form.dials)))


def _tiny() -> dict[str, tuple[str, Any]]:
    """The tiny configs of the laws of nets."""
    return runpy.run_path(str(Path(__file__).parent / "nets" / "test_every_net.py"))["TINY"]


EVERY = [
    pytest.param(
        name, prior, sort, marks=[] if (name, prior, sort) == ("mimo-unet", True, "onnx") else pytest.mark.slow
    )
    for name in (*nets.NETS, "motion-unet-hindsight")
    for prior in (False, True)
    for sort in ("onnx", "pt2")
]


@pytest.mark.parametrize(("name", "prior", "sort"), EVERY)
def test_every_net_is_exported_for_all_sizes_with_and_without_the_prior(
    name: str, prior: bool, sort: str, tmp_path: Path
) -> None:
    tiny = _tiny()
    # Some nets are only there under the names of their dials.
    name, config = tiny.get(name) or next(each for each in tiny.values() if each[0] == name)
    net = _net(name, replace(config, prior=TINY.prior if prior else None))
    path = tmp_path / f"net.{sort}"
    events = list(exporter.export(net, _label(net, name), path, sort=sort, precision="fp32", tile=0, photo=None))
    kept = events[-1]
    assert isinstance(kept, exporter.Kept)
    assert kept.difference <= 1e-3
    assert kept.facts.tile == 0
    if sort == "onnx":
        assert OnnxDeblurrer.open(path).restore(_photo(40, 50)).shape == (40, 50, 3)


def test_what_the_authors_do_not_allow_is_told_of_an_export_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = _net()
    label = replace(_label(net), licence="Academic Public License (non-commercial)")
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=net.state_dict()), tmp_path / "bound.safetensors")
    words = ("--weights", tmp_path / "bound.safetensors", "-o", tmp_path / "again.safetensors", "--json")
    assert _code(*words) == 0
    told = capsys.readouterr()
    assert told.err.count("not for commercial use") == 1
    assert "not for commercial use" in json.loads(told.out)["notes"][0]


def test_a_net_of_another_library_is_refused(tmp_path: Path) -> None:
    net = _net()
    label = replace(_label(net), net="spandrel:Other")
    with pytest.raises(WeightsError, match="no net of deblur's own"):
        list(exporter.export(net, label, tmp_path / "x.pt2", sort="pt2", precision="fp32", tile=0, photo=None))
    assert not list(tmp_path.iterdir())


def test_half_precision_is_refused_where_the_net_does_not_stand_it(tmp_path: Path) -> None:
    net = _net("nafnet", NAFNetConfig(width=4, encoder=(1, 1, 1, 1)))
    with pytest.raises(UsageError, match="does not stand fp16"):
        list(
            exporter.export(
                net, _label(net, "nafnet"), tmp_path / "x.pt2", sort="pt2", precision="fp16", tile=0, photo=None
            )
        )


@pytest.mark.parametrize("sort", ["onnx", "pt2", "safetensors"])
@pytest.mark.parametrize(("coarse", "unit", "tile"), [(False, 128, 1344), (True, 256, 1664)])
def test_an_export_of_a_net_that_sees_smaller_sizes_takes_sides_of_which_these_are_multiples(
    sort: str, coarse: bool, unit: int, tile: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = MotionConfig(width=8, blocks=1, radius=4, steer=6)
    net = _net("motion-unet", MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=small, phases=True, coarse=coarse))
    asked: list[exported.Facts] = []

    def write(net: nn.Module, facts: exported.Facts, path: Path, sort: str) -> writing.Restore:
        asked.append(facts)
        path.write_bytes(sort.encode())
        return lambda image: net(image)[0]

    monkeypatch.setattr(writing, "write", write)
    settings: dict[str, Any] = {"sort": sort, "precision": "fp32", "photo": None}
    list(exporter.export(net, _label(net, "motion-unet"), tmp_path / "x", tile=0, **settings))
    assert [facts.multiple_of for facts in asked] == [unit]
    with pytest.raises(UsageError, match=f"{tile} is no multiple of {unit}"):
        list(exporter.export(net, _label(net, "motion-unet"), tmp_path / "x", tile=tile, **settings))
