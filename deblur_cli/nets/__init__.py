"""The catalogue of nets: what the rest of the program may know about each, and how one is built from a label.

The list stands here, above what it lists; a net's file knows nothing of it. To add a net: write ``nets/<name>.py``, add
one row to :data:`NETS` and one to :data:`PRESETS`, one golden to the tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from torch import nn

from deblur_cli.nets.mapping import from_mapping, to_mapping
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.unet import UNet, UNetConfig

__all__ = ["NETS", "PRESETS", "NetConfig", "NetSpec", "build", "to_mapping"]


class NetConfig(Protocol):
    """What every net's frozen config can tell."""

    @property
    def prior(self) -> PriorConfig | None:
        """The semantic prior that guides the decoder, or None for the plain net."""
        ...

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this, in pixels."""
        ...

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share, so that the seam cannot be seen."""
        ...

    @property
    def values_per_pixel(self) -> float:
        """Numbers held at once per image pixel at the peak of ``forward`` without gradients."""
        ...


@dataclass(frozen=True, slots=True)
class NetSpec:
    """One row of the catalogue."""

    net: Callable[[Any], nn.Module]
    """Config to module, which maps (N, 3, H, W) float RGB in [0, 1] to a tuple of restored images, the final first."""
    config: type[Any]
    """The frozen dataclass of the net's dials; see :class:`NetConfig` for what it can tell."""
    paper: str
    """Where the net comes from."""


NETS: Mapping[str, NetSpec] = MappingProxyType(
    {
        "unet": NetSpec(
            UNet, UNetConfig, "Li et al. TIP 2020, image branch; https://arxiv.org/abs/2302.06898 section 4.1"
        ),
    }
)

_PRIOR = PriorConfig()
_NARROW = UNetConfig(width=32, blocks=(2, 3, 4), stem=2)
_FAST = UNetConfig(width=24, blocks=(2, 3, 4), stem=2)
# MobileNetV2 as the teacher: its maps at strides 2, 4 and 8 are those of a net that works at half resolution.
_NARROW_PRIOR = PriorConfig(widths=(16, 24, 32), channels=(16, 32, 64), blocks=(1, 2, 3), sat_width=16)

PRESETS: Mapping[str, tuple[str, NetConfig]] = MappingProxyType(
    {
        "unet": ("unet", UNetConfig()),
        "unet-48": ("unet", UNetConfig(width=48)),
        "unet-narrow": ("unet", _NARROW),
        "unet-fast": ("unet", _FAST),
        "unet-sp": ("unet", UNetConfig(prior=_PRIOR)),
        "unet-sp-small": ("unet", UNetConfig(prior=replace(_PRIOR, blocks=(1, 2, 4)))),
        "unet-sp-large": ("unet", UNetConfig(prior=replace(_PRIOR, channels=(64, 128, 256), blocks=(2, 3, 6)))),
        "unet-narrow-sp": ("unet", replace(_NARROW, prior=_NARROW_PRIOR)),
        "unet-fast-sp": ("unet", replace(_FAST, prior=_NARROW_PRIOR)),
    }
)
"""Named configs: name in :data:`NETS`, dials. ``unet`` is the paper's baseline, ``unet-sp`` its whole method."""


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """The net ``name`` with new weights and the dials of ``config``, which :func:`to_mapping` or a label's JSON gave.

    Raises:
        ValueError: No net of that name, a dial that it does not have, or a value that it cannot take.
    """
    if name not in NETS:
        raise ValueError(f"There is no net {name!r}; there are {', '.join(NETS)}.")
    return NETS[name].net(from_mapping(NETS[name].config, config))
