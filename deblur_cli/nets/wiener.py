"""First sharp guesses: Wiener filters for the kernels that a motion prior found, in overlapping windows.

A window is 128 x 128 px, and they lie 64 px apart. The bell that cuts them out is a product of one down and one across, so
that a transform along a row serves both windows, one above the other, that the row lies in. So does one back along it: their
sum is transformed in place of each. Down the columns each window is transformed for itself.
Sources: a Wiener filter inside a net is Dong et al. NeurIPS 2020; ours beside it: see :mod:`deblur_cli.nets.motion`.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.nets.motion import NODE, Motion, radius_of

_SIDE = 2 * NODE
_ROWS = 2
"""Rows of windows that are filtered at once; a CPU takes one, which stays near it in its caches."""


def deconvolve(image: Tensor, motion: Motion) -> Tensor:
    """First guesses at the sharp image: a Wiener filter for the kernel of each window, overlapping windows blended.

    Args:
        image: (N, 3, H, W), sides multiples of :data:`~deblur_cli.nets.motion.NODE`.
        motion: of the same image.

    Returns:
        (N, guesses * 3, H, W) in single precision; where nothing moved, nearly the image.
    """
    guesses = motion.noise.shape[-1]
    return torch.cat(list(changes(image, motion)), dim=2) + image.float().repeat(1, guesses, 1, 1)


def middle(image: Tensor, motion: Motion) -> Tensor:
    """The mean of all first guesses of :func:`deconvolve`, for little more than one of them costs: (N, 3, H, W)."""
    return torch.cat(list(changes(image, motion, mean=True)), dim=2) + image.float()


def changes(image: Tensor, motion: Motion, *, mean: bool = False) -> Iterator[Tensor]:
    """What the first guesses of :func:`deconvolve` would change in the image, from top to bottom in strips.

    Args:
        image: as there.
        motion: likewise.
        mean: take the mean of all guesses for the only one.

    Yields:
        (N, guesses * 3, h, W) in single precision; the heights h are multiples of 64 and add up to H.
    """
    plan = _Plan.of(motion)
    # 63 reflected and one repeated pixel: an image of 64 px has no more to reflect.
    planes = image.float().contiguous()
    wide = F.pad(F.pad(planes, (NODE - 1,) * 4, mode="reflect"), (1,) * 4, mode="replicate")
    bands = image.shape[2] // NODE + 2
    colours = [_Colour(plan.bell, 1 if mean else len(plan.noise)) for _ in range(image.shape[1])]
    top = 0
    for bottom in _ends(bands, image.device.type):
        strip = wide[:, :, top * NODE : bottom * NODE]
        filters = plan.filters(max(top - 1, 0), bottom - 1, mean=mean)
        found = [colour.step(strip[:, index], filters) for index, colour in enumerate(colours)]
        guesses = [each for guess in zip(*found, strict=True) for each in guess]
        yield torch.stack(guesses, dim=1).flatten(-2).flatten(2, 3)
        top = bottom


def _ends(bands: int, device: str) -> list[int]:
    """The bands, of 64 px each, before which a span of them ends. A first row of the image takes three, another one more."""
    if torch.compiler.is_compiling():
        return [bands]
    return [*range(3, bands, 1 if device == "cpu" else _ROWS), bands]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is the same for all colours; the first window has the image's corner in its middle."""

    kernels: Tensor
    """(N, h + 1, w + 1, half): of the windows."""
    odd: Tensor | None
    """The same of their odd part."""
    noise: Tensor
    """(guesses, N, h + 1, w + 1, 1)."""
    across: Tensor
    """(2 radius + 1, 2 * 65): waves along the rows of a kernel, cosines and then sines."""
    down: Tensor
    """(2 (radius + 1), 128): waves along the columns of its upper half, a cosine and a sine of each row."""
    odd_down: Tensor
    """The same for an odd part, whose waves are sines."""
    doubt: Tensor
    """(65, 1, 1, 1, 128): what noise is multiplied by at each frequency, across and down."""
    bell: Tensor
    """(128,): its square and that of its neighbour, 64 px away, add up to 1."""

    @classmethod
    def of(cls, motion: Motion) -> "_Plan":
        kernels, noise = (_at_nodes(cells) for cells in (motion.kernels, motion.noise))
        radius, device = radius_of(kernels), kernels.device
        there = torch.arange(-radius, radius + 1, device=device, dtype=torch.float32)[:, None]
        turns = torch.arange(_SIDE, device=device, dtype=torch.float32) / _SIDE
        fine = turns.minimum(1 - turns)
        wide, high = 2 * math.pi * there * turns[: NODE + 1], 2 * math.pi * there[: radius + 1] * turns
        return cls(
            kernels=kernels,
            odd=None if motion.odd is None else _at_nodes(motion.odd),
            noise=noise.movedim(-1, 0)[..., None],
            across=torch.cat([wide.cos(), wide.sin()], dim=1),
            down=torch.stack([high.cos(), -high.sin()], dim=1).flatten(0, 1),
            odd_down=torch.stack([high.sin(), high.cos()], dim=1).flatten(0, 1),
            doubt=(0.05 + 20 * (fine[: NODE + 1, None].square() + fine.square()))[:, None, None, None],
            bell=torch.sin(math.pi * turns),
        )

    def filters(self, top: int, bottom: int, *, mean: bool) -> list[Tensor]:
        """Of rows ``top`` to ``bottom`` of windows: (65, N, rows, w + 1, 128) per guess, less 1; complex, which is quicker."""
        even = self._waves(self.kernels[:, top:bottom], self.down)
        odd = None if self.odd is None else self._waves(self.odd[:, top:bottom], self.odd_down)
        power = even.square() if odd is None else even.square() + odd.square()
        found: list[Tensor] = []
        turning: list[Tensor] = []
        for each in self.noise[:, :, top:bottom]:
            strength = (1 + 0.05 * each) / (power + each * self.doubt)
            found.append(even * strength - 1)
            if odd is not None:
                turning.append(odd * strength)
        if mean:  # the mean of what filters make is what the mean of the filters makes
            found, turning = ([sum(each[1:], start=each[0]) / len(each)] if each else each for each in (found, turning))
        if not turning:
            return [each.to(torch.complex64) for each in found]
        return [torch.complex(each, turn) for each, turn in zip(found, turning, strict=True)]

    def _waves(self, kernels: Tensor, down: Tensor) -> Tensor:
        """Kernels (..., half), or their odd parts, at the frequencies of a window: (65, ..., 128), cosines or sines."""
        radius = radius_of(kernels)
        rows = F.pad(kernels, (0, radius)).unflatten(-1, (radius + 1, 2 * radius + 1))
        with exactly(kernels.device.type):
            waves = (rows @ self.across).unflatten(-1, (2, NODE + 1)).flatten(-3, -2)
            return waves.movedim(-1, 0) @ down


