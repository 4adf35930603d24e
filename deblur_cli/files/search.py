"""The photos that a few words stand for: files, folders and patterns.

What lies beside ``photo.jpg`` as ``photo-sharp.jpg`` or ``photo-compare.jpg`` is taken for a result of an earlier run and
left out when both are among the photos, so that a folder can be restored again after new photos arrived.
"""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import InputError
from deblur_cli.files import formats

BESIDE = "-sharp"
"""Ends the name of a result beside its photo."""
COMPARE = "-compare"
"""Ends the name of a before/after picture."""
_is_dir = os.path.isdir
_absolute = os.path.abspath  # leaves links alone, which Path.resolve follows
_matches = glob.iglob  # takes absolute patterns too, which Path.glob does not
_LITTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class Found:
    """One photo."""

    path: Path
    place: Path
    """Relative to the folder in which it was looked for; where the result goes in an output folder."""
    key: str
    """Its path relative to the folder of the search, or as it was said, with slashes: the same on every machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All photos, and how many files were left out."""

    photos: tuple[Found, ...]
    others: int
    """Files in folders that are no photos."""
    earlier: int
    """Results of earlier runs."""


def search(words: Iterable[str], *, recursive: bool, avoid: str | None, suffix: str | None) -> Findings:
    """All photos in the order they were named, each once.

    Args:
        words: files, which need not exist: reading them will say so; folders; patterns, for shells that do not expand them.
        recursive: look into the folders of folders too.
        avoid: the output folder, which is left out where a folder or a pattern leads into it, or, with no ending to tell
            results from photos, where it is one word among several, as in ``deblur * -o out/``.
        suffix: the ending of results, other than :data:`BESIDE`.

    Raises:
        InputError: there is no photo, or a folder cannot be read.
    """
    words = tuple(words)
    found: dict[str, Found] = {}
    others = 0
    outside = [word for word in words if avoid is None or suffix or not _same(word, avoid)]
    for word in outside or words:
        for each in _of_word(word, recursive=recursive, avoid=avoid):
            if each is None:
                others += 1
            else:
                found.setdefault(_absolute(each.path), each)
    photos = _without_earlier_results(list(found.values()), suffix)
    earlier = len(found) - len(photos)
    if not photos:
        raise _nothing(words, others=others, earlier=earlier, recursive=recursive)
    return Findings(photos=tuple(photos), others=others, earlier=earlier)


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder of this name; where ``Path.is_dir`` raises, for a name that is too long, there is none."""
    return _is_dir(path)


def _of_word(word: str, *, recursive: bool, avoid: str | None) -> Iterator[Found | None]:
    """The photos one word stands for; None for each file that is none."""
    if _is_dir(word):
        yield from _of_folder(Path(word), recursive=recursive, avoid=avoid)
    elif os.path.lexists(word) or not glob.has_magic(word):
        yield Found(Path(word), Path(Path(word).name), Path(word).as_posix())
    else:
        # Shells that do not expand patterns (and quoted ones) leave it to us.
        paths = [Path(each) for each in sorted(_matches(word, recursive=True)) if not _is_dir(each)]
        start = next(each for each in Path(word).parents if not glob.has_magic(str(each)))
        if avoid is not None and not _inside(start, avoid):
            paths = [each for each in paths if not _inside(each, avoid)]
        if not paths:
            raise InputError(f"No file matches '{word}'.", "Look at the pattern; ** stands for any folders.")
        for path in paths:
            if not _litter(path.name):
                yield Found(path, Path(path.name), path.relative_to(start).as_posix()) if _is_photo(path) else None


def _of_folder(folder: Path, *, recursive: bool, avoid: str | None) -> Iterator[Found | None]:
    def unreadable(error: OSError) -> None:
        raise InputError(f"'{error.filename}' cannot be read: {error.strerror}.", "Look at its permissions.") from error

    own = None if avoid is None or _same(folder, avoid) else os.path.realpath(avoid)
    for here, folders, names in os.walk(folder, onerror=unreadable):
        inside = sorted(each for each in folders if not each.startswith("."))
        folders[:] = [each for each in inside if os.path.realpath(Path(here, each)) != own] if recursive else []
        for name in sorted(names):
            path = Path(here, name)
            if not _litter(name):
                place = path.relative_to(folder)
                yield Found(path, place, place.as_posix()) if _is_photo(path) else None


def _same(path: str | Path, folder: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(folder)


def _inside(path: Path, folder: str) -> bool:
    """Whether a path is the folder, or lies below it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in formats.READABLE


def _litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _without_earlier_results(found: list[Found], suffix: str | None) -> list[Found]:
    beside = suffix or BESIDE
    tails = (beside + COMPARE, beside, COMPARE)
    originals = {(each.path.parent, each.path.stem) for each in found}

    def earlier(path: Path) -> bool:
        return any(
            path.stem.endswith(tail) and (path.parent, path.stem.removesuffix(tail)) in originals for tail in tails
        )

    return [each for each in found if not earlier(each.path)]


def _nothing(words: tuple[str, ...], *, others: int, earlier: int, recursive: bool) -> InputError:
    message = f"There is no photo in {', '.join(map(repr, words))}"
    if others or earlier:
        message += f" ({others} other files, {earlier} results of earlier runs)"
    deeper = any(each.is_dir() for word in words if _is_dir(word) for each in Path(word).iterdir())
    hint = (
        "Say -r to look into its folders too."
        if deeper and not recursive
        else f"Photos end in {', '.join(row.suffixes[0] for row in formats.FORMATS.values())}."
    )
    return InputError(message + ".", hint)
