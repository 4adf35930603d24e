"""Many photos: shares of them, several worker processes, deaths and stops; the results are those of one process."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import unicodedata
from collections import Counter, deque
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.batch.backlog import DEATHS, Backlog
from deblur_cli.batch.events import Outcome, outcome
from deblur_cli.cli import main
from deblur_cli.commands import deblur
from deblur_cli.errors import UsageError
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.files.routes import Naming, Route, plan
from deblur_cli.files.shards import share_of
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.deblur import DeblurOptions

DEADLINE = 60  # seconds after which a test gives up waiting
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "DEBLUR_DEBUG"} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(deblur.__file__).parents[2]),
}
LETHAL = '''
import os
import pathlib
from deblur_cli.files import photo

whole = photo.read

def read(source, **words):
    """Die of one photo whenever it is read, and of another one the first time."""
    name = pathlib.Path(str(source)).stem
    if name == "always" or (name == "once" and not pathlib.Path("died").exists()):
        pathlib.Path("died").touch()
        os._exit(9)
    return whole(source, **words)

photo.read = read
'''
unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


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


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the workers; this process is slowed down by hand
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


def draw(name: str, size: tuple[int, int] = (40, 24)) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(name)).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def events_of(**words):
    return deblur.run(DeblurOptions(**words), deblur.Streams(input=BytesIO(), output=BytesIO()))


def outcomes(events) -> list[Outcome]:
    return [each for each in events if isinstance(each, Outcome)]


def contents(folder: str) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes() for each in Path(folder).rglob("*") if each.is_file()
    }


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def until(happened) -> bool:
    end = time.monotonic() + DEADLINE
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


# Shares


def test_the_share_of_a_photo_is_the_same_on_every_machine_and_in_every_release():
    assert [share_of(key, 8) for key in ("a.jpg", "2024/05/b.jpg", "Frühling.png", "\udcff.jpg")] == [3, 3, 8, 1]
    assert share_of(unicodedata.normalize("NFD", "Frühling.png"), 8) == 8
    assert {share_of(f"{index}.jpg", 1) for index in range(9)} == {1}


def test_shares_are_about_equal():
    counts = Counter(share_of(f"IMG_{index:04}.JPG", 4) for index in range(4000))
    assert sorted(counts) == [1, 2, 3, 4]
    assert max(counts.values()) - min(counts.values()) < 200


@pytest.mark.parametrize("words", [["in"], ["in/"], ["./in"], ["in/**/*.png"], [str(Path("in"))]])
def test_every_photo_is_in_one_share_however_its_folder_is_named(words):
    names = [draw(f"in/{index % 3}/{index}.png").as_posix() for index in range(20)]
    of = {
        number: [
            each.source.as_posix()
            for each in plan(words, Naming(output="out"), recursive=True, shard=(number, 3)).routes
        ]
        for number in (1, 2, 3)
    }
    assert sorted(name for share in of.values() for name in share) == sorted(names)
    assert of == {
        number: [name for name in names_of(words) if share_of(name.removeprefix("in/"), 3) == number] for number in of
    }


def names_of(words) -> list[str]:
    return [each.source.as_posix() for each in plan(words, Naming(output="out"), recursive=True).routes]


def test_photos_of_equal_names_in_a_list_of_files_are_spread_too():
    names = [draw(f"in/{index}/frame.png").as_posix() for index in range(30)]
    counts = [len(plan(names, Naming(suffix="-x"), shard=(number, 2)).routes) for number in (1, 2)]
    assert sum(counts) == 30
    assert min(counts) > 5


def test_results_in_one_file_are_refused_also_when_the_photos_are_in_two_shares():
    draw("in/a.png"), draw("in/a.jpg")
    assert share_of("a.png", 7) != share_of("a.jpg", 7)
    for number in range(1, 8):
        with pytest.raises(UsageError, match="would both be written to"):
            plan(["in"], Naming(output="out", format="png"), shard=(number, 7))


def test_results_of_other_shares_are_in_nobodys_way(weights, capsys):
    for index in range(6):
        draw(f"in/{index}.png")
    assert [code_of("in", "-o", "out/", "--shard", f"{number}/2", "--weights", weights) for number in (1, 2)] == [0, 0]
    assert sorted(contents("out")) == sorted(contents("in"))
    said = capsys.readouterr().err
    first, second = (sum(share_of(f"{index}.png", 2) == number for index in range(6)) for number in (1, 2))
    assert f"{first} photos; {second} in other shards" in said
    assert (
        code_of("in", "-o", "more/", "--shard", f"{share_of('0.png', 1000) % 1000 + 1}/1000", "--weights", weights) == 0
    )
    assert not Path("more").exists()
    assert "0 photos; 6 in other shards" in capsys.readouterr().err


# Workers


def test_two_workers_of_which_one_is_killed_give_the_same_files_and_rows_as_one_process(weights):
    for index in range(12):
        draw(f"in/{index:02}.png", (60 + 9 * index, 40))
    Path("in/04.png").write_bytes(Path("in/04.png").read_bytes()[:200])
    rows = {}
    for folder, workers in (("one", None), ("two", 2)):
        events = events_of(inputs=("in",), output=folder, compare=True, weights=weights, workers=workers, device="cpu")
        told = [next(event for event in events if isinstance(event, Outcome))]
        if workers and sys.platform != "win32":
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        told += outcomes(events)
        rows[folder] = [
            replace(each, output=Path(each.output).name, compare=None, seconds=None, cause=None) for each in told
        ]
    assert rows["two"] == rows["one"]
    assert [each.status for each in rows["two"]] == [*["restored"] * 4, "failed", *["restored"] * 7]
    assert contents("two") == contents("one")
    assert len(contents("two")) == 22
    assert not multiprocessing.active_children()


def test_a_photo_that_kills_every_worker_is_given_up_and_takes_no_other_with_it(weights):
    for name in ("always", "once", "a", "b", "c", "d"):
        draw(f"in/{name}.png")
    Path("sitecustomize.py").write_text(LETHAL)
    command = [sys.executable, "-m", "deblur_cli", "in", "-o", "out/", "--weights", weights, "--workers", "2", "--json"]
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join((str(Path.cwd()), ENVIRONMENT["PYTHONPATH"]))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 6, done.stderr
    rows = {Path(row["input"]).stem: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == ["a", "always", "b", "c", "d", "once"]
    assert {name for name, row in rows.items() if row["status"] == "restored"} == {"a", "b", "c", "d", "once"}
    assert rows["always"]["error"] == "The worker process ended 3 times while it had 'in/always.png'."
    assert rows["always"]["exit_code"] == 5
    assert sorted(contents("out")) == ["a.png", "b.png", "c.png", "d.png", "once.png"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("word", "value", "code"), [("--device", "cuda:99", 5), ("--weights", "none.safetensors", 4)])
def test_what_no_worker_can_open_is_told_once(word, value, code, weights, capsys):
    draw("in/a.png"), draw("in/b.png")
    words = {"--weights": weights, "--device": "cpu"} | {word: value}
    assert code_of("in", "-o", "out", "--workers", "2", *(each for pair in words.items() for each in pair)) == code
    said = capsys.readouterr().err
    assert said.count("deblur: ") == 1
    assert "Traceback" not in said
    assert not Path("out").exists()
    assert not multiprocessing.active_children()


def test_all_gpus_are_refused_where_there_is_none(weights, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    draw("in/a.png"), draw("in/b.png")
    assert code_of("in", "-o", "out", "--device", "cuda:all", "--weights", weights) == 5
    assert "There is no CUDA device" in capsys.readouterr().err


def started(*words: str) -> subprocess.Popen[str]:
    """The command, in a process group of its own as a terminal would have it, that has written two photos."""
    for index in range(40):
        draw(f"in/{index:02}.png", (200, 160))
    command = [sys.executable, "-m", "deblur_cli", "in", "-o", "out", "--workers", "2", "--tta", *words]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert until(lambda: len(list(Path("out").glob("*.png"))) >= 2)
    return process


def whole(folder: str) -> bool:
    for each in Path(folder).iterdir():
        with Image.open(each) as image:
            image.load()
    return True


@unix
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stop_of_all_processes_leaves_whole_files_only(number, code, weights):
    process = started("--weights", weights, "--manifest", "done.jsonl")
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    written = contents("out")
    assert whole("out")
    assert 2 <= len(written) < 40
    assert f"deblur: stopped; {len(written)} of 40 photos are done.\nSay the same again to go on from here.\n" in said
    assert "Traceback" not in said
    assert until(lambda: not group_lives(process.pid))


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@unix
def test_workers_whose_command_was_killed_end_and_the_same_command_goes_on(weights):
    words = ("--weights", weights, "--manifest", "done.jsonl")
    process = started(*words)
    process.kill()
    process.communicate(timeout=DEADLINE)
    assert until(lambda: not group_lives(process.pid))
    before = {name: data for name, data in contents("out").items() if not name.startswith(".")}
    assert 2 <= len(before) < 40
    Path("out", ".deblur-12345678-1-00000000.part").touch()  # of another machine, which may still be at it
    assert code_of("in", "-o", "out", "--tta", "-q", *words) == 0
    after = contents("out")
    assert sorted(after) == [".deblur-12345678-1-00000000.part", *sorted(contents("in"))]
    assert before.items() <= after.items()
    assert len(Path("done.jsonl").read_text().splitlines()) >= 40


# Who gets which


@pytest.mark.parametrize("seed", range(30))
def test_whoever_dies_each_photo_has_one_outcome_in_its_turn(seed):
    """Workers that die at random, and two photos of which everybody dies."""
    dice = random.Random(seed)  # noqa: S311 - of a test
    routes = [Route(source=Path(f"{index}.png"), target=None) for index in range(40)]
    lethal = set(dice.sample(range(40), 2))
    backlog, hands, told, deaths = Backlog(routes), [deque(), deque(), deque()], [], 0
    while backlog.left:
        hand = dice.choice(hands)
        hand.extend(backlog.take(hand, 3, workers=3))
        assert len(hand) <= 3
        assert len(hand) <= 1 or not any(job.deaths for job in hand)
        if not hand:
            continue
        if hand[0].index in lethal or (dice.random() < 0.1 and deaths < 3):
            deaths += hand[0].index not in lethal
            told += backlog.lost(hand)
            hand.clear()
        else:
            job = hand.popleft()
            told += backlog.done(job, outcome(job.route, "restored"))
    assert [each.input for each in told] == [str(each.source) for each in routes]
    assert {int(Path(each.input).stem) for each in told if each.status == "failed"} >= lethal
    assert sum(each.status == "failed" for each in told) <= len(lethal) + deaths // DEATHS
    assert backlog.waiting == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"shard": "0/4"}, "--shard 0/4 is not I/N"),
        ({"shard": "5/4"}, "--shard 5/4 is not I/N"),
        ({"shard": "1/0"}, "--shard 1/0 is not I/N"),
        ({"shard": "half"}, "--shard half is not I/N"),
        ({"shard": ""}, "is not I/N"),
        ({"workers": 0}, "--workers 0 is less than one"),
        ({"engine": "slurm"}, "--engine slurm is not one of local, ray"),
        ({"engine": "ray", "device": "cuda:1"}, "--device cuda:1 names a device of this machine"),
        ({"device": "cuda:some"}, "--device cuda:some is none of"),
        ({"manifest": ""}, "An empty word"),
        ({"inputs": ("-",), "shard": "1/2"}, "--shard is for photos in files"),
        ({"inputs": ("-",), "manifest": "x"}, "--manifest is for photos in files"),
        ({"output": "-", "workers": 2}, "--workers is for photos in files"),
        ({"output": "-", "engine": "ray"}, "--engine is for photos in files"),
    ],
)
def test_words_for_many_machines_that_mean_nothing_are_refused(words, said):
    with pytest.raises(UsageError) as refused:
        DeblurOptions(**{"inputs": ("a.png",)} | words)
    assert said in refused.value.message
    assert refused.value.hint
