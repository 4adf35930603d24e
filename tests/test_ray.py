"""Ray: the results are those without it, whoever dies. Starting a cluster takes ten seconds, so most of this is opt-in."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.batch import cluster as ray_workers
from deblur_cli.batch import machine
from deblur_cli.batch.cluster import Cluster, _abreast, _on_cores, _on_gpus
from deblur_cli.batch.events import Opened, Outcome
from deblur_cli.batch.pipeline import Task
from deblur_cli.cli import main
from deblur_cli.commands import deblur
from deblur_cli.files import routes
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.files.hub import Noted
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.deblur import DeblurOptions

DEADLINE = 180
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
cluster = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform == "win32",
    reason="needs Ray: pip install 'deblur-cli[ray]'",
)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch) -> str:
    """The path of a checkpoint that changes photos visibly, beside a folder of photos."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
    label = Label(
        net="unet", config=to_mapping(net.config), made_with="a test", licence="Apache-2.0", trained_on="nothing"
    )
    save(Checkpoint(label=label, tensors=net.state_dict()), Path("tiny.safetensors"))
    Path("in").mkdir()
    return "tiny.safetensors"


def draw(name: str, size: tuple[int, int] = (60, 40)) -> None:
    noise = np.random.default_rng(len(name)).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(Path("in", name))


def command(*words: str, more: str = "") -> subprocess.Popen[str]:
    """``deblur in`` with two workers on a Ray of its own."""
    paths = [each for each in (more, str(Path(deblur.__file__).parents[2])) if each]
    environment = {name: value for name, value in os.environ.items() if name not in {"DEBLUR_DEBUG", "RAY_ADDRESS"}}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    said = [sys.executable, "-m", "deblur_cli", "in", "--engine", "ray", "--workers", "2", "--device", "cpu", *words]
    return subprocess.Popen(
        said, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def contents(folder: str) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in Path(folder).iterdir()}


def test_a_missing_ray_is_told_with_the_words_to_install_it(weights, monkeypatch, capsys):
    draw("a.png")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as stop:
        main(["in", "-o", "out", "--engine", "ray", "--weights", weights])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "deblur: --engine ray needs Ray, which is not installed.\nInstall it with: pip install 'deblur-cli[ray]'\n"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("cores", "workers", "count", "each"),
    [
        ([16], None, 4, 4),
        ([2], None, 1, 2),
        ([2], 2, 2, 1),
        ([4, 4, 4], 2, 2, 4),  # six would fit on no node
        ([64, 4], None, 17, 4),
        ([1], 3, 3, 1 / 3),
        ([], None, 1, 1),
    ],
)
def test_what_a_worker_asks_for_fits_on_every_node(cores, workers, count, each):
    assert _on_cores(cores, workers) == (count, {"num_gpus": 0, "num_cpus": each})


@pytest.mark.parametrize(
    ("gpus", "workers", "count", "each"), [([8, 8], None, 16, 1), ([2], 3, 3, 0.5), ([4], 2, 2, 1)]
)
def test_a_worker_has_a_gpu_or_a_part_that_leaves_room_for_the_others(gpus, workers, count, each):
    assert _on_gpus(gpus, workers) == (count, {"num_gpus": each, "num_cpus": 0})


class Here:
    """Ray as far as it is used, all in this process: a promise is a list with what was promised."""

    exceptions = SimpleNamespace(RayTaskError=LookupError, RayError=ConnectionError)

    def __init__(self, *cores: int) -> None:
        self.cores = cores

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": float(each)}} for each in self.cores]

    def remote(self, kind: type) -> SimpleNamespace:
        def make(*words):
            hand = kind(*words)
            kept = {each: self._later(getattr(hand, each)) for each in ("open", "restore", "stop")}
            return SimpleNamespace(**kept)

        return SimpleNamespace(options=lambda **_said: SimpleNamespace(remote=make))

    def _later(self, call) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *words: Promise([call(*words)]))

    def wait(self, promises, **_said):
        return promises[:1], promises[1:]

    def get(self, promise):
        return promise.kept[0]

    def kill(self, _handle) -> None: ...


@dataclass(eq=False)
class Promise:
    kept: list


