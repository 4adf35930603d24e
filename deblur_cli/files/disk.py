"""Files on disk: read whole, mapped for a look at the header, written whole or not at all; every refusal a sentence.

What is being written lies aside as ``.deblur-HOST-PID-XXXXXXXX.part``. A process that is killed leaves it there; the name says
whose it was, so that another run can take it away.
"""

import contextlib
import errno
import hashlib
import mmap
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from deblur_cli.errors import DeblurError, InputError, UsageError

_REASONS = {
    errno.ENOENT: ("the folder does not exist", "Create the folder first."),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "Check the path."),
    errno.EACCES: ("permission is denied", "Change the permissions, or choose another folder with -o."),
    errno.EPERM: ("permission is denied", "Change the permissions, or choose another folder with -o."),
    errno.EROFS: ("the disk is read-only", "Choose another folder with -o."),
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another disk with -o."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another disk with -o."),
    errno.EFBIG: ("the file is larger than is allowed there", "Choose another disk with -o."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one with -o."),
}
_PART = re.compile(r"\.deblur-(?:([0-9a-f]{8})-)?(\d+)-[0-9a-f]{8}\.part")
_FORGOTTEN = 24 * 3600
"""Seconds after which nobody is still writing a file."""


def at_home(said: str) -> Path:
    """``said`` as a path, ``~`` and ``~user`` resolved; those of nobody stay as they are, to be found missing."""
    return Path(os.path.expanduser(said))  # noqa: PTH111 - Path.expanduser raises for a user that is unknown


def read(path: Path) -> bytes:
    """The whole file.

    Raises:
        InputError: it is missing, a folder, or may not be read.
    """
    try:
        if stat.S_ISCHR(path.stat().st_mode):
            raise InputError(f"'{path}' is a device, not a photo.", "Name the file of a photo, or - for a pipe.")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def is_pipe(path: Path) -> bool:
    """Whether what is there gives its bytes only once: it must not be looked into before it is read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def check_free(*paths: Path, hint: str = "Say --overwrite to replace it, or another -o.") -> None:
    """Refuse to replace what nobody said may be replaced; to be asked before the work whose result it would be.

    Raises:
        UsageError: something is there.
    """
    for path in paths:
        if os.path.lexists(path):
            raise UsageError(f"'{path}' is there already.", hint)


def check_writable(*paths: Path) -> None:
    """Refuse what :func:`write` would refuse, as far as it is seen before the work whose result it would be.

    Raises:
        UsageError: a folder is there.
        InputError: the folder is missing, or may not be written to.
    """
    for path in paths:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise _no_file(path, "a folder")
        try:
            target.parent.stat()
            if not os.access(target.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "permission denied")
        except OSError as error:
            raise _unwritable(path, error) from error


@contextlib.contextmanager
def mapped(path: Path) -> Generator[bytes | mmap.mmap]:
    """The file as a buffer of which only the parts that are looked at are read; a pipe is read whole.

    Raises:
        InputError: it is missing, a folder, or may not be read.
    """
    try:
        whole = _map(path) if path.is_file() else read(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        yield whole
    finally:
        if isinstance(whole, mmap.mmap):
            with contextlib.suppress(BufferError):  # a decoder still looks at it; the map goes when that does
                whole.close()


def write(
    path: Path,
    data: bytes | Callable[[BinaryIO], None],
    *,
    sealed: Callable[[os.stat_result], None] | None = None,
) -> None:
    """Put ``data`` at ``path``, whole or not at all: aside in the same folder first, then renamed into place.

    A file that was there before keeps its permissions, and a symbolic link stays a link; a new file follows the umask.

    Args:
        path: of the file.
        data: its content, or what writes it into the file.
        sealed: called when the file lies whole aside, with the size and times that it will keep in its place. If it raises,
            nothing is put there.

    Raises:
        UsageError: the path is a folder or a device.
        InputError: the folder is missing, full, or may not be written to; nothing is left behind.
    """
    target = Path(os.path.realpath(path))
    aside = target.with_name(f".deblur-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        before = target.exists()
        if before and not target.is_file():
            raise _no_file(path, "a folder" if target.is_dir() else "no ordinary file")
        _write_aside(aside, target, data, sealed, before=before)
    except OSError as error:
        raise _unwritable(path, error) from error


def sweep(folder: Path) -> int:
    """Take away what killed processes left half-written in ``folder``; the number of files that went.

    A file goes when its process is known to be dead, or when nobody has touched it for a day: of the processes of another
    machine, or another container, that writes into the same folder, this one knows nothing.
    """
    gone = 0
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for each in found:
            part = _PART.fullmatch(each.name)
            if part is not None and _forsaken(Path(each.path), part[1], int(part[2])):
                with contextlib.suppress(OSError):
                    Path(each.path).unlink()
                    gone += 1
    return gone


def _forsaken(path: Path, host: str | None, process: int) -> bool:
    if host == _host() and not _lives(process):
        return True
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > _FORGOTTEN
    return False


def _lives(process: int) -> bool:
    """Whether there is a process of that number, as far as this one can tell."""
    if sys.platform == "win32":  # where signal 0 is no question but a signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@cache
def _host() -> str:
    """Eight hexadecimal digits for where process numbers mean the same: a machine, or a container, since its start."""
    marks = [platform.node()]
    with contextlib.suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        marks.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:8]


def _write_aside(
    aside: Path,
    target: Path,
    data: bytes | Callable[[BinaryIO], None],
    sealed: Callable[[os.stat_result], None] | None,
    *,
    before: bool,
) -> None:
    try:
        with aside.open("xb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data)
        if before:
            shutil.copymode(target, aside)
        if sealed is not None:
            sealed(aside.stat())
        aside.replace(target)
    except BaseException:  # Ctrl-C too must leave nothing behind
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def _map(path: Path) -> bytes | mmap.mmap:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def _unreadable(path: Path, error: OSError) -> DeblurError:
    if path.is_symlink() and (isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP):
        return InputError(f"'{path}' is a link that leads to no file.", "Look where it leads: ls -l.")
    if isinstance(error, FileNotFoundError):
        return InputError(f"'{path}' does not exist.", "Check the spelling.")
    if path.is_dir():
        return InputError(f"'{path}' is a folder, not a photo.", "Name the photos inside it.")
    if isinstance(error, PermissionError):
        return InputError(f"'{path}' may not be read: permission is denied.", f"Allow it: chmod u+r '{path}'")
    return InputError(f"'{path}' cannot be read: {error.strerror or error}.", "Copy it to another disk first.")


def _no_file(path: Path, sort: str) -> DeblurError:
    return UsageError(f"'{path}' is {sort}, where a file is to be written.", "Name a file with -o.")


def _unwritable(path: Path, error: OSError) -> DeblurError:
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), "Choose another folder with -o."))
    return InputError(f"'{path}' cannot be written: {reason}.", hint)
