"""Measured kernels of camera shake: from a folder or a file to arrays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.errors import InputError, UsageError

SUFFIXES = (".npy", ".png", ".mat")
_FAINT = 1e-3
"""Below this share of its largest value the border of a kernel is empty."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
"""At the beginning of such a file, or behind MATLAB's 512 bytes."""

Kernel = NDArray[np.float32]


def load(path: Path, *, largest: int) -> list[Kernel]:
    """Every kernel in ``path``, in the order of names.

    Args:
        path: a file, or a folder that is read with everything below it: ``.npy`` (one kernel, or a stack of them), ``.png``
            (grey, black is zero) or ``.mat`` (every matrix of numbers and every cell array of them).
        largest: most pixels a side may have once empty borders are cut off.

    Returns:
        (h, w) each, h and w odd, not negative, with the sum 1.

    Raises:
        InputError: nothing there, no kernel in it, or one that is too large.
        UsageError: a MATLAB file, and the library that reads it is not installed.
    """
    if not path.exists():
        raise InputError(f"'{path}' is not there.", "Name a folder or a file of kernels with --kernels PATH.")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    found: list[Kernel] = []
    for file in files:
        for values in _arrays(file):
            found.append(_settled(values, file))
            if max(found[-1].shape) > largest:
                raise InputError(
                    f"A kernel of '{file}' has {found[-1].shape[1]} x {found[-1].shape[0]} pixels; {largest} is the most "
                    "that --max-blur leaves room for.",
                    "Raise --max-blur, or leave the kernel out.",
                )
    if not found:
        raise InputError(f"'{path}' holds no kernel ({', '.join(SUFFIXES)}).", "Name another folder with --kernels.")
    return found


def _arrays(file: Path) -> Iterator[NDArray[Any]]:
    """The arrays of a file as they lie there."""
    try:
        if file.suffix.lower() == ".mat":
            # Beside kernels such files hold names and sizes.
            yield from (values for values in _matlab(file) if _is_matrix(values) and values.size > 1)
        elif file.suffix.lower() == ".npy":
            values = np.load(file, allow_pickle=False)
            yield from values if values.ndim == 3 else (values,)
        else:
            with Image.open(file) as image:
                yield np.asarray(image if image.mode.startswith("I") else image.convert("L"))
    except (OSError, ValueError, SyntaxError, NotImplementedError) as error:
        raise InputError(f"'{file}' cannot be read: {error}.", "Remove it from the folder or replace it.") from error


def _matlab(file: Path) -> Iterator[NDArray[Any]]:
    with file.open("rb") as opened:
        head = opened.read(520)
    if head[:8] == _HDF5 or head[512:] == _HDF5:
        yield from _matlab_7_3(file)
        return
    try:
        from scipy.io import loadmat, matlab  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _wanting(file, "scipy") from error
    try:
        variables = loadmat(file)
    except matlab.MatReadError as error:
        raise ValueError(str(error)) from error
    for name, value in variables.items():
        if not name.startswith("__"):
            yield from value.ravel() if value.dtype == object else (value,)


def _matlab_7_3(file: Path) -> Iterator[NDArray[Any]]:
    """HDF5, whose matrices are stored transposed and whose cells are references."""
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _wanting(file, "h5py") from error
    with h5py.File(file) as opened:
        for name in opened:
            value: Any = opened[name]
            if not isinstance(value, h5py.Dataset):
                continue
            cells = value[()].ravel() if value.dtype == object else ()
            yield from (np.asarray(opened[cell]).T for cell in cells)
            if value.dtype != object:
                yield np.asarray(value).T


def _settled(values: NDArray[Any], file: Path) -> Kernel:
    """The kernel without its empty borders, odd, with the sum 1."""
    kernel = values.astype(np.float32) if _is_matrix(values) else np.zeros((1, 1), np.float32)
    if not np.isfinite(kernel).all() or kernel.max() <= 0 or -kernel.min() > 0.05 * kernel.max():
        raise InputError(f"'{file}' holds something that is no kernel.", "A kernel is a matrix of weights above zero.")
    kernel = np.maximum(kernel, 0)
    rows, columns = (np.flatnonzero(kernel.max(axis) > _FAINT * kernel.max()) for axis in (1, 0))
    kernel = kernel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    kernel = np.pad(kernel, [(0, 1 - side % 2) for side in kernel.shape])
    return np.ascontiguousarray(kernel / kernel.sum())


def _is_matrix(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "fiub" and values.ndim == 2 and values.size > 0


def _wanting(file: Path, library: str) -> UsageError:
    return UsageError(
        f"{library} is not installed, and '{file}' cannot be read without it.", f"Type: pip install {library}"
    )
