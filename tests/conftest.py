"""What the tests share: golden tensors, rewritten only by ``pytest --regolden``, and one thread for what is small."""

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
LARGEST = 100_000  # bytes


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests begin: a shell's background jobs ignore it, and hand that down."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regolden", action="store_true", help="rewrite tests/golden from what the code gives now")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small nets and images lose by being shared out, the more the busier the machine: a module asks for this by its mark."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs of 48 x 40 pixels."""
    root = tmp_path_factory.mktemp("pairs")
    dice = np.random.default_rng(0)
    for side in ("blur", "sharp"):
        (root / "train" / side).mkdir(parents=True)
        for index in range(3):
            pixels = dice.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "train" / side / f"{index}.png")
    return root


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Mapping[str, Tensor]], None]:
    """A check that tensors are those of golden/NAME.safetensors, to within what another processor may round."""

    def check(name: str, tensors: Mapping[str, Tensor]) -> None:
        path = GOLDEN / f"{name}.safetensors"
        if request.config.getoption("--regolden"):
            save_file({key: value.detach().contiguous() for key, value in tensors.items()}, path)
            assert path.stat().st_size <= LARGEST, f"{path} is too large to be committed"
            return
        expected = load_file(path)
        assert sorted(expected) == sorted(tensors)
        for key, value in tensors.items():
            error = (value - expected[key]).abs()
            message = f"{name} {key}: largest difference {error.max():.3g}, mean {error.mean():.3g}"
            assert torch.allclose(value, expected[key], rtol=1e-4, atol=1e-5), message

    return check
