"""A benchmark on the terminal: a bar while it runs, a table in the end."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deblur_cli.cli.show import Screen

_DASH = "-"
_WIDEST = 200
_MEASURES = {"psnr": "PSNR", "ssim": "SSIM", "ssim2d": "SSIM 2-D", "psnr unaligned": "PSNR unaligned"}


class ScoreScreen(Screen):
    """Progress on standard error, tables on standard output."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._images: Any = None
        self._fetched: tuple[str, int] | None = None
        self._paces: list[Any] = []

    def tell(self, event: Any) -> None:
        """Say what happened."""
        kinds: dict[str, Callable[[Any], None]] = {
            "Fetching": self._fetching,
            "Started": self._started,
            "Scored": self._scored,
            "Measured": self._measured,
            "Pace": self._paces.append,
        }
        kinds.get(type(event).__name__, lambda other: self.say(str(other)))(event)

    def finished(self) -> None:
        """Show the speeds, if that is what was measured."""
        if self._paces:
            self._table("Speed on random images", _SPEED, [_speed(pace) for pace in self._paces], 0)

    def _fetching(self, event: Any) -> None:
        """A line for every tenth of a step: it may take hours."""
        tenth = (event.step, 10 * event.done // max(1, event.total))
        if tenth != self._fetched:
            self._fetched = tenth
            self.say(str(event))

    def _started(self, event: Any) -> None:
        self.say(str(event))
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
            speed_estimate_period=300,
        )
        self._images = self._bar.add_task("starting", total=event.work)
        self._bar.start()

    def _scored(self, event: Any) -> None:
        if self._bar is None:
            self.say(str(event))
        else:
            self._bar.update(self._images, advance=1, description=f"{event.score.name}  {event.score.gain:+.2f} dB")

    def _measured(self, event: Any) -> None:
        measures = [name for name in event.rows[0].after if not name.startswith("lpips")]
        head = ["Weights", "Images", "", "Input PSNR", *(_MEASURES[name] for name in measures), "LPIPS"]
        head += ["Gain", "Worse", "s/image", "MP/s", "Memory"]
        lines = [_measured_line(row, measures, event.lpips) for row in event.rows]
        lines += [_reported_line(row, measures) for row in event.reported]
        self._table(f"{event.title}; {event.protocol}", head, lines, len(event.reported))
        for row in event.rows:
            if row.group == "all" and row.unaligned:
                self.print(
                    f"{row.weights}: {row.unaligned} of {row.images} results could not be aligned; compared in place."
                )

    def _table(self, title: str, head: Sequence[str], lines: Sequence[Sequence[str]], reported: int) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
        for index, name in enumerate(head):
            table.add_column(name, justify="left" if index < 2 else "right", no_wrap=index > 1)
        for index, line in enumerate(lines):
            if reported and index == len(lines) - reported:
                table.add_section()
            style = "dim italic" if index >= len(lines) - reported else "bold" if line[1] == "all" else ""
            table.add_row(*(Text(cell) for cell in line), style=style)
        if self._bar is not None:
            self._bar.stop()
        Console(width=None if sys.stdout.isatty() else _WIDEST, highlight=False).print(table)


def _measured_line(row: Any, measures: Sequence[str], lpips: str) -> list[str]:
    values = [_number(name, row.after) for name in measures]
    distance = _number(f"lpips {lpips}", row.after)
    pace = [f"{row.seconds:.3f}", f"{row.megapixels_per_second:.2f}", _memory(row.memory)]
    before = _number("psnr", row.before)
    return [
        row.weights,
        row.group,
        str(row.images),
        before,
        *values,
        distance,
        f"{row.gain:+.2f}",
        f"{row.worse:.1%}",
        *pace,
    ]


def _reported_line(row: Any, measures: Sequence[str]) -> list[str]:
    known = {"psnr": row.psnr, "ssim": row.ssim, "lpips": row.lpips, "seconds": row.seconds}
    values = [_DASH if known.get(name) is None else str(known[name]) for name in (*measures, "lpips")]
    seconds = _DASH if row.seconds is None else str(row.seconds)
    return [f"{row.method}", f"reported, {row.source}", _DASH, _DASH, *values, _DASH, _DASH, seconds, _DASH, _DASH]


def _number(name: str, values: Mapping[str, float]) -> str:
    if name not in values:
        return _DASH
    return f"{values[name]:.{2 if name.startswith('psnr') else 4}f}"


def _memory(count: int | None) -> str:
    return _DASH if count is None else f"{count / 2**20:,.0f} MiB"


_SPEED = ["Weights", "Net", "Image", "Tile", "Device", "Precision", "s/image", "MP/s", "Memory"]


def _speed(pace: Any) -> list[str]:
    told = pace.weights
    sizes = [f"{pace.width} x {pace.height}", f"{pace.tile[0]} x {pace.tile[1]}"]
    figures = [f"{pace.seconds:.4f}", f"{pace.megapixels_per_second:.2f}", _memory(pace.memory)]
    return [told.name, told.net, *sizes, told.device, told.precision, *figures]
