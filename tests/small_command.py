"""What the tests of ``deblur PHOTO`` share: small pictures, the command in this process and in others, and what it left."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.cli import main
from deblur_cli.commands import deblur
from deblur_cli.files import photo

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "DEBLUR_DEBUG"} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(deblur.__file__).parents[2]),
}
DEADLINE = 60  # seconds after which a test gives up waiting


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
