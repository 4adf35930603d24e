"""Shaken photographs and the kernels that shook them: what a motion prior learns from, and is scored on."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur_cli.files.photos import Album
from deblur_cli.nets.motion import CELL, DIRECTIONS, WAVES, transfer
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.pixels import shaking
from deblur_cli.trainer import sources
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.sources import Batch, PairSource
from deblur_cli.trainer.validation import View

_SHAKES = 8
"""Movements under which each view is looked at."""
_TRIES = 4
_DETAIL = 0.04
"""What a square may be asked to have: movement does not show where there is nothing to see. Some squares have little."""
_SPREAD = 1e-3
"""Least deviation of a bin, so that one which never changes is not divided by nothing."""


class ShakenPhotos:
    """Blurred crops and their kernels, made on the device for every batch: a pure function of the seed and the step."""

    threads = 0
    on_device = True

    def __init__(
        self,
        album: Album,
        recipe: shaking.Shaking,
        *,
        crop: int,
        radius: int,
        slots: range,
        seed: int,
        device: torch.device,
    ) -> None:
        self._album = album
        self._recipe = recipe
        self._side = crop + 2 * shaking.MARGIN
        self._radius = radius
        self._slots = slots
        self._seed = seed
        self._device = device

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Blurred crops, (N, 3, crop, crop) float32 in [0, 1], and the even kernels of their cells, (N, h, w, half)."""
        sharp, paths, soft, lot = self._drawn(step)
        kernels = shaking.even_kernels(paths, self._radius, soft).to(self._device)
        blurred = shaking.photograph(sharp, paths, self._recipe, lot, soft=soft)
        return shaking.intrude(blurred, kernels, self._recipe, lot, cell=CELL)

    def pairs(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Blurred crops; the same sharp, where the recipe has them lie; the kernels of their cells; and mid-exposure there.

        Kernels are (N, h, w, 2, half): the even parts about the mean of the movement, and the odd ones. Mid-exposure is
        (N, h, w, 2): x and y in pixels from that mean.
        """
        sharp, paths, soft, lot = self._drawn(step)
        parts = [of(paths, self._radius, soft) for of in (shaking.even_kernels, shaking.odd_kernels)]
        # What is known of a crop, side by side: where something moves over it, all of it is mixed alike.
        midway = paths[:, paths.shape[1] // 2]
        known = torch.cat([*parts, midway], dim=1).to(self._device)
        if self._recipe.sharp_at == "middle":
            paths = paths - midway[:, None]
        blurred = shaking.photograph(sharp, paths, self._recipe, lot, soft=soft)
        inner = sharp[:, :, shaking.MARGIN : -shaking.MARGIN, shaking.MARGIN : -shaking.MARGIN]
        mixed, cells = shaking.intrude(torch.cat([blurred, inner], dim=1), known, self._recipe, lot, cell=CELL)
        return mixed[:, :3], mixed[:, 3:], cells[..., :-2].unflatten(-1, (2, -1)), cells[..., -2:]

    def _drawn(self, step: int) -> tuple[Tensor, Tensor, Tensor | None, torch.Generator]:
        """Sharp squares, the paths along which they move, how their points are spread, and the chance that is left."""
        # Plane by plane in memory: transforms would copy anything else.
        sharp = torch.cat([self._square(step, slot).contiguous() for slot in self._slots])
        lot = sources.generator(self._seed, step, self._slots.start)
        paths = shaking.draw(len(sharp), self._recipe, lot, radius=self._radius)
        return sharp, paths, shaking.spread(len(sharp), self._recipe, lot), lot

    def close(self) -> None:
        """Nothing to end."""

    def _square(self, step: int, slot: int) -> Tensor:
        """(1, 3, side, side) in [0, 1], turned anyhow; half of them from twice the width, where photographs are sharper."""
        luck = sources.item_chance(self._seed, step, slot)
        wide = self._side * int(luck.integers(1, 3))
        one = sources.spot(self._album, wide, luck)
        for wanted in luck.random(_TRIES) * _DETAIL:
            if self._album.photographs[one.photograph].detail_of(one.top, one.left, one.side) >= wanted:
                break
            one = sources.spot(self._album, wide, luck)
        found = self._album.photographs[one.photograph].crop(one.top, one.left, one.side)
        square = torch.from_numpy(np.ascontiguousarray(found)).to(self._device).permute(2, 0, 1)[None].float().div_(255)
        square = torch.rot90(sources.reduced(square, self._side), int(luck.integers(4)), (2, 3))
        return square.flip(3) if luck.integers(2) else square


class PartlyShaken:
    """The batches of ``scenes``, of which a share is shaken as one piece instead.

    A shaken batch is made many times faster than one of scenes and is never used twice; scenes turn, tilt and have depth.
    """

    def __init__(self, scenes: PairSource, shaken: ShakenPhotos, *, share: float, kernels_too: bool = False) -> None:
        self.threads = scenes.threads
        self.on_device = scenes.on_device
        self._scenes = scenes
        self._shaken = shaken
        self._told = 4 if kernels_too else 2
        # Exactly, so that no rounding takes one batch of scenes twice or leaves one out.
        self._rest = 1 - Fraction(str(share))

    def batch(self, step: int) -> Batch:
        """A batch, with its kernels if it is shaken and they are wanted: a pure function of the seed and the step.

        Scenes are counted by themselves, evenly among the steps: a pool of them is renewed at its own pace.
        """
        before, after = (int(self._rest * count) for count in (step, step + 1))
        return self._scenes.batch(before) if after > before else self._shaken.pairs(step)[: self._told]

    def close(self) -> None:
        """End the workers."""
        self._scenes.close()


class Pictured:
    """The batches of a source of kernels with the kernels as pictures, to look at."""

    def __init__(self, source: PairSource) -> None:
        self.threads = source.threads
        self.on_device = source.on_device
        self._source = source

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Blurred crops, and beside each that of its middle, white where most light fell, (N, 3, crop, crop) in [0, 1] both."""
        blurred, cells, *_ = self._source.batch(step)
        kernels = cells[:, cells.shape[1] // 2, cells.shape[2] // 2]
        half = kernels.clone()
        half[:, :-1] /= 2
        side = round((2 * half.shape[1] - 1) ** 0.5)
        plane = torch.cat([half, half[:, :-1].flip(1)], dim=1).view(-1, 1, side, side)
        shown = F.interpolate(plane / plane.amax((1, 2, 3), keepdim=True), blurred.shape[2:], mode="nearest-exact")
        return blurred, shown.expand_as(blurred)

    def close(self) -> None:
        """End the workers."""
        self._source.close()


def acquaint(net: MotionPrior, source: PairSource, batches: int) -> None:
    """Tell ``net`` what the usual spectrum of a blurred image is: mean and deviation of each bin over the first batches."""
    sums = torch.zeros(2, *net.usual.shape, dtype=torch.float64)
    count = 0
    for step in range(batches):
        seen = net.look(source.batch(step)[0]).flatten(0, -2).cpu().double()
        sums += torch.stack([seen.sum(0), seen.square().sum(0)])
        count += len(seen)
    mean, square = sums / count
    net.usual.copy_(mean)
    net.spread.copy_((square - mean.square()).clamp_min(0).sqrt().clamp_min(_SPREAD))


class Insight:
    """Scores a motion prior on photographs that it never trains on, shaken the same way every time.

    Args:
        views: their sharp sides are shaken; each side :data:`deblur_cli.pixels.shaking.MARGIN` px wider than what is looked at.
        recipe: how they are shaken.
        radius: of the kernels.
        crew: shares the views out.
    """

    def __init__(self, views: Sequence[View], recipe: shaking.Shaking, *, radius: int, crew: Crew) -> None:
        self._views = views
        self._recipe = recipe
        self._radius = radius
        self._crew = crew

    def __call__(self, net: nn.Module) -> Mapping[str, float]:
        """The scores; every process of the crew gets the same.

        Returns:
            ``seen``: the share of the variance of the transfer function that the prior explains (R2; 1 is all, 0 is what the
            mean alone would), and ``r2_1`` to ``r2_5``: the same for each length of wave, longest first.
        """
        errors, truths = (torch.zeros(len(self._views), _SHAKES, WAVES) for _ in range(2))
        device = self._crew.device
        for index in range(self._crew.rank, len(self._views), self._crew.size):
            lot = sources.generator(0, index)
            paths = shaking.draw(_SHAKES, self._recipe, lot, radius=self._radius)
            soft = shaking.spread(_SHAKES, self._recipe, lot)
            sharp = sources.stack([self._views[index].sharp]).to(device).expand(_SHAKES, -1, -1, -1)
            blurred = shaking.photograph(sharp, paths, self._recipe, lot, soft=soft)
            with torch.autocast(device.type, enabled=False):
                found = transfer(net(blurred).kernels).flatten(1, 2).cpu()
            truths[index] = transfer(shaking.even_kernels(paths, self._radius, soft))
            errors[index] = (found - truths[index][:, None]).square().mean(1)
        errors, truths = (self._crew.sum(each.to(device)).cpu().flatten(0, 1) for each in (errors, truths))
        explained = 1 - errors.mean(0) / truths.var(0, correction=0).clamp_min(1e-9)
        waves = explained.view(-1, DIRECTIONS).mean(1).tolist()
        return {"seen": float(explained.mean())} | {f"r2_{wave}": value for wave, value in enumerate(waves, 1)}
