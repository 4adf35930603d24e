"""Pixels that lie on disk instead of in memory: files without a name, which go when the process does, however that ends."""

import contextlib
import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np

from deblur_cli.errors import InputError
from deblur_cli.files.decoding import Pixels

_SPARE = 2**26
"""Bytes that shall stay free on the disk."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Scratch:
    """Arrays on disk. What is read or written stays in memory until :meth:`rest`; the system keeps the rest where it likes."""

    def __init__(self, folder: Path) -> None:
        """Arrays in ``folder``, or where the system has its temporary files if that does not take them."""
        self._folders = (_existing(folder), Path(tempfile.gettempdir()))
        self._maps: list[mmap.mmap] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def array(self, shape: Sequence[int], dtype: str) -> Pixels:
        """A new array of zeros.

        Raises:
            InputError: no folder has so much room, or none may be written to.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with self.file(size) as file:
            whole = mmap.mmap(file.fileno(), size)
        self._maps.append(whole)
        return np.frombuffer(whole, dtype).reshape(shape)

    def pixels(
        self, height: int, width: int, channels: int, dtype: str, *, alpha: bool
    ) -> tuple[Pixels, Pixels | None]:
        """Room for the pixels (height, width, channels) of a photo and, if it has one, its alpha (height, width).

        Colours of eight bits lie as encoders hold them, four bytes for each pixel, the last of them alpha or nothing.
        """
        if dtype == "uint8" and channels == 3:
            whole = self.array((height, width, 4), dtype)
            return whole[..., :3], whole[..., 3] if alpha else None
        return self.array((height, width, channels), dtype), self.array((height, width), dtype) if alpha else None

    def file(self, size: int = 0) -> BinaryIO:
        """A new file of ``size`` bytes that has no name.

        Raises:
            InputError: no folder has so much room, or none may be written to.
        """
        for folder in self._folders:
            with contextlib.suppress(OSError):
                if shutil.disk_usage(folder).free < size + _SPARE:
                    continue
                file = cast("BinaryIO", tempfile.TemporaryFile(dir=folder, prefix=".deblur-"))  # noqa: SIM115
                try:
                    _reserve(file, size)
                except OSError:
                    file.close()
                    raise
                return file
        raise InputError(
            f"There is no room for {size / 1e6:,.0f} MB of pixels in '{self._folders[0]}' or '{self._folders[1]}'.",
            "Free some space, choose another disk with -o or TMPDIR, or say a larger --max-memory.",
        )

    def rest(self) -> None:
        """Let go of the memory of all arrays; what they hold stays."""
        if hasattr(mmap, "MADV_DONTNEED"):  # elsewhere the system alone decides
            for each in self._maps:
                each.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the arrays; the disk is free when nobody looks at them any more."""
        self.rest()
        self._maps.clear()


def _existing(folder: Path) -> Path:
    """The folder, or the one in which it will be."""
    folder = folder.absolute()
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)


def _reserve(file: BinaryIO, size: int) -> None:
    """Make the file so long, its blocks taken: a disk that fills up later must not kill who writes into a map of it.

    Raises:
        OSError: there is no room.
    """
    if not size:
        return
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in _FULL:
                raise
        else:
            return
    file.truncate(size)
