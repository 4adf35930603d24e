"""The files of a benchmark: they hold all, a run goes on from them, and nothing of somebody else's is lost."""

import csv
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_benchmark import code_of, measured, pair, photographs, plain, run

from deblur_cli.commands import benchmark
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import InputError, UsageError
from deblur_cli.options.benchmark import BenchmarkOptions
from deblur_cli.scorer import entrants, events, record


def test_the_files_hold_everything_that_the_table_says(tmp_path: Path, nets) -> None:
    found = run("pairs", plain(tmp_path), nets, output=("r.json", "r.csv"))
    whole = json.loads(Path("r.json").read_text())
    assert whole["complete"] is True
    assert whole["settings"]["protocol"] == "gopro"
    assert set(whole["versions"]) == {"deblur", "python", "torch", "opencv", "numpy", "pillow"}
    assert [each["sha256"] for each in whole["weights"]] == [
        hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in nets
    ]
    mine = [each for each in whole["scores"] if each["weights"] == nets[1]]
    row = next(row for row in measured(found).rows if (row.weights, row.group) == (nets[1], "all"))
    for name in ("psnr", "ssim", "ssim2d"):
        assert row.after[name] == pytest.approx(sum(each["after"][name] for each in mine) / 6)
    with Path("r.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    assert {float(line["after psnr"]) for line in lines} == {each["after"]["psnr"] for each in whole["scores"]}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, nets) -> None:
    plain(tmp_path)
    whole = run("pairs", tmp_path, nets, output=("whole.json",))
    options = {"dataset": "pairs", "data": str(tmp_path), "weights": nets, "device": "cpu", "output": ("part.json",)}
    going = benchmark.run(BenchmarkOptions(**options))
    for _ in range(6):
        next(going)
    going.close()
    part = json.loads(Path("part.json").read_text())
    assert (part["complete"], len(part["scores"])) == (False, 5)
    rest = list(benchmark.run(BenchmarkOptions(**options, resume=True)))
    assert sum(isinstance(event, events.Scored) for event in rest) == 7
    for one, other in zip(measured(rest).rows, measured(whole).rows, strict=True):
        assert (one.weights, one.group, one.before, one.after) == (
            other.weights,
            other.group,
            other.before,
            other.after,
        )
    assert json.loads(Path("part.json").read_text())["complete"] is True


@pytest.mark.parametrize("side", ["blur", "sharp"])
def test_an_image_that_was_changed_since_is_scored_anew(side: str, tmp_path: Path, nets) -> None:
    plain(tmp_path, 4)
    before = run("pairs", tmp_path, nets[:1], output=("r.json",))
    aside = tmp_path / "aside.png"
    pair(aside, aside, error=40)
    Path(tmp_path, side, "night-2.png").write_bytes(aside.read_bytes())
    after = run("pairs", tmp_path, nets[:1], output=("r.json",), resume=True)
    assert [event.score.name for event in after if isinstance(event, events.Scored)] == ["night-2"]
    assert measured(after).rows[0].before != measured(before).rows[0].before
    fresh = run("pairs", tmp_path, nets[:1])
    assert measured(after).rows[0].before == measured(fresh).rows[0].before


def test_a_photograph_that_another_movement_falls_to_is_scored_anew(tmp_path: Path, nets) -> None:
    folder = photographs(tmp_path / "photos", 2)
    run("synthetic", folder, nets[:1], output=("r.json",))
    (folder / "p1.png").rename(folder / "p2.png")
    (folder / "p2.png").with_name("p1.png").write_bytes((folder / "p0.png").read_bytes())
    after = run("synthetic", folder, nets[:1], output=("r.json",), resume=True)
    found = {event.score.name.partition("/")[2] for event in after if isinstance(event, events.Scored)}
    assert found == {"p1", "p2"}  # p0 is what and where it was


def test_a_record_of_before_sources_were_told_is_not_gone_by(tmp_path: Path, nets) -> None:
    plain(tmp_path, 2)
    run("pairs", tmp_path, nets[:1], output=("r.json",))
    whole = json.loads(Path("r.json").read_text())
    for each in whole["scores"]:
        del each["source"]
    Path("r.json").write_text(json.dumps(whole))
    after = run("pairs", tmp_path, nets[:1], output=("r.json",), resume=True)
    assert sum(isinstance(event, events.Scored) for event in after) == 2


def test_what_was_scored_is_saved_on_the_way(tmp_path: Path, nets, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "_SAVE_EVERY", 0.0)
    plain(tmp_path, 3)
    options = BenchmarkOptions(dataset="pairs", data=str(tmp_path), weights=nets[:1], device="cpu", output=("r.json",))
    going = benchmark.run(options)
    for _ in range(3):
        next(going)
    kept = json.loads(Path("r.json").read_text())  # while the run is still under way
    assert (kept["complete"], len(kept["scores"])) == (False, 1)
    going.close()


def test_scores_of_other_settings_or_weights_are_not_mixed(tmp_path: Path, nets) -> None:
    plain(tmp_path, 2)
    run("pairs", tmp_path, nets[:1], output=("r.json",))
    before = Path("r.json").read_bytes()
    with pytest.raises(InputError, match="protocol gopro, not nah"):
        run("pairs", tmp_path, nets[:1], output=("r.json",), resume=True, protocol="nah")
    with pytest.raises(InputError, match="other weights"):
        run("pairs", tmp_path, nets, output=("r.json",), resume=True)
    with pytest.raises(UsageError, match="there already"):
        run("pairs", tmp_path, nets[:1], output=("r.json",))
    assert Path("r.json").read_bytes() == before
    Path("r.json").write_text("{}")
    with pytest.raises(InputError, match="no record"):
        run("pairs", tmp_path, nets[:1], output=("r.json",), resume=True)


def test_infinite_scores_survive_the_file(tmp_path: Path, nets) -> None:
    pair("blur/a.png", "sharp/a.png", error=0)
    run("pairs", tmp_path, nets[:1], output=("r.json",))
    assert json.loads(Path("r.json").read_text())["scores"][0]["after"]["psnr"] == "inf"
    row = measured(run("pairs", tmp_path, nets[:1], output=("r.json",), resume=True)).rows[0]
    assert (row.after["psnr"], row.gain) == (math.inf, 0)


def test_saved_images_are_what_was_scored_and_stay_in_their_folder(tmp_path: Path, nets) -> None:
    pair("data/in/blur/a.png", "data/in/sharp/a.png", error=12)
    Path("data/lists").mkdir()
    Path("data/lists/pairs.txt").write_text("../in/sharp/a.png ../in/blur/a.png\n")
    run("pairs", Path("data/lists"), nets[1:], save_images="out")
    (made,) = Path("out").rglob("*.png")
    assert made.resolve().is_relative_to(Path("out").resolve())
    blurred = np.array(Image.open("data/in/blur/a.png"))
    assert (np.array(Image.open(made)) == Deblurrer.open(nets[1], device="cpu").restore(blurred)).all()


@pytest.mark.parametrize("more", [(), ("--speed-only",)])
@pytest.mark.parametrize(("output", "code"), [("nowhere/r.csv", 3), ("file/r.json", 3), ("folder.csv", 2)])
def test_an_output_that_cannot_be_written_is_told_before_the_work(
    output: str, code: int, more: tuple[str, ...], tmp_path: Path, nets, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(entrants, "find", lambda *_: pytest.fail("the work was begun"))
    plain(tmp_path, 2)
    Path("folder.csv").mkdir()
    Path("file").touch()
    words = ("benchmark", "--dataset", "pairs", "--data", ".", "--weights", nets[0], "--overwrite", "--output", output)
    assert code_of(*words, *more) == code
    assert capsys.readouterr().err.startswith(f"deblur: '{output}'")


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path: Path, nets) -> None:
    plain(tmp_path / "set", 5)
    words = ["benchmark", "--dataset", "pairs", "--data", "set", "--device", "cpu", "--weights", nets[1], "--output"]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "deblur_cli",
    ]
    path = {"PYTHONPATH": str(Path(benchmark.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *words, "two.json"], check=False, capture_output=True, text=True, timeout=300, env=os.environ | path
    )
    assert done.returncode == 0, done.stderr
    run("pairs", Path("set"), nets[1:], output=("one.json",))
    one, two = (json.loads(Path(name).read_text()) for name in ("one.json", "two.json"))
    assert [(each["name"], each["after"]) for each in one["scores"]] == [
        (each["name"], each["after"]) for each in two["scores"]
    ]


def test_a_record_knows_whether_it_is_complete() -> None:
    told = record.Weights(name="w", sha256="0" * 64, net="unet", device="cpu", precision="fp32")
    assert not record.Record(settings={}, images=1, known=1, weights=[told], scores=[]).complete
