"""How well a net in training does on images that it never trains on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblur_cli.errors import InputError
from deblur_cli.files import pairs, photos
from deblur_cli.files.sheet import write_sheet
from deblur_cli.pixels import blurring, metrics
from deblur_cli.trainer import sources
from deblur_cli.trainer.crew import Crew

_Pixels = NDArray[np.uint8]
_SHOWN = 6
_SHARP = 60.0
"""From this PSNR on, in dB, a view counts as sharp already."""
_MOST = 100.0
"""PSNR of an image that is restored to the last bit, which would be infinite."""


@dataclass(frozen=True, slots=True)
class View:
    """One image to validate on, blurred and sharp, (H, W, 3)."""

    name: str
    blurred: _Pixels
    sharp: _Pixels


class Validation:
    """Scores a net on fixed views: the mean PSNR, SSIM, the gain over the blurred views, and the gain of each class.

    Views that are sharp already count in none of these, for whatever a net does to them it loses: an untouched one has a PSNR
    without end. ``kept`` tells the mean PSNR of what the net makes of them. Classes are what the names begin with, up to the
    first hyphen, where that makes more than one and few.
    """

    def __init__(self, views: Sequence[View], crew: Crew, *, sheet: Path | None = None) -> None:
        self._views = views
        self._crew = crew
        self._sheet = sheet
        classes = list(dict.fromkeys(view.name.split("-")[0] for view in views if "-" in view.name))
        self._classes = classes if 1 < len(classes) <= 12 else []

    def __call__(self, net: nn.Module) -> Mapping[str, float]:
        """The scores; every process of the crew gets the same."""
        rows = torch.zeros(len(self._views), 3, dtype=torch.float64)
        shown: list[tuple[_Pixels, _Pixels, _Pixels]] = []
        for index in range(self._crew.rank, len(self._views), self._crew.size):
            view = self._views[index]
            blurred, sharp = (sources.stack([image]).to(self._crew.device) for image in (view.blurred, view.sharp))
            restored = net(blurred)[0].float().clamp(0, 1)
            scores = (metrics.psnr(restored, sharp), metrics.ssim(restored, sharp), metrics.psnr(blurred, sharp))
            rows[index] = torch.cat(scores).cpu()
            if len(shown) < _SHOWN:
                shown.append((view.blurred, _eight(restored), view.sharp))
        rows = self._crew.sum(rows.float().to(self._crew.device)).cpu()
        if self._sheet is not None and self._crew.writes:
            write_sheet(self._sheet, shown)
        return self._means(rows)

    def _means(self, rows: Tensor) -> dict[str, float]:
        sharp = rows[:, 2] >= _SHARP
        rows = rows.clamp(max=_MOST)
        counted = ~sharp if not bool(sharp.all()) else sharp
        psnr, ssim, before = rows[counted].mean(0).tolist()
        scores = {"psnr": psnr, "ssim": ssim, "gain": psnr - before}
        for name in self._classes:
            mine = counted & torch.tensor([view.name.split("-")[0] == name for view in self._views])
            if bool(mine.any()):
                scores[f"gain {name}"] = float((rows[mine, 0] - rows[mine, 2]).mean())
        if bool((sharp & ~counted).any()):
            scores["kept"] = float(rows[sharp, 0].mean())
        return scores


def from_pairs(found: pairs.Pairs, *, count: int, side: int, multiple: int) -> list[View]:
    """The middles of up to ``count`` pairs, of ``side`` pixels or what there is, cut to multiples of ``multiple``.

    Raises:
        InputError: an image cannot be read, or a pair is of two sizes.
    """
    views: list[View] = []
    for pair in pairs.spread(found.pairs, count):
        blurred, sharp = read_pair(pair)
        middle = _middle(blurred.shape, side, multiple)
        views.append(View(pair.name, blurred[middle], sharp[middle]))
    return views


def from_photos(album: photos.Album, recipe: blurring.Recipe, *, side: int, multiple: int) -> list[View]:
    """The middles of photographs, blurred the same way every time."""
    views: list[View] = []
    edge = blurring.margin(recipe)
    for index, photograph in enumerate(album.photographs):
        middle = _middle(photograph.pixels.shape, side, multiple, edge)
        sharp = sources.stack([photograph.pixels[middle]]).contiguous()
        pair = blurring.blur(sharp, sharp.flip(3), recipe, sources.generator(0, index))
        views.append(View(photograph.name, *(_eight(image) for image in pair)))
    return views


def read_pair(pair: pairs.Pair) -> tuple[_Pixels, _Pixels]:
    """The pixels of a pair, (H, W, 3) each.

    Raises:
        InputError: an image cannot be read, or the two are of different sizes.
    """
    blurred, sharp = photos.decode(pair.blurred), photos.decode(pair.sharp)
    if blurred.shape != sharp.shape:
        raise InputError(
            f"'{pair.blurred}' has {blurred.shape[1]} x {blurred.shape[0]} pixels, '{pair.sharp}' "
            f"{sharp.shape[1]} x {sharp.shape[0]}.",
            "A pair must be of one size: remove it or export it again.",
        )
    return blurred, sharp


def _middle(shape: Sequence[int], side: int, multiple: int, edge: int = 0) -> tuple[slice, slice]:
    sides = [min(side, whole - 2 * edge) // multiple * multiple + 2 * edge for whole in shape[:2]]
    starts = [(whole - length) // 2 for whole, length in zip(shape[:2], sides, strict=True)]
    return slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])


def _eight(image: Tensor) -> _Pixels:
    pixels = image[0].float().permute(1, 2, 0).mul(255).round().clamp(0, 255).byte().cpu().numpy()
    return np.ascontiguousarray(pixels)
