"""One spell of a run: from its start until it is finished, its time is up, or somebody stops it."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Spell:
    """Watches the clock and the signals SIGINT and SIGTERM while it is entered; a second signal interrupts at once."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self.reserve = 1.0
        """Seconds that one more step and the last save are expected to take."""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def reason(self) -> str:
        """Why the run is to stop now: ``time``, the name of a signal, or nothing."""
        if self._signal is not None:
            return self._signal.name
        if self._deadline is not None and time.monotonic() + self.reserve >= self._deadline:
            return "time"
        return ""

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
