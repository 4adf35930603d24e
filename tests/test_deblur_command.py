"""Real photos through the real command, with a net so small that it is quick and a checkpoint like any other."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.cli import main
from deblur_cli.commands import deblur
from deblur_cli.files import photo
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.deblur import DeblurOptions

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "DEBLUR_DEBUG"} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(deblur.__file__).parents[2]),
}
DEADLINE = 60  # seconds after which a test gives up waiting


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """The path of a checkpoint that changes photos visibly."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
    label = Label(
        net="unet", config=to_mapping(net.config), made_with="a test", licence="Apache-2.0", trained_on="nothing"
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(Checkpoint(label=label, tensors=net.state_dict()), path)
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Photos this small are not worth two, which would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(name: str, size: tuple[int, int] = (40, 24), seed: int = 0) -> Path:
    """A picture of that name, with something to see in it."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def torn(name: str) -> Path:
    path = draw(name)
    path.write_bytes(path.read_bytes()[:200])
    return path


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def until(happened) -> bool:
    """Whether it happened before the deadline."""
    end = time.monotonic() + DEADLINE
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def tree() -> list[str]:
    return sorted(each.as_posix() for each in Path().rglob("*") if each.is_file())


def names_in(folder: str) -> list[str]:
    return sorted(each.name for each in Path(folder).iterdir())


def size_of(path: str | Path) -> tuple[int, int]:
    height, width = photo.read(Path(path)).pixels.shape[:2]
    return width, height


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
    keys = "input output status compare width height seconds device precision tile weights error hint exit_code"
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_the_next_photo_is_read_and_the_last_one_written_while_the_net_works(weights):
    options = DeblurOptions(inputs=("1.png", "2.png", "3.png"), output="out/", weights=weights)
    content = draw("1.png").read_bytes()
    os.mkfifo("2.png")
    os.mkfifo("3.png")
    seen: list[str] = []

    def fill(name: str) -> bool:
        """Give a pipe its content, if somebody reads there."""
        try:
            pipe = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        os.write(pipe, content)
        os.close(pipe)
        return True

    def watch(done: int, total: int) -> None:
        """Called while the net works on one photo after another."""
        if not seen:
            assert until(lambda: fill("2.png"))
            assert not fill("3.png")
        elif len(seen) == 1:
            assert until(Path("out/1.png").exists)
            assert until(lambda: fill("3.png"))
        seen.append(f"{done} of {total}")

    events = list(deblur.run(options, deblur.Streams(input=BytesIO(), output=BytesIO()), tiles=watch))
    assert [each.output for each in events if isinstance(each, deblur.Outcome)] == [
        "out/1.png",
        "out/2.png",
        "out/3.png",
    ]
    assert [each.status for each in events if isinstance(each, deblur.Outcome)] == ["restored"] * 3
    assert len(seen) == 3


def test_a_stop_while_the_net_works_is_passed_on_after_the_outcome_of_the_photo_before(weights):
    draw("1.png"), draw("2.png"), draw("3.png")
    options = DeblurOptions(inputs=("1.png", "2.png", "3.png"), output="out/", weights=weights)
    calls: list[int] = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 2:
            raise KeyboardInterrupt

    told: list[str] = []
    events = deblur.run(options, deblur.Streams(input=BytesIO(), output=BytesIO()), tiles=stop)
    with pytest.raises(KeyboardInterrupt):
        told.extend(map(str, events))
    assert told[-1].startswith("1.png -> out/1.png")
    assert names_in("out") == ["1.png"]
    assert size_of("out/1.png") == (40, 24)


def test_a_stop_between_two_events_tells_no_outcome_twice(weights):
    draw("1.png"), draw("2.png"), draw("3.png")
    options = DeblurOptions(inputs=("1.png", "2.png", "3.png"), output="out/", weights=weights)
    events = deblur.run(options, deblur.Streams(input=BytesIO(), output=BytesIO()))
    assert next(event for event in events if isinstance(event, deblur.Outcome)).input == "1.png"
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt())
    assert names_in("out") == ["1.png"]


def batch() -> list[str]:
    names = [f"{index:02}.png" for index in range(12)]
    for name in names:
        draw(f"in/{name}", (200, 160))
    return names


def two_are_written() -> bool:
    return Path("out").is_dir() and len(list(Path("out").glob("*.png"))) >= 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_batch_that_is_stopped_leaves_whole_files_only_and_says_how_far_it_came(number, code, weights, capfd):
    names = batch()
    with ThreadPoolExecutor(1) as hand:
        hand.submit(lambda: until(two_are_written) and os.kill(os.getpid(), number))
        assert code_of("in", "-o", "out", "--tta", "--weights", weights) == code
    written = names_in("out")
    assert 2 <= len(written) < len(names)
    assert all(size_of(Path("out", each)) == (200, 160) for each in written)
    said = capfd.readouterr().err
    assert f"deblur: stopped; {len(written)} of 12 photos are done.\nSay --skip-existing to go on from here.\n" in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_batch_that_is_killed_leaves_whole_files_only_and_can_be_gone_on_with(weights):
    names = batch()
    words = ("in", "-o", "out", "--weights", weights)
    command = [sys.executable, "-m", "deblur_cli", *words, "--tta"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert until(two_are_written)
    process.kill()
    assert process.wait(DEADLINE) == -signal.SIGKILL
    written = [each for each in names_in("out") if not each.startswith(".")]
    assert 2 <= len(written) < len(names)
    assert all(size_of(Path("out", each)) == (200, 160) for each in written)
    assert code_of(*words, "--skip-existing", "-q") == 0
    assert [each for each in names_in("out") if not each.startswith(".")] == names


def test_an_outcome_is_a_line_for_people_and_a_row_for_programs():
    outcome = deblur.Outcome(input="a.jpg", output="b.jpg", status="restored", width=3, height=2, seconds=0.25)
    assert str(outcome) == "a.jpg -> b.jpg  3 x 2  0.2 s"
    failed = replace(outcome, status="failed", error="The device is out of memory.")
    assert str(failed) == "'a.jpg': The device is out of memory."
    assert str(replace(failed, error="'a.jpg' is torn.")) == "'a.jpg' is torn."
