"""What a run wrote down: one JSON line per event, always; TensorBoard's events where they are wanted."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deblur_cli.errors import InputError, UsageError
from deblur_cli.trainer.events import Saved, Started, Step, Stopped, Unsaved, Validated

Event = Started | Step | Validated | Saved | Unsaved | Stopped


class Journal:
    """``log.jsonl`` in the folder of a run."""

    def __init__(self, folder: Path, *, start: int, tensorboard: bool = False) -> None:
        self._path = folder / "log.jsonl"
        # A run that was killed wrote of steps that were lost with it.
        kept = [line for line in _lines(self._path) if start and line["step"] <= start]
        aside = self._path.with_suffix(".part")
        try:
            aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            aside.replace(self._path)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"'{self._path}' cannot be written: {error.strerror}.", "Name another folder with --out."
            ) from error
        self._board = _board(folder, start) if tensorboard else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def note(self, event: Event) -> None:
        """Write the event down."""
        self._write({"event": type(event).__name__.lower(), **asdict(event)})
        if self._board is None:
            return
        if isinstance(event, Step):
            values = {f"loss/{name}": value for name, value in event.losses.items()}
            values |= {"rate": event.rate, "gradient": event.gradient, "crops per second": event.crops_per_second}
        elif isinstance(event, Validated):
            values = {f"validation/{name}": value for name, value in event.scores.items()}
        else:
            return
        for name, value in values.items():
            self._board.add_scalar(name, value, event.step)

    def _write(self, line: Mapping[str, Any]) -> None:
        # A full disk costs lines of the log, not the run: the state is what matters, and its saving says so.
        with suppress(OSError):
            self._file.write(json.dumps(line, default=str) + "\n")
            self._file.flush()


def _lines(path: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:  # the last line of a run that was killed while writing it
                continue
    return lines


def _board(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise UsageError("TensorBoard is not installed.", "Type: pip install deblur-cli[tensorboard]") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start or None)
