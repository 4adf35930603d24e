"""What is scored: data sets in their true layouts, groups of their images, photographs of one's own."""

import importlib.util
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from small_benchmark import LAYOUTS, SIZE, code_of, measured, pair, photographs, picture, plain, run

from deblur_cli.errors import InputError
from deblur_cli.scorer import samples, scores, synthetic


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


def test_infinite_gains_of_both_signs_leave_the_other_scores_alone() -> None:
    """A pair that is the same image, spoilt by the net, beside one that comes out as the sharp one is."""
    facts = {"kind": "", "weights": "w", "width": 1, "height": 1, "seconds": 1.0, "tile": (1, 1), "memory": None}
    sides = [({"psnr": math.inf}, {"psnr": 30.0}), ({"psnr": 30.0}, {"psnr": math.inf})]
    found = [scores.Score(name=str(index), before=one, after=two, **facts) for index, (one, two) in enumerate(sides)]
    (row,) = scores.rows(found)
    assert math.isnan(row.gain)
    assert (row.images, row.worse) == (2, 0.5)


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
