"""A Hub on this machine for the tests of this folder, and nothing of the user's own around it."""

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

# Test files are modules without a package here: what they share is made known by name.
_SPEC = importlib.util.spec_from_file_location("hub_server", Path(__file__).parents[1] / "hub_server.py")
assert _SPEC is not None
assert _SPEC.loader is not None
hub_server = sys.modules["hub_server"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hub_server)

STRANGERS = """HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE
DEBLUR_WEIGHTS_LIST DEBLUR_DEBUG HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy NO_PROXY"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Iterator["hub_server.Hub"]:
    """A Hub with nothing in it; the client's cache is empty, its patience short, and it does not wait between two tries."""
    from deblur_cli.files import hub as files_hub

    for name in STRANGERS.split():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet is another protocol, of a library of its own
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(**{**vars(time), "sleep": lambda _: None}))
    monkeypatch.setattr(files_hub, "_PAUSE", 0.0)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    huggingface_hub.close_session()  # a client that read another environment
    with hub_server.running() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served
        huggingface_hub.close_session()
