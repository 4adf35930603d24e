"""The table of a benchmark, cell by cell, for the terminal and for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deblur_cli.scorer.reported import Reported
from deblur_cli.scorer.scores import MEASURES, Row, gained, main, shown

_DASH = "-"


@dataclass(frozen=True, slots=True)
class Line:
    """One line; its first two cells are words, the rest numbers."""

    cells: tuple[str, ...]
    sort: str
    """``all``, ``part`` for a group of the images, ``reported`` for what somebody else measured."""


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured, and below it what a paper reports."""

    head: tuple[str, ...]
    lines: list[Line]


def table(rows: Sequence[Row], reported: Sequence[Reported], lpips: str) -> Table:
    """All cells.

    The seconds of a paper are left out: how its clock was read is not told, and ours waits for the device.

    Args:
        rows: measured.
        reported: of the paper.
        lpips: which was asked for: ``none``, ``alex`` or ``vgg``. Where it could not be measured there is a dash.
    """
    names = [name for name in rows[0].after if not name.startswith("lpips")]
    if lpips != "none" or any(each.lpips is not None for each in reported):
        names.append(f"lpips {lpips}")
    titles = [MEASURES.get(name, "LPIPS") for name in names]
    before = f"Input {MEASURES[main(rows[0].before)]}"
    head = ("Weights", "Group", "Images", before, *titles, "Gain", "Worse", "s/image", "MP/s", "Memory")
    lines = [Line(_measured(row, names), "all" if row.group == "all" else "part") for row in rows]
    return Table(head, lines + [Line(_quoted(each, names), "reported") for each in reported])


def memory(count: int | None) -> str:
    """Bytes as MiB; a dash where nothing tells."""
    return _DASH if count is None else f"{count / 2**20:,.0f} MiB"


def _measured(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    name = main(row.before)
    return (
        row.weights,
        row.group,
        str(row.images),
        _number(name, row.before),
        *(_number(each, row.after) for each in names),
        gained(name, row.gain),
        f"{row.worse:.1%}",
        f"{row.seconds:.3f}",
        f"{row.megapixels_per_second:.2f}",
        memory(row.memory),
    )


def _quoted(row: Reported, names: Sequence[str]) -> tuple[str, ...]:
    known = {"psnr": row.psnr, "ssim": row.ssim, "lpips": row.lpips}
    values = [known.get(name.partition(" ")[0] if name.startswith("lpips") else name) for name in names]
    cells = [_DASH if value is None else _as_printed(name, value) for name, value in zip(names, values, strict=True)]
    return (row.method, f"reported, {row.source}", _DASH, _DASH, *cells, *[_DASH] * 5)


def _as_printed(name: str, value: float) -> str:
    """With the zeros at the end that a float has lost: papers give two places of a PSNR and three of the others."""
    whole, _, places = str(value).partition(".")
    return f"{whole}.{places.ljust(2 if name == 'psnr' else 3, '0')}"


def _number(name: str, values: Mapping[str, float]) -> str:
    return shown(name, values[name]) if name in values else _DASH
