"""The checkpoints of an ablation: a folder in which Net0 to Net6 of the paper's Table 4 are found by their names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deblur_cli.errors import InputError
from deblur_cli.files import checkpoint
from deblur_cli.nets.ablation import TABLE4, Ablation


def find(folder: Path) -> dict[str, Path]:
    """The rows of the table that are there, in its order, and their checkpoints.

    A row is ``NAME/best.safetensors``, as ``deblur train --out FOLDER/NAME`` leaves it, ``NAME/last.safetensors`` where
    nothing was validated, or ``NAME.safetensors``; the name of Net0* is ``Net0-star`` there.

    Raises:
        InputError: there is none, or one is another net than its name says.
    """
    found: dict[str, Path] = {}
    for name, parts in TABLE4.items():
        stem = name.replace("*", "-star")
        places = (
            folder / stem / "best.safetensors",
            folder / stem / "last.safetensors",
            folder / f"{stem}.safetensors",
        )
        path = next((each for each in places if each.is_file()), None)
        if path:
            _check(path, name, parts)
            found[name] = path
    if not found:
        raise InputError(
            f"'{folder}' holds none of {', '.join(TABLE4)}.",
            "Each is NAME/best.safetensors, as deblur train --out FOLDER/NAME leaves it.",
        )
    return found


def _check(path: Path, name: str, parts: Ablation) -> None:
    prior: Mapping[str, Any] | None = checkpoint.read_label(path).config.get("prior")
    wanted = {"clc": parts.clc, "mla": parts.mla, "fusion": parts.fusion} if parts.guided else None
    is_so = (
        prior is None if wanted is None else prior is not None and all(prior.get(key) == wanted[key] for key in wanted)
    )
    if not is_so:
        raise InputError(
            f"'{path}' is not {name}: its prior is {_spelt(prior)}, that of {name} {_spelt(wanted)}.",
            "Train it with the flags of that row, or rename it.",
        )


def _spelt(prior: Mapping[str, Any] | None) -> str:
    return "none" if prior is None else ", ".join(f"{key} {prior.get(key)}" for key in ("clc", "mla", "fusion"))
