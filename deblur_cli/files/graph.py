"""ONNX files, opened and run by ONNX Runtime on the CPU. Needs no torch."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from deblur_cli.errors import UsageError, WeightsError

_Array = np.ndarray[Any, Any]
_SHORTAGES = ("allocate memory", "bad_alloc", "bad allocation", "failed to allocate")
_SILENT = 4


class Graph:
    """A graph of one input and one output, ready to run. Made by :func:`load`."""

    def __init__(self, session: Any, errors: tuple[type[Exception], ...]) -> None:
        self._session = session
        self._errors = errors
        self._input: str = session.get_inputs()[0].name
        self.metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        """What the file says of itself."""

    def __call__(self, image: _Array) -> _Array:
        """The output for ``image``, (1, 3, H, W) float32.

        Raises:
            MemoryError: there is not enough for so large an image.
        """
        try:
            return self._session.run(None, {self._input: image})[0]
        except self._errors as error:
            if any(phrase in str(error).lower() for phrase in _SHORTAGES):
                raise MemoryError(str(error)) from error
            raise


def load(path: Path) -> Graph:
    """The graph in ``path``.

    As many threads as OMP_NUM_THREADS says; else ONNX Runtime takes one for each core.

    Raises:
        UsageError: ONNX Runtime is not installed.
        WeightsError: the file is missing, torn or no ONNX file.
    """
    try:
        import onnxruntime

        native = import_module("onnxruntime.capi.onnxruntime_pybind11_state")  # where it keeps its exceptions
    except ImportError as error:
        raise UsageError(
            f"'{path}' needs ONNX Runtime, which is not installed.",
            "Install it with: pip install 'deblur-cli[onnxruntime]'",
        ) from error
    named = vars(native).values()
    errors = tuple(each for each in named if isinstance(each, type) and issubclass(each, Exception))
    dials: Any = onnxruntime.SessionOptions()
    dials.log_severity_level = _SILENT  # what goes wrong is told by an exception, too
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal():
        dials.intra_op_num_threads = int(threads)
    try:
        if not path.stat().st_size:
            raise WeightsError(f"'{path}' is empty.", "Export it anew.")
        session: Any = onnxruntime.InferenceSession(path, dials, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise WeightsError(
            f"'{path}' cannot be read: {error.strerror or error}.", "Give an .onnx file of deblur export."
        ) from error
    except errors as error:
        raise WeightsError(
            f"'{path}' is torn or no ONNX file: {str(error).splitlines()[0]}", "Export it anew."
        ) from error
    if len(session.get_inputs()) != 1 or session.get_inputs()[0].type != "tensor(float)":
        raise WeightsError(f"'{path}' does not take one image of float32.", "Make one with deblur export.")
    return Graph(session, errors)
