"""The benchmark as a whole: data sets in their true layouts, tables, files to go on from, a page to look at."""

import csv
import hashlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.cli import main
from deblur_cli.commands import benchmark
from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import InputError, UsageError
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.benchmark import BenchmarkOptions
from deblur_cli.scorer import entrants, events, page, record, samples, scores, synthetic

SIZE = (48, 40)


def checkpoint(path: Path, *, still: bool) -> str:
    """A tiny net; a still one corrects nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
    tensors = {name: torch.zeros_like(each) if still else each for name, each in net.state_dict().items()}
    label = Label(net="unet", config=to_mapping(net.config), made_with="a test", licence="MIT", trained_on="nothing")
    save(Checkpoint(label=label, tensors=tensors), path)
    return str(path)


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> tuple[str, str]:
    """Paths of a net that corrects nothing and of one that changes everything."""
    folder = tmp_path_factory.mktemp("weights")
    return checkpoint(folder / "still.safetensors", still=True), checkpoint(folder / "wild.safetensors", still=False)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEBLUR_DATA", raising=False)


def picture(path: Path | str, values: np.ndarray) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8)).save(path)


def pair(blurred: Path | str, sharp: Path | str, *, error: float, size: tuple[int, int] = SIZE) -> None:
    """A scene, and the same with a constant error in it: its PSNR is 20 log10(255 / error)."""
    y, x = np.mgrid[: size[1], : size[0]]
    scene = np.stack([110 + 60 * np.sin(x / 3 + k) * np.cos(y / (4 + k)) for k in range(3)], axis=-1).round()
    picture(sharp, scene)
    picture(blurred, scene + error)


def plain(root: Path, count: int = 6) -> Path:
    """Pairs of two classes; the first is the most blurred."""
    for index in range(count):
        name = f"{'day' if index % 2 else 'night'}-{index}.png"
        pair(root / "blur" / name, root / "sharp" / name, error=float(4 * (count - index)))
    return root


def run(dataset: str, folder: Path, weights: tuple[str, ...], **more) -> list[events.Event]:
    options = BenchmarkOptions(dataset=dataset, data=str(folder), weights=weights, device="cpu", **more)
    return list(benchmark.run(options))


def measured(found: list[events.Event]) -> events.Measured:
    return next(event for event in found if isinstance(event, events.Measured))


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


LAYOUTS = {
    "gopro": ("GOPRO_Large/test/S1/blur/000001.png", "GOPRO_Large/test/S1/sharp/000001.png"),
    "hide": ("HIDE_dataset/test/test-close-ups/1.png", "HIDE_dataset/GT/1.png"),
    "realblur-j": ("RealBlur_J/test/input/scene001_blur_1.png", "RealBlur_J/test/target/scene001_blur_1.png"),
    "realblur-r": ("RealBlur_R/test/input/scene001_blur_1.png", "RealBlur_R/test/target/scene001_blur_1.png"),
    "reds": ("REDS/val/val_blur/000/00000000.png", "REDS/val/val_sharp/000/00000000.png"),
}


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_a_part_of_a_known_set_is_scored_only_when_told_to(dataset: str, tmp_path: Path, nets) -> None:
    blurred, sharp = LAYOUTS[dataset]
    pair(blurred, sharp, error=8)
    with pytest.raises(InputError, match=r"has [\d,]+ pairs in .*holds 1"):
        run(dataset, tmp_path, nets[:1])
    told = measured(run(dataset, tmp_path, nets[:1], limit=5))
    assert re.match(r"1 of [\d,]+ images of", told.title)
    row = told.rows[0]
    assert (row.images, row.gain) == (1, 0)
    if not dataset.startswith("realblur"):
        assert row.before["psnr"] == pytest.approx(20 * math.log10(255 / 8))


def test_a_set_that_is_absent_says_where_it_is_to_be_had(tmp_path: Path, capsys) -> None:
    assert code_of("benchmark") == 3
    said = capsys.readouterr().err
    assert "snah/GOPRO_Large" in said
    assert "9.5 GB" in said
    assert "--dataset synthetic" in said


def test_a_net_that_corrects_nothing_gains_nothing_and_a_wild_one_loses(tmp_path: Path, nets) -> None:
    rows = {(row.weights, row.group): row for row in measured(run("pairs", plain(tmp_path), nets)).rows}
    still, wild = rows[nets[0], "all"], rows[nets[1], "all"]
    assert (still.images, still.gain, still.worse) == (6, 0, 0)
    assert still.after == still.before == wild.before
    assert wild.gain < 0 < wild.worse


def test_severity_is_told_in_thirds_and_classes_by_name(tmp_path: Path, nets) -> None:
    rows = {row.group: row for row in measured(run("pairs", plain(tmp_path), nets[:1])).rows}
    assert {name: row.images for name, row in rows.items()} == {
        "all": 6,
        "severe": 2,
        "medium": 2,
        "mild": 2,
        "class night": 3,
        "class day": 3,
    }
    expected = sum(20 * math.log10(255 / error) for error in (24, 20)) / 2
    assert rows["severe"].before["psnr"] == pytest.approx(expected)


def test_names_that_are_no_classes_make_none() -> None:
    def made(names: list[str]) -> set[str]:
        found = [
            scores.Score(
                name=name,
                kind=samples.Sample(name, lambda: None).kind,
                weights="w",
                width=1,
                height=1,
                before={"psnr": 1.0},
                after={"psnr": 2.0},
                seconds=1.0,
                tile=(1, 1),
                memory=None,
            )
            for name in names
        ]
        return {row.group for row in scores.rows(found) if row.group.startswith("class")}

    assert made(["S1/1", "S1/2", "S2/1", "S2/2"]) == {"class S1", "class S2"}
    assert made(["a-1", "b-2", "c-3", "d-4"]) == set()
    assert made(["IMG-1", "IMG-2", "IMG-3", "IMG-4"]) == set()
    assert made(["one", "two", "a-1", "a-2"]) == set()


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


@pytest.mark.parametrize("spoilt", ["blur", "sharp"])
def test_an_image_that_cannot_be_read_ends_the_run_and_is_named(tmp_path: Path, nets, capsys, spoilt: str) -> None:
    plain(tmp_path, 4)
    torn = tmp_path / spoilt / "night-2.png"
    torn.write_bytes(torn.read_bytes()[:100])
    words = ("benchmark", "--dataset", "pairs", "--data", str(tmp_path), "--weights", nets[0], "--output", "r.json")
    assert code_of(*words) == 3
    assert "night-2.png" in capsys.readouterr().err
    assert json.loads(Path("r.json").read_text())["complete"] is False


def test_two_sizes_are_no_pair(tmp_path: Path, nets) -> None:
    pair("blur/a.png", "sharp/x.png", error=4)
    pair("blur/x.png", "sharp/a.png", error=4, size=(64, 40))
    with pytest.raises(InputError, match=r"48 x 40.*64 x 40"):
        run("pairs", tmp_path, nets[:1])


def test_saved_images_are_what_was_scored_and_stay_in_their_folder(tmp_path: Path, nets) -> None:
    pair("data/in/blur/a.png", "data/in/sharp/a.png", error=12)
    Path("data/lists").mkdir()
    Path("data/lists/pairs.txt").write_text("../in/sharp/a.png ../in/blur/a.png\n")
    run("pairs", Path("data/lists"), nets[1:], save_images="out")
    (made,) = Path("out").rglob("*.png")
    assert made.resolve().is_relative_to(Path("out").resolve())
    blurred = np.array(Image.open("data/in/blur/a.png"))
    assert (np.array(Image.open(made)) == Deblurrer.open(nets[1], device="cpu").restore(blurred)).all()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_is_whole_in_itself(tmp_path: Path, nets) -> None:
    plain(tmp_path, 5)
    pair("blur/a&b<i>.png", "sharp/a&b<i>.png", error=30)
    run("pairs", tmp_path, nets, report="page")
    text = Path("page/index.html").read_text()
    read = _Page()
    read.feed(text)
    assert read.tags.count("figure") == 6  # best, median and worst of two nets
    assert read.tags.count("circle") == 12
    assert read.links
    assert all(link.startswith("data:image/") for link in read.links)
    assert "http" not in re.sub(r"data:image/[^\"]+", "", text)
    assert "<i>" not in text


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


def test_a_page_of_somebody_else_is_not_replaced(tmp_path: Path, nets, capsys) -> None:
    plain(tmp_path, 2)
    words = ("benchmark", "--dataset", "pairs", "--data", str(tmp_path), "--weights", nets[0], "--report", "page")
    Path("page").mkdir()
    Path("page/index.html").write_text("<title>my own site</title>")
    assert code_of(*words) == 2
    assert "there already" in capsys.readouterr().err
    assert "my own" in Path("page/index.html").read_text()
    assert code_of(*words, "--overwrite") == code_of(*words) == 0
    assert "deblur benchmark" in Path("page/index.html").read_text()


def test_the_page_shows_the_best_the_median_and_the_worst() -> None:
    def score(gain: float) -> scores.Score:
        both = {"before": {"psnr": 20.0}, "after": {"psnr": 20.0 + gain}}
        facts = {"kind": "", "weights": "w", "width": 1, "height": 1, "seconds": 1.0, "tile": (1, 1), "memory": None}
        return scores.Score(name=f"{gain}", **facts, **both)

    chosen = page.choose([score(gain) for gain in (0.5, -1, 3, 2, 1)])
    assert [(place, each.name) for place, each in chosen] == [("best", "3"), ("median", "1"), ("worst", "-1")]
    assert [place for place, _ in page.choose([score(1), score(2)])] == ["best", "worst"]
    assert len(page.choose([score(1)])) == 1


def test_infinite_gains_of_both_signs_leave_the_other_scores_alone() -> None:
    """A pair that is the same image, spoilt by the net, beside one that comes out as the sharp one is."""
    facts = {"kind": "", "weights": "w", "width": 1, "height": 1, "seconds": 1.0, "tile": (1, 1), "memory": None}
    sides = [({"psnr": math.inf}, {"psnr": 30.0}), ({"psnr": 30.0}, {"psnr": math.inf})]
    found = [scores.Score(name=str(index), before=one, after=two, **facts) for index, (one, two) in enumerate(sides)]
    (row,) = scores.rows(found)
    assert math.isnan(row.gain)
    assert (row.images, row.worse) == (2, 0.5)


def test_the_paper_stands_beside_the_measured_rows_and_is_marked(tmp_path: Path, nets, capsys) -> None:
    pair(*LAYOUTS["gopro"], error=8)
    words = ("benchmark", "--data", str(tmp_path), "--weights", nets[0], "--limit", "1", "--compare-paper")
    assert code_of(*words, "--output", "r.json") == 0
    shown = capsys.readouterr().out
    assert "2-D" in shown
    lines = [line for line in shown.splitlines() if "UNet+SP" in line]
    assert lines
    assert all("reported, arXiv 2302.06898" in line for line in lines)
    assert "31.06" in lines[0]
    assert "0.17" not in lines[0]  # the paper's seconds, read by another clock
    assert any("31.20" in line for line in shown.splitlines() if "DMPHN" in line)
    whole = json.loads(Path("r.json").read_text())
    assert len(whole["reported"]) == 17
    assert (whole["images"], whole["images of the set"]) == (1, 1111)


def photographs(folder: Path, count: int = 1) -> Path:
    chance = np.random.default_rng(5)
    for index in range(count):
        small = chance.integers(0, 256, (12, 13, 3), dtype=np.uint8)
        side = synthetic.SMALLEST
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((side + 9, side), Image.Resampling.BICUBIC).save(folder / f"p{index}.png")
    return folder


def test_photographs_are_blurred_the_same_on_every_run(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    once, again, other = (samples.of_photographs(folder, longest=0, seed=seed) for seed in (0, 0, 1))
    assert [each.kind for each in once] == list(synthetic.CLASSES)
    for one, two, three in zip(once, again, other, strict=True):
        blurred, sharp = one.read()
        assert blurred.shape == sharp.shape
        assert (blurred != sharp).any()
        assert all((a == b).all() for a, b in zip((blurred, sharp), two.read(), strict=True))
        assert (blurred != three.read()[0]).any()


def test_photographs_of_ones_own_are_scored_class_by_class(tmp_path: Path, nets) -> None:
    folder = photographs(tmp_path / "photos", 2)
    rows = {row.group: row for row in measured(run("synthetic", folder, nets[:1])).rows}
    assert {f"class {kind}" for kind in synthetic.CLASSES} <= set(rows)
    assert rows["class severe"].before["psnr"] < rows["class mild"].before["psnr"]
    picture(tmp_path / "small" / "a.png", np.zeros((50, 50, 3)))
    with pytest.raises(InputError, match="50 x 50"):
        run("synthetic", tmp_path / "small", nets[:1])


_LIBRARIES = {
    "none": "",
    "lpips": "class LPIPS:\n    def __init__(self, **more):\n        raise OSError('the network is away')\n",
}


@pytest.mark.parametrize("net", ["alex", "vgg"])
@pytest.mark.parametrize("library", _LIBRARIES)
def test_lpips_that_cannot_be_had_is_a_dash_and_a_sentence(
    tmp_path: Path, nets, monkeypatch, capsys, net: str, library: str
) -> None:
    if library == "none":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    else:
        (tmp_path / "lpips.py").write_text(_LIBRARIES[library])
        monkeypatch.delitem(sys.modules, "lpips", raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
    plain(tmp_path, 2)
    words = ("benchmark", "--dataset", "pairs", "--data", str(tmp_path), "--weights", nets[0], "--lpips", net)
    assert code_of(*words, "--output", "r.json") == 0
    out, err = capsys.readouterr()
    assert f"LPIPS ({net}) is left out" in err
    assert ("pip install lpips" if library == "none" else "the network is away") in err
    assert f"LPIPS {net}" in out
    assert re.search(r"\ball\b.* - ", out)
    # What was not measured is not said to have been: a run that can measure it must not go on from these scores.
    assert json.loads(Path("r.json").read_text())["settings"]["lpips"] == "none"


@pytest.mark.parametrize("dataset", ["realblur-j", "realblur-r"])
def test_a_result_that_could_not_be_aligned_is_counted(tmp_path: Path, nets, dataset: str) -> None:
    pair(*LAYOUTS[dataset], error=8)
    picture(LAYOUTS[dataset][0], np.zeros((SIZE[1], SIZE[0], 3)))
    row = measured(run(dataset, tmp_path, nets[:1], limit=1)).rows[0]
    assert row.unaligned == 1
    assert math.isfinite(row.after["psnr"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dataset": "kodak"}, "--dataset kodak"),
        ({"protocol": "ours"}, "--protocol ours"),
        ({"dataset": "synthetic"}, "needs sharp photographs"),
        ({"dataset": "blurred"}, "needs blurred photographs"),
        ({"dataset": "blurred", "data": "x", "protocol": "gopro"}, "--protocol gopro does not fit"),
        ({"dataset": "pairs", "protocol": "blind"}, "--protocol blind does not fit"),
        ({"dataset": "blurred", "data": "x", "lpips": "vgg"}, "--lpips needs sharp images"),
        ({"ablation": "x", "weights": ("a",)}, "--ablation brings its own weights"),
        ({"dataset": "reds", "compare_paper": True}, "reports nothing of --dataset reds"),
        ({"output": ("r.txt",)}, "--output r.txt"),
        ({"output": ("a.json", "b.json")}, "two files of one kind"),
        ({"resume": True}, "--resume"),
        ({"output": ("a.json",), "resume": True, "overwrite": True}, "exclude"),
        ({"limit": 0}, "--limit 0"),
        ({"size": "1280"}, "--size 1280"),
        ({"size": "0x10"}, "--size 0x10"),
        ({"weights": ("a", "a")}, "twice"),
        ({"speed_only": True, "report": "x"}, "--report means nothing"),
        ({"peers": False}, "--no-peers means nothing without --speed-only"),
        ({"device": "tpu"}, "--device tpu"),
        ({"dataset": "hide", "download": True}, "--download"),
    ],
)
def test_words_that_do_not_fit_are_refused(more: dict, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        BenchmarkOptions(**more)


def test_a_protocol_brings_its_blur() -> None:
    assert BenchmarkOptions().blur == "blur"
    assert BenchmarkOptions(protocol="nah").blur == "blur_gamma"
    assert BenchmarkOptions(protocol="nah", blur_key="blur").blur == "blur"
    assert BenchmarkOptions(dataset="realblur-r").measured_by == "realblur"
    assert BenchmarkOptions(dataset="realblur-r", protocol="gopro").measured_by == "gopro"


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
