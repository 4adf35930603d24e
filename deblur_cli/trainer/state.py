"""A run on the disk: what ``--resume`` continues from, written whole or not at all."""

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deblur_cli.errors import InputError, WeightsError

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that the rest of a run depends on."""

    step: int
    """Steps taken."""
    net: str
    config: Mapping[str, Any]
    dials: Mapping[str, str]
    """The dials of the run as words, to tell what a resumed run changed."""
    best: float | None
    """The first score of the best weights so far."""
    learner: Mapping[str, Any]
    """Of :meth:`deblur_cli.trainer.learner.Learner.state`."""
    course: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of :meth:`deblur_cli.trainer.course.Course.state`; empty in files of before."""
    format: int = FORMAT


def path_in(folder: Path) -> Path:
    """Where the state of the run in ``folder`` lies."""
    return folder / "state.pt"


def save(state: State, folder: Path) -> None:
    """Write the state; until the last moment the one before stays as it is.

    Raises:
        OSError: the disk refuses; nothing has changed then.
    """
    buffer = io.BytesIO()
    torch.save({name: getattr(state, name) for name in State.__slots__}, buffer)
    path = path_in(folder)
    aside = path.with_suffix(".part")
    try:
        with aside.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def load(folder: Path, *, net: str, config: Mapping[str, Any]) -> State:
    """The state of the run in ``folder``.

    Args:
        folder: what ``--out`` named.
        net: the net that is to go on, in the catalogue's words.
        config: its dials as JSON.

    Raises:
        InputError: there is no run to resume.
        WeightsError: the file is not one of ours, or of another net.
    """
    path = path_in(folder)
    if not path.is_file():
        raise InputError(f"'{folder}' holds no run to resume.", "Leave out --resume, or name its folder with --out.")
    try:
        fields = torch.load(path, map_location="cpu", weights_only=True)
        state = State(**{name: fields[name] for name in State.__slots__ if name in fields})
    except (OSError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError, EOFError) as error:
        raise _foreign(path) from error
    if state.format != FORMAT:
        raise _foreign(path)
    if (state.net, dict(state.config)) != (net, dict(config)):
        raise WeightsError(
            f"'{folder}' holds a run of another net: {_difference(state, net, config)}.",
            "Say the same --backbone, --preset and prior options, or another --out.",
        )
    return state


def _foreign(path: Path) -> WeightsError:
    return WeightsError(
        f"'{path}' is not the state of a run of this version.", "Start anew with --init from its last.safetensors."
    )


def _difference(state: State, net: str, config: Mapping[str, Any]) -> str:
    if state.net != net:
        return f"{state.net}, not {net}"
    names = [name for name in {**state.config, **config} if state.config.get(name) != config.get(name)]
    return ", ".join(f"{name} is {state.config.get(name)!r} there and {config.get(name)!r} here" for name in names)
