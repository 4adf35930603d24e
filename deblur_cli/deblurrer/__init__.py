"""The deblurrer: a loaded net that takes an image of any size, on whatever the machine has.

    restored = Deblurrer.open("default")(image)

The photo stays in its own number format; only tiles and one band of results are float32. What tiles give and what is blended
is the net's correction, not the photo: where a net corrects nothing, the photo comes back to the last bit.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli import nets
from deblur_cli.deblurrer import devices, images
from deblur_cli.deblurrer.loading import load
from deblur_cli.errors import DeviceError, InputError, UsageError, WeightsError
from deblur_cli.files import checkpoint, memory, weights
from deblur_cli.pixels import samples, tiling

__all__ = ["Deblurrer", "load"]

_Image = TypeVar("_Image")
_Array = np.ndarray[Any, Any]
_Progress = Callable[[int, int], None]

_TILE_BYTES = 4 * 3 * 6
"""Bytes per pixel besides the net's own: the tile, its correction and four steps between, float32."""
_BAND_BYTES = 4 * 3 * 2 + 8
"""Bytes per pixel of the row of tiles: its corrections, what it shares with the row above, and the photo's own samples."""
_BAND_ROWS = 32
_FIRST = 64
"""Side of a tile by which the net is tried."""


class Deblurrer:
    """A loaded net. Made by :meth:`open`; not to be shared between threads."""

    def __init__(
        self,
        net: nn.Module,
        path: Path,
        label: checkpoint.Label,
        *,
        device: torch.device,
        precision: str,
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
        self.label = label
        self.device = device
        self.precision = precision
        self._config = cast("nets.NetConfig", net.config)
        self._path = path
        self._net = self._settle(net, precision)
        self._exact = self._net if precision == "fp32" else None
        self._tile = tile
        self._limit = 0
        self._overlap = self._config.overlap if overlap is None else overlap
        self._strength = strength
        self._tta = tta
        self._max_memory = max_memory
        self._plan: tiling.TilePlan | None = None
        self._coming = 0
        if tile and tile < self._smallest:
            raise UsageError(
                f"--tile {tile} is too small for this net: its tiles share {self._overlap} pixels.",
                f"Say --tile {self._smallest} or more, or a smaller --overlap.",
            )
        if max_memory is not None:  # what the libraries take for themselves is to be counted before tiles are chosen
            side = self._config.multiple_of * -(-_FIRST // self._config.multiple_of)
            self._correct(torch.zeros(1, 3, side, side))

    @classmethod
    def open(
        cls,
        name_or_path: str | Path = "default",
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        strength: float = 1.0,
        tta: bool = False,
        max_memory: int | None = None,
    ) -> Self:
        """Load a net.

        Args:
            name_or_path: a name of ``weights.toml``, a path, or ``hf://owner/repo[@revision]/file`` on the Hub.
            device: ``auto`` (cuda, mps, cpu in this order), ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
            precision: ``auto`` (bf16 where it is fast and measured harmless, else fp32), ``fp32``, ``bf16``, ``fp16``.
            tile: longest side of a tile in pixels; 0 takes the photo whole; None chooses from the free memory.
            overlap: pixels that neighbouring tiles share; None takes what the net needs.
            strength: 0 to 1, the share of the correction that is applied.
            tta: average over the eight turned and mirrored views of each tile, for eight times the work.
            max_memory: bytes of the machine's memory that this process, photos included, may have in all, as far as the choice
                of tiles decides it; None: as much as is free.

        Raises:
            WeightsError: the checkpoint is missing, torn, or not that of a net.
            DeviceError: the device is absent.
            UsageError: the tile is smaller than the overlap allows.
        """
        path = weights.locate(str(name_or_path))
        place = devices.choose(device)
        label, net = load(path)
        return cls(
            net,
            path,
            label,
            device=place,
            precision=devices.precision(precision, place, label.precisions),
            tile=tile,
            overlap=overlap,
            strength=strength,
            tta=tta,
            max_memory=max_memory,
        )

    def __call__(self, image: _Image) -> _Image:
        """Restore ``image``.

        Args:
            image: a tensor (C, H, W) or (N, C, H, W) of floats, or an array (H, W, C) or (H, W) of uint8, uint16 or
                float32, or a PIL image; RGB or gray, floats in [0, 1], at least one pixel.

        Returns:
            The same type, number format, shape and device.

        Raises:
            InputError: the image holds values that are not numbers.
            DeviceError: the memory does not suffice even for the smallest tile.
        """
        if isinstance(image, Tensor):
            return cast("_Image", self._restore_tensor(image))
        if isinstance(image, np.ndarray):
            pixels = cast("_Array", image)
            return cast(
                "_Image", self.restore(pixels[:, :, None])[:, :, 0] if pixels.ndim == 2 else self.restore(pixels)
            )
        if images.is_picture(image):
            pixels, alpha = images.from_picture(cast("Any", image))
            return cast("_Image", images.to_picture(self(pixels), alpha, cast("Any", image)))
        raise TypeError(f"a tensor, an array or a PIL image was expected, not {type(image).__name__}")

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

        def read(tile: tiling.Tile) -> Tensor:
            part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            return torch.from_numpy(np.array(part)).permute(2, 0, 1)[None].to(torch.float32) / peak

        restored = _room(pixels) if into is None else into
        self._coming = 0 if into is not None else restored.nbytes
        for top, correction in self._corrections(height, width, read, progress):
            for first in range(0, correction.shape[1], _BAND_ROWS):  # or the copies would be as large as the band
                part = _channels(correction[:, first : first + _BAND_ROWS], channels) * (self._strength * peak)
                rows = slice(top + first, top + first + part.shape[1])
                restored[rows] = samples.corrected(pixels[rows], part.permute(1, 2, 0).numpy())
            del correction  # or it would stay in memory while the next one is made
        return restored

    def plan_for(self, height: int, width: int) -> tiling.TilePlan:
        """The tiles of a photo of this size: those that it was restored in, if it was the last one."""
        if self._plan is not None and (self._plan.height, self._plan.width) == (height, width):
            return self._plan
        return self._new_plan(height, width)

    @property
    def _smallest(self) -> int:
        return tiling.smallest_tile(self._overlap, self._config.multiple_of)

    def _new_plan(self, height: int, width: int) -> tiling.TilePlan:
        dials: dict[str, Any] = {
            "overlap": self._overlap,
            "multiple_of": self._config.multiple_of,
            "soft": not self._config.local,
        }
        if self._tile is not None:
            side = min(self._tile or self._limit, self._limit) if self._limit else self._tile
            return tiling.plan(height, width, tile=side, **dials)
        room = tiling.Room(
            size=devices.room(self.device, self._max_memory, self._coming),
            tile=self._config.values_per_pixel * devices.DTYPES[self.precision].itemsize + _TILE_BYTES,
            band=_BAND_BYTES,
        )
        plan = tiling.fit(height, width, room=room, longest=self._limit, **dials)
        if self._max_memory is not None:
            whose = f"this net and a photo of {width} x {height} pixels"
            memory.check_budget(self._max_memory, room.size, room.taken(plan), whose)
        return plan

    def _corrections(
        self, height: int, width: int, read: Callable[[tiling.Tile], Tensor], progress: _Progress | None
    ) -> Iterator[tuple[int, Tensor]]:
        """Bands of corrections, (3, rows, width) float32 on the CPU; a shortage of memory halves the tiles on the way."""
        start = 0
        while start < height:
            self._plan = self._new_plan(height, width)
            try:
                for top, band in tiling.run(self._correct, read, self._plan, start=start, progress=progress):
                    start = top + band.shape[1]
                    yield top, band
                    del band
            except (MemoryError, RuntimeError) as error:
                if not devices.is_shortage(error):
                    raise
                self._shrink(self._plan, error)
            # Only here, with the error gone, is the memory of the failed tile free.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _shrink(self, plan: tiling.TilePlan, error: Exception) -> None:
        side = max(plan.tile_height, plan.tile_width)
        if side <= self._smallest:
            raise DeviceError(
                f"The memory of {self.device} does not suffice even for tiles of {side} pixels, the smallest of this net.",
                "Close other programs, or choose another --device or --precision.",
            ) from error
        self._limit = max(self._smallest, side // 2)

    def _correct(self, tile: Tensor) -> Tensor:
        """The correction of one tile: (1, 1 or 3, H, W) float32 to (1, 3, H, W) float32, on the CPU."""
        if not _finite(tile):
            raise InputError("The photo holds values that are not numbers.", "Replace them first.")
        with torch.inference_mode():
            blurred = tile.to(self.device).clamp(0, 1).expand(-1, 3, -1, -1)
            blurred = blurred.contiguous(memory_format=torch.channels_last)
            correction = self._views(self._net, blurred)
            if not _finite(correction):
                # Half precision overflows where fp32 does not.
                self._exact = self._exact or self._settle(load(self._path)[1], "fp32")
                correction = self._views(self._exact, blurred)
            if not _finite(correction):
                raise WeightsError(
                    f"The net of '{self._path}' gives values that are not numbers.", "Use other weights."
                )
            return correction.cpu()

    def _views(self, net: nn.Module, blurred: Tensor) -> Tensor:
        """The correction by ``net``, averaged over the eight views if wanted."""
        if not self._tta:
            return net(blurred)[0] - blurred
        total = torch.zeros_like(blurred)
        for mirrored in (False, True):
            for turns in range(4):
                view = torch.rot90(blurred.flip(-1) if mirrored else blurred, turns, (-2, -1))
                view = view.contiguous(memory_format=torch.channels_last)
                back = torch.rot90(net(view)[0] - view, -turns, (-2, -1))
                total += back.flip(-1) if mirrored else back
        return total / 8

    def _settle(self, net: nn.Module, precision: str) -> nn.Module:
        """``net`` on the device, in the number format and memory layout in which it is to work."""
        net = net.eval().requires_grad_(requires_grad=False).to(self.device, devices.DTYPES[precision])
        return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: torch's stubs lack it

    def _restore_tensor(self, image: Tensor) -> Tensor:
        if (
            not image.is_floating_point()
            or image.dim() not in {3, 4}
            or image.shape[-3] not in {1, 3}
            or not image.numel()
        ):
            raise ValueError(f"floats (N, 3, H, W) or (3, H, W) were expected, not {image.dtype} {tuple(image.shape)}")
        photos = image.detach().reshape(-1, *image.shape[-3:])
        restored = torch.empty_like(photos)
        for photo, target in zip(photos, restored, strict=True):

            def read(tile: tiling.Tile, photo: Tensor = photo) -> Tensor:
                part = photo[None, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
                return part.to(torch.float32)

            for top, correction in self._corrections(photo.shape[1], photo.shape[2], read, None):
                rows = slice(top, top + correction.shape[1])
                change = _channels(correction, photo.shape[0]).to(photo) * self._strength
                target[:, rows] = photo[:, rows] + change
        return restored.reshape(image.shape)


def _finite(values: Tensor) -> bool:
    # One number tells: whatever is not finite stays so in a sum.
    return bool(values.sum(dtype=torch.float32).isfinite())


def _channels(correction: Tensor, count: int) -> Tensor:
    """(3, H, W) as it is, or averaged to (1, H, W) for gray."""
    return correction if count == 3 else correction.mean(0, keepdim=True)


def _room(pixels: _Array) -> _Array:
    try:
        return np.empty(pixels.shape, pixels.dtype)
    except MemoryError as error:
        raise DeviceError("The memory does not suffice for the restored photo.", "Close other programs.") from error
