"""One row of a list of weights: what it says, whether it can be, and its text.

Rows are never edited after a release; the fields are explained at the head of ``weights.toml``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deblur_cli.files import places
from deblur_cli.files.places import Place

_TEXTS = ("name", "net", "bundled", "hub", "file", "revision", "mirror", "sha256", "licence", "trained_on", "protocol")
_SUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One released checkpoint. Raises ValueError where it makes no sense."""

    name: str
    net: str
    """In the catalogue of nets."""
    prior: bool = False
    """Whether a semantic prior guides the net."""
    bundled: str = ""
    """Name of the file in the package; empty for one on the Hub."""
    hub: str = ""
    """Owner and name of the repository on the Hub; empty for one in the package."""
    file: str = ""
    """In that repository."""
    revision: str = ""
    """The commit, 40 hexadecimal digits."""
    mirror: str = ""
    """Another repository with the same file: ``owner/name``, or ``owner/name@revision``; empty: none is known."""
    sha256: str
    """Of the file, 64 hexadecimal digits."""
    size: int
    """Bytes."""
    licence: str
    """Of the weights; it can differ from the code's."""
    non_commercial: bool = False
    """Whether the licence forbids commercial use."""
    trained_on: str
    """The photographs."""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    """Measure and data set to the value."""
    protocol: str = ""
    """How the scores were measured, and by whom."""
    precisions: Mapping[str, float] = field(default_factory=dict[str, float])
    """Precision to its change of PSNR in dB against fp32: what was measured, nothing else."""

    def __post_init__(self) -> None:
        self._check_kinds()
        for name in ("net", "licence", "trained_on"):
            if not getattr(self, name):
                raise ValueError(f"{self.name} says nothing of {name}")
        if not _SUM.fullmatch(self.sha256):
            raise ValueError(f"the sha256 of {self.name} is not 64 hexadecimal digits")
        if self.size < 1:
            raise ValueError(f"the size of {self.name} is {self.size!r} bytes")
        if bool(self.bundled) == bool(self.hub):
            raise ValueError(f"{self.name} lies either in the package (bundled) or on the Hub (hub)")
        if self.bundled:
            self._check_bundled()
        else:
            self._check_hub()

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it lies on the Hub, the mirror last; none for one in the package."""
        if self.bundled:
            return ()
        first = Place(repository=self.hub, file=self.file, revision=self.revision)
        if not self.mirror:
            return (first,)
        repository, _, revision = self.mirror.partition("@")
        return (first, Place(repository=repository, file=self.file, revision=revision or "main"))

    def _check_kinds(self) -> None:
        """Whether texts are texts and numbers numbers: TOML knows both."""
        for kind, names in ((str, _TEXTS), (bool, ("prior", "non_commercial")), (int, ("size",))):
            if strangers := [each for each in names if type(getattr(self, each)) is not kind]:
                raise ValueError(f"{', '.join(strangers)} of {self.name} is no {kind.__name__}")
        for name in ("scores", "precisions"):
            table: Any = getattr(self, name)
            if not isinstance(table, Mapping) or not all(type(each) in {int, float} for each in table.values()):
                raise ValueError(f"{name} of {self.name} is no table of numbers")

    def _check_bundled(self) -> None:
        if Path(self.bundled).name != self.bundled or not self.bundled.endswith(".safetensors"):
            raise ValueError(f"{self.name} names {self.bundled!r}, not a .safetensors file of the package")

    def _check_hub(self) -> None:
        for repository in (self.hub, self.mirror.partition("@")[0] or self.hub):
            if not places.is_repository(repository):
                raise ValueError(f"{self.name} names {repository!r}, not the owner and name of a repository")
        if not places.is_file(self.file):
            raise ValueError(f"{self.name} names {self.file!r}, not a file of weights")
        if not self.places[0].pinned:
            raise ValueError(f"the revision of {self.name} is not a commit of 40 hexadecimal digits")


def read(table: Mapping[str, Any]) -> dict[str, Entry]:
    """The rows of a list by name, in its own order.

    Raises:
        ValueError: one is incomplete, has too much, or makes no sense.
    """
    return {name: _entry(name, row) for name, row in table.items() if name != "aliases"}


def text(entry: Entry) -> str:
    """The row as TOML, to paste into a list; what is at its default is left out."""
    values: dict[str, Any] = {each: getattr(entry, each) for each in Entry.__dataclass_fields__ if each != "name"}
    lines = [f"{name:<14} = {_toml(value)}" for name, value in values.items() if value or name in {"size", "licence"}]
    return "\n".join([f"[{_key(entry.name)}]", *lines]) + "\n"


def _entry(name: str, row: Any) -> Entry:
    if not isinstance(row, dict):
        raise ValueError(f"{name} is no row")  # noqa: TRY004 - a mistake in a file, not in a call
    try:
        return Entry(name=name, **row)
    except TypeError as error:
        raise ValueError(f"{name} is incomplete or has too much: {error}") from error


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {each}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