@pytest.mark.parametrize(
    ("cores", "workers", "photos", "share"),
    [((8,), 2, 4, 2), ((8,), 2, 1, 1), ((4, 4, 4), 3, 6, 1), ((1,), 3, 6, 3), ((16, 4), None, 9, 4)],
)
def test_workers_of_a_node_share_its_memory_and_tell_what_is_to_be_known_of_the_weights(
    cores, workers, photos, share, weights, monkeypatch
):
    for index in range(photos):
        draw(f"{index}.png")
    seen, opened = [], machine.opened

    def watched(options, told):
        seen.append(options)
        told(Noted("not for commercial use"))
        return opened(options, None)

    monkeypatch.setattr(ray_workers, "_library", lambda: Here(*cores))
    monkeypatch.setattr(machine, "opened", watched)
    monkeypatch.setenv("DEBLUR_WEIGHTS_LIST", "list.toml")
    Path("list.toml").touch()
    said: list[object] = []
    options = DeblurOptions(inputs=("in",), output="out", weights=weights, max_memory=2**36, engine="ray")
    found = routes.plan(options.inputs, routes.Naming(output="out")).routes
    events = list(Cluster(Task(options=options), workers, fetching=said.append).run(found))
    assert [each.status for each in events if isinstance(each, Outcome)] == ["restored"] * photos
    assert sum(isinstance(each, Opened) for each in events) == 1
    assert {each.max_memory for each in seen} == {2**36 // share}
    assert {each.weights_list for each in seen} == {"list.toml"}
    assert said == [Noted("not for commercial use")]


@pytest.mark.parametrize(("sizes", "each", "count"), [([8, 4], 4, 2), ([1], 1 / 3, 3), ([], 1, 1), ([8, 8], 1, 8)])
def test_how_many_workers_a_node_holds(sizes, each, count):
    assert _abreast(sizes, each) == count


@cluster
@pytest.mark.slow
def test_two_actors_give_the_same_files_as_one_process_though_photos_kill_them(weights):
    for name in ("a", "always", "b", "c", "d", "e", "once", "torn"):
        draw(f"{name}.png")
    Path("in/torn.png").write_bytes(Path("in/torn.png").read_bytes()[:200])
    Path("patch").mkdir()
    Path("patch/sitecustomize.py").write_text(LETHAL)
    process = command(
        "-o", "out", "--json", "--weights", weights, "--manifest", "done.jsonl", more=str(Path("patch").absolute())
    )
    said, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 6, errors
    rows = {Path(row["input"]).stem: row for row in map(json.loads, said.splitlines())}
    assert list(rows) == ["a", "always", "b", "c", "d", "e", "once", "torn"]
    assert {name for name, row in rows.items() if row["status"] == "failed"} == {"always", "torn"}
    assert (rows["always"]["exit_code"], rows["torn"]["exit_code"]) == (5, 3)
    assert "Traceback" not in errors
    Path("in/always.png").unlink()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.raises(SystemExit):
        main(["in", "-o", "one", "--weights", weights, "--device", "cpu", "-q"])
    torch.set_num_threads(before)
    assert contents("out") == contents("one")
    assert len(contents("out")) == 6
    assert len(Path("done.jsonl").read_text().splitlines()) >= 6


@cluster
@pytest.mark.slow
def test_a_stop_leaves_whole_files_only(weights):
    for index in range(60):
        draw(f"{index:02}.png", (300, 200))
    process = command("-o", "out", "--tta", "--weights", weights)
    end = time.monotonic() + DEADLINE
    while len(list(Path("out").glob("*.png"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    written = contents("out")
    assert 2 <= len(written) < 60
    for name in written:
        with Image.open(Path("out", name)) as image:
            image.load()
    assert f"deblur: stopped; {len(written)} of 60 photos are done." in said
    assert "Traceback" not in said


@cluster
@pytest.mark.slow
def test_a_cluster_that_cannot_be_reached_is_told_in_a_sentence(weights, monkeypatch, capsys):
    draw("a.png")
    monkeypatch.setenv("RAY_ADDRESS", "nonsense://nowhere")
    with pytest.raises(SystemExit) as stop:
        main(["in", "-o", "out", "--engine", "ray", "--weights", weights])
    assert stop.value.code == 5
    assert capsys.readouterr().err.startswith("deblur: The Ray cluster cannot be reached: ")
