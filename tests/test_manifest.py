"""A manifest: what is done is skipped, what changed is done again, whatever ended the run before; and what it left is swept."""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from deblur_cli.commands import deblur
from deblur_cli.errors import InputError, UsageError
from deblur_cli.files import disk
from deblur_cli.files.manifest import Pen
from deblur_cli.files.routes import Naming, plan
from deblur_cli.options.deblur import DeblurOptions

WORDS = {"weights": "ab" * 32, "options": {"strength": 1.0, "tile": None}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pen(path: str = "done.jsonl", **words) -> Pen:
    return Pen(path=Path(path), **(WORDS | words))


def photos(*names: str) -> None:
    for name in names:
        path = Path("in", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo " + os.fsencode(name))


def left(by: Pen, **naming) -> list[str]:
    """The photos that are still to be done."""
    routes = plan(["in"], Naming(output="out", **naming), pen=by).routes
    return [each.source.name for each in routes if not each.finished]


def do(by: Pen, *names: str, result: bytes = b"result", **naming) -> None:
    """Restore the photos, as far as files go."""
    for each in plan(["in"], Naming(output="out", **naming), pen=by).routes:
        if each.source.name in names or not names:
            state = each.source.stat()
            each.target.parent.mkdir(exist_ok=True)
            disk.write(
                each.target,
                result,
                sealed=lambda after, each=each, state=state: by.write(
                    each.source, each.target, each.compare, photo=state, result=after
                ),
            )


def touch(path: str) -> None:
    """Change the time of a file, which a clock of coarse steps might not."""
    state = Path(path).stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))


def test_what_is_done_is_skipped_and_has_a_line():
    photos("a.png", "b.png")
    assert left(pen()) == ["a.png", "b.png"]
    do(pen(), "a.png")
    assert left(pen()) == ["b.png"]
    row = json.loads(Path("done.jsonl").read_text())
    assert " ".join(row) == (
        "input input_size input_mtime_ns output output_size output_mtime_ns compare weights options"
    )
    assert (row["input"], row["output_size"], row["weights"]) == (str(Path("in/a.png").absolute()), 6, "ab" * 32)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "cd" * 32},
        {"options": {"strength": 0.5, "tile": None}},
        {"options": {"strength": 1.0, "tile": None, "more": 1}},
    ],
)
def test_other_weights_or_options_do_all_again_and_going_back_does_so_too(change):
    photos("a.png")
    do(pen())
    assert left(pen(**change)) == ["a.png"]
    do(pen(**change), result=b"another result")
    assert left(pen(**change)) == []
    assert left(pen()) == ["a.png"]


def test_other_contents_of_a_folder_of_weights_are_other_weights():
    Path("net").mkdir()
    options = DeblurOptions(inputs=("in",), weights="net", manifest="done.jsonl")
    seen = set()
    for content in (b"one", b"two"):
        Path("net/encoder_lv1.pkl").write_bytes(content)
        seen |= {deblur._pen(options, None).weights for _ in range(2)}
    assert len(seen) == 2


def test_a_photo_that_changed_is_done_again_and_its_result_may_be_replaced():
    photos("a.png", "b.png")
    do(pen())
    touch("in/a.png")
    assert left(pen()) == ["a.png"]
    do(pen(), result=b"another result")
    assert left(pen()) == []


def test_a_result_that_somebody_changed_is_nobodys_to_replace():
    photos("a.png", "b.png")
    do(pen())
    Path("out/a.png").write_bytes(b"retouched by hand")
    with pytest.raises(UsageError, match=r"'out/a.png' is there already"):
        left(pen())
    assert left(pen(), skip_existing=True) == []
    assert left(pen(), overwrite=True) == ["a.png"]


def test_a_result_that_was_taken_away_is_made_again():
    photos("a.png", "b.png")
    do(pen())
    Path("out/a.png").unlink()
    assert left(pen()) == ["a.png"]


def test_a_result_without_a_line_is_refused_skipped_or_replaced_as_was_said():
    photos("a.png", "b.png")
    do(pen(), "a.png")
    Path("out/b.png").write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"'out/b.png' is there already"):
        left(pen())
    assert left(pen(), skip_existing=True) == []
    assert left(pen(), overwrite=True) == ["b.png"]


def test_a_kill_between_the_line_and_the_result_loses_nothing_and_refuses_nothing():
    photos("a.png")
    route = plan(["in"], Naming(output="out", compare=True)).routes[0]
    state = route.source.stat()
    Path("out").mkdir()

    class Killed(BaseException):
        pass

    def sealed(after):
        pen().write(route.source, route.target, route.compare, photo=state, result=after)
        route.compare.write_bytes(b"before and after")
        raise Killed

    for before in (None, b"an earlier result"):
        if before:
            do(pen(), result=before, compare=True)
        with pytest.raises(Killed):
            disk.write(route.target, b"result", sealed=sealed)
        assert left(pen(), compare=True) == ["a.png"]
    assert left(pen(), compare=False) == ["a.png"]


def test_a_before_and_after_picture_belongs_to_what_is_done():
    photos("a.png")
    do(pen(), compare=True)
    assert left(pen(), compare=True) == ["a.png"]
    Path("out/a-compare.png").touch()
    assert left(pen(), compare=True) == []


