"""What is done to a batch of tiles: the net's correction of each, averaged over views if wanted, in fp32 where it must be."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from deblur_cli.deblurrer.running import Runner
from deblur_cli.errors import WeightsError


class Corrector:
    """The work of one net; see :class:`lanes.Work`."""

    def __init__(self, runner: Runner, exact: Callable[[], nn.Module], *, tta: bool, path: Path) -> None:
        """How ``runner`` is used; ``exact`` loads the same net in fp32 when it is first needed, ``path`` names it."""
        self._runner = runner
        self._load_exact = exact
        self._exact: nn.Module | None = None
        self._tta = tta
        self._path = path

    @property
    def fixed(self) -> bool:
        """Whether all batches should have one shape."""
        return self._runner.fixed

    def settle(self, tiles: Tensor, white: int) -> Tensor:
        """Samples (N, 1 or 3, H, W) of a photo, to (N, 3, H, W) float32 in [0, 1] with the channels last in memory."""
        values = tiles.to(torch.float32)
        if white != 1:
            values = values / white
        return values.clamp(0, 1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)

    def correct(self, blurred: Tensor) -> Tensor:
        """What the net would add to each of a batch, (N, 3, H, W) float32."""
        return self._views(self._runner, blurred)

    def again(self, blurred: Tensor) -> Tensor:
        """The same in fp32, which does not overflow where half precision does.

        Raises:
            WeightsError: it does so, too.
        """
        exact = self._exact = self._exact or self._load_exact()
        correction = self._views(lambda view: exact(view)[0], blurred)
        if not correction.sum(dtype=torch.float32).isfinite():
            raise WeightsError(f"The net of '{self._path}' gives values that are not numbers.", "Use other weights.")
        return correction

    def forget(self) -> None:
        """Give back memory that is kept to be faster."""
        self._runner.forget()

    def _views(self, net: Callable[[Tensor], Tensor], blurred: Tensor) -> Tensor:
        if not self._tta:
            return net(blurred) - blurred
        total = torch.zeros_like(blurred)
        for mirrored in (False, True):
            for turns in range(4):
                view = torch.rot90(blurred.flip(-1) if mirrored else blurred, turns, (-2, -1))
                view = view.contiguous(memory_format=torch.channels_last)
                back = torch.rot90(net(view) - view, -turns, (-2, -1))
                total += back.flip(-1) if mirrored else back
        return total / 8
