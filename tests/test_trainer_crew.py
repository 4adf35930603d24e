"""Several processes train as one: through torchrun, as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli import nets
from deblur_cli.trainer import state

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    "train --device cpu --precision fp32 --dataset pairs --preset unet-fast --perceptual none --batch 4 --crop 16 --steps 1",
    "--warmup 2 --val-count 2 --val-crop 16 --log-every 1 --workers 1",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same run by one process and by two."""
    folder = tmp_path_factory.mktemp("crew")
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        for side, shown in (("blur", pixels // 2), ("sharp", pixels)):
            (folder / side).mkdir(exist_ok=True)
            Image.fromarray(shown).save(folder / side / f"{index}.png")
    made = {}
    for size in (1, 2):
        made[size] = folder / f"out-{size}"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), "-m", "deblur_cli"]
        # One thread each: gloo's own, and pytest's neighbours, have to live too.
        done = subprocess.run(
            [
                sys.executable,
                *launcher,
                *" ".join(WORDS).split(),
                "--data",
                folder,
                "--val",
                folder,
                "--out",
                made[size],
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        (folder / f"said-{size}").write_text(done.stderr)
    return made


def loaded(folder: Path) -> state.State:
    return state.load(folder, net="unet", config=nets.to_mapping(nets.PRESETS["unet-fast"][1]))


def test_the_gradients_of_two_equal_those_of_one_with_the_whole_batch(runs: dict[int, Path]) -> None:
    one, two = (loaded(runs[size]).learner["optimiser"]["state"] for size in (1, 2))
    assert len(one) == len(two) > 0
    for index, entry in one.items():
        # After one step the first moment is a tenth of the gradient.
        ours, theirs = entry["exp_avg"], two[index]["exp_avg"]
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(ours.abs().max())), index


def test_the_average_of_two_is_that_of_one(runs: dict[int, Path]) -> None:
    one, two = (loaded(runs[size]).learner["average"] for size in (1, 2))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_one_process_writes_and_tells(runs: dict[int, Path]) -> None:
    said = (runs[2].parent / "said-2").read_text()
    assert said.count("finished 1 steps") == 1
    assert "cpu x 2" in said
    logs = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in runs.values()]
    one, two = (next(row["losses"]["total"] for row in log if row["event"] == "step") for log in logs)
    assert one == pytest.approx(two, rel=1e-4)