def exactly(device: str) -> AbstractContextManager[object]:
    """Where products of matrices are in single precision, in mixed precision too."""
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # Where nothing is mixed nothing is said of it, for the sake of graphs that are exported.
    return torch.autocast(device, enabled=False) if mixed else nullcontext()


class _Colour:
    """Filters one colour of an image, span by span from above."""

    def __init__(self, bell: Tensor, guesses: int) -> None:
        self._bell = bell
        self._last: Tensor | None = None
        self._below: list[Tensor | None] = [None] * guesses

    def step(self, strip: Tensor, filters: list[Tensor]) -> list[Tensor]:
        """The next bands, (N, 64 bands, 64 w + 128), to what is whole by then: (N, rows, 64, w, 64) per guess."""
        bands = torch.fft.rfft(strip.unflatten(1, (-1, NODE)).unfold(-1, _SIDE, NODE) * self._bell)
        upper = _one_later(self._last, bands, dim=1)
        lower = bands if self._last is not None else bands[:, 1:]
        self._last = bands[:, -1:]
        # In pairs of real numbers: a real factor of complex ones would be made complex first.
        windows = torch.view_as_real(torch.cat([upper, lower], dim=2)).flatten(-2).mul_(self._bell[:, None, None])
        columns = torch.view_as_complex(windows.unflatten(-1, (NODE + 1, 2)))
        spectrum = torch.fft.fft(columns, dim=2).permute(4, 0, 1, 3, 2)
        return [self._back(each * spectrum, index) for index, each in enumerate(filters)]

    def _back(self, spectrum: Tensor, guess: int) -> Tensor:
        """Filtered windows (65, N, rows, w + 1, 128), waves across first: so each transform finds its numbers in order."""
        rise, fall = self._bell.repeat_interleave(2).chunk(2)
        windows = torch.view_as_real(torch.fft.ifft(spectrum)).flatten(-2)
        lower = windows[..., _SIDE:] * fall
        earlier = self._below[guess]
        total = _one_later(earlier, lower, dim=2)
        upper = windows if earlier is not None else windows[:, :, 1:]
        self._below[guess] = lower[:, :, -1:]
        total = torch.addcmul(total, upper[..., :_SIDE], rise)
        rows = torch.fft.irfft(torch.view_as_complex(total.unflatten(-1, (NODE, 2))), n=_SIDE, dim=0)
        rows = rows.permute(1, 2, 4, 3, 0)
        return torch.addcmul(rows[..., :-1, NODE:] * self._bell[NODE:], rows[..., 1:, :NODE], self._bell[:NODE])


def _one_later(last: Tensor | None, found: Tensor, *, dim: int) -> Tensor:
    """All but the last of ``found``, after ``last``, which was found before."""
    others = found.narrow(dim, 0, found.shape[dim] - 1)
    if last is None:
        return others
    return last if found.shape[dim] == 1 else torch.cat([last, others], dim)


def _at_nodes(cells: Tensor) -> Tensor:
    """(N, h, w, C) at the cells to (N, h / 2 + 1, w / 2 + 1, C) where four of them meet."""
    wide = F.pad(cells.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(wide, 2).permute(0, 2, 3, 1)
