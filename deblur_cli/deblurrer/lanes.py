"""The way of tiles through a device: up to it in batches, through the net, and what comes of them.

On a GPU three things happen at once: one batch is being computed, the next one is read and sent up, and of the one before the
host learns how it went. A CPU does one after the other; the order, and all that is decided here, is the same.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from deblur_cli.errors import InputError

Landing = Callable[[], Tensor]
"""Waits for values to come down, and gives them: on the CPU."""


class Lane(Protocol):
    """How tensors get to the device and back."""

    depth: int
    """Batches on their way at once."""
    rows: int
    """Rows of a finished band that are worth one step."""
    fill: int
    """Pixels that occupy the device fully; 0: any tile does."""
    photos_ahead: int
    """Photos that should be read while one is restored, and written likewise, for the device not to wait."""

    def up(self, tiles: list[Tensor]) -> Tensor:
        """(1, ...) each, of one shape and number format: one tensor (N, ...) on the device, now or when its turn comes."""
        ...

    def home(self, values: Tensor) -> Tensor:
        """Values of the device, to where bands are put together."""
        ...

    def down(self, values: Tensor) -> Landing:
        """Values of the device, to the CPU."""
        ...


class Work(Protocol):
    """What is done to a batch."""

    @property
    def fixed(self) -> bool:
        """Whether all batches should have one shape."""
        ...

    def settle(self, tiles: Tensor, white: int) -> Tensor:
        """(N, 1 or 3, H, W) in samples of a photo of this white, to what the net takes: (N, 3, H, W) float32 in [0, 1]."""
        ...

    def correct(self, blurred: Tensor) -> Tensor:
        """What the net would add to each: (N, 3, H, W) float32; not finite where its number format does not suffice."""
        ...

    def again(self, blurred: Tensor) -> Tensor:
        """The same in fp32, of a single tile; raises WeightsError where that is not finite either."""
        ...


@dataclass(slots=True)
class _Flight:
    """A batch on its way."""

    blurred: Tensor
    """Kept, should a tile have to be done again."""
    corrections: Tensor
    sums: Landing
    """(2, N): of each tile and of its correction. Whatever is not finite stays so in a sum."""


def flow(tiles: Iterator[Tensor], work: Work, lane: Lane, *, batch: int, white: int) -> Iterator[Tensor]:
    """Tiles to their corrections, in their order.

    Args:
        tiles: (1, 1 or 3, H, W) each, all of one shape, in samples of the photo: uint8, or float32.
        work: what is done to them.
        lane: the device.
        batch: tiles that the net gets at once; the last ones may be fewer.
        white: the largest sample.

    Yields:
        (1, 3, H, W) float32 for each tile, where ``lane.home`` has it.

    Raises:
        InputError: a tile holds values that are not numbers.
        WeightsError: the net gives such values.
    """
    flights: deque[_Flight] = deque()
    while group := list(islice(tiles, batch)):
        flights.append(_launch(group, work, lane, batch, white))
        del group  # or the tiles would stay in memory while their bands are put together
        if len(flights) >= lane.depth:
            yield from _land(flights.popleft(), work, lane)
    while flights:
        yield from _land(flights.popleft(), work, lane)


def _launch(group: list[Tensor], work: Work, lane: Lane, batch: int, white: int) -> _Flight:
    with torch.inference_mode():
        tiles = lane.up(group)
        count = len(group)
        if work.fixed and count < batch:  # work for nothing, but less than another shape would cost
            tiles = torch.cat([tiles, tiles[-1:].expand(batch - count, *tiles.shape[1:])])
        given = _sums(tiles) if tiles.is_floating_point() else torch.zeros(len(tiles), device=tiles.device)
        blurred = work.settle(tiles, white)
        corrections = work.correct(blurred)
        sums = torch.stack([given[:count], _sums(corrections)[:count]])
        return _Flight(blurred, corrections, lane.down(sums))


def _land(flight: _Flight, work: Work, lane: Lane) -> Iterator[Tensor]:
    given, made = flight.sums().isfinite().tolist()
    for place, (real, sound) in enumerate(zip(given, made, strict=True)):
        if not real:
            raise InputError("The photo holds values that are not numbers.", "Replace them first.")
        here = slice(place, place + 1)
        with torch.inference_mode():
            correction = lane.home(flight.corrections[here] if sound else work.again(flight.blurred[here]))
        yield correction


def _sums(values: Tensor) -> Tensor:
    return values.sum(dim=(1, 2, 3), dtype=torch.float32)


class PlainLane:
    """A device that works while the program waits: CPU and MPS."""

    depth = 1
    rows = 32  # or the copies would be as large as the band
    fill = 0
    photos_ahead = 1

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def up(self, tiles: list[Tensor]) -> Tensor:
        """See :class:`Lane`."""
        return (tiles[0] if len(tiles) == 1 else torch.cat(tiles)).to(self._device)

    def home(self, values: Tensor) -> Tensor:
        """See :class:`Lane`; bands are put together on the CPU."""
        return values.cpu()

    def down(self, values: Tensor) -> Landing:
        """See :class:`Lane`."""
        host = values.cpu()
        return lambda: host


class CudaLane:
    """A CUDA device: copies run on streams of their own, from and to memory that the system does not move.

    Bands are put together on the device too, so that photos come and go in their own samples and the host only copies them.
    Not measured: at the time of writing no such device was at hand. ``tests/test_cuda.py`` compares it with the CPU.
    """

    depth = 2
    rows = 1024
    fill = 2**22  # some milliseconds of work; of more at once, none could be read and sent while others are computed
    photos_ahead = 4  # a 12-megapixel JPEG is decoded, and encoded, in about the time in which the device restores one

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._upward, self._downward = (torch.cuda.Stream(device) for _ in range(2))

    def up(self, tiles: list[Tensor]) -> Tensor:
        """See :class:`Lane`."""
        first = tiles[0]
        if first.device.type == "cuda":
            return torch.cat([tile.to(self._device) for tile in tiles])
        count, channels, height, width = len(tiles), *first.shape[1:]
        host = torch.empty(count, height, width, channels, dtype=first.dtype, pin_memory=True).permute(0, 3, 1, 2)
        for place, tile in zip(host, tiles, strict=True):
            place.copy_(tile[0])
        now = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._upward):
            there = host.to(self._device, non_blocking=True)
        now.wait_stream(self._upward)
        there.record_stream(now)  # or its memory could be given to the next batch before this one was computed
        return there

    def home(self, values: Tensor) -> Tensor:
        """See :class:`Lane`; bands are put together where they are made."""
        return values

    def down(self, values: Tensor) -> Landing:
        """See :class:`Lane`."""
        host = torch.empty_like(values, device="cpu", pin_memory=True)
        self._downward.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._downward):
            host.copy_(values, non_blocking=True)
            landed = self._downward.record_event()
        values.record_stream(self._downward)

        def wait() -> Tensor:
            landed.synchronize()
            return host

        return wait


def lane_of(device: torch.device) -> Lane:
    """The lane of ``device``."""
    return CudaLane(device) if device.type == "cuda" else PlainLane(device)
