"""Folders of blurred and sharp images to pairs: the layouts that the known data sets come in, and their counts.

Read are sequence folders (``train/SEQ/blur`` or ``blur_gamma`` beside ``sharp``), flat folders (``input`` and ``target``,
``blur`` or ``blurred`` and ``sharp``, ``blur`` and ``gt``), HIDE, REDS, RealBlur's scene folders, and list files whose lines
are "sharp blurred". Pairs are matched by name, never by order.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from deblur_cli.errors import InputError
from deblur_cli.files.photos import SUFFIXES
from deblur_cli.files.places import own_cache

T = TypeVar("T")

_FLAT = (("input", "target"), ("blurred", "sharp"), ("blur", "sharp"), ("blur_gamma", "sharp"), ("blur", "gt"))
_TRAINED, _HELD_OUT = frozenset({"train", "training"}), frozenset({"test", "testing", "val", "valid", "validation"})
"""Words by which a folder or a list says of its pairs that they are trained on, or kept for the test."""
_ROLE = re.compile(r"(?:^|(?<=[_-]))(?:blur(?:red|_gamma)?|sharp|gt|input|target)(?:[_-]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """One image, blurred and sharp."""

    name: str
    blurred: Path
    sharp: Path


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of one split of a data set."""

    title: str
    """What a label says of them: the set, the split, which of its blurs."""
    pairs: tuple[Pair, ...]
    known: int = 0
    """How many the split is known to have, of which only some may be here; 0 where nothing is known."""

    def __str__(self) -> str:
        return f"{len(self.pairs):,} pairs of {self.title}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What is known of a published data set."""

    title: str
    folders: tuple[str, ...]
    """Names its folder goes by."""
    counts: Mapping[str, int]
    """Split to the number of pairs."""
    source: str


DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        "gopro": Dataset(
            title="GoPro",
            folders=("GOPRO_Large", "GoPro", "GOPRO", "gopro"),
            counts={"train": 2103, "test": 1111},
            source="https://seungjunnah.github.io/Datasets/gopro (GOPRO_Large.zip, 9.5 GB; also snah/GOPRO_Large on the Hub)",
        ),
        "hide": Dataset(
            title="HIDE",
            folders=("HIDE_dataset", "HIDE", "hide"),
            counts={"train": 6397, "test": 2025},
            source="https://github.com/joanshen0508/HA_deblur",
        ),
        "realblur-j": Dataset(
            title="RealBlur-J",
            folders=("RealBlur-J_ECC_IMCORR_centroid_itensity_ref", "RealBlur_J", "RealBlur-J", "RealBlur"),
            counts={"test": 980},
            source="https://cgdata.postech.ac.kr/sharing/YhKdbtvD0 (RealBlur.tar.gz)",
        ),
        "realblur-r": Dataset(
            title="RealBlur-R",
            folders=("RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref", "RealBlur_R", "RealBlur-R", "RealBlur"),
            counts={"test": 980},
            source="https://cgdata.postech.ac.kr/sharing/YhKdbtvD0 (RealBlur.tar.gz)",
        ),
        "reds": Dataset(
            title="REDS",
            folders=("REDS", "reds"),
            counts={"train": 24000, "val": 3000},
            source="https://seungjunnah.github.io/Datasets/reds (train_blur.zip, train_sharp.zip; snah/REDS on the Hub)",
        ),
    }
)


def find(
    dataset: str,
    folder: Path | None,
    *,
    split: str = "train",
    blur_key: str = "blur",
    subset: bool = False,
    instead: str = "train on sharp photographs with --dataset photos --data DIR",
) -> Pairs:
    """The pairs of a data set.

    Args:
        dataset: a name of :data:`DATASETS`, or ``pairs`` for a folder in any of the layouts.
        folder: the data set or a folder that holds it; None looks where :func:`places` says.
        split: ``train``, ``test`` or ``val``.
        blur_key: ``blur`` or ``blur_gamma``, where a set has both.
        subset: accept another number of pairs than the set is known to have.
        instead: what a hint offers to do without the set.

    Raises:
        InputError: the set is not there, names do not match, or the count is wrong.
    """
    known = DATASETS.get(dataset)
    roots = [folder] if folder else places()
    bases = [base for root in roots for base in _bases(root, known)]
    for base in bases:
        for inside in (base / split, base):
            found = _read(inside, base, dataset, split, blur_key)
            if found:
                title = f"{known.title} {split}" if known else f"'{base.resolve().name}' {split}"
                title += f", {blur_key}" if dataset == "gopro" else ""
                _check_count(len(found), known, split, inside, subset=subset)
                told = known.counts.get(split, 0) if known else 0
                return Pairs(title, tuple(sorted(found, key=lambda pair: pair.name)), told)
    raise _absent(known, roots, split, instead)


