"""Checkpoints as other authors publish them: pickles of torch, safetensors without a label, or a folder of several.

Only tensors leave this file; which net they fit is for others to find out. Nothing is unpickled but tensors and plain values.
"""

import hashlib
import pickle
import re
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from deblur_cli.errors import WeightsError

_PICKLES = (b"PK\x03\x04", b"\x80\x02")
_LABEL = frozenset({"net", "config", "format"})
"""What the metadata of our own checkpoints have, at least."""
_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "G")
"""Names under which checkpoints keep their state dict, the best first."""
_PREFIX = "module."
"""What training on several GPUs leaves before every name."""
_PART = re.compile(r"((?:en|de)coder)_lv(\d+)\.(?:pkl|pth|pt|safetensors)")
"""A file of DMPHN, whose nets are published one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The tensors of a checkpoint, by the names that their authors gave them."""

    tensors: Mapping[str, Tensor]
    """On the CPU, in the type that they were saved in; without wrappers and prefix. Those of a folder have the name of their
    file in front: ``encoder_lv1.layer1.weight``."""
    sums: Mapping[str, str]
    """Name of each file to its SHA-256, 64 hexadecimal digits."""


def is_published(path: Path) -> bool:
    """Whether ``path`` is for this file to read: a folder, a pickle, or safetensors without a label of ours.

    What is missing, torn or something else altogether is not: reading it as our own checkpoint tells what is wrong.
    """
    if path.is_dir():
        return True
    with suppress(OSError, safetensors.SafetensorError):
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
            return not metadata.keys() >= _LABEL
        with path.open("rb") as file:
            return file.read(4).startswith(_PICKLES)
    return False


def read(path: Path) -> Published:
    """The tensors in ``path``, a file, or a folder with those of DMPHN.

    Raises:
        WeightsError: there is no such file, it is torn, holds more than tensors and plain values, or no state dict.
    """
    if not path.is_dir():
        tensors, digest = _read(path)
        return Published(tensors=tensors, sums={path.name: digest})
    together: dict[str, Tensor] = {}
    sums: dict[str, str] = {}
    for name, part in sorted(_parts(path).items()):
        tensors, sums[part.name] = _read(part)
        together |= {f"{name}.{key}": values for key, values in tensors.items()}
    return Published(tensors=together, sums=sums)


def _parts(folder: Path) -> dict[str, Path]:
    """The files of a DMPHN by what they are called without their ending: one encoder and one decoder for each level."""
    try:
        found = {f"{match[1]}_lv{match[2]}": each for each in sorted(folder.iterdir()) if (match := _is_part(each))}
    except OSError as error:
        raise WeightsError(f"'{folder}' cannot be read: {error.strerror or error}.") from error
    levels = max((int(name.rpartition("lv")[2]) for name in found), default=0)
    wanted = [f"{side}_lv{level}" for level in range(1, levels + 1) for side in ("encoder", "decoder")]
    missing = [name for name in wanted if name not in found]
    if not wanted or missing or len(found) > len(wanted):
        lack = f"{missing[0]} is missing" if missing else "it has no encoder_lv1 and decoder_lv1 to begin with"
        raise WeightsError(
            f"'{folder}' is no folder of weights: {lack}.",
            "Give a file, or the folder with the six or eight files of a DMPHN, encoder_lv1.pkl and so on.",
        )
    return found


def _is_part(path: Path) -> re.Match[str] | None:
    return _PART.fullmatch(path.name)


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, and its SHA-256."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            if path.suffix == ".safetensors":
                found: object = safetensors.torch.load(file.read())
            else:
                found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    except pickle.UnpicklingError as error:
        # torch's own sentence advises to run whatever code the file holds.
        raise WeightsError(
            f"'{path}' holds more than tensors and numbers, and might run any code; it was not opened.",
            "Give a file that holds a state dict alone.",
        ) from error
    except Exception as error:  # torn files fail in torch with all kinds of errors, from KeyError to struct.error
        raise WeightsError(f"'{path}' is torn or no checkpoint: {_reason(error)}.", "Fetch it anew.") from error
    tensors = _state(found)
    if not tensors:
        raise WeightsError(
            f"'{path}' holds no state dict: no tensors by name, neither bare nor under {', '.join(_WRAPPERS)}.",
            "Give the file with the net's weights.",
        )
    if spoilt := [name for name, each in tensors.items() if each.is_floating_point() and not each.isfinite().all()]:
        raise WeightsError(f"'{path}' is spoilt: {spoilt[0]} holds values that are not numbers.", "Fetch it anew.")
    return tensors, digest


def _state(found: object) -> dict[str, Tensor]:
    """The tensors by name, out of their wrappers and without the prefix; none if there is anything else among them."""
    if not isinstance(found, Mapping):
        return {}
    named = cast("Mapping[Any, Any]", found)
    for wrapper in _WRAPPERS:
        if isinstance(named.get(wrapper), Mapping):
            return _state(named[wrapper])
    if not all(isinstance(name, str) and isinstance(values, Tensor) for name, values in named.items()):
        return {}
    tensors = {name: values.detach() for name, values in cast("Mapping[str, Tensor]", named).items()}
    if all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): values for name, values in tensors.items()}
    return tensors


def _reason(error: Exception) -> str:
    first = str(error).split("\n")[0].split(". ")[0].rstrip(". ")  # torch goes on to explain itself
    return textwrap.shorten(first, 160, placeholder=" ...") or type(error).__name__
