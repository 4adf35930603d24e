"""What a recipe changes of a pair besides where it is cut: its colours, alike on both sides, and grain on the blurred one."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deblur_cli.trainer import sources
from deblur_cli.trainer.sources import Batch, PairSource

_LUMA = (0.299, 0.587, 0.114)
_STREAM = 6
"""Of chance, beside those of the sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The dials; false where nothing is changed."""

    saturation: float = 0.0
    """Saturation is multiplied by anything between 1 - this and 1 + this."""
    saturated: float = 1.0
    """Share of the pairs that this happens to."""
    grey: bool = False
    """By :func:`mix_with_grey` and not by :func:`saturate`."""
    colours: bool = False
    """Red, green and blue in any order."""
    grain: float = 0.0
    """Standard deviation of the standard deviation of the noise on the blurred side; 1 is the whole range."""

    def __bool__(self) -> bool:
        return bool(self.saturation or self.colours or self.grain)


class Augmented:
    """The batches of another source, changed; what happens to a pair depends on the seed and its place alone."""

    def __init__(self, source: PairSource, changes: Changes, *, seed: int, slots: range) -> None:
        self.threads = source.threads
        self.on_device = source.on_device
        self._source = source
        self._changes = changes
        self._seed = seed
        self._slots = slots

    def batch(self, step: int) -> Batch:
        """This process's share of the batch."""
        blurred, sharp, *kernels = self._source.batch(step)
        luck = [sources.chance(self._seed, _STREAM, step, slot) for slot in self._slots]
        if self._changes.saturation:
            factors = torch.tensor([self._factor(each) for each in luck], device=blurred.device)
            change = mix_with_grey if self._changes.grey else saturate
            blurred, sharp = change(blurred, factors), change(sharp, factors)
        if self._changes.colours:
            orders = torch.from_numpy(np.stack([each.permutation(3) for each in luck])).to(blurred.device)
            rows = torch.arange(len(luck), device=blurred.device)[:, None]
            blurred, sharp = blurred[rows, orders], sharp[rows, orders]
        if self._changes.grain:
            noise = np.stack([self._noise(each, blurred.shape[1:]) for each in luck])
            blurred = (blurred + torch.from_numpy(noise).to(blurred.device)).clamp_(0, 1)
        layout = torch.channels_last
        return blurred.contiguous(memory_format=layout), sharp.contiguous(memory_format=layout), *kernels

    def close(self) -> None:
        """End the workers."""
        self._source.close()

    def _factor(self, luck: np.random.Generator) -> float:
        chosen, place = luck.random(2)
        return 1 + self._changes.saturation * (2 * place - 1) * (chosen < self._changes.saturated)

    def _noise(self, luck: np.random.Generator, shape: torch.Size) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return abs(np.float32(luck.normal(0, self._changes.grain))) * luck.standard_normal(shape, dtype=np.float32)


def mix_with_grey(image: Tensor, factors: Tensor) -> Tensor:
    """``image`` with its distance from its own grey (the luma of ITU-R BT.601) times a factor, kept in [0, 1].

    Args:
        image: (N, 3, H, W) in [0, 1].
        factors: (N,), one per image.
    """
    luma = image.new_tensor(_LUMA).view(3, 1, 1)
    grey = (image * luma).sum(dim=1, keepdim=True)
    return torch.lerp(grey, image, factors.to(image.dtype).view(-1, 1, 1, 1)).clamp_(0, 1)


def saturate(image: Tensor, factors: Tensor) -> Tensor:
    """``image`` with its saturation, as HSV knows it, times a factor; hue and value stay.

    Args:
        image: (N, 3, H, W) in [0, 1].
        factors: (N,), one per image; none makes a colour purer than pure.
    """
    value = image.amax(dim=1, keepdim=True)
    spread = value - image.amin(dim=1, keepdim=True)
    purest = value / spread.clamp_min(1e-6)
    return value - (value - image) * torch.minimum(factors.to(image.dtype).view(-1, 1, 1, 1), purest)