def places() -> list[Path]:
    """The folders where data sets are looked for: ``DEBLUR_DATA``, then the user's cache."""
    said = os.environ.get("DEBLUR_DATA")
    cache = own_cache() / "data"
    return [Path(said), cache] if said else [cache]


def holds_pairs(folder: Path) -> bool:
    """Whether a folder looks like pairs rather than plain photographs."""
    return bool(_flat(folder) or _sequences(folder, "blur") or _lists(folder, "", "") or _scenes(folder))


def _absent(known: Dataset | None, roots: Sequence[Path], split: str, instead: str) -> InputError:
    where = " or ".join(f"'{root}'" for root in roots)
    if known is None:
        return InputError(
            f"{where} holds no pairs for {split}: no blur/ beside sharp/, no input/ beside target/, no list of pairs.",
            f"Name another folder with --data DIR, or {instead}.",
        )
    scenes = next((base for root in roots for base in _bases(root, known) if any(base.glob("*/gt"))), None)
    if scenes:
        return InputError(
            f"'{scenes}' holds scenes of {known.title}, but no list tells which of them are its {split} pairs.",
            f"Put RealBlur_{known.title[-1]}_{split}_list.txt beside it, from the authors' {split} lists.",
        )
    return InputError(
        f"{known.title} ({split}, {known.counts.get(split, 0):,} pairs) is not in {where}; "
        f"it is to be had at {known.source}.",
        f"Name its folder with --data DIR or DEBLUR_DATA, or {instead}.",
    )


def _bases(root: Path, known: Dataset | None) -> list[Path]:
    """The folder itself and, for a known set, the folders in it that bear its name."""
    inner = [root / name for name in known.folders] if known else []
    return [base for base in (*inner, root) if base.is_dir()]


def _read(folder: Path, base: Path, dataset: str, split: str, blur_key: str) -> list[Pair]:
    """The pairs of ``folder`` by the first layout that it has."""
    if not folder.is_dir():
        return []
    if dataset == "hide" and (base / "GT").is_dir():
        return _hide(base, split)
    if dataset == "reds" and (folder / f"{split}_{blur_key}").is_dir():
        return _match(_images(folder / f"{split}_{blur_key}"), _images(folder / f"{split}_sharp"), folder)
    mark = dataset.removeprefix("realblur-").upper() if dataset.startswith("realblur") else ""
    listed = _lists(base, mark, split) or _lists(base.parent, mark, split) if mark else _lists(base, "", split)
    if listed:
        return listed
    sides = _flat(folder, blur_key)
    if sides:
        return _match(_images(sides[0]), _images(sides[1]), folder)
    scenes = [] if mark else _scenes(folder, split)
    return _sequences(folder, blur_key, split) or scenes


def _flat(folder: Path, blur_key: str = "blur") -> tuple[Path, Path] | None:
    """The two folders of a flat layout."""
    preferred = sorted(_FLAT, key=lambda names: names[0] != blur_key)
    return next(
        ((folder / one, folder / two) for one, two in preferred if (folder / one).is_dir() and (folder / two).is_dir()),
        None,
    )


def _sequences(folder: Path, blur_key: str, split: str = "") -> list[Pair]:
    pairs: list[Pair] = []
    for sequence in sorted(folder.glob(f"*/{blur_key}")):
        sharp = sequence.parent / "sharp"
        if sharp.is_dir() and not _is_other({sequence.parent.name.lower()}, split):
            pairs += _match(_images(sequence), _images(sharp), sequence.parent, sequence.parent.name + "/")
    return pairs


def _scenes(folder: Path, split: str = "") -> list[Pair]:
    """RealBlur's ``sceneNNN/blur`` beside ``sceneNNN/gt``."""
    pairs: list[Pair] = []
    for scene in sorted(folder.glob("*/gt")):
        blurred = scene.parent / "blur"
        if blurred.is_dir() and not _is_other({scene.parent.name.lower()}, split):
            pairs += _match(_images(blurred), _images(scene), scene.parent, scene.parent.name + "/")
    return pairs


