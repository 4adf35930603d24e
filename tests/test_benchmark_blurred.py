"""Blurred photographs alone: what is measured of them, how they are grouped, and pairs of more than 8 bits."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from deblur_cli.cli import main
from deblur_cli.commands import benchmark
from deblur_cli.errors import InputError
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.benchmark import BenchmarkOptions
from deblur_cli.pixels import metrics
from deblur_cli.scorer import events, scores, synthetic

SHAKES = ("mild", "medium", "severe")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> str:
    """The path of a net that corrects nothing."""
    net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
    tensors = {name: torch.zeros_like(each) for name, each in net.state_dict().items()}
    label = Label(net="unet", config=to_mapping(net.config), made_with="a test", licence="MIT", trained_on="nothing")
    path = tmp_path_factory.mktemp("weights") / "still.safetensors"
    save(Checkpoint(label=label, tensors=tensors), path)
    return str(path)


@pytest.fixture(scope="module")
def shaken() -> dict[str, list[torch.Tensor]]:
    """Four scenes of edges of all sizes, each under three kinds of shake."""
    made: dict[str, list[torch.Tensor]] = {kind: [] for kind in SHAKES}
    for index in range(4):
        chance = np.random.default_rng(index)
        scene = np.full((synthetic.SMALLEST, synthetic.SMALLEST + 40, 3), 128, np.float32)
        for _ in range(150):
            top, left = chance.integers(0, scene.shape[0]), chance.integers(0, scene.shape[1])
            height, width = chance.integers(4, 60, 2)
            scene[top : top + height, left : left + width] = chance.integers(0, 256, 3)
        sharp = torch.from_numpy(scene).permute(2, 0, 1)[None] / 255
        for kind in SHAKES:
            made[kind].append(synthetic.pair(sharp, kind, index)[0])
    return made


@pytest.fixture
def folder(tmp_path: Path, shaken, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "photos"
    made.mkdir()
    for kind, images in shaken.items():
        for index, image in enumerate(images):
            pixels = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(made / f"{kind}-{index}.png")
    return made


def options(folder: Path, net: str, **more) -> BenchmarkOptions:
    return BenchmarkOptions(dataset="blurred", data=str(folder), weights=(net,), device="cpu", **more)


def rows(found: list[events.Event]) -> dict[str, scores.Row]:
    measured = next(event for event in found if isinstance(event, events.Measured))
    return {row.group: row for row in measured.rows}


def test_the_blur_score_orders_the_kinds_of_shake(shaken) -> None:
    means = [float(torch.cat([metrics.blur(each) for each in shaken[kind]]).mean()) for kind in SHAKES]
    assert means == sorted(means)


def test_photographs_without_a_sharp_one_are_grouped_by_how_blurred_they_look(folder: Path, still: str) -> None:
    found = rows(list(benchmark.run(options(folder, still))))
    assert set(found) == {"all", "severe", "medium", "mild", *(f"class {kind}" for kind in SHAKES)}
    assert found["severe"].before["blur"] > found["medium"].before["blur"] > found["mild"].before["blur"]
    assert found["all"].before == found["all"].after
    assert (found["all"].images, found["all"].gain, found["all"].worse) == (12, 0, 0)
    assert found["all"].seconds > 0


def test_a_blur_score_that_falls_is_a_gain() -> None:
    score = scores.Score(
        name="a",
        kind="",
        weights="w",
        width=1,
        height=1,
        before={"blur": 0.5},
        after={"blur": 0.375},
        seconds=1.0,
        tile=(1, 1),
        memory=None,
    )
    assert score.gain == 0.125
    assert score.told == "Blur 0.5000 -> 0.3750 (+0.1250)"


def test_the_table_the_files_and_the_page_speak_of_no_psnr(folder: Path, still: str, capsys) -> None:
    words = ("benchmark", "--dataset", "blurred", "--data", str(folder), "--weights", still, "--device", "cpu")
    with pytest.raises(SystemExit) as stop:
        main(
            (
                *words,
                "--limit",
                "3",
                "--output",
                "r.json",
                "--output",
                "r.csv",
                "--report",
                "page",
                "--save-images",
                "out",
            )
        )
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Input Blur" in shown
    assert "PSNR" not in shown
    whole = json.loads(Path("r.json").read_text())
    assert (whole["complete"], whole["settings"]["protocol"], len(whole["scores"])) == (True, "blind", 3)
    with Path("r.csv").open(newline="") as file:
        assert {"before blur", "after blur"} < set(next(csv.DictReader(file)))
    page = Path("page/index.html").read_text()
    assert page.count("<circle") == 3
    assert set(re.findall(r"<span>(\w+)</span>", page)) == {"blurred", "restored"}
    assert "PSNR" not in page
    assert len(list(Path("out").rglob("*.png"))) == 3


def test_blurred_photographs_keep_their_size_unless_told(folder: Path, still: str) -> None:
    with Image.open(min(folder.iterdir())) as first:
        longest_side = max(first.size)
    for longest, expected in ((None, longest_side), (64, 64)):
        whole = benchmark.run(options(folder, still, limit=1, longest=longest))
        score = next(event.score for event in whole if isinstance(event, events.Scored))
        assert max(score.width, score.height) == expected


def test_a_photograph_that_is_too_small_is_named(tmp_path: Path, still: str) -> None:
    Image.new("RGB", (10, 40)).save(tmp_path / "tiny.png")
    with pytest.raises(InputError, match=r"tiny\.png.*10 x 40"):
        list(benchmark.run(options(tmp_path, still)))


def test_pairs_of_16_bits_are_rounded_to_8_as_the_protocol_has_it(tmp_path: Path, still: str) -> None:
    chance = np.random.default_rng(0)
    found = []
    for depth in (16, 8):
        for side in ("blur", "sharp"):
            deep = chance.integers(0, 65536, (40, 48, 3)).astype(np.uint16) if depth == 16 else found[0][side]
            path = tmp_path / str(depth) / side / "a.tif"
            path.parent.mkdir(parents=True)
            tifffile.imwrite(path, deep if depth == 16 else np.rint(deep / 257).astype(np.uint8), photometric="rgb")
            found = found or [{}]
            found[0].setdefault(side, deep)
    made = [
        rows(
            list(
                benchmark.run(
                    BenchmarkOptions(dataset="pairs", data=str(tmp_path / depth), weights=(still,), device="cpu")
                )
            )
        )["all"]
        for depth in ("16", "8")
    ]
    assert made[0].before == made[1].before
