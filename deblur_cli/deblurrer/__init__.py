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
from deblur_cli.deblurrer import devices, images, lanes, running
from deblur_cli.deblurrer.correcting import Corrector
from deblur_cli.deblurrer.loading import load
from deblur_cli.deblurrer.painting import Painter, channels
from deblur_cli.deblurrer.room import TileMemory
from deblur_cli.errors import DeviceError, UsageError
from deblur_cli.files import checkpoint, weights
from deblur_cli.pixels import layout, samples, tiling

__all__ = ["Deblurrer", "load"]

_Image = TypeVar("_Image")
_Array = np.ndarray[Any, Any]
_Progress = Callable[[int, int], None]

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
        batch: int | None = None,
        compile: bool | None = None,  # noqa: A002 - torch's own word
    ) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}, not between 0 and 1")
        if min(tile or 0, overlap or 0) < 0 or (batch is not None and batch < 1):
            raise ValueError(f"{tile=} and {overlap=} must not be negative, nor {batch=} less than one")
        self.label = label
        self.device = device
        self.precision = precision
        self._path = path
        self._lane = lanes.lane_of(device)
        config = cast("nets.NetConfig", net.config)
        dials = layout.Dials(
            overlap=config.overlap if overlap is None else overlap,
            multiple_of=config.multiple_of,
            grid=nets.grid_of(config),
            local=config.local,
            tile=tile,
            at_once=batch,
            fill=self._lane.fill,
        )
        if tile and tile < dials.smallest:
            raise UsageError(
                f"--tile {tile} is too small for this net: its tiles share {dials.overlap} pixels.",
                f"Say --tile {dials.smallest} or more, or a smaller --overlap.",
            )
        settled = self._settle(net, precision)
        exact = (lambda: settled) if precision == "fp32" else (lambda: self._settle(load(path)[1], "fp32"))
        runner = running.runner_of(settled, device, compiled=compile)
        self._work = Corrector(runner, exact, tta=tta, path=path)
        net_bytes = config.values_per_pixel * devices.DTYPES[precision].itemsize * (running.HELD if compile else 1)
        self._memory = TileMemory(device, net_bytes, max_memory, self._work.forget)
        self._layout = layout.Layout(dials, self._memory)
        self._strength = strength
        if max_memory is not None:  # what the libraries take for themselves is to be counted before tiles are chosen
            side = config.multiple_of * -(-_FIRST // config.multiple_of)
            plain = Corrector(running.Plain(settled), exact, tta=tta, path=path)
            list(lanes.flow(iter([torch.zeros(1, 3, side, side)]), plain, self._lane, batch=1, white=1))

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
        batch: int | None = None,
        compile: bool | None = None,  # noqa: A002 - torch's own word
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
            batch: tiles that the net gets at once, at most; None: one, on CUDA as many as occupy the device and fit.
            compile: True: by ``torch.compile``; False: operation after operation; None: as :func:`running.runner_of` has it.

        Raises:
            WeightsError: the checkpoint is missing, torn, or not that of a net.
            DeviceError: the device is absent; or later, in the first tile, the machine cannot compile.
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
            batch=batch,
            compile=compile,
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
        height, width, _ = pixels.shape
        peak = samples.PEAKS[pixels.dtype.name]

        def read(tile: tiling.Tile) -> Tensor:
            part = np.array(pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width])
            # Bytes are cheaper to carry than what the net takes; of 16 bits torch knows only a few operations.
            values = torch.from_numpy(part if part.dtype == np.uint8 else part.astype(np.float32, copy=False))
            return values.permute(2, 0, 1)[None]

        restored = _room(pixels) if into is None else into
        self._memory.coming = 0 if into is not None else restored.nbytes
        painter = Painter(pixels, restored, self._lane, strength=self._strength)
        for top, correction in self._corrections(height, width, read, peak, progress):
            painter.paint(top, correction)
            del correction  # or it would stay in memory while the next one is made
        painter.finish()
        return restored

    def plan_for(self, height: int, width: int) -> tiling.TilePlan:
        """The tiles of a photo of this size: those that it was restored in, if it was the last one."""
        return self._layout.plan_for(height, width)

    @property
    def photos_ahead(self) -> int:
        """Photos that should be read while one is restored, for the device not to wait."""
        return self._lane.photos_ahead

    def _corrections(
        self, height: int, width: int, read: Callable[[tiling.Tile], Tensor], white: int, progress: _Progress | None
    ) -> Iterator[tuple[int, Tensor]]:
        """Bands of corrections, (3, rows, width) float32 where the lane has them."""

        def lane(pieces: Iterator[Tensor], batch: int) -> Iterator[Tensor]:
            return lanes.flow(pieces, self._work, self._lane, batch=batch, white=white)

        return self._layout.run(tiling.TENSORS, lane, read, height, width, progress)

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

            for top, correction in self._corrections(photo.shape[1], photo.shape[2], read, 1, None):
                rows = slice(top, top + correction.shape[1])
                change = channels(correction, photo.shape[0]).to(photo) * self._strength
                target[:, rows] = photo[:, rows] + change
        return restored.reshape(image.shape)


def _room(pixels: _Array) -> _Array:
    try:
        return np.empty(pixels.shape, pixels.dtype)
    except MemoryError as error:
        raise DeviceError("The memory does not suffice for the restored photo.", "Close other programs.") from error
