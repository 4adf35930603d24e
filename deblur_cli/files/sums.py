"""SHA-256 of files, and the memory of which large ones were found right: by size and time of change.

A large file that has neither grown nor been touched since is not read again at every start. The memory is one small file for
each, in the user's cache; where that cannot be written, the file is read again, and nothing else happens.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

_LARGE = 16 * 2**20
"""Bytes from which it is worth to remember: less is read in a few hundredths of a second."""
_PIECE = 2**20


def of(path: Path) -> str:
    """The SHA-256 of the file as 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def of_folder(folder: Path) -> str:
    """What tells the files of a folder from others, by their names and contents, as 64 hexadecimal digits.

    Raises:
        OSError: one cannot be read.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(
        b"".join(f"{of(path)} ".encode() + os.fsencode(path.name) + b"\n" for path in files)
    ).hexdigest()


def fault(path: Path, *, sha256: str, size: int = 0, trust: bool = True) -> str:
    """What is wrong with the file, as the end of a sentence; empty if it is the one that is meant.

    Args:
        path: the file.
        sha256: what it should be.
        size: bytes; 0 if not known.
        trust: believe what was remembered; otherwise the file is read.

    Raises:
        OSError: it cannot be read.
    """
    state = path.stat()
    if size and state.st_size != size:
        return f"it has {state.st_size:,} bytes where {size:,} were expected"
    seen = f"{state.st_size} {state.st_mtime_ns} {sha256}"
    note = _note(path)
    if trust and state.st_size >= _LARGE and _read(note) == seen:
        return ""
    found = of(path)
    if found != sha256:
        return f"its SHA-256 is {found} where {sha256} was expected"
    if state.st_size >= _LARGE:
        _write(note, seen)
    return ""


def _note(path: Path) -> Path:
    """Where it is remembered."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - see places.cache
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return cache / "deblur" / "verified" / name


def _read(note: Path) -> str:
    try:
        return note.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _write(note: Path, text: str) -> None:
    if not note.is_absolute():  # nobody's home: what would become of a folder named ~
        return
    aside = note.with_name(f".{note.name}.{secrets.token_hex(4)}")
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="ascii")
        aside.replace(note)
    with suppress(OSError):
        aside.unlink(missing_ok=True)
