"""Standard input and output of the command: pipes, readers that go away, full disks and terminals."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from small_command import DEADLINE, ENVIRONMENT, code_of, draw, size_of


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--dry-run"], {"torch", "torchvision", "timm", "cv2", "tifffile"}),
        ([], {"torchvision", "timm", "cv2", "tifffile", "huggingface_hub", "rich"}),
    ],
)
def test_a_jpeg_goes_through_a_pipe_without_libraries_that_it_does_not_need(words, absent, weights):
    program = f"""
import sys
from deblur_cli.cli import main
try:
    main({["-", "--weights", weights, *words]!r})
finally:
    print("loaded:", *sorted({absent!r} & set(sys.modules)), file=sys.stderr)
"""
    blurred = draw("a.jpg").read_bytes()
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=blurred, capture_output=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == b"loaded:"
    if words:
        assert done.stdout == b"- -> -  40 x 24\n"
    else:
        with Image.open(BytesIO(done.stdout)) as result:
            assert (result.format, result.size) == ("JPEG", (40, 24))


@pytest.mark.parametrize(("words", "form"), [([], "JPEG"), (["-o", "-", "--format", "png"], "PNG")])
def test_standard_input_goes_to_standard_output_as_nothing_but_a_photo(words, form, weights, monkeypatch, capfdbinary):
    draw("a.jpg")
    with Path("a.jpg").open() as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert code_of("-", *words, "--weights", weights) == 0
    with Image.open(BytesIO(capfdbinary.readouterr().out)) as result:
        assert (result.format, result.size) == (form, (40, 24))


def test_rubbish_on_standard_input_gives_nothing_and_is_told(weights, monkeypatch, capfdbinary):
    Path("rubbish").write_bytes(b"not a photo")
    with Path("rubbish").open() as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert code_of("-", "--weights", weights) == 3
    said = capfdbinary.readouterr()
    assert said.out == b""
    assert said.err.startswith(b"deblur: 'standard input' is ")


@pytest.mark.parametrize("words", [["in", "-o", "out", "--json"], ["in/0.jpg", "-o", "-"]])
def test_a_reader_that_goes_away_ends_the_command_quietly(words, weights, monkeypatch, capfd):
    for index in range(3):
        draw(f"in/{index}.jpg")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        assert code_of(*words, "-q", "--weights", weights) == 141
    assert capfd.readouterr().err == ""
    assert all(size_of(each) == (40, 24) for each in Path().glob("out/*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize("words", [["in", "-o", "out", "--json"], ["in/0.jpg", "-o", "-"]])
def test_a_full_disk_behind_standard_output_is_told_in_a_sentence(words, weights, monkeypatch, capfd):
    draw("in/0.jpg"), draw("in/1.jpg")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert code_of(*words, "-q", "--weights", weights) == 3
    said = capfd.readouterr().err
    assert said.startswith("deblur: ")
    assert "Standard output cannot be written: No space left on device." in said
    assert len(said.splitlines()) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("name", "words", "result"),
    [
        ("pipe.jpg", ["-o", "out/"], "out/pipe.jpg"),
        ("pipe.jpg", ["-o", "out/", "--max-memory", "64G"], "out/pipe.jpg"),
        ("pipe", ["-o", "out/", "--format", "png"], "out/pipe.png"),
        ("pipe", ["-o", "b.png", "--max-memory", "64G"], "b.png"),
        ("pipe.jpg", ["--dry-run"], None),
    ],
)
def test_a_pipe_that_has_a_name_is_read_once_and_whole(name, words, result, weights, capfd):
    content = draw("a.jpg").read_bytes()
    os.mkfifo(name)
    with ThreadPoolExecutor(1) as hand:
        hand.submit(Path(name).write_bytes, content)
        assert code_of(name, *words, "--weights", weights) == 0
    said = capfd.readouterr()
    if result is None:
        assert said.out == "pipe.jpg -> pipe-sharp.jpg  40 x 24\n"
    else:
        assert size_of(result) == (40, 24)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_with_no_ending_is_not_looked_into_for_one(capfd):
    os.mkfifo("pipe")
    assert code_of("pipe", "-o", "out/") == 2
    assert capfd.readouterr().err == (
        "deblur: 'pipe' is a pipe: nothing tells the format of its result.\nSay -o FILE, or --format.\n"
    )


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
@pytest.mark.parametrize("words", [["a.jpg", "-o", "-"], ["-"]])
def test_no_image_bytes_reach_a_terminal(words, weights, monkeypatch, capfd):
    draw("a.jpg")
    control, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stdout, Path("a.jpg").open() as stdin:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stdin", stdin)
        assert code_of(*words, "--weights", weights) == 2
    os.close(control)
    assert capfd.readouterr().err.startswith("deblur: Standard output is a terminal")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_bar_of_photos_and_tiles_is_shown_on_a_terminal(weights, monkeypatch, capfd):
    draw("in/a.jpg", (200, 200)), draw("in/b.jpg", (200, 200))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    control, terminal = os.openpty()
    with ThreadPoolExecutor(1) as eyes, os.fdopen(terminal, "w") as stderr:
        seeing = eyes.submit(_all_of, control)
        monkeypatch.setattr(sys, "stderr", stderr)
        words = ("in", "-o", "out", "--tile", "128", "--overlap", "32", "--weights", weights)
        assert code_of(*words) == 0
        stderr.close()
        seen = seeing.result(DEADLINE)
    os.close(control)
    assert capfd.readouterr().out == ""
    assert b"photos" in seen
    assert b"tiles" in seen
    assert b"in/a.jpg -> out/a.jpg" in seen


def _all_of(control: int) -> bytes:
    """What a terminal is told until the other end is closed."""
    seen = b""
    try:
        while piece := os.read(control, 4096):
            seen += piece
    except OSError:  # how Linux says that it is closed
        pass
    return seen
