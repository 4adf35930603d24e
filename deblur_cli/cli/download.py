"""A bar for a download."""

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


def bar(name: str, total: int | None) -> Progress:
    """A bar on standard error that has been started.

    Args:
        name: of the file.
        total: bytes; None: not known.
    """
    made = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
    )
    made.add_task(name, total=total)
    made.start()
    return made
