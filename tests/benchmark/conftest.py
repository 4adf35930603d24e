"""A folder, a thread and two tiny checkpoints for each test of ``deblur benchmark``."""

import importlib.util
import sys
from pathlib import Path

import pytest

# Test files are modules without a package here: what they share is made known by name.
_SPEC = importlib.util.spec_from_file_location("small_benchmark", Path(__file__).parents[1] / "small_benchmark.py")
assert _SPEC is not None
assert _SPEC.loader is not None
small_benchmark = sys.modules["small_benchmark"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(small_benchmark)


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> tuple[str, str]:
    """Paths of a net that corrects nothing and of one that changes everything."""
    folder = tmp_path_factory.mktemp("weights")
    still, wild = (
        small_benchmark.checkpoint(folder / f"{name}.safetensors", still=name == "still") for name in ("still", "wild")
    )
    return still, wild


@pytest.fixture(scope="module", autouse=True)
def _alone(one_thread: None) -> None:
    """Images this small are not worth two threads."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEBLUR_DATA", raising=False)
