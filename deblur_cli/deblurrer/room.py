"""The memory that tiles of tensors may take."""

from collections.abc import Callable

import torch

from deblur_cli.deblurrer.devices import is_shortage, room
from deblur_cli.errors import DeviceError
from deblur_cli.files import memory
from deblur_cli.pixels import tiles

_TILE_BYTES = 4 * 3 * 6
"""Bytes per pixel besides the net's own: the tile, its correction and four steps between, float32."""
_FLIGHT_BYTES = 4 * 3 * 2
"""Bytes per pixel of another batch on its way: what it was made of and its corrections, float32."""
_BAND_BYTES = 4 * 3 * 2 + 8
"""Bytes per pixel of the row of tiles: its corrections, what it shares with the row above, and the photo's own samples."""


class TileMemory:
    """See :class:`layout.Memory`."""

    def __init__(
        self, device: torch.device, net_bytes: float, max_memory: int | None, forget: Callable[[], None]
    ) -> None:
        """Of ``device``; ``net_bytes`` per pixel, and what ``max_memory`` and ``forget`` are see ``Deblurrer``, ``Runner``."""
        self.coming = 0
        """Bytes of the machine's memory that the photo at hand will still use for other things."""
        self._device = device
        self._tile = net_bytes + _TILE_BYTES + (_FLIGHT_BYTES if device.type == "cuda" else 0)
        self._max_memory = max_memory
        self._forget = forget

    def room(self) -> tiles.Room:
        """What tiles may take now."""
        size = room(self._device, self._max_memory, self.coming)
        return tiles.Room(size=size, tile=self._tile, band=_BAND_BYTES)

    def check(self, plan: tiles.TilePlan, room: tiles.Room) -> None:
        """Refuse a ``--max-memory`` that does not suffice."""
        if self._max_memory is not None:
            whose = f"this net and a photo of {plan.width} x {plan.height} pixels"
            memory.check_budget(self._max_memory, room.size, room.taken(plan), whose)

    def is_shortage(self, error: Exception) -> bool:
        """Whether memory ran out, on whatever device."""
        return is_shortage(error)

    def rest(self) -> None:
        """Give back what failed tiles took, and what is kept to be faster."""
        self._forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def ended(self, side: int) -> DeviceError:
        """What is told when not even tiles of this side fit."""
        return DeviceError(
            f"The memory of {self._device} does not suffice even for tiles of {side} pixels, the smallest of this net.",
            "Close other programs, or choose another --device or --precision.",
        )
