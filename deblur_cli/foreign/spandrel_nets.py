"""Nets that are not ours, through the library spandrel, where it is installed: Restormer, FFTformer, Uformer and others.

spandrel finds out what a state dict is of and builds the net; here it gets the face that the rest of the program knows.
``spandrel_extra_arches`` has the nets whose code is not free for every use; it is asked where it is installed, too.
"""

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from deblur_cli.errors import WeightsError
from deblur_cli.nets.prior import PriorConfig

PREFIX = "spandrel:"
"""Before the name of an architecture, where a label has the name of a net."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpandrelConfig:
    """What is known of a net that spandrel built; see :class:`deblur_cli.nets.NetConfig`."""

    multiple_of: int
    """Height and width must be multiples of this, in pixels."""
    precisions: tuple[str, ...]
    """What spandrel says that it stands."""
    overlap: int = 128
    """Pixels that neighbouring tiles share: nothing is known of what a pixel sees."""
    values_per_pixel: float = 3200.0
    """Numbers held at once per image pixel: of Restormer 2262, FFTformer 3146, Uformer 1522 were measured at 128 x 128."""
    local: bool = False
    """Nothing is known of what a pixel sees."""
    prior: PriorConfig | None = None
    """None: these nets have no place for one."""


class SpandrelNet(nn.Module):
    """Blurred image to a tuple of one restored image, in [0, 1]."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        size = descriptor.size_requirements
        halves = {"bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
        self.config = SpandrelConfig(
            multiple_of=size.multiple_of, precisions=("fp32", *(name for name, fits in halves.items() if fits))
        )
        self.architecture: str = descriptor.architecture.name
        self.model: nn.Module = descriptor.model
        self._descriptor = descriptor

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """To another device or number format; the layout in memory stays, for many of these nets know but one."""
        kwargs.pop("memory_format", None)
        return super().to(*args, **kwargs) if args or kwargs else self

    def forward(self, blurred: Tensor) -> tuple[Tensor, ...]:
        """Restore ``blurred``: (N, 3, H, W) float RGB in [0, 1]; what the net needs beyond that size is mirrored."""
        image = blurred.to(next(self.model.parameters()).dtype).contiguous()
        restored = [self._descriptor(each[None]) for each in image]
        return (torch.cat(restored).to(blurred.dtype),)


def is_installed() -> bool:
    """Whether the library is there."""
    return importlib.util.find_spec("spandrel") is not None


def architecture(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the architecture that spandrel sees in a state dict, if any; restoring images or not."""
    descriptor = _descriptor(tensors)
    return None if descriptor is None else str(descriptor.architecture.name)


def build(tensors: Mapping[str, Tensor], path: Path) -> SpandrelNet | None:
    """The net of a state dict, fp32 on the CPU; None where spandrel is not installed or does not know it.

    Raises:
        WeightsError: the net makes something else of an image than a restored one.
    """
    descriptor = _descriptor(tensors)
    if descriptor is None:
        return None
    facts = (descriptor.purpose, descriptor.scale, descriptor.input_channels, descriptor.output_channels)
    if facts != ("Restoration", 1, 3, 3):
        raise WeightsError(
            f"'{path}' is a {descriptor.architecture.name} for {descriptor.purpose} at scale {descriptor.scale}, from "
            f"{descriptor.input_channels} to {descriptor.output_channels} channels; it does not restore colour photos.",
            "Give the weights of a net that takes blur away.",
        )
    return SpandrelNet(descriptor)


def _descriptor(tensors: Mapping[str, Tensor]) -> Any | None:
    """What spandrel makes of a state dict; None if it is not installed or knows no such net."""
    if not is_installed():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of what torch will do away with
        import spandrel

        if importlib.util.find_spec("spandrel_extra_arches") is not None:
            import spandrel_extra_arches

            spandrel_extra_arches.install(ignore_duplicates=True)
        state = {name: values.float() if values.is_floating_point() else values for name, values in tensors.items()}
        try:
            with torch.random.fork_rng(devices=[]):
                return spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
        except Exception:  # noqa: BLE001  (a net that looks like one of theirs can fail in any of their readers)
            return None
