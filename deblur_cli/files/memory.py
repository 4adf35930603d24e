"""The free memory of this machine, as this process may take it, and what the process has."""

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from deblur_cli.errors import DeviceError

_USABLE = 0.85
_ASSUMED = 4 * 2**30
"""Bytes, where the system does not tell."""


def free_bytes() -> int:
    """Memory that can be taken now: the least that any limit leaves."""
    return max(0, min(_host()))


def used_bytes() -> int:
    """Physical memory that this process has now; where the system tells only the most it has ever had, that."""
    if sys.platform == "linux":
        with suppress(OSError, ValueError):
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def give_back() -> None:
    """Have the C library give what was freed back to the system, where it is glibc: it may keep it otherwise."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def left_of(most: int) -> float:
    """Bytes that this process may still take if it is to have ``most`` of them, less what allocators waste."""
    give_back()
    return (most - used_bytes()) * _USABLE


def check_budget(most: int, left: float, needed: float, whose: str) -> None:
    """Refuse a ``--max-memory`` that does not suffice.

    Args:
        most: bytes that were said.
        left: bytes of them that are not in use.
        needed: bytes that must be left.
        whose: what needs them.

    Raises:
        DeviceError: there are too few.
    """
    if needed > left:
        raise DeviceError(
            f"--max-memory {_megabytes(most)} is too little for {whose}.",
            f"Say --max-memory {_megabytes(1.1 * (most - left + needed))} or more.",
        )


def _megabytes(count: float) -> str:
    return f"{math.ceil(count / 2**20)}M"


def _host() -> Iterator[int]:
    """What each of the limits of this process leaves, in bytes."""
    yield _available()
    yield from _groups()
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = Path("/proc/self/statm").read_text().split()[0] if sys.platform == "linux" else "0"
            yield limit - int(used) * resource.getpagesize()


def _available() -> int:
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return _ASSUMED


def _groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What the control groups of this process leave, versions 1 and 2, its own and all above."""
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in {"", "memory"}:
                continue
            names = (
                ("memory.max", "memory.current")
                if not controllers
                else ("memory.limit_in_bytes", "memory.usage_in_bytes")
            )
            place = root / controllers
            # A container sees its own group at the root, though its path may be told from outside.
            folder = place / path.lstrip("/")
            for each in (folder, *folder.parents):
                if each.is_relative_to(place):
                    yield from _group(each, *names)


def _group(folder: Path, limit: str, usage: str) -> Iterator[int]:
    with suppress(OSError, ValueError):  # ValueError: "max", no limit
        left = int((folder / limit).read_text()) - int((folder / usage).read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        yield left + int(facts.get("total_inactive_file", facts.get("inactive_file", "0")))
