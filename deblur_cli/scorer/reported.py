"""What the paper reports of a data set, to stand beside what was measured."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One row of a published table; None is what the table leaves out."""

    source: str
    """Paper and table."""
    method: str
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    seconds: float | None = None
    """Per image, on the paper's machine."""


def rows(dataset: str) -> list[Reported]:
    """The rows of the paper for ``dataset``, or for ``ablation``, in its order; none where it reports none."""
    table: dict[str, Any] = _tables().get(dataset, {})
    return [Reported(source=table["source"], **row) for row in table.get("rows", [])]


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("reported.toml").read_text(encoding="utf-8"))
