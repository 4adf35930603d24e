"""The deblurrer: a loaded net that takes an image of any size, on whatever the machine has.

    restored = Deblurrer.open("default")(image)

The photo stays in its own number format; only tiles and one band of results are float32. What tiles give and what is blended
is the net's correction, not the photo: where a net corrects nothing, the photo comes back to the last bit.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli import foreign, nets
from deblur_cli.deblurrer import devices, images
from deblur_cli.errors import DeviceError, InputError, UsageError, WeightsError
from deblur_cli.files import checkpoint, weights
from deblur_cli.pixels import samples, tiling

__all__ = ["Deblurrer", "load"]

_Image = TypeVar("_Image")
_Array = np.ndarray[Any, Any]
_Progress = Callable[[int, int], None]

_SHARE = {"cpu": 0.5, "cuda": 0.8, "mps": 0.5}
"""Of the free memory that a tile may take; what it does not is for the photos before and after, and for errors of measuring."""
_LONGEST = {"cpu": 512, "cuda": 1024, "mps": 768}
"""Side of a tile in pixels beyond which nothing gets faster."""
_OVERLAPS = 8
"""Sides of a tile in overlaps: the net then sees each pixel of a large photo 1.3 times at most."""
_TILE_BYTES = 4 * 3 * 4
"""Bytes per pixel besides the net's own: the tile, its correction and two steps between, float32."""


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
        self._plan: tiling.TilePlan | None = None
        if tile and tile < self._smallest:
            raise UsageError(
                f"--tile {tile} is too small for this net: its tiles share {self._overlap} pixels.",
                f"Say --tile {self._smallest} or more, or a smaller --overlap.",
            )

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

    def restore(self, pixels: _Array, *, progress: _Progress | None = None) -> _Array:
        """Restore the pixels of a photo.

        Args:
            pixels: (H, W, 1 or 3), uint8, uint16 or float32 in [0, 1]; floats beyond that range keep what is beyond.
            progress: called after each tile with the number of those done and of all.

        Returns:
            A new array of the same shape and number format.

        Raises:
            InputError: the photo holds values that are not numbers.
            DeviceError: the memory does not suffice even for the smallest tile.
        """
        samples.check(pixels)
        peak = samples.PEAKS[pixels.dtype.name]

        def read(tile: tiling.Tile) -> Tensor:
            part = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            return torch.from_numpy(np.array(part)).permute(2, 0, 1)[None].to(torch.float32) / peak

        restored = _room(pixels)
        for top, correction in self._corrections(pixels.shape[0], pixels.shape[1], read, progress):
            rows = slice(top, top + correction.shape[1])
            change = (_channels(correction, pixels.shape[2]) * (self._strength * peak)).permute(1, 2, 0).numpy()
            restored[rows] = samples.corrected(pixels[rows], change)
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
        side = self._auto_tile() if self._tile is None else self._tile
        if self._limit:
            side = min(side or self._limit, self._limit)
        return tiling.plan(height, width, tile=side, overlap=self._overlap, multiple_of=self._config.multiple_of)

    def _auto_tile(self) -> int:
        """The side of a square that fits into the free memory, if there is need for one so large."""
        bytes_each = self._config.values_per_pixel * devices.DTYPES[self.precision].itemsize + _TILE_BYTES
        room = devices.free_bytes(self.device) * _SHARE[self.device.type]
        longest = max(_LONGEST[self.device.type], _OVERLAPS * self._overlap)
        return max(self._smallest, min(longest, math.isqrt(int(room / bytes_each))))

    def _corrections(
        self, height: int, width: int, read: Callable[[tiling.Tile], Tensor], progress: _Progress | None
    ) -> Iterator[tuple[int, Tensor]]:
        """Bands of corrections, (3, rows, width) float32 on the CPU; a shortage of memory halves the tiles on the way."""
        start = 0
        while start < height:
            self._plan = self._new_plan(height, width)
            try:
                for top, band in tiling.run(self._correct, read, self._plan, start=start, progress=progress):
                    yield top, band
                    start = top + band.shape[1]
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


def load(path: Path) -> tuple[checkpoint.Label, nn.Module]:
    """Label and net of a checkpoint, ours or one that other authors published, fp32 on the CPU.

    Raises:
        WeightsError: the checkpoint is missing, torn, or not that of a net.
    """
    if path.suffix.lower() in {".onnx", ".pt2"}:
        raise WeightsError(
            f"'{path}' is an exported net, and a checkpoint is needed here.",
            "Give the checkpoint that it was made of; deblur PHOTO --weights takes an .onnx file.",
        )
    if foreign.is_published(path):
        return foreign.open_net(path)
    found = checkpoint.load(path)
    label = found.label
    if label.kind != "net":
        raise WeightsError(
            f"'{path}' is a {label.kind} and restores no photos by itself.", "Give the checkpoint of a net."
        )
    if label.net not in nets.NETS:
        raise WeightsError(
            f"'{path}' is made for the net '{label.net}'; this version of deblur has {', '.join(nets.NETS)}.",
            "Upgrade with pip install -U deblur-cli.",
        )
    try:
        with torch.random.fork_rng(devices=[]):  # building draws random weights; the caller's dice stay as they are
            net = nets.build(label.net, label.config)
        net.load_state_dict(dict(found.tensors))
    except (ValueError, RuntimeError) as error:
        raise WeightsError(
            f"The tensors or dials in '{path}' do not fit the net '{label.net}': {str(error).splitlines()[0]}",
            "Fetch or train it anew.",
        ) from error
    return label, net


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
