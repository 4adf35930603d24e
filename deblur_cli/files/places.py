"""Places of a file on the Hugging Face Hub: as words, as an address, and in the Hub's own cache on this disk.

Nothing here asks the network, nor imports the Hub's library: what is in the cache is found at once. The layout of the cache is
the one that huggingface_hub documents ("Manage the cache"): ``models--owner--name/snapshots/<commit>/<file>``, and the commit
of a branch in ``refs/<branch>``. All settings are read from the environment when they are needed.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from deblur_cli.errors import WeightsError

SCHEME = "hf://"
SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".pkl", ".h5", ".onnx"})
"""What a file of weights ends with."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_SPOKEN = re.compile(r"(?P<repository>[^/@]+/[^/@]+)(?:@(?P<revision>refs/[a-z]+/[^/]+|[^/]+))?/(?P<file>.+)")
_TRUE = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a file lies on the Hub."""

    repository: str
    """Owner and name."""
    file: str
    """In the repository, with ``/`` between folders."""
    revision: str = "main"
    """A commit of 40 hexadecimal digits, a branch, or a tag."""

    @property
    def pinned(self) -> bool:
        """Whether the revision will mean the same bytes for ever."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def url(self) -> str:
        """The address at the Hub, or at the mirror that ``HF_ENDPOINT`` names."""
        return f"{endpoint()}/{self.repository}/resolve/{quote(self.revision, safe='')}/{quote(self.file)}"

    @property
    def page(self) -> str:
        """Where people look at the repository."""
        return f"{endpoint()}/{self.repository}"

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}@{self.revision}/{self.file}"


def parse(said: str) -> Place:
    """The place that ``hf://owner/repo[@revision]/file`` means.

    Raises:
        WeightsError: it names no repository, no file of weights, or leads elsewhere.
    """
    match = _SPOKEN.fullmatch(said.removeprefix(SCHEME))
    if match is None or not is_repository(match["repository"]) or not is_file(match["file"]):
        raise WeightsError(
            f"'{said}' names no file of weights on the Hub.",
            "Say hf://owner/repository/file.safetensors, with @revision behind the repository for a certain commit.",
        )
    return Place(repository=match["repository"], file=match["file"], revision=match["revision"] or "main")


def is_repository(text: str) -> bool:
    """Whether the Hub would take this as owner and name of a repository."""
    return (
        _REPOSITORY.fullmatch(text) is not None
        and len(text) <= 96
        and not any(part in text for part in ("--", ".."))
        and not text.endswith(".git")
    )


def is_file(name: str) -> bool:
    """Whether this can be the name of a file of weights in a repository."""
    parts = name.split("/")
    return PurePosixPath(name).suffix in SUFFIXES and not {"", ".", ".."} & set(parts) and "\\" not in name


def endpoint() -> str:
    """The Hub, or its mirror."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_forbidden() -> bool:
    """Whether the environment forbids to ask the network."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def cache() -> Path:
    """The folder in which the Hub's library keeps its files."""
    home = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    said = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or str(Path(home) / "hub")
    # A user without a home, as in some containers, keeps the ~; ``Path.expanduser`` would raise.
    return Path(os.path.expanduser(os.path.expandvars(said)))  # noqa: PTH111


def own_cache() -> Path:
    """The folder in which this tool keeps what it can make again; not absolute where the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "deblur"  # noqa: PTH111 - as above


def cached(place: Place) -> Path | None:
    """The file in the cache, if it is there; of a branch, the commit that was seen last. Its content is not looked at."""
    folder = cache() / f"models--{place.repository.replace('/', '--')}"
    commit = place.revision
    if not place.pinned:
        try:
            commit = (folder / "refs" / place.revision).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
    path = folder / "snapshots" / commit / place.file
    return path if path.is_file() else None


def content_sum(path: Path) -> str:
    """The SHA-256 that the Hub gave for a file in its cache; empty where it gave none.

    The cache names a large file's content by that sum, and the file is a link to it; which may be a link in its turn, to a
    name of the store's own.
    """
    name = path.readlink().name if path.is_symlink() else ""
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else ""
