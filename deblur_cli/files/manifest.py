"""What is done, written down photo by photo, so that a run can be gone on with after anything that ended it.

A manifest is a file of JSON lines, one for each finished photo: its file, the result's, the SHA-256 of the weights and the
options that shape the picture; or a folder of such files, one for each process. The line is written when the result lies whole
aside and before it is put in its place: no result is ever in its place without its line, and a line without its result
(the process was killed between the two) is told by the result's size and time. Each line is appended by one write, so that
processes can share a file on a local disk; on a disk of the network, or on Windows, they should share a folder.
"""

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblur_cli.errors import InputError

_HEAD = '{"input": '
"""Begins each line, and stands nowhere within one: in a text its quotation marks would be escaped."""
_LONGEST = 2**20
"""Bytes that a line has at most."""
_absolute = os.path.abspath  # leaves links alone, which Path.resolve follows
_State = tuple[int, int]
"""Size in bytes and time of change in nanoseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pen:
    """Writes lines, and reads those that it would write again. It can be sent to another process."""

    path: Path
    folder: bool = False
    """Each process has a file of its own in there."""
    weights: str
    """SHA-256 of the checkpoint, or whatever else tells it from others."""
    options: Mapping[str, Any]
    """Those that shape the picture, as JSON can hold them."""

    def open(self) -> None:
        """Make the file, before hours of work are to be written down there.

        Raises:
            InputError: it cannot be written, or is a file of something else.
        """
        try:
            if self.folder:
                self.path.mkdir(parents=True, exist_ok=True)
            elif self.path.is_file():
                self._check()
            os.close(self._opened())
        except OSError as error:
            raise self._unwritable(error) from error

    def write(
        self, source: Path, target: Path, compare: Path | None, *, photo: os.stat_result, result: os.stat_result
    ) -> None:
        """Append the line of one photo.

        Args:
            source: the photo.
            target: its result.
            compare: its before/after picture, if one is wanted.
            photo: what its file was when it was read.
            result: what the file of the result will be.

        Raises:
            InputError: it cannot be written; a line that was begun is passed over by whoever reads it.
        """
        row = {
            "input": _absolute(source),
            "input_size": photo.st_size,
            "input_mtime_ns": photo.st_mtime_ns,
            "output": _absolute(target),
            "output_size": result.st_size,
            "output_mtime_ns": result.st_mtime_ns,
            "compare": compare and _absolute(compare),
            "weights": self.weights,
            "options": dict(self.options),
        }
        line = (json.dumps(row) + "\n").encode()
        try:
            file = self._opened()
            try:
                written = os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            raise self._unwritable(error) from error
        if written < len(line):
            raise InputError(f"The manifest '{self.path}' cannot be written: the disk is full.", "Free some space.")

    def recall(self, targets: Iterable[Path]) -> "Recalled":
        """What the manifest says of these results.

        Raises:
            InputError: it cannot be read.
        """
        wanted = set(map(_absolute, targets))
        recalled = Recalled(self.weights, self.options)
        try:
            for path in sorted(self.path.glob("*.jsonl")) if self.folder else [self.path]:
                if path.exists():
                    with path.open(encoding="ascii", errors="replace") as lines:
                        for line in lines:
                            recalled.add(_row(line), wanted)
        except OSError as error:
            raise InputError(f"The manifest '{self.path}' cannot be read: {error.strerror or error}.") from error
        return recalled

    def _check(self) -> None:
        """Refuse to append to what is no manifest, such as the photo that ``--manifest *.jpg`` comes to."""
        head = _HEAD.encode()
        with self.path.open("rb") as file:
            line = file.readline(_LONGEST).strip()
        if head not in line and not head.startswith(line):  # an only line that was cut off is ours, too
            raise InputError(
                f"'{self.path}' is no manifest: its first line tells of no photo.", "Say --manifest with another file."
            )

    def _opened(self) -> int:
        path = self.path
        if self.folder:
            # One file for each process: appending is safe on any disk where nobody else appends.
            path /= f"{re.sub(r'[^A-Za-z0-9]+', '-', platform.node()) or 'host'}-{os.getpid()}.jsonl"
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"The manifest '{self.path}' cannot be written: {error.strerror or error}.",
            "Say --manifest with another file.",
        )


class Recalled:
    """What a manifest says of some photos. Made by :meth:`Pen.recall`."""

    def __init__(self, weights: str, options: Mapping[str, Any]) -> None:
        self._weights = weights
        self._options = json.loads(json.dumps(dict(options)))
        self._results: dict[str, set[_State]] = {}
        self._beside: set[str] = set()
        self._last: dict[str, tuple[str, _State, _State, str | None] | None] = {}

    def add(self, row: Mapping[str, Any] | None, wanted: set[str]) -> None:
        """Take in a row, if it tells of a result that is wanted; a later row counts for more than an earlier one."""
        try:
            if row is None or row["output"] not in wanted:
                return
            before, after = ((row[f"{end}_size"], row[f"{end}_mtime_ns"]) for end in ("input", "output"))
            same = row["weights"] == self._weights and row["options"] == self._options
            source, result, beside = row["input"], row["output"], row["compare"]
            self._results.setdefault(result, set()).add(after)
            self._beside |= set() if beside is None else {beside}
        except (KeyError, TypeError):
            return  # a line of something else
        self._last[result] = (source, before, after, beside) if same else None

    def is_ours(self, path: Path) -> bool:
        """Whether the file is a result, or a before/after picture, that was written down and not changed since."""
        name = _absolute(path)
        return name in self._beside or _state(path) in self._results.get(name, set())

    def is_done(self, source: Path, target: Path, compare: Path | None) -> bool:
        """Whether the result is there and would come out the same: of the same photo, by the same weights and options."""
        last = self._last.get(_absolute(target))
        if last is None or last[0] != _absolute(source) or last[3] != (compare and _absolute(compare)):
            return False
        beside = compare is None or compare.is_file()
        return beside and last[1:3] == (_state(source), _state(target))


def _state(path: Path) -> _State | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _row(line: str) -> Mapping[str, Any] | None:
    """What a line tells; of one whose writer was killed and on which the next one went on, what the next one wrote."""
    start = line.rfind(_HEAD)
    try:
        return json.loads(line[start:]) if start >= 0 else None
    except ValueError:
        return None
