"""The deblurrer without torch: an exported net that takes the pixels of photos of any size, through ONNX Runtime.

It restores as ``deblurrer`` does, in the same tiles; only the library beneath is another one. Importing torch takes longer
than restoring a small photo: hence nothing here, nor what it imports, may do so.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from deblur_cli.errors import DeviceError, InputError, UsageError, WeightsError
from deblur_cli.files import exported, graph, memory, weights
from deblur_cli.pixels import arrays, samples, tiles

__all__ = ["OnnxDeblurrer"]

_Array = np.ndarray[Any, Any]
_Progress = Callable[[int, int], None]

_SHARE = 0.5
"""Of the free memory that a tile may take, as for torch on the CPU."""
_MOST = 9 * 2**28
"""Bytes that a tile may take however much is free, as for torch."""
_HELD = 3
"""Times the numbers that the net counts, measured: the runtime frees a map later than torch, and overwrites fewer of them."""
_TILE_BYTES = 4 * 3 * 6
"""Bytes per pixel besides the net's own."""
_BAND_BYTES = 4 * 3 * 2 + 8
"""Bytes per pixel of the row of tiles: its corrections, what it shares with the row above, and the photo's own samples."""
_BAND_ROWS = 32


class OnnxDeblurrer:
    """A loaded graph. Made by :meth:`open`; not to be shared between threads."""

    device = "cpu (onnx)"

    def __init__(
        self,
        path: Path,
        net: graph.Graph,
        facts: exported.Facts,
        *,
        tile: int | None,
        overlap: int | None,
        strength: float,
        tta: bool,
        max_memory: int | None = None,
    ) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}, not between 0 and 1")
        if min(tile or 0, overlap or 0) < 0:
            raise ValueError(f"{tile=} and {overlap=} must not be negative")
        self.label = facts.label
        self.precision = facts.precision
        self._path = path
        self._net = net
        self._facts = facts
        self._tile = facts.tile or tile
        self._limit = 0
        self._overlap = facts.overlap if overlap is None else overlap
        self._strength = strength
        self._tta = tta
        self._max_memory = max_memory
        self._plan: tiles.TilePlan | None = None
        self._coming = 0
        if facts.tile and tile not in {None, facts.tile}:
            raise UsageError(
                f"--tile {tile} is not what '{path}' was exported for: tiles of {facts.tile} pixels.",
                "Leave --tile out, or export it anew with another one.",
            )
        if self._tile and self._tile < self._smallest:
            raise UsageError(
                f"--tile {self._tile} is too small for this net: its tiles share {self._overlap} pixels.",
                "Say a smaller --overlap." if facts.tile else f"Say --tile {self._smallest} or more.",
            )

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        strength: float = 1.0,
        tta: bool = False,
        max_memory: int | None = None,
    ) -> Self:
        """Load an ``.onnx`` file of ``deblur export``.

        Args:
            path: of the file.
            device: ``auto`` or ``cpu``.
            precision: ``auto``, or the one that the file was exported in.
            tile: longest side of a tile in pixels; 0 takes the photo whole; None chooses from the free memory.
            overlap: pixels that neighbouring tiles share; None takes what the net needs.
            strength: 0 to 1, the share of the correction that is applied.
            tta: average over the eight turned and mirrored views of each tile, for eight times the work.
            max_memory: bytes that this process, photos included, may have in all, as far as the choice of tiles decides it;
                None: as much as is free.

        Raises:
            WeightsError: the file is missing, torn, or not made by ``deblur export``.
            DeviceError: another device than the CPU.
            UsageError: ONNX Runtime is not installed, or precision or tile are not those of the file.
        """
        if device not in {"auto", "cpu"}:
            raise DeviceError(
                f"An .onnx file runs on the CPU, not on {device}.", "Say --device cpu, or give the checkpoint instead."
            )
        place = weights.locate(str(path))
        net = graph.load(place)
        facts = exported.from_texts(place, net.metadata)
        if precision not in {"auto", facts.precision}:
            raise UsageError(
                f"--precision {precision} is not that of '{place}', which was exported in {facts.precision}.",
                "Say --precision auto, or export it anew.",
            )
        return cls(place, net, facts, tile=tile, overlap=overlap, strength=strength, tta=tta, max_memory=max_memory)

    def restore(self, pixels: _Array, *, into: _Array | None = None, progress: _Progress | None = None) -> _Array:
        """Restore the pixels of a photo.

        Args:
            pixels: (H, W, 1 or 3), uint8, uint16 or float32 in [0, 1]; floats beyond that range keep what is beyond.
            into: of the same shape and number format, where the result goes; None: a new array.
            progress: called after each tile with the number of those done and of all.

        Returns:
            ``into``, or the new array.

        Raises:
            InputError: the photo holds values that are not numbers.
            DeviceError: the memory does not suffice even for the smallest tile.
        """
        samples.check(pixels)
        height, width, channels = pixels.shape
        peak = samples.PEAKS[pixels.dtype.name]
        try:
            restored = np.empty(pixels.shape, pixels.dtype) if into is None else into
        except MemoryError as error:
            raise DeviceError("The memory does not suffice for the restored photo.", "Close other programs.") from error

        self._coming = restored.nbytes if into is None else 0

        def read(tile: tiles.Tile) -> _Array:
            part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            return part.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(peak)

        for top, correction in self._corrections(height, width, read, progress):
            for first in range(0, correction.shape[1], _BAND_ROWS):  # or the copies would be as large as the band
                part = correction[:, first : first + _BAND_ROWS]
                change = part if channels == 3 else part.mean(0, keepdims=True)
                change = change.transpose(1, 2, 0) * np.float32(self._strength * peak)
                rows = slice(top + first, top + first + part.shape[1])
                restored[rows] = samples.corrected(pixels[rows], change)
            del correction  # or it would stay in memory while the next one is made
        return restored

    def plan_for(self, height: int, width: int) -> tiles.TilePlan:
        """The tiles of a photo of this size: those that it was restored in, if it was the last one."""
        if self._plan is not None and (self._plan.height, self._plan.width) == (height, width):
            return self._plan
        return self._new_plan(height, width)

    @property
    def _smallest(self) -> int:
        return tiles.smallest_tile(self._overlap, self._facts.multiple_of)

    def _new_plan(self, height: int, width: int) -> tiles.TilePlan:
        facts = self._facts
        dials: dict[str, Any] = {"overlap": self._overlap, "multiple_of": facts.multiple_of, "soft": not facts.local}
        if self._tile is not None:
            side = min(self._tile or self._limit, self._limit) if self._limit else self._tile
            return tiles.plan(height, width, tile=side, exact=bool(facts.tile), **dials)
        size = min(memory.free_bytes() * _SHARE, _MOST)
        if self._max_memory is not None:
            size = min(size, memory.left_of(self._max_memory) - self._coming)
        # Half precision is computed in float32, too.
        room = tiles.Room(size=size, tile=_HELD * facts.values_per_pixel * 4 + _TILE_BYTES, band=_BAND_BYTES)
        alike = facts.longest and max(facts.longest, self._smallest)
        longest = min((each for each in (self._limit, alike) if each), default=0)
        plan = tiles.fit(height, width, room=room, longest=longest, **dials)
        if self._max_memory is not None:
            whose = f"this net and a photo of {width} x {height} pixels"
            memory.check_budget(self._max_memory, room.size, room.taken(plan), whose)
        return plan

    def _corrections(
        self, height: int, width: int, read: Callable[[tiles.Tile], _Array], progress: _Progress | None
    ) -> Iterator[tuple[int, _Array]]:
        """Bands of corrections, (3, rows, width) float32; a shortage of memory halves the tiles on the way."""
        start = 0
        while start < height:
            self._plan = self._new_plan(height, width)
            try:
                for top, band in arrays.run(self._correct, read, self._plan, start=start, progress=progress):
                    start = top + band.shape[1]
                    yield top, band
                    del band
            except MemoryError as error:
                self._shrink(self._plan, error)

    def _shrink(self, plan: tiles.TilePlan, error: Exception) -> None:
        side = max(plan.tile_height, plan.tile_width)
        if side <= self._smallest or self._facts.tile:
            raise DeviceError(
                f"The memory does not suffice even for tiles of {side} pixels, the smallest of this net.",
                "Close other programs, or export it with a smaller --tile."
                if self._facts.tile
                else "Close other programs.",
            ) from error
        self._limit = max(self._smallest, side // 2)

    def _correct(self, tile: _Array) -> _Array:
        """The correction of one tile: (1, 1 or 3, H, W) float32 to (1, 3, H, W) float32."""
        if not _finite(tile):
            raise InputError("The photo holds values that are not numbers.", "Replace them first.")
        blurred = np.broadcast_to(np.clip(tile, 0, 1), (1, 3, *tile.shape[2:]))
        correction = self._views(blurred)
        if not _finite(correction):
            hint = "Use other weights." if self.precision == "fp32" else "Export it anew in fp32."
            raise WeightsError(f"The net of '{self._path}' gives values that are not numbers.", hint)
        return correction

    def _views(self, blurred: _Array) -> _Array:
        """The correction, averaged over the eight views if wanted."""
        if not self._tta:
            return self._run(blurred)
        total = np.zeros_like(blurred)
        for mirrored in (False, True):
            for turns in range(4):
                view = np.rot90(blurred[..., ::-1] if mirrored else blurred, turns, (-2, -1))
                back = np.rot90(self._run(view), -turns, (-2, -1))
                total += back[..., ::-1] if mirrored else back
        return total / 8

    def _run(self, view: _Array) -> _Array:
        view = np.ascontiguousarray(view)
        return self._net(view) - view


def _finite(values: _Array) -> bool:
    # One number tells: whatever is not finite stays so in a sum.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum(dtype=np.float64)))
