"""A benchmark on the terminal: a bar while it runs, a table in the end."""

import sys
from collections.abc import Callable
from typing import Any

from deblur_cli.cli.show import Screen
from deblur_cli.scorer.table import Line, Table, memory, table

_WIDEST = 200
_STYLES = {"all": "bold", "reported": "dim italic"}


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
            lines = [Line(_speed(pace), "all" if pace.by == "deblur" else "part") for pace in self._paces]
            self._table("Speed on random images", Table(_SPEED, lines))
            self.say(_EXPLAINED)

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
            self._bar.update(self._images, advance=1, description=f"{event.score.name}  {event.score.told}")

    def _measured(self, event: Any) -> None:
        self._table(f"{event.title}; {event.protocol}", table(event.rows, event.reported, event.lpips))
        for row in event.rows:
            if row.group == "all" and row.unaligned:
                self.print(
                    f"{row.weights}: {row.unaligned} of {row.images} results could not be aligned; compared in place."
                )

    def _table(self, title: str, whole: Table) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
        for index, name in enumerate(whole.head):
            grid.add_column(name, justify="left" if index < 2 else "right", no_wrap=index > 1)
        for index, line in enumerate(whole.lines):
            if index and line.sort == "reported" != whole.lines[index - 1].sort:
                grid.add_section()
            grid.add_row(*(Text(cell) for cell in line.cells), style=_STYLES.get(line.sort, ""))
        if self._bar is not None:
            self._bar.stop()
        Console(width=None if sys.stdout.isatty() else _WIDEST, highlight=False).print(grid)


_SPEED = (
    *("Weights", "By", "Net", "Image", "Tile", "Device", "Precision", "s/image", "MP/s", "Memory"),
    *("Times", "Gflop/s", "Share"),
)
_EXPLAINED = """plain: the same net through eager PyTorch in fp32, NCHW, the whole image at once.
Times: the seconds of plain over those of the row.
Gflop/s: what this device does in a matrix product of that precision. Share: how much of it the net's own products reach."""


def _speed(pace: Any) -> tuple[str, ...]:
    told = pace.weights
    sizes = [f"{pace.width} x {pace.height}", f"{pace.tile[0]} x {pace.tile[1]}"]
    figures = [f"{pace.seconds:.4f}", f"{pace.megapixels_per_second:.2f}", memory(pace.memory)]
    ratios = [_or_dash(pace.ratio, ".2f"), _or_dash(pace.limit, ",.0f"), _or_dash(pace.share, ".0%")]
    return (told.name, pace.by, told.net, *sizes, told.device, told.precision, *figures, *ratios)


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
