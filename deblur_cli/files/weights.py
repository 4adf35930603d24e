"""Released weights: a name of ``weights.toml`` to a verified file.

The rows are ours: one that is wrong is a mistake of the package and raises ``ValueError``.
"""

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from deblur_cli.errors import WeightsError

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One released checkpoint."""

    name: str
    net: str
    """In the catalogue of nets."""
    bundled: str
    """Name of the file in the package."""
    sha256: str
    """Of the file, 64 hexadecimal digits."""
    size: int
    """Bytes."""
    licence: str
    """Of the weights; it can differ from the code's."""
    trained_on: str
    """The photographs."""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    """Measure and data set to the value."""

    def __post_init__(self) -> None:
        for name in ("net", "licence", "trained_on"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"weights.toml: {self.name} says nothing of {name}")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"weights.toml: the sha256 of {self.name} is not 64 hexadecimal digits")
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"weights.toml: the size of {self.name} is {self.size!r} bytes")
        if Path(self.bundled).name != self.bundled or not self.bundled.endswith(".safetensors"):
            raise ValueError(
                f"weights.toml: {self.name} names {self.bundled!r}, not a .safetensors file of the package"
            )

    @property
    def path(self) -> Path:
        """Where the package keeps it."""
        return _PACKAGE / "bundled" / self.bundled


def entries() -> dict[str, Entry]:
    """The rows of ``weights.toml`` by name, in its own order."""
    rows = {name: row for name, row in _table().items() if name != "aliases"}
    return {name: _entry(name, row) for name, row in rows.items()}


def aliases() -> dict[str, str]:
    """Names that may move from release to release, such as ``default``, to names of :func:`entries`."""
    found: dict[str, str] = dict(_table().get("aliases", {}))
    if strangers := sorted(set(found.values()) - entries().keys()):
        raise ValueError(f"weights.toml: there is no row {', '.join(strangers)} for an alias to name")
    return found


def locate(name_or_path: str) -> Path:
    """The file of a name of ``weights.toml``, its content verified; a path is given back if the file is there.

    Whatever has a folder in it, ends with ``.safetensors``, or is a file here, is a path.

    Raises:
        WeightsError: no such name, no such file, or a file whose content was changed.
    """
    path = Path(name_or_path).expanduser()
    separators = {os.sep, os.altsep or os.sep}
    if path.is_file():
        return path
    if path.suffix == ".safetensors" or any(each in name_or_path for each in separators):
        if path.exists():
            return path  # A folder, say: whoever reads it tells what is wrong with it.
        raise WeightsError(f"'{name_or_path}' does not exist.", _hint(path.stem))
    known = entries()
    entry = known.get(aliases().get(name_or_path, name_or_path))
    if entry is None:
        names = ", ".join((*aliases(), *known)) or "no names: this package has no weights"
        raise WeightsError(f"'{name_or_path}' is neither a file nor one of {names}.", _hint(name_or_path))
    _verify(entry)
    return entry.path


def _hint(word: str) -> str:
    names = [*aliases(), *entries()]
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else "Give the path of a .safetensors file, or one of the names."


def _verify(entry: Entry) -> None:
    """Compare the file with its row."""
    try:
        data = entry.path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"The weights '{entry.name}' cannot be read: {error.strerror or error}.", "Install deblur-cli anew."
        ) from error
    if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise WeightsError(
            f"The weights '{entry.name}' are not those that were released: '{entry.path}' was changed.",
            "Install deblur-cli anew.",
        )


@cache
def _table() -> dict[str, Any]:
    """``weights.toml``: a wheel has it inside the package, a clone beside it."""
    for folder in (_PACKAGE, _PACKAGE.parent):
        if (folder / "weights.toml").is_file():
            return tomllib.loads((folder / "weights.toml").read_text(encoding="utf-8"))
    raise ValueError("weights.toml is missing from the package")


def _entry(name: str, row: Any) -> Entry:
    if not isinstance(row, dict):
        raise ValueError(f"weights.toml: {name} is no row")  # noqa: TRY004 - a mistake in a file, not in a call
    try:
        return Entry(name=name, **row)
    except TypeError as error:
        raise ValueError(f"weights.toml: {name} is incomplete or has too much: {error}") from error