@pytest.mark.parametrize("cut", [1, 5, 9, 10, 60, 200, -2, -1])
def test_a_line_that_was_cut_off_spoils_no_other(cut):
    photos("a.png", "b.png", "c.png")
    do(pen())
    lines = Path("done.jsonl").read_bytes().splitlines(keepends=True)
    Path("done.jsonl").write_bytes(lines[0] + lines[1][:cut] + lines[2])
    Path("out/b.png").unlink()
    assert left(pen()) == ["b.png"]


@pytest.mark.parametrize("line", [b"[]", b"null", b'{"input": 1}', b"\xff\xfe", b'{"input": "x", "output": [1]}', b""])
def test_lines_of_something_else_are_passed_over(line):
    photos("a.png")
    do(pen())
    with Path("done.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert left(pen()) == []


@pytest.mark.parametrize("name", ['a"},{"input": "x.png', "Frühling 東京.png", "new\nline.png", "\udcff.png"])
def test_names_of_every_kind_are_found_again(name):
    try:
        photos(name.replace("/", ""))
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such name")
    do(pen())
    assert left(pen()) == []
    assert Path("done.jsonl").read_bytes().count(b"\n") == 1


def test_processes_that_share_a_file_lose_no_line():
    photos(*(f"{index}.png" for index in range(200)))
    Path("out").mkdir()
    program = f"""
import sys
from pathlib import Path
from deblur_cli.files.manifest import Pen
for index in range(int(sys.argv[1]), 200, 4):
    source, target = Path(f"in/{{index}}.png"), Path(f"out/{{index}}.png")
    target.touch()
    Pen(path=Path("done.jsonl"), **{WORDS!r}).write(source, target, None, photo=source.stat(), result=target.stat())
"""
    environment = os.environ | {"PYTHONPATH": str(Path(disk.__file__).parents[2])}
    writers = [subprocess.Popen([sys.executable, "-c", program, str(share)], env=environment) for share in range(4)]
    assert [each.wait(60) for each in writers] == [0] * 4
    assert left(pen()) == []


def test_processes_that_share_a_folder_have_a_file_each():
    photos("a.png", "b.png")
    shared = pen("done", folder=True)
    shared.open()
    do(shared, "a.png")
    (mine,) = Path("done").iterdir()
    mine.rename("done/another-machine-17.jsonl")
    do(shared, "b.png")
    assert len(list(Path("done").iterdir())) == 2
    assert left(shared) == []


@pytest.mark.parametrize("path", ["nowhere/done.jsonl", "file/done.jsonl", "folder"])
def test_a_manifest_that_cannot_be_written_is_told_before_the_work(path):
    Path("file").touch()
    Path("folder").mkdir()
    with pytest.raises(InputError, match=f"The manifest '{path}' cannot be written"):
        pen(path).open()


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 JFIF", b"my shopping\n", b'{"other": 1}\n'])
def test_a_file_of_something_else_is_no_manifest_and_stays_as_it_is(content):
    Path("a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"'a\.jpg' is no manifest"):
        pen("a.jpg").open()
    assert Path("a.jpg").read_bytes() == content


@pytest.mark.parametrize("cut", [0, 5, 20])
def test_a_manifest_whose_only_line_was_cut_off_is_one(cut):
    photos("a.png")
    do(pen())
    Path("done.jsonl").write_bytes(Path("done.jsonl").read_bytes()[:cut])
    pen().open()
    do(pen(), overwrite=True)
    pen().open()


def test_a_result_whose_line_cannot_be_written_is_not_put_in_its_place(monkeypatch):
    photos("a.png")
    monkeypatch.setattr(os, "write", lambda file, line: len(line) // 2)  # as on a disk that is full
    with pytest.raises(InputError, match="the disk is full"):
        do(pen())
    assert list(Path("out").iterdir()) == []


# What a killed process leaves


def part(host: str, process: int, *, days: float = 0) -> Path:
    path = Path(f".deblur-{host}{process}-0123abcd.part")
    path.touch()
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait(60)
    return process.pid


def test_what_a_dead_process_left_goes_and_what_a_living_one_writes_stays():
    own = f"{disk._host()}-"
    gone = [part(own, dead()), part(own, os.getpid(), days=2), part("0123cdef-", dead(), days=2), part("", 1, days=2)]
    stays = [part(own, os.getppid()), part("0123cdef-", dead()), part("", dead())]
    others = [Path(".deblur-1-0123abcd.part.txt"), Path("x.deblur-1-0123abcd.part"), Path("photo.png")]
    for each in others:
        each.touch()
    assert disk.sweep(Path()) == len(gone)
    assert sorted(Path().iterdir()) == sorted([*stays, *others])
    assert disk.sweep(Path("nowhere")) == 0


def test_a_part_that_is_being_written_has_a_name_that_is_known(monkeypatch):
    seen = []
    disk.write(Path("a"), b"x", sealed=lambda state: seen.append(([*Path().iterdir()], state.st_size)))
    ((name,), size), *_ = seen
    assert disk._PART.fullmatch(name.name)
    assert size == 1
    assert [*Path().iterdir()] == [Path("a")]


def test_the_size_and_time_that_were_told_are_those_of_the_file_in_its_place():
    told = []
    for _ in range(2):
        disk.write(Path("a"), b"x", sealed=told.append)
    after = Path("a").stat()
    assert (told[1].st_size, told[1].st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert all(first.st_ino != second.st_ino for first, second in pairwise(told))
