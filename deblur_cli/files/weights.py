"""Weights by name: from a row of a list, an address on the Hub or a path, to a file on this disk that is the one that is meant.

The list is ``weights.toml`` of the package, and after it one of the user's, in the same form, that ``--weights-list`` or
``DEBLUR_WEIGHTS_LIST`` names. A row of the package that is wrong is our mistake and raises ``ValueError``.
"""

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, cast

from deblur_cli.errors import WeightsError
from deblur_cli.files import hub, places, rows, sums
from deblur_cli.files.rows import Entry

__all__ = ["LIST", "Entry", "Found", "aliases", "audit", "entries", "find", "known", "locate", "locate_all", "present"]

LIST = "DEBLUR_WEIGHTS_LIST"
"""The variable that names the user's own list."""
_PACKAGE = Path(__file__).parents[1]
# Unlike those of Path these raise nothing: not for a name that is too long, nor for the home of a user that there is not.
_is_file, _is_dir, _exists, _at_home = os.path.isfile, os.path.isdir, os.path.exists, os.path.expanduser


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A file of weights, verified."""

    path: Path
    entry: Entry | None = None
    """Its row; None for a path or an address."""


def entries(listed: str | None = None) -> dict[str, Entry]:
    """The rows by name: those of ``weights.toml`` in its own order, then those of the user's list.

    Raises:
        WeightsError: the user's list cannot be read.
    """
    return _ours() | _theirs(listed)[0]


def aliases(listed: str | None = None) -> dict[str, str]:
    """Names that may move from release to release, such as ``default``, to names of :func:`entries`.

    The user's list may move them, too.
    """
    found: dict[str, str] = dict(_table().get("aliases", {}))
    if strangers := sorted(set(found.values()) - _ours().keys()):
        raise ValueError(f"weights.toml: there is no row {', '.join(strangers)} for an alias to name")
    return found | _theirs(listed)[1]


def locate(
    name_or_path: str, *, listed: str | None = None, offline: bool = False, told: hub.Told | None = None
) -> Path:
    """The path of what :func:`find` finds."""
    return find(name_or_path, listed=listed, offline=offline, told=told).path


def locate_all(
    names: Iterable[str], *, listed: str | None = None, offline: bool = False, told: hub.Told | None = None
) -> dict[str, Path]:
    """What was said to what :func:`find` finds for it."""
    return {name: locate(name, listed=listed, offline=offline, told=told) for name in names}


def find(
    name_or_path: str,
    *,
    listed: str | None = None,
    offline: bool = False,
    anew: bool = False,
    told: hub.Told | None = None,
) -> Found:
    """The file of a name, of an address ``hf://owner/repo[@revision]/file`` or of a path, fetched if need be.

    A file of a list is verified; a path is given back if something is there. Whatever has a folder in it, ends like a file of
    weights, or is a file here, is a path.

    Args:
        name_or_path: what was said.
        listed: the user's own list; None: the one that ``DEBLUR_WEIGHTS_LIST`` names, if any.
        offline: ask no network.
        anew: fetch again what was changed.
        told: called with the progress of a download, and with what the user should know of the weights.

    Raises:
        WeightsError: no such name, no such file, one that was changed, or one that cannot be fetched.
    """
    meant = known(name_or_path, listed=listed)
    if isinstance(meant, Path):
        return Found(path=meant)
    entry = meant if isinstance(meant, Entry) else None
    if told and entry and entry.non_commercial:
        told(hub.Noted(f"{entry.name} is not for commercial use: its licence is {entry.licence}."))
    if entry and entry.bundled:
        _verify(entry)
        return Found(path=_bundled(entry), entry=entry)
    wanted = _wanted(meant, name_or_path)
    return Found(path=hub.bring(wanted, offline=offline, anew=anew, told=told), entry=entry)


def present(meant: Entry | places.Place) -> Path | None:
    """The file of a row or an address, if one lies in the package or the cache; its content is not looked at."""
    if isinstance(meant, Entry) and meant.bundled:
        path = _bundled(meant)
        return path if path.is_file() else None
    return next(filter(None, map(places.cached, _wanted(meant).places)), None)


def audit(meant: Entry | places.Place, path: Path) -> str:
    """What is wrong with the file of a row or an address, as the end of a sentence; it is read from end to end.

    Raises:
        WeightsError: nobody has said what it should be.
    """
    if isinstance(meant, places.Place) and not places.content_sum(path):
        raise WeightsError(
            f"'{path}' cannot be verified: the cache of the Hub keeps no SHA-256 of it.",
            f"Write one into a list of your own; see deblur weights info {meant}.",
        )
    return hub.fault(path, _wanted(meant), trust=False)


def known(said: str, *, listed: str | None = None) -> Entry | places.Place | Path:
    """What was said, understood: a row, an address, or a path of something that is there. Nothing is fetched or looked into.

    Raises:
        WeightsError: there are no weights of that name.
    """
    if said.startswith(places.SCHEME):
        return places.parse(said)
    path = Path(_at_home(said))
    if _is_file(path):
        return path
    listing, others = entries(listed), aliases(listed)
    entry = listing.get(others.get(said, said))
    if entry is not None:
        return entry
    if _is_dir(path) or path.suffix in places.SUFFIXES or any(each in said for each in {os.sep, os.altsep or os.sep}):
        if _exists(path):
            return path  # A folder, say: whoever reads it knows whether it holds the parts of a net.
        raise WeightsError(f"'{said}' does not exist.", _hint(path.stem, [*others, *listing]))
    names = ", ".join((*others, *listing)) or "no names: this package has no weights"
    raise WeightsError(f"'{said}' is neither a file nor one of {names}.", _hint(said, [*others, *listing]))


def _wanted(meant: Entry | places.Place, said: str = "") -> hub.Wanted:
    """What is to lie in the Hub's cache."""
    if isinstance(meant, Entry):
        return hub.Wanted(name=meant.name, places=meant.places, sha256=meant.sha256, size=meant.size)
    return hub.Wanted(name=said or str(meant), places=(meant,))


