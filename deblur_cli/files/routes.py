"""Which photo goes into which file, settled before the first photo is touched.

Three rules keep photos safe: a result never replaces one of the photos that are to be restored, except the single photo
that ``-o`` names together with ``--overwrite``; two results never share a file; an existing file is replaced or skipped
only when that was said.
"""

import os
import unicodedata
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from deblur_cli.errors import DeblurError, InputError, UsageError
from deblur_cli.files import disk, formats, manifest, shards
from deblur_cli.files.search import BESIDE, COMPARE, Found, is_folder, search

_absolute = os.path.abspath  # leaves links alone, which Path.resolve follows
_is_link = os.path.islink  # where Path.is_symlink raises, for a name that is too long, there is none
_FORMATS_SAID = ", ".join(row.suffixes[0] for row in formats.FORMATS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way of one photo."""

    source: Path | None
    """None: standard input."""
    target: Path | None
    """None: standard output."""
    compare: Path | None = None
    """Where the before/after picture goes, if one is wanted."""
    finished: bool = False
    """The result exists and is to be left alone."""
    key: str = ""
    """See :class:`deblur_cli.files.search.Found`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """All photos of a run, and how many files were left out."""

    routes: tuple[Route, ...]
    others: int
    """Files in folders that are no photos."""
    earlier: int
    """Results of earlier runs."""
    elsewhere: int = 0
    """Photos of other shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How results are named; the words are those of the command."""

    output: str | None = None
    suffix: str | None = None
    format: str | None = None
    compare: bool = False
    overwrite: bool = False
    skip_existing: bool = False


def plan(
    inputs: Iterable[str],
    naming: Naming,
    *,
    recursive: bool = False,
    shard: tuple[int, int] = (1, 1),
    pen: manifest.Pen | None = None,
) -> Routes:
    """Find the photos and settle the names of the results.

    Args:
        inputs: files, folders, patterns, or ``-`` alone.
        naming: see :class:`Naming`.
        recursive: look into the folders of folders too, and mirror their tree in the output folder.
        shard: (I, N), of which I is from 1 to N: only the photos of this one of N shares. What their results would overwrite
            is looked for among all photos.
        pen: of a manifest; what it knows to be done is finished, and its results may be replaced.

    Raises:
        UsageError: the words contradict each other, or results would overwrite something.
        InputError: there is no photo, or a folder cannot be read or written.
    """
    words = tuple(inputs)
    _check_format(naming)
    if words == ("-",):
        routes = [_from_standard_input(naming)]
        _check_targets(routes, [], naming)
        return Routes(routes=tuple(_settled(routes, naming, None)), others=0, earlier=0)
    avoid = naming.output if naming.output not in {None, "-"} else None
    findings = search(words, recursive=recursive, avoid=avoid, suffix=naming.suffix)
    one = len(findings.photos) == 1 and not any(map(is_folder, words))
    routes = _to_targets(findings.photos, naming, one=one)
    _check_targets(routes, [each.path for each in findings.photos], naming)
    number, count = shard
    own = [each for each in routes if count == 1 or shards.share_of(each.key, count) == number]
    return Routes(
        routes=tuple(_settled(own, naming, pen)),
        others=findings.others,
        earlier=findings.earlier,
        elsewhere=len(routes) - len(own),
    )


@contextmanager
def folder(path: Path) -> Generator[None]:
    """Make a folder for what is written in the block; take it away again when nothing came of it."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{path}' cannot be made: {error.strerror}.", "Say another -o.") from error
    try:
        yield
    except BaseException:
        for each in made:
            with suppress(OSError):
                each.rmdir()
        raise


# Naming the results


def _check_format(naming: Naming) -> None:
    """Refuse a format that cannot be written, or that contradicts the output's name."""
    word = naming.format
    if word is not None and f".{word.lower()}" not in formats.WRITABLE:
        names = _FORMATS_SAID.replace(".", "")
        raise UsageError(f"--format {word} cannot be written.", f"Say one of {names}.")
    if word is None or naming.output is None:
        return
    said = _format(naming.output)
    if said is not None and said != _format(f"x.{word}"):
        raise UsageError(f"-o '{naming.output}' and --format {word} contradict each other.", "Leave out --format.")


def _from_standard_input(naming: Naming) -> Route:
    if naming.output in {None, "-"}:
        if naming.compare:
            raise UsageError("--compare writes beside the result, and standard output has no beside.", "Say -o FILE.")
        return Route(source=None, target=None)
    if _meant_as_folder(str(naming.output)):
        raise UsageError(f"A photo from standard input has no name to take in '{naming.output}'.", "Say -o FILE.")
    return _to_file(None, naming)


def _to_targets(found: Sequence[Found], naming: Naming, *, one: bool) -> list[Route]:
    if naming.output is None:
        suffix = BESIDE if naming.suffix is None else naming.suffix
        return [_beside(each, each.path.parent, suffix, naming) for each in found]
    if naming.output == "-":
        if len(found) > 1:
            raise UsageError(f"-o - takes one photo; there are {len(found)}.", "Say -o FOLDER/.")
        return [Route(source=found[0].path, target=None, key=found[0].key)]
    if one and not _meant_as_folder(naming.output):
        return [replace(_to_file(found[0].path, naming), key=found[0].key)]
    if _format(naming.output) and not _meant_as_folder(naming.output):
        raise UsageError(
            f"-o '{naming.output}' is one file; there {'is a folder' if len(found) == 1 else f'are {len(found)} photos'}.",
            f"Say -o {Path(naming.output).stem}/ for a folder.",
        )
    folder = Path(naming.output)
    return [_beside(each, folder / each.place.parent, naming.suffix or "", naming) for each in found]


def _meant_as_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or is_folder(output)


def _beside(found: Found, folder: Path, suffix: str, naming: Naming) -> Route:
    """The route into ``folder``, under the photo's own name."""
    source = found.path
    ending = _ending(source, naming.format)
    compare = folder / f"{source.stem}{suffix}{COMPARE}{ending}" if naming.compare else None
    target = folder / f"{source.stem}{suffix}{ending}"
    return Route(source=source, target=target, compare=compare, key=found.key)


def _ending(source: Path, word: str | None) -> str:
    """The result's ending: the photo's own, unless another format is wanted or the photo's ending tells nothing."""
    own = _format(source)
    if word is not None:
        return source.suffix if own == _format(f"x.{word}") else f".{word}"
    return source.suffix if own is not None else _sniffed(source)


def _format(path: Path | str) -> str | None:
    """The format that a result of this name would have; None if there is none."""
    return formats.format_of(path) if Path(path).suffix.lower() in formats.WRITABLE else None


def _sniffed(source: Path) -> str:
    """The ending that a photo with an ending of its own should have, told by its bytes."""
    if disk.is_pipe(source):  # its bytes come only once
        raise UsageError(f"'{source}' is a pipe: nothing tells the format of its result.", "Say -o FILE, or --format.")
    try:
        if not source.is_file():
            return source.suffix
        with source.open("rb") as file:
            return formats.FORMATS[formats.sniff(file.read(4096), source.name)].suffixes[0]
    except (OSError, DeblurError):
        return source.suffix  # no photo: reading it will say so, and the other photos are restored


def _to_file(source: Path | None, naming: Naming) -> Route:
    target = Path(str(naming.output))
    if naming.suffix:
        raise UsageError(f"--suffix means nothing with the whole name -o {target}.", "Leave out --suffix.")
    if _format(target) is None:
        raise UsageError(
            f"-o '{target}' does not end in a format that can be written.",
            f"Say one of {_FORMATS_SAID}, or -o {target}/ for a folder.",
        )
    compare = target.with_stem(target.stem + COMPARE) if naming.compare else None
    return Route(source=source, target=target, compare=compare)


# Keeping files safe


def _check_targets(routes: list[Route], sources: list[Path], naming: Naming) -> None:
    """Refuse results that would overwrite a photo or one another."""
    files = [(each.source, path) for each in routes for path in _files(each)]
    _check_sources(files, sources, naming)
    _check_collisions(files)


def _settled(routes: list[Route], naming: Naming, pen: manifest.Pen | None) -> list[Route]:
    """The routes, each finished or not, if nothing is in their way."""
    known = None if pen is None else pen.recall(each.target for each in routes if each.target is not None)
    existing = [path for each in routes for path in _files(each) if os.path.lexists(path)]
    for path in existing:
        if path.is_dir():
            raise UsageError(f"'{path}' is a folder.", "Say another name with -o.")
    foreign = [path for path in existing if known is None or not known.is_ours(path)]
    if foreign and not naming.overwrite and not naming.skip_existing:
        more = f" and {len(foreign) - 1} more results are" if len(foreign) > 1 else " is"
        raise UsageError(f"'{foreign[0]}'{more} there already.", "Say --overwrite, --skip-existing, or another -o.")
    for folder in {path.parent for each in routes for path in _files(each)}:
        _check_folder(folder)
    return [replace(each, finished=_is_finished(each, naming, known)) for each in routes]


def _is_finished(route: Route, naming: Naming, known: manifest.Recalled | None) -> bool:
    if route.source is None or route.target is None or not os.path.lexists(route.target):
        return naming.skip_existing and _exists(route.target)
    if known is not None and known.is_ours(route.target):
        return known.is_done(route.source, route.target, route.compare)
    return naming.skip_existing


def _files(route: Route) -> list[Path]:
    return [path for path in (route.target, route.compare) if path is not None]


def _check_sources(files: list[tuple[Path | None, Path]], sources: list[Path], naming: Naming) -> None:
    """Refuse to write over a photo that is to be restored, unless it is the one that ``-o`` names."""

    @cache  # a million photos lie in a few thousand folders
    def folder(path: Path) -> Path:
        return Path(os.path.realpath(path))

    def real(path: Path) -> str:
        return os.path.realpath(path) if _is_link(path) else str(folder(path.parent) / path.name)

    photos = set(map(real, sources))
    for source, target in files:
        if real(target) not in photos:
            continue
        named = naming.output is not None and target == Path(naming.output) and source is not None
        if named and naming.overwrite and _absolute(str(source)) == _absolute(target):
            continue
        meant = f"Say -o {source} if that is meant." if naming.overwrite else "Say --overwrite if that is meant."
        hint = meant if named else "Say -o FOLDER/, or another --suffix."
        raise UsageError(f"The result of '{source}' would overwrite the photo '{target}'.", hint)


def _check_collisions(files: list[tuple[Path | None, Path]]) -> None:
    """Refuse two results in one file, also where the file system takes two spellings for one."""
    exact: set[str] = set()
    first: dict[str, Path | None] = {}
    for source, target in files:
        key = _absolute(target)
        fold = unicodedata.normalize("NFC", key).casefold()
        if key in exact or (fold in first and _folds_case(target)):
            other = first[fold]
            alike = source is None or other is None or source.suffix == other.suffix
            raise UsageError(
                f"'{other}' and '{source}' would both be written to '{target}'.",
                "Restore them in two runs, each with an -o of its own." if alike else "Leave out --format.",
            )
        exact.add(key)
        first.setdefault(fold, source)


def _folds_case(path: Path) -> bool:
    """Whether the file system takes upper and lower case for the same, seen at the nearest folder that exists."""
    for here in Path(_absolute(path)).parents:
        turned = here.with_name(here.name.swapcase()) if here.name else here
        if here.exists() and turned != here:
            return turned.exists() and turned.samefile(here)
    return False


def _check_folder(folder: Path) -> None:
    """Refuse an output folder that cannot be made or written, before hours of work go there."""
    nearest = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), Path())
    if not nearest.is_dir():
        raise UsageError(f"'{nearest}' is a file, not a folder.", "Say another folder with -o.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"Nothing can be written into '{nearest}'.", "Look at its permissions, or say another -o.")


def _exists(path: Path | None) -> bool:
    return path is not None and os.path.lexists(path)
