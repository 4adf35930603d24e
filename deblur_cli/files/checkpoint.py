"""Checkpoint files: one safetensors file, whose header is its label.

The header's metadata holds the fields of :class:`Label`. What a net is, is read there and never guessed from the names of
tensors. The same checkpoint is the same bytes on every machine.
"""

import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from deblur_cli.errors import InputError, WeightsError
from deblur_cli.files import exported
from deblur_cli.files.label import FORMAT, Label, from_metadata, to_metadata

__all__ = ["FORMAT", "Checkpoint", "Label", "load", "read_label", "save"]

_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.int64})  # int64: the counters of normalisation
_PICKLES = (b"PK\x03\x04", b"\x80\x02")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A label and the tensors of a net's state."""

    label: Label
    tensors: Mapping[str, Tensor]
    """Name to tensor, on the CPU, in the type they were saved in."""


def load(path: Path) -> Checkpoint:
    """The checkpoint in ``path``, whole.

    Raises:
        WeightsError: the file is missing, torn, of another kind, or of a newer format.
    """
    label = read_label(path)
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise WeightsError(f"'{path}' holds {name} as {tensor.dtype}; fp32, bf16 or fp16 was expected.")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(
                f"'{path}' is spoilt: {name} holds values that are not numbers.", "Fetch or train it anew."
            )
    return Checkpoint(label=label, tensors=tensors)


def read_label(path: Path) -> Label:
    """The label of the checkpoint in ``path``, without reading the tensors.

    Raises:
        WeightsError: as :func:`load` does.
    """
    exported.refuse(path)
    if path.is_dir():
        raise WeightsError(f"'{path}' is a folder; a .safetensors file was expected.", "Name the file in it.")
    try:
        # The header alone tells whether the file is whole: it knows where the last tensor ends.
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    if not {"net", "config", "format"} <= metadata.keys():
        raise WeightsError(
            f"'{path}' has no label: it is a safetensors file, but not one of this program.",
            "Give a checkpoint that deblur made.",
        )
    return from_metadata(path, metadata)


def save(checkpoint: Checkpoint, path: Path, *, facts: Mapping[str, str] | None = None) -> None:
    """Write ``checkpoint`` to ``path``, whole or not at all.

    Args:
        checkpoint: to be written.
        path: of the file; one that is there already is replaced.
        facts: more for the header, for other programs; this one reads the label alone.

    Raises:
        InputError: the file cannot be written.
    """
    # Channels-last or shared tensors are brought into the one layout that the format knows.
    tensors = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in sorted(checkpoint.tensors.items())
    }
    data = _sorted(safetensors.torch.save(tensors, metadata={**(facts or {}), **to_metadata(checkpoint.label)}))
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise InputError(
            f"'{path}' could not be written: {error.strerror or error}.", "Choose a folder that exists and has room."
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _sorted(data: bytes) -> bytes:
    """The same file with its metadata in order: safetensors writes it in another one each time."""
    length = struct.unpack_from("<Q", data)[0]
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _unreadable(path: Path, error: Exception) -> WeightsError:
    """Why ``path`` is no checkpoint, in words that help."""
    if isinstance(error, FileNotFoundError):
        return WeightsError(
            f"'{path}' does not exist.", "Give the path of a .safetensors file, or a name of weights.toml."
        )
    if isinstance(error, OSError):
        return WeightsError(f"'{path}' cannot be read: {error.strerror or error}.")
    with suppress(OSError), path.open("rb") as file:
        head = file.read(8)
        if not head:
            return WeightsError(f"'{path}' is empty.", "Fetch or train it anew.")
        if head.startswith(_PICKLES):
            return WeightsError(
                f"'{path}' is a PyTorch pickle, which may run any code; a .safetensors file was expected.",
                "Give a checkpoint that deblur made.",
            )
    return WeightsError(f"'{path}' is torn or no checkpoint: {error}.", "Fetch or train it anew.")