def _hint(word: str, names: list[str]) -> str:
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else "Give the path of a .safetensors file, or one of the names."


def _verify(entry: Entry) -> None:
    """Compare a file of the package with its row."""
    path = _bundled(entry)
    try:
        wrong = sums.fault(path, sha256=entry.sha256, size=entry.size)
    except OSError as error:
        raise WeightsError(
            f"The weights '{entry.name}' cannot be read: {error.strerror or error}.", "Install deblur-cli anew."
        ) from error
    if wrong:
        raise WeightsError(
            f"The weights '{entry.name}' are not those that were released: '{path}' was changed; {wrong}.",
            "Install deblur-cli anew.",
        )


def _bundled(entry: Entry) -> Path:
    return _PACKAGE / "bundled" / entry.bundled


def _ours() -> dict[str, Entry]:
    try:
        return rows.read(_table())
    except ValueError as error:
        raise ValueError(f"weights.toml: {error}") from error


@cache
def _table() -> dict[str, Any]:
    """``weights.toml``: a wheel has it inside the package, a clone beside it."""
    for folder in (_PACKAGE, _PACKAGE.parent):
        if (folder / "weights.toml").is_file():
            return tomllib.loads((folder / "weights.toml").read_text(encoding="utf-8"))
    raise ValueError("weights.toml is missing from the package")


def _theirs(listed: str | None) -> tuple[dict[str, Entry], dict[str, str]]:
    """Rows and aliases of the user's list."""
    said = listed or os.environ.get(LIST)
    if not said:
        return {}, {}
    path = Path(_at_home(said))
    hint = "Write it like the weights.toml of deblur; deblur weights publish prints a row."
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        found = rows.read(table)
        others = _aliases(table, found)
    except OSError as error:
        raise WeightsError(
            f"The list of weights '{path}' cannot be read: {error.strerror or error}.",
            f"Give another one with --weights-list, or unset {LIST}.",
        ) from error
    except ValueError as error:  # of TOML, of UTF-8, or of a row
        raise WeightsError(f"The list of weights '{path}' is wrong: {error}.", hint) from error
    return found, others


def _aliases(table: dict[str, Any], found: dict[str, Entry]) -> dict[str, str]:
    """The aliases of the user's list, if it and ours do not contradict each other."""
    ours = _ours()
    if doubles := sorted(found.keys() & (ours.keys() | _table().get("aliases", {}).keys())):
        raise ValueError(f"{', '.join(doubles)} is a name of deblur's own list")
    if any(each.bundled for each in found.values()):
        raise ValueError("bundled is for the package; give hub, file and revision")
    said: Any = table.get("aliases", {})
    if not isinstance(said, dict) or not all(isinstance(each, str) for each in cast("dict[str, Any]", said).values()):
        raise ValueError("aliases is no table of names")
    others = cast("dict[str, str]", said)
    if strangers := sorted(set(others.values()) - found.keys() - ours.keys()):
        raise ValueError(f"there is no row {', '.join(strangers)} for an alias to name")
    if covered := sorted(others.keys() & (found.keys() | ours.keys())):
        raise ValueError(f"{', '.join(covered)} is both an alias and a row")
    return others
