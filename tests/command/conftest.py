"""A folder, a thread and a tiny checkpoint for each test of ``deblur PHOTO``."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.unet import UNet, UNetConfig

# Test files are modules without a package here: what they share is made known by name.
_SPEC = importlib.util.spec_from_file_location("small_command", Path(__file__).parents[1] / "small_command.py")
assert _SPEC is not None
assert _SPEC.loader is not None
sys.modules["small_command"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules["small_command"])


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
