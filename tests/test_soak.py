"""Soak: many small photos of every kind, some broken, under kills, full disks, forbidden folders and short memory.

Opt-in: ``pytest -m slow tests/test_soak.py -rP`` shows the figures; ``DEBLUR_SOAK`` is the number of photos, 2000 by default.
"""

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import deblur_cli
from deblur_cli.files import photo
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits and signals as Linux has them"),
]

COUNT = int(os.environ.get("DEBLUR_SOAK", "2000"))
KILLS = 12
DEADLINE = 3600
BROKEN = 0.1  # of the photos
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "DEBLUR_DEBUG"} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(deblur_cli.__file__).parents[1]),
}
KINDS = (
    "jpg",
    "gray.jpg",
    "png",
    "alpha.png",
    "palette.png",
    "deep.png",
    "tif",
    "deep.tif",
    "float.tif",
    "webp",
    "avif",
    "bmp",
)


def encoded(kind: str, dice: random.Random) -> bytes:
    """A small photo of this kind."""
    width, height = (dice.choice([1, 2, 7, 16, 33, 64, 90]) for _ in range(2))
    noise = np.random.default_rng(dice.randrange(2**32)).integers(0, 256, (height, width, 4), dtype=np.uint8)
    file, picture = BytesIO(), Image.fromarray(noise[:, :, :3])
    match kind.split("."):
        case ["deep", "png"]:
            Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257).save(file, "PNG")
        case ["alpha", "png"]:
            Image.fromarray(noise).save(file, "PNG")
        case ["palette", "png"]:
            picture.quantize(16).save(file, "PNG")
        case ["gray", "jpg"]:
            picture.convert("L").save(file, "JPEG", quality=90)
        case [("deep" | "float") as sort, "tif"]:
            values = (
                noise[:, :, :3].astype(np.uint16) * 257 if sort == "deep" else noise[:, :, :3].astype(np.float32) / 255
            )
            tifffile.imwrite(file, values, photometric="rgb")
        case [ending]:
            picture.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
    return file.getvalue()


def damaged(data: bytes, dice: random.Random) -> bytes:
    """A file that is certainly no photo any more."""
    return dice.choice(
        [b"", b"this is text\n", data[: len(data) // 8], bytes(len(data)), data[:3] + b"\n" + data[4:12]]
    )


@dataclass
class Yard:
    """A folder of photos, and what a run that nothing disturbed made of them."""

    folder: Path
    weights: Path
    good: set[str]
    broken: set[str]
    results: dict[str, bytes] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    """Bytes that the command held after each photo."""
    room: int = 0
    """Bytes of addresses that the command had at most, most of them of libraries."""
    seconds: float = 0.0

    def command(self, *words: str, source: str = "in") -> list[str]:
        return [
            sys.executable,
            "-m",
            "deblur_cli",
            source,
            "-r",
            "--weights",
            str(self.weights),
            "--device",
            "cpu",
            *words,
        ]


@pytest.fixture(scope="module")
def yard(tmp_path_factory) -> Iterator[Yard]:
    dice = random.Random(8)  # noqa: S311 - of a test
    folder = tmp_path_factory.mktemp("soak")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(width=4, blocks=(1, 1, 1)))
    label = Label(
        net="unet", config=to_mapping(net.config), made_with="a test", licence="Apache-2.0", trained_on="none"
    )
    save(Checkpoint(label=label, tensors=net.state_dict()), folder / "tiny.safetensors")
    made = Yard(folder, folder / "tiny.safetensors", set(), set())
    for index in range(COUNT):
        kind = dice.choice(KINDS)
        name = f"{index % 7}/{index:05}.{kind}"
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = encoded(kind, dice)
        bad = dice.random() < BROKEN
        path.write_bytes(damaged(data, dice) if bad else data)
        (made.broken if bad else made.good).add(name)
    start = time.monotonic()
    command, rows = made.command("-o", "calm", "--json", "-q"), []
    silent = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, **silent) as process:
        for line in process.stdout:
            rows.append(json.loads(line))
            made.memory.append(resident(process.pid))
            made.room = max(made.room, addresses(process.pid))
    assert process.returncode == 6
    made.seconds = time.monotonic() - start
    assert {relative(row["input"]) for row in rows if row["status"] == "restored"} == made.good
    assert {relative(row["input"]) for row in rows if row["status"] == "failed"} == made.broken
    made.results = contents(folder / "calm")
    yield made
    shutil.rmtree(folder)


def resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def addresses(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def relative(name: str) -> str:
    return Path(name).relative_to("in").as_posix()


def contents(folder: Path) -> dict[str, bytes]:
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def run(yard: Yard, *words: str, **more) -> tuple[int, dict[str, dict], str]:
    """Exit code, rows by photo, and what was said."""
    done = subprocess.run(
        yard.command(*words, "--json"),
        cwd=yard.folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        **more,
    )
    return (
        done.returncode,
        {relative(row["input"]): row for row in map(json.loads, done.stdout.splitlines())},
        done.stderr,
    )


def test_memory_stays_flat_and_every_result_is_a_photo(yard):
    assert set(yard.results) == yard.good
    for name in sorted(yard.good):
        photo.read(yard.folder / "calm" / name)
    live = [each for each in yard.memory if each]
    early, late = (statistics.median(live[len(live) * at // 8 : len(live) * (at + 1) // 8]) for at in (2, 7))
    print(
        f"{COUNT} photos, {len(yard.broken)} broken: {yard.seconds:.0f} s, {early / 2**20:.0f} MiB in the third eighth, "
        f"{late / 2**20:.0f} MiB in the last, {max(live) / 2**20:.0f} MiB at most"
    )
    assert late < 1.05 * early + 8 * 2**20


@pytest.mark.parametrize(
    "words", [["--skip-existing"], ["--manifest", "done.jsonl"], ["--manifest", "done/", "--workers", "2"]]
)
def test_whatever_is_killed_the_same_command_ends_with_the_same_files(yard, words, tmp_path):
    dice = random.Random(" ".join(words))  # noqa: S311 - of a test
    folder = "killed" + str(len(list(yard.folder.iterdir())))
    command = yard.command("-o", folder, "-q", *(each.replace("done", f"{folder}-done") for each in words))
    kills, left, workers = Counter(), 0, 0
    for _ in range(KILLS):
        before = count(yard.folder / folder)
        process = subprocess.Popen(
            command, cwd=yard.folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        goal = before + 1 + dice.randrange(max(1, COUNT // KILLS))
        while process.poll() is None and count(yard.folder / folder) < goal:
            time.sleep(0.002)
        time.sleep(dice.random() / 20)
        victim = dice.choice(["command", "group", "worker"] if "--workers" in words else ["command", "group"])
        if victim == "worker":
            workers += kill_a_child(process.pid, dice)
            goal += COUNT // (3 * KILLS)
            while process.poll() is None and count(yard.folder / folder) < goal:
                time.sleep(0.002)
        if process.poll() is None:
            kills[victim] += 1
            (os.killpg if victim == "group" else os.kill)(process.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=DEADLINE)
        assert "Traceback" not in said
        parts = [each for each in contents(yard.folder / folder) if Path(each).name.startswith(".")]
        left += len(parts)
        for name, data in contents(yard.folder / folder).items():
            assert name in parts or data == yard.results[name], name
    done = subprocess.run(
        [*command, "--json"],
        cwd=yard.folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    rows = list(map(json.loads, done.stdout.splitlines()))
    print(
        f"{' '.join(words)}: killed {dict(kills)}, {workers} workers; {left} half-written files left and swept; the last run "
        f"restored {sum(row['status'] == 'restored' for row in rows)} of {COUNT}"
    )
    assert done.returncode == 6
    assert {relative(row["input"]) for row in rows if row["status"] == "failed"} == yard.broken
    assert contents(yard.folder / folder) == yard.results


def count(folder: Path) -> int:
    return sum(not each.name.startswith(".") for each in folder.rglob("*.*")) if folder.exists() else 0


def kill_a_child(process: int, dice: random.Random) -> int:
    """Kill one worker of the command; the number that was killed."""
    children = []
    for each in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children += each.read_text().split()
        except OSError:
            continue
    workers = [each for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    if workers:
        os.kill(int(dice.choice(workers)), signal.SIGKILL)
    return bool(workers)


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_files_that_grow_too_large_are_told_one_by_one_and_made_later(yard, workers):
    import resource

    folder = f"short{len(workers)}"
    limit = sorted(map(len, yard.results.values()))[COUNT // 2]
    shape = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))}
    code, rows, said = run(yard, "-o", folder, *workers, **shape)
    assert code == 6
    assert "Traceback" not in said
    fitting = {name: data for name, data in yard.results.items() if len(data) <= limit}
    assert contents(yard.folder / folder) == fitting
    refused = yard.good - set(fitting)
    assert all("the file is larger than is allowed there" in rows[name]["error"] for name in refused)
    print(f"{len(refused)} of {len(yard.good)} results were larger than {limit} bytes and refused")
    assert run(yard, "-o", folder, "--skip-existing")[0] == 6
    assert contents(yard.folder / folder) == yard.results


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A disk of its own at ``folder``."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_is_told_photo_by_photo_and_keeps_what_fits(yard):
    disk = yard.folder / "disk"
    with mounted(disk, f"size={sum(map(len, yard.results.values())) // 3}"):
        code, rows, said = run(yard, "-o", "disk/out", "--manifest", "disk.jsonl")
        kept = contents(disk / "out")
        assert code == 6
        assert "Traceback" not in said
        assert 0 < len(kept) < len(yard.good)
        assert all(yard.results[name] == data for name, data in kept.items())
        full = [name for name in yard.good if rows[name]["status"] == "failed"]
        assert {rows[name]["error"].rpartition(": ")[2] for name in full} == {"the disk is full."}
        assert len(full) + len(kept) == len(yard.good)
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        assert run(yard, "-o", "disk/out", "--manifest", "disk.jsonl")[0] == 6
        assert contents(disk / "out") == yard.results
        print(f"{len(full)} of {len(yard.good)} results did not fit and were made when there was room")


def test_a_folder_that_may_not_be_written_costs_nothing(yard):
    locked = yard.folder / "locked"
    with mounted(locked, "ro") if not os.geteuid() else nullcontext(locked.mkdir(0o555)):
        code, rows, said = run(yard, "-o", "locked/out")
        assert (code, rows) == (3, {})
        assert said.startswith("deblur: Nothing can be written into 'locked'.")
        assert list(locked.iterdir()) == []


def test_a_photo_that_is_too_large_for_the_memory_fails_alone(yard):
    import resource

    source = yard.folder / "large"
    source.mkdir()
    for name in sorted(yard.good)[:20]:
        shutil.copy(yard.folder / "in" / name, source / Path(name).name)
    Image.new("RGB", (24_000, 16_000)).save(source / "99999.huge.png", compress_level=1)
    limit = yard.room + 600 * 2**20  # it alone has 1100

    def short() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        yard.command("-o", "large-out", "--json", source="large"),
        cwd=yard.folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        preexec_fn=short,
    )
    rows = {Path(row["input"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    print("huge:", rows.get("99999.huge.png", {}).get("error"), done.returncode)
    assert "Traceback" not in done.stderr
    assert done.returncode == 6
    assert [name for name, row in rows.items() if row["status"] == "failed"] == ["99999.huge.png"]
    assert len(contents(yard.folder / "large-out")) == 20
