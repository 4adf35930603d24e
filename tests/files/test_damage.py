"""A JPEG that is damaged in the middle is told, and one that is whole is not, whatever it shows."""

from dataclasses import fields
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from deblur_cli.batch.events import Outcome
from deblur_cli.cli.report import Report
from deblur_cli.cli.show import Screen
from deblur_cli.errors import InputError
from deblur_cli.files import large, photo
from deblur_cli.files.scratch import Scratch
from deblur_cli.options.deblur import DeblurOptions

DICE = np.random.default_rng(0)
SCENE = np.asarray(
    Image.fromarray(DICE.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize((301, 203), Image.Resampling.BICUBIC)
)
KINDS = {
    "4:2:0": {"quality": 90},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "own tables": {"quality": 85, "optimize": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
}


def jpeg(pixels=SCENE, **options) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def is_told(data: bytes) -> bool:
    """Whether a photo is called damaged, or refused."""
    try:
        return photo.read(data).damaged
    except InputError:
        return True


def begin(data: bytes) -> int:
    """Where the compressed data begin."""
    at = data.rindex(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def test_most_bytes_that_were_overwritten_at_random_are_told():
    told = 0
    for kind in KINDS.values():
        data = jpeg(**kind)
        for place in np.linspace(begin(data), len(data) - 600, 10).astype(int):
            told += is_told(data[:place] + DICE.bytes(512) + data[place + 512 :])
    assert told >= 30  # of 40: two markers are to be expected in 512 bytes, and none in every seventh such run


def test_a_lost_restart_is_told_by_its_marker_alone(tmp_path, monkeypatch):
    data = jpeg(**KINDS["restarts"])
    lost = data.replace(b"\xff\xd3", b"\x10\x10", 1)
    assert photo.read(lost).damaged
    (tmp_path / "a.jpg").write_bytes(lost)
    (tmp_path / "b.jpg").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    with Scratch(tmp_path) as room:
        assert [large.read(tmp_path / name, room).damaged for name in ("a.jpg", "b.jpg")] == [True, False]


def test_a_marker_that_cannot_be_there_is_told():
    for more in ({}, {"progressive": True}):
        data = jpeg(quality=90, **more)
        middle = data.index(b"\xff\xda") + (200 if more else 3000)
        assert photo.read(data[:middle] + b"\xff\xd1" + data[middle + 2 :]).damaged


@pytest.mark.parametrize("sort", [*KINDS, "progressive"])
def test_no_whole_photo_is_called_damaged(sort):
    options = KINDS.get(sort, {"progressive": True})
    pictures = [np.full((70, 90, 3), value, np.uint8) for value in (0, 128, 255)]
    pictures += [SCENE[:height, :width] for height, width in ((1, 1), (7, 301), (203, 8), (17, 33), (203, 301))]
    ramp = np.broadcast_to(np.linspace(0, 255, 38).astype(np.uint8)[None, :, None], (35, 38, 3))
    sky = SCENE.copy()
    sky[100:] = 255
    for picture in (*pictures, ramp, sky, SCENE[..., 0]):
        for tail in (b"", b"\xff\xd8 another picture behind the first \xff\xd9", bytes(100)):
            assert not photo.read(jpeg(np.ascontiguousarray(picture), **options) + tail).damaged


def test_bytes_that_fill_a_file_up_are_no_damage():
    data = jpeg(quality=90)
    for filler in (bytes(64), b"\xff" * 64):
        assert not photo.read(data[:-2] + filler + data[-2:]).damaged


@pytest.mark.parametrize("quiet", [False, True])
def test_damage_is_one_line_and_one_word_of_json(quiet, capsys):
    options = DeblurOptions(inputs=("a.jpg",), quiet=quiet, json=True)
    told = Outcome(input="a.jpg", output="b.jpg", status="restored", width=3, height=2, seconds=0.25, damaged=True)
    with Screen(quiet=quiet) as screen:
        report = Report(options, screen)
        report.tell(told)
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if "damaged" in line] == [
        "deblur: 'a.jpg' is a damaged JPEG: parts of it are gray or out of place."
    ]
    assert '"damaged": true' in said.out
    assert report.exit_code == 0
    assert not next(each for each in fields(Outcome) if each.name == "damaged").default
