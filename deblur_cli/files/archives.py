"""Data sets that can be fetched: an archive on the Hugging Face Hub, pinned to its bytes, to a folder of images.

A download goes on where it was broken off, is checked against its SHA-256, and is unpacked aside first: the folder is there
whole or not at all. ``HF_ENDPOINT`` names a mirror; ``HF_HUB_OFFLINE=1`` forbids.
"""

import hashlib
import http.client
import os
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from filelock import FileLock, Timeout

from deblur_cli.errors import InputError

_TRIES = 5
_PAUSE = 1.0
"""Seconds before the second try; each pause is twice the one before."""
_TIMEOUT = 30
_PIECE = 2**20
_GONE = range(400, 500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A zip file that will never change."""

    repository: str
    """A data set of the Hub, owner and name."""
    revision: str
    """The full commit."""
    file: str
    sha256: str
    folder: str
    """What it is unpacked to, in the folder of data sets."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step has come."""

    step: str
    """``downloading``, ``checking`` or ``unpacking``."""
    done: int
    """Bytes."""
    total: int


ARCHIVES: Mapping[str, Archive] = MappingProxyType(
    {
        "gopro": Archive(
            repository="snah/GOPRO_Large",
            revision="592978466ae510d2734b199cad2fc79a346bda1c",
            file="GOPRO_Large.zip",
            sha256="24532c036712515cf33803704421311c91f6a080e76049d7e5e7fd22389f128e",
            folder="GOPRO_Large",
        )
    }
)
"""Name of a data set to its archive."""


def fetch(archive: Archive, folder: Path) -> Iterator[Progress]:
    """Download ``archive`` and unpack it in ``folder``, telling how far it is.

    Raises:
        InputError: no network, not enough room, other bytes than were published, an archive that is not to be trusted, or
            another process that fetches the same to the same folder.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
        raise InputError(
            f"{archive.file} is not here, and HF_HUB_OFFLINE forbids to fetch it.", "Unset HF_HUB_OFFLINE."
        )
    base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{base}/datasets/{archive.repository}/resolve/{archive.revision}/{archive.file}"
    part = folder / f".{archive.file}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{archive.file}.lock"):
            yield from _download(url, part)
            yield from _check(part, archive)
            yield from unpack(part, folder / archive.folder)
            part.unlink()
    except Timeout:
        raise InputError(
            f"Another process is fetching {archive.file} to '{folder}'.", "Say it again when that has ended."
        ) from None
    except OSError as error:
        raise InputError(
            f"{archive.file} cannot be written to '{folder}': {error.strerror or error}.", "Choose another --data DIR."
        ) from error


def unpack(path: Path, folder: Path) -> Iterator[Progress]:
    """Unpack a zip file as ``folder``, whole or not at all.

    Raises:
        InputError: no zip file, a name that leads out of the folder, a link, or not enough room.
    """
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            for member in members:
                _check_member(path, member)
            total = sum(member.file_size for member in members)
            _check_room(folder.parent, total)
            done = 0
            for member in members:
                _extract(archive, member, aside)
                done += member.file_size
                yield Progress("unpacking", done, total)
        aside.rename(folder)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"'{path}' is no whole zip file: {error}.", "Remove it, and fetch it anew.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _alone(lock: Path) -> Generator[None]:
    """No other process does what is done here under the same name; ``Timeout`` if one is at it."""
    with FileLock(lock, timeout=0):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows lets nobody remove what is open, and removes it afterwards
                lock.unlink()


def _download(url: str, part: Path) -> Iterator[Progress]:
    """Bring ``part`` to its full length, in several tries."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            yield from _pull(url, part)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code in _GONE
            if final or attempt == _TRIES - 1:
                raise InputError(
                    f"{url} cannot be fetched: {error}.", "Say it again to go on, or name a mirror with HF_ENDPOINT."
                ) from error
        else:
            return


def _pull(url: str, part: Path) -> Generator[Progress]:
    """One request for what is missing of ``part``."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - as said
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - the Hub's, or the user's mirror
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            error.close()
            return  # nothing is missing; whether it is right the hash tells
        raise
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        total = have + int(answer.headers.get("Content-Length", "0"))
        _check_room(part.parent, 2 * total - have)  # the archive, and what is in it
        with part.open("ab" if have else "wb") as file:
            while piece := answer.read(_PIECE):
                file.write(piece)
                have += len(piece)
                yield Progress("downloading", have, total)
    if have < total:
        raise ConnectionError(f"the connection broke after {have} of {total} bytes")


def _check(part: Path, archive: Archive) -> Iterator[Progress]:
    digest, done, total = hashlib.sha256(), 0, part.stat().st_size
    with part.open("rb") as file:
        while piece := file.read(16 * _PIECE):
            digest.update(piece)
            done += len(piece)
            yield Progress("checking", done, total)
    if digest.hexdigest() != archive.sha256:
        part.unlink()
        raise InputError(
            f"{archive.file} is not the one that was published: its SHA-256 is {digest.hexdigest()}.",
            "Say it again to fetch it anew, or fetch it by hand.",
        )


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename.replace("\\", "/"))
    link = stat.S_ISLNK(member.external_attr >> 16)
    if link or name.is_absolute() or ".." in name.parts or ":" in member.filename:
        raise InputError(
            f"'{path}' holds '{member.filename}', which leads out of its folder.", "Do not use this archive."
        )


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise InputError(
            f"'{folder}' has {free / 1e9:.1f} GB free; {wanted / 1e9:.1f} GB are needed.",
            "Free some space, or name another folder with --data DIR.",
        )


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    # Not ZipFile.extract, which repairs bad names in silence.
    target = folder / member.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _PIECE)