def _hide(base: Path, split: str) -> list[Pair]:
    blurred = _images(base / split)
    sharp = {path.name: path for path in (base / "GT").iterdir()}
    missing = [name for name in blurred if Path(name).name not in sharp]
    if missing:
        raise _unmatched(missing, base / "GT")
    return [Pair(Path(name).with_suffix("").as_posix(), path, sharp[path.name]) for name, path in blurred.items()]


def _lists(base: Path, mark: str, split: str) -> list[Pair]:
    """Pairs of a list file, each line "sharp blurred" relative to the folder of the file; of the list of this split."""
    files = sorted(base.glob(f"RealBlur_{mark}_{split}_list.txt" if mark else "*.txt"))
    lists = {file: rows for file in files if not _is_other(_words(file.stem), split) and (rows := _rows(file))}
    named = [file for file in lists if split in _words(file.stem)]
    chosen = named or list(lists)
    if not chosen:
        return []
    if split and len(chosen) > 1:
        raise InputError(
            f"'{chosen[0]}' and '{chosen[1].name}' both list pairs, and nothing tells which of them is for {split}.",
            f"Name the one that is meant {split}_list.txt.",
        )
    rows = lists[chosen[0]]
    missing = [name for row in rows for name in row if not (base / name).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} files that '{chosen[0]}' lists are not there, first '{missing[0]}'.",
            "Put the list file beside the folders that it names.",
        )
    return [Pair(blurred, base / blurred, base / sharp) for sharp, blurred in rows]


def _rows(file: Path) -> list[list[str]]:
    """The lines of a list of pairs, each two names; none where it is another text, which may be in any encoding."""
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeError):
        return []
    is_list = all(len(row) == 2 and Path(row[0]).suffix.lower() in SUFFIXES for row in rows)
    return rows if is_list else []


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _is_other(said: set[str], split: str) -> bool:
    """Whether a folder or a list is by what it says of itself for training where ``split`` is not, or the other way round.

    A net that is tested on what it was trained on gets a score that means nothing. Test and validation are not told apart:
    many sets have one of the two.
    """
    ours, theirs = (_TRAINED, _HELD_OUT) if split in _TRAINED else (_HELD_OUT, _TRAINED)
    return split in ours and bool(said & theirs) and not said & ours


def _images(folder: Path) -> dict[str, Path]:
    """Every image below ``folder`` by its relative name."""
    if not folder.is_dir():
        return {}
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    }


def _match(blurred: Mapping[str, Path], sharp: Mapping[str, Path], folder: Path, prefix: str = "") -> list[Pair]:
    """Pairs of the same name, the words for the role (``blur``, ``gt``) left out."""
    ours, theirs = _keyed(blurred, folder), _keyed(sharp, folder)
    odd = sorted(set(ours) ^ set(theirs))
    if odd:
        raise _unmatched([prefix + (ours.get(key) or theirs[key]).name for key in odd], folder)
    return [Pair(prefix + blurred_name(path, folder), path, theirs[key]) for key, path in ours.items()]


def blurred_name(path: Path, folder: Path) -> str:
    """The name of a pair: that of its blurred file, without the folder that says blurred."""
    return "/".join(path.relative_to(folder).with_suffix("").parts[1:])


def _keyed(images: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    keys = {_key(name): path for name, path in images.items()}
    if len(keys) < len(images):
        raise InputError(
            f"Two images in '{folder}' have the same name but for their suffix.",
            "Keep one of each, so that pairs match.",
        )
    return keys


def _key(name: str) -> str:
    path = Path(name)
    return (path.parent / _ROLE.sub("", path.stem)).as_posix().rstrip("_-")


def _unmatched(names: Sequence[str], folder: Path) -> InputError:
    return InputError(
        f"{len(names)} images in '{folder}' have no counterpart of the same name, first '{names[0]}'.",
        "Blurred and sharp images are matched by name: add what is missing or remove what is over.",
    )


def _check_count(count: int, known: Dataset | None, split: str, folder: Path, *, subset: bool) -> None:
    wanted = known.counts.get(split) if known else None
    if known and wanted and count != wanted and not subset:
        raise InputError(
            f"{known.title} has {wanted:,} pairs in {split}, '{folder}' holds {count:,}.",
            "Complete it, or accept what is there with --subset.",
        )


def spread(items: Iterable[T], count: int) -> list[T]:
    """At most ``count`` of some things, evenly over all of them."""
    everything = list(items)
    if len(everything) <= count:
        return everything
    return [everything[index * len(everything) // count] for index in range(count)]
