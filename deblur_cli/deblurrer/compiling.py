"""``torch.compile`` as a command can have it: with a cache of the tool's own, without chatter, and with one clear refusal."""

import logging
import os
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from deblur_cli.errors import DeviceError
from deblur_cli.files import places

_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def prepare(device: torch.device) -> Callable[[nn.Module], Callable[..., Any]]:
    """What compiles a net for ``device``: when the result is first called with a shape, and from the cache if it was before.

    The cache is a folder ``compiled`` in the tool's own, or where the user's TORCHINDUCTOR_CACHE_DIR says.
    """
    folder = places.own_cache() / "compiled"
    if folder.is_absolute():  # nobody's home: what would become of a folder named ~
        os.environ.setdefault(_CACHE, str(folder))
    mode = "reduce-overhead" if device.type == "cuda" else "default"  # the former adds CUDA graphs

    def compile_(net: nn.Module) -> Callable[..., Any]:
        return torch.compile(net, dynamic=False, mode=mode)

    return compile_


@contextmanager
def quietly() -> Generator[None]:
    """While a net is compiled: the compiler's warnings go nowhere, and its failure is one sentence.

    Raises:
        DeviceError: there is no compiler that torch can use; a shortage of memory stays what it is.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        cause = _compilers(error)
        if cause is None:
            raise
        raise DeviceError(
            f"The net cannot be compiled here: {_line(cause)}",
            "Install a C++ compiler (g++ or clang), on a GPU also triton; or leave --compile out.",
        ) from error
    finally:
        logging.disable(disabled)


def _compilers(error: BaseException) -> BaseException | None:
    """What went wrong in the compiler, if it did there and was no shortage of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return None
    inner = getattr(error, "inner_exception", None) or error
    if isinstance(inner, MemoryError | torch.OutOfMemoryError):
        return None
    return inner if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")) else None


def _line(error: BaseException) -> str:
    """The first line of a message, as a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if text.endswith(".") else text + "."
