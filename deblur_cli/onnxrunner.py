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
from deblur_cli.pixels import arrays, layout, samples, tiles

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
    photos_ahead = 1
    """Photos that should be read while one is restored."""

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
        self._strength = strength
        self._tta = tta
        self._memory = _TileMemory(facts, max_memory)
        dials = layout.Dials(
            overlap=facts.overlap if overlap is None else overlap,
            multiple_of=facts.multiple_of,
            local=facts.local,
            tile=facts.tile or tile,
            exact=bool(facts.tile),
            longest=facts.longest,
        )
        self._layout = layout.Layout(dials, self._memory)
        if facts.tile and tile not in {None, facts.tile}:
            raise UsageError(
                f"--tile {tile} is not what '{path}' was exported for: tiles of {facts.tile} pixels.",
                "Leave --tile out, or export it anew with another one.",
            )
        if dials.tile and dials.tile < dials.smallest:
            raise UsageError(
                f"--tile {dials.tile} is too small for this net: its tiles share {dials.overlap} pixels.",
                "Say a smaller --overlap." if facts.tile else f"Say --tile {dials.smallest} or more.",
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
        compile: bool | None = None,  # noqa: A002 - as for checkpoints
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
            compile: not True: a graph is not compiled again.

        Raises:
            WeightsError: the file is missing, torn, or not made by ``deblur export``.
            DeviceError: another device than the CPU.
            UsageError: ONNX Runtime is not installed, precision or tile are not those of the file, or it is to be compiled.
        """
        if compile:
            raise UsageError("--compile is for checkpoints; an .onnx file is a graph already.", "Leave it out.")
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

        self._memory.coming = restored.nbytes if into is None else 0

        def read(tile: tiles.Tile) -> _Array:
            part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            return part.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(peak)

        def lane(pieces: Iterator[_Array], _batch: int) -> Iterator[_Array]:
            return map(self._correct, pieces)

        for top, correction in self._layout.run(arrays.NUMPY, lane, read, height, width, progress):
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
        return self._layout.plan_for(height, width)

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


class _TileMemory:
    """See :class:`layout.Memory`."""

    def __init__(self, facts: exported.Facts, max_memory: int | None) -> None:
        self.coming = 0
        """Bytes that the photo at hand will still use for other things."""
        self._facts = facts
        self._max_memory = max_memory

    def room(self) -> tiles.Room:
        """What tiles may take now."""
        size = min(memory.free_bytes() * _SHARE, _MOST)
        if self._max_memory is not None:
            size = min(size, memory.left_of(self._max_memory) - self.coming)
        # Half precision is computed in float32, too.
        return tiles.Room(size=size, tile=_HELD * self._facts.values_per_pixel * 4 + _TILE_BYTES, band=_BAND_BYTES)

    def check(self, plan: tiles.TilePlan, room: tiles.Room) -> None:
        """Refuse a ``--max-memory`` that does not suffice."""
        if self._max_memory is not None:
            whose = f"this net and a photo of {plan.width} x {plan.height} pixels"
            memory.check_budget(self._max_memory, room.size, room.taken(plan), whose)

    def is_shortage(self, error: Exception) -> bool:
        """Whether memory ran out."""
        return isinstance(error, MemoryError)

    def rest(self) -> None:
        """Nothing is kept."""

    def ended(self, side: int) -> DeviceError:
        """What is told when not even tiles of this side fit."""
        return DeviceError(
            f"The memory does not suffice even for tiles of {side} pixels, the smallest of this net.",
            "Close other programs, or export it with a smaller --tile."
            if self._facts.tile
            else "Close other programs.",
        )
