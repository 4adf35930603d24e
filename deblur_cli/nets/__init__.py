"""The catalogue of nets: what the rest of the program may know about each, and how one is built from a label.

The list stands here, above what it lists; a net's file knows nothing of it. To add a net: write ``nets/<name>.py``, add
one row to :data:`NETS` and one to :data:`PRESETS`, one golden to the tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from torch import nn

from deblur_cli.nets.bdirnet import BDIRNet, BDIRNetConfig
from deblur_cli.nets.deepdeblur import DeepDeblur, DeepDeblurConfig
from deblur_cli.nets.dmphn import DMPHN, DMPHNConfig
from deblur_cli.nets.hinet import HINet, HINetConfig
from deblur_cli.nets.mapping import from_mapping, to_mapping
from deblur_cli.nets.mimo_unet import MIMOUNet, MIMOUNetConfig
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.nets.mprnet import MPRNet, MPRNetConfig
from deblur_cli.nets.mssnet import MSSNet, MSSNetConfig
from deblur_cli.nets.nafnet import NAFNet, NAFNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.srn import SRN, SRNConfig
from deblur_cli.nets.unet import UNet, UNetConfig

__all__ = ["NETS", "PRESETS", "NetConfig", "NetSpec", "build", "grid_of", "to_mapping", "unpadded_of"]


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

    @property
    def local(self) -> bool:
        """Whether every restored pixel sees a bounded neighbourhood only, so that tiles equal the whole."""
        ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the structure is expected to stand; whether weights do is measured, and in their label."""
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
        "motion-unet": NetSpec(MotionUNet, MotionUNetConfig, "The UNet above with a motion prior; ours"),
        "deepdeblur": NetSpec(DeepDeblur, DeepDeblurConfig, "Nah et al. CVPR 2017; https://arxiv.org/abs/1612.02177"),
        "mprnet": NetSpec(MPRNet, MPRNetConfig, "Zamir et al. CVPR 2021; https://arxiv.org/abs/2102.02808"),
        "mimo-unet": NetSpec(MIMOUNet, MIMOUNetConfig, "Cho et al. ICCV 2021; https://arxiv.org/abs/2108.05054"),
        "mssnet": NetSpec(MSSNet, MSSNetConfig, "Kim et al. ECCV Workshops 2022; https://arxiv.org/abs/2202.09652"),
        "srn": NetSpec(SRN, SRNConfig, "Tao et al. CVPR 2018, without its LSTM; https://arxiv.org/abs/1802.01770"),
        "dmphn": NetSpec(DMPHN, DMPHNConfig, "Zhang et al. CVPR 2019; https://arxiv.org/abs/1904.03468"),
        "hinet": NetSpec(HINet, HINetConfig, "Chen et al. CVPR Workshops 2021; https://arxiv.org/abs/2105.06086"),
        "nafnet": NetSpec(NAFNet, NAFNetConfig, "Chen et al. ECCV 2022; https://arxiv.org/abs/2204.04676"),
        "bdirnet": NetSpec(
            BDIRNet,
            BDIRNetConfig,
            "Niu et al. Neurocomputing 2021, inferred; https://doi.org/10.1016/j.neucom.2021.09.019",
        ),
    }
)

_PRIOR = PriorConfig()
_NARROW = UNetConfig(width=32, blocks=(2, 3, 4), stem=2)
_FAST = UNetConfig(width=24, blocks=(2, 3, 4), stem=2)
_FAR = MotionConfig(scales=2, looks=2)
_GLANCE = MotionConfig(width=112, blocks=2, steer=64, scales=2)
# MobileNetV2 as the teacher: its maps at strides 2, 4 and 8 are those of a net that works at half resolution.
_NARROW_PRIOR = PriorConfig(widths=(16, 24, 32), channels=(16, 32, 64), blocks=(1, 2, 3), sat_width=16)

_PUBLISHED: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "deepdeblur": ("deepdeblur", DeepDeblurConfig()),
        "deepdeblur-full": ("deepdeblur", DeepDeblurConfig(blocks=19)),
        "mprnet": ("mprnet", MPRNetConfig()),
        "mprnet-stage1": ("mprnet", MPRNetConfig(stages=1)),
        "mimo-unet": ("mimo-unet", MIMOUNetConfig()),
        "mimo-unet-plus": ("mimo-unet", MIMOUNetConfig(blocks=20, dropout=0.1)),
        "mssnet": ("mssnet", MSSNetConfig()),
        "mssnet-small": ("mssnet", MSSNetConfig(widths=(20, 60, 100))),
        "mssnet-large": ("mssnet", MSSNetConfig(widths=(80, 130, 180))),
        "srn": ("srn", SRNConfig()),
        "dmphn": ("dmphn", DMPHNConfig()),
        "dmphn-1-2-4-8": ("dmphn", DMPHNConfig()),
        "dmphn-1-2-4": ("dmphn", DMPHNConfig(levels=3)),
        "hinet": ("hinet", HINetConfig()),
        "hinet-half": ("hinet", HINetConfig(width=32)),
        "nafnet": ("nafnet", NAFNetConfig()),
        "nafnet-32": ("nafnet", NAFNetConfig()),
        "nafnet-64": ("nafnet", NAFNetConfig(width=64)),
        "bdirnet": ("bdirnet", BDIRNetConfig()),
    }
)
"""The nets of other papers as these have them; each is there with the prior of ours too, as NAME-sp."""

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
        "motion-unet": ("motion-unet", MotionUNetConfig(motion=_FAR)),
        "motion-unet-fast": ("motion-unet", MotionUNetConfig(blocks=(1, 2, 1), motion=_GLANCE)),
        "motion-unet-sp": ("motion-unet", MotionUNetConfig(motion=_FAR, prior=_NARROW_PRIOR)),
        "motion-unet-phases-sp": ("motion-unet", MotionUNetConfig(motion=_FAR, prior=_NARROW_PRIOR, phases=True)),
        "motion-unet-midway-sp": (
            "motion-unet",
            MotionUNetConfig(motion=_FAR, prior=_NARROW_PRIOR, phases=True, midway=True),
        ),
        "motion-unet-coarse-sp": (
            "motion-unet",
            MotionUNetConfig(motion=_FAR, prior=_NARROW_PRIOR, phases=True, midway=True, coarse=True),
        ),
        "motion-unet-hindsight-sp": (
            "motion-unet",
            MotionUNetConfig(motion=_FAR, prior=_NARROW_PRIOR, phases=True, midway=True, coarse=True, hindsight=True),
        ),
        **_PUBLISHED,
        **{f"{name}-sp": (net, replace(config, prior=_PRIOR)) for name, (net, config) in _PUBLISHED.items()},
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


def grid_of(config: NetConfig) -> int:
    """Of what the corners of tiles are multiples, in pixels: of the same as sides, unless the net looks from further off."""
    return getattr(config, "grid", config.multiple_of)


def unpadded_of(config: NetConfig) -> int:
    """Sides that are multiples of this, in pixels, are never filled up, at no size that the net looks at."""
    return getattr(config, "unpadded", grid_of(config))
