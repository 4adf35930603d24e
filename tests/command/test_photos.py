"""Real photos through the real command, with a net so small that it is quick and a checkpoint like any other."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_command import code_of, draw, names_in, size_of, torn, tree

from deblur_cli.commands import deblur
from deblur_cli.files import photo


def test_a_photo_is_restored_beside_itself_and_stays_as_it_was(weights, capsys):
    before = draw("photo.jpg").read_bytes()
    assert code_of("photo.jpg", "--weights", weights) == 0
    assert tree() == ["photo-sharp.jpg", "photo.jpg"]
    assert Path("photo.jpg").read_bytes() == before
    assert size_of("photo-sharp.jpg") == (40, 24)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("photo.jpg -> photo-sharp.jpg  40 x 24  ")


def test_no_strength_gives_the_photo_back_bit_for_bit_and_full_strength_does_not(weights):
    original = photo.read(draw("a.png")).pixels
    assert code_of("a.png", "-o", "none.png", "--strength", "0", "--weights", weights) == 0
    assert code_of("deblur", "a.png", "-o", "full.png", "--weights", weights) == 0
    assert np.array_equal(photo.read(Path("none.png")).pixels, original)
    assert not np.array_equal(photo.read(Path("full.png")).pixels, original)


def test_what_belongs_to_the_photo_reaches_the_result(weights):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    picture = Image.open(draw("plain.png"))
    picture.putalpha(77)
    picture.save("turned.png", exif=exif, dpi=(300, 300))
    assert code_of("turned.png", "-o", "sharp.tif", "--weights", weights) == 0
    result = photo.read(Path("sharp.tif"))
    assert result.pixels.shape == (40, 24, 3)
    assert result.alpha is not None
    assert (result.alpha == 77).all()
    with Image.open("sharp.tif") as reread:
        assert reread.getexif()[0x010F].strip("\0") == "Maker"
        assert reread.getexif().get(0x0112, 1) == 1


def test_a_folder_is_mirrored_and_what_is_no_photo_is_counted(weights, capsys):
    draw("in/a.jpg"), draw("in/x/b.png"), draw("in/y/b.png")
    Path("in/notes.txt").write_text("no photo")
    Path("in/Thumbs.db").touch()
    assert code_of("in", "-r", "-o", "out/", "--weights", weights) == 0
    assert [each for each in tree() if each.startswith("out")] == ["out/a.jpg", "out/x/b.png", "out/y/b.png"]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "3 photos; 1 other file ignored"
    assert said[-1] == "3 restored"


def test_one_bad_photo_does_not_stop_the_rest(weights, capsys):
    draw("a.png"), torn("b.png"), draw("c.png")
    assert code_of("a.png", "b.png", "missing.png", "c.png", "-o", "out/", "--json", "--weights", weights) == 6
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [each["status"] for each in rows] == ["restored", "failed", "failed", "restored"]
    assert [each["exit_code"] for each in rows] == [0, 3, 3, 0]
    assert names_in("out") == ["a.png", "c.png"]
    assert "b.png" in rows[1]["error"]
    assert "Traceback" not in said.err
    assert "deblur: 'missing.png' does not exist." in said.err
    assert said.err.splitlines()[-1] == "2 restored, 2 failed"


@pytest.mark.parametrize("photos", [["b.png"], ["b.png", "c.png"]])
def test_where_no_photo_could_be_restored_the_code_is_that_of_the_failure_and_nothing_is_left(photos, weights, capsys):
    for each in photos:
        torn(each)
    assert code_of(*photos, "-o", "new/folder/", "--compare", "--weights", weights) == 3
    assert tree() == photos
    assert not Path("new").exists()
    assert capsys.readouterr().err.count("deblur: ") == len(photos)


def test_what_the_format_cannot_hold_is_told_before_the_net_is_loaded(capsys):
    Image.new("RGBA", (40, 24)).save("a.png")
    assert code_of("a.png", "-o", "a.jpg", "--compare", "--weights", "nowhere.safetensors") == 2
    assert "'a.jpg' cannot be a JPEG: the photo has transparent parts" in capsys.readouterr().err
    assert tree() == ["a.png"]


@pytest.mark.parametrize("words", [[], ["--max-memory", "64G"]])
@pytest.mark.parametrize(("name", "size"), [("a.webp", (8200, 8)), ("a.jpg", (32700, 8))])
def test_a_photo_too_wide_to_stand_beside_its_result_is_told_before_the_net_works(name, size, words, weights, capsys):
    draw(name, size)
    assert code_of(name, "-o", "out/", "--compare", "--weights", weights, *words) == 2
    said = capsys.readouterr().err
    compare = Path("out", name).with_stem("a-compare")
    assert f"'{compare}' cannot be a" in said
    assert f"before and after are {2 * size[0] + size[0] // 200} x 8 pixels" in said
    assert "Leave out --compare, or have PNGs written" in said
    assert tree() == [name]


def test_what_is_too_wide_for_a_before_and_after_picture_needs_no_net_to_be_told(capsys):
    draw("a.webp", (8200, 8))
    assert code_of("a.webp", "-o", "b.png", "--compare", "--weights", "nowhere.safetensors") == 4
    assert code_of("a.webp", "-o", "b.webp", "--compare", "--weights", "nowhere.safetensors") == 2
    assert "'b-compare.webp' cannot be a WebP" in capsys.readouterr().err


def test_debug_shows_the_traceback_of_a_photo_that_failed(weights, monkeypatch, capsys):
    torn("a.png"), draw("b.png")
    monkeypatch.setenv("DEBLUR_DEBUG", "1")
    assert code_of("a.png", "b.png", "--json", "--weights", weights) == 6
    said = capsys.readouterr()
    assert "in _walk" in said.err
    assert said.err.index("Traceback") < said.err.index("deblur: 'a.png' is a truncated PNG")
    assert [json.loads(line)["status"] for line in said.out.splitlines()] == ["failed", "restored"]


@pytest.mark.parametrize("bad", ["empty.jpg", "text.jpg", "huge.png"])
def test_odd_files_get_a_sentence_and_leave_nothing_behind(bad, weights, capsys):
    header = draw("p.png").read_bytes()
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("this is text\n")
    Path("huge.png").write_bytes(header[:16] + (100_000).to_bytes(4, "big") * 2 + header[24:])
    before = tree()
    assert code_of(bad, "--weights", weights) == 3
    assert tree() == before
    said = capsys.readouterr().err
    assert bad in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["Frühling 東京 🌸.jpg", "two  words.jpg", "new\nline.jpg", "a[1].jpg", "train"])
def test_names_of_every_kind_work(name, weights, capsys):
    draw("in/photo.jpg").rename(f"in/{name}")
    assert code_of(f"./in/{name}", "-o", "out/", "--weights", weights, "--json") == 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    row = json.loads(said.out)
    assert row["input"] == f"in/{name}"
    assert size_of(row["output"]) == (40, 24)


def test_a_name_that_the_terminal_cannot_spell_is_spelt_by_its_numbers(weights, monkeypatch):
    draw("東.jpg")
    with Path("said").open("w", encoding="latin-1") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert code_of("東.jpg", "--dry-run", "--weights", weights) == 0
    assert Path("said").read_text() == "\\u6771.jpg -> \\u6771-sharp.jpg  40 x 24\n"


def test_json_is_one_row_per_photo_with_everything_a_script_asks_for(weights, capsys):
    draw("in/a.jpg"), draw("in/b.jpg", (70, 50))
    words = ("in", "-o", "out", "--json", "--device", "cpu", "--precision", "fp32", "--weights", weights)
    assert code_of(*words) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    keys = "input output status compare width height seconds device precision tile weights damaged notices error hint exit_code"
    assert [" ".join(each) for each in rows] == [keys] * 2
    assert (rows[1]["width"], rows[1]["height"], rows[1]["input"], rows[1]["output"]) == (
        70,
        50,
        "in/b.jpg",
        "out/b.jpg",
    )
    assert rows[1]["tile"] == [72, 52]
    assert rows[1]["seconds"] > 0
    assert (rows[1]["device"], rows[1]["precision"], rows[1]["weights"]) == ("cpu", "fp32", weights)
    assert (rows[1]["error"], rows[1]["exit_code"]) == (None, 0)


def test_a_photo_that_is_damaged_in_the_middle_is_restored_and_said_to_be(weights, capsys):
    data = draw("a.jpg", (96, 96)).read_bytes()
    Path("a.jpg").write_bytes(data[:-40] + b"\xff\xd1" + data[-38:])
    assert code_of("a.jpg", "--json", "--weights", weights) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["damaged"] is True
    assert "'a.jpg' is a damaged JPEG" in said.err
    assert Path("a-sharp.jpg").is_file()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(weights, capsys):
    draw("in/a.jpg"), torn("in/b.png"), draw("in/c.jpg")
    Path("in/d.jpg").write_text("text")
    before = tree()
    assert code_of("in", "-o", "out/", "--dry-run", "--weights", weights) == 6
    said = capsys.readouterr()
    assert tree() == before
    assert not Path("out").exists()
    assert said.out.splitlines()[0] == "in/a.jpg -> out/a.jpg  40 x 24"
    assert "in/d.jpg" in said.err
    assert code_of("in/a.jpg", "--dry-run", "--json", "--weights", weights) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["status"], row["output"], row["width"]) == ("planned", "in/a-sharp.jpg", 40)


def test_compare_shows_the_blurred_photo_left_and_the_restored_one_right(weights):
    blurred = photo.read(draw("a.png")).pixels
    assert code_of("a.png", "--compare", "--weights", weights) == 0
    assert tree() == ["a-sharp-compare.png", "a-sharp.png", "a.png"]
    both = photo.read(Path("a-sharp-compare.png")).pixels
    assert np.array_equal(both[:, :40], blurred)
    assert np.array_equal(both[:, -40:], photo.read(Path("a-sharp.png")).pixels)
    assert (both[:, 40:-40] == 255).all()


def test_an_existing_result_is_refused_skipped_or_replaced_as_was_said(weights, capsys):
    draw("a.jpg"), draw("b.jpg")
    Path("a-sharp.jpg").write_text("precious")
    assert code_of("a.jpg", "b.jpg", "--weights", weights) == 2
    assert tree() == ["a-sharp.jpg", "a.jpg", "b.jpg"]
    assert capsys.readouterr().err.startswith("deblur: 'a-sharp.jpg' is there already.\n")
    assert code_of("a.jpg", "b.jpg", "--skip-existing", "--weights", weights) == 0
    assert Path("a-sharp.jpg").read_text() == "precious"
    assert "1 restored, 1 skipped" in capsys.readouterr().err
    assert code_of("a.jpg", "b.jpg", "--overwrite", "--weights", weights) == 0
    assert size_of("a-sharp.jpg") == (40, 24)


def test_what_is_no_photo_is_told_without_waiting_for_a_net(capsys):
    Path("a.jpg").write_text("text")
    assert code_of("a.jpg", "--weights", "nowhere.safetensors") == 3
    assert capsys.readouterr().err.startswith("deblur: 'a.jpg' is text")


def test_a_batch_that_is_done_needs_no_weights_to_skip_it():
    draw("a.jpg"), draw("a-sharp.jpg")
    assert code_of("a.jpg", "--skip-existing", "--weights", "nowhere.safetensors") == 0


def test_quiet_says_nothing_and_verbose_says_which_net_works_where(weights, capsys):
    draw("a.jpg")
    assert code_of("a.jpg", "-o", "1.jpg", "-q", "--weights", weights) == 0
    assert capsys.readouterr() == ("", "")
    assert code_of("a.jpg", "-o", "2.jpg", "-v", "--device", "cpu", "--precision", "fp32", "--weights", weights) == 0
    said = capsys.readouterr().err
    assert "(unet) on cpu in fp32" in said
    assert "tiles of 40 x 24" in said


@pytest.mark.parametrize(
    ("words", "code"), [(["--weights", "nowhere.safetensors"], 4), (["--device", "cuda:99"], 5), (["-o", "."], 2)]
)
def test_each_kind_of_failure_has_its_own_code(words, code, weights, capsys):
    draw("a.jpg")
    assert code_of("a.jpg", "--weights", weights, *words) == code
    assert capsys.readouterr().err.startswith("deblur: ")
    assert tree() == ["a.jpg"]


def test_an_outcome_is_a_line_for_people_and_a_row_for_programs():
    outcome = deblur.Outcome(input="a.jpg", output="b.jpg", status="restored", width=3, height=2, seconds=0.25)
    assert str(outcome) == "a.jpg -> b.jpg  3 x 2  0.2 s"
    failed = replace(outcome, status="failed", error="The device is out of memory.")
    assert str(failed) == "'a.jpg': The device is out of memory."
    assert str(replace(failed, error="'a.jpg' is torn.")) == "'a.jpg' is torn."
