"""Which net a state dict is of, and with which dials: from the names and shapes of its tensors alone.

Each reader looks for two names that only its net has, and reads the dials from shapes and counts. What it says is then proven:
the net is built without memory, and every name and shape must be the same.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from deblur_cli import nets
from deblur_cli.nets.deepdeblur import DeepDeblurConfig
from deblur_cli.nets.dmphn import DMPHNConfig
from deblur_cli.nets.hinet import HINetConfig
from deblur_cli.nets.mimo_unet import MIMOUNetConfig
from deblur_cli.nets.mprnet import MPRNetConfig
from deblur_cli.nets.mssnet import MSSNetConfig
from deblur_cli.nets.nafnet import NAFNetConfig

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor to its shape."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A net of the catalogue whose state dict has exactly these names and shapes."""

    net: str
    """Its name in the catalogue of nets."""
    config: Any
    """Its dials; those that leave no trace in the tensors have their default."""


@dataclass(frozen=True, slots=True)
class Near:
    """A net that has the two names of its own, but not all the rest."""

    net: str
    wrong: str
    """The first name that is missing, too many, or of another shape, as the end of a sentence."""


def recognise(shapes: Shapes) -> Recognised | Near | None:
    """The net with exactly these names and shapes; failing that, the one that comes near, if any does."""
    for marks, reader in _READERS.items():
        if not shapes.keys() >= set(marks):
            continue
        kind = reader.__name__.removeprefix("_").replace("_", "-")
        try:
            config = reader(shapes)
            name = next(name for name, spec in nets.NETS.items() if spec.config is type(config))
            with torch.device("meta"):
                built = nets.build(name, nets.to_mapping(config))
        except (IndexError, KeyError, ValueError, ZeroDivisionError) as error:
            return Near(kind, f"its dials cannot be read ({error})")
        wrong = _difference(shapes, {key: tuple(values.shape) for key, values in built.state_dict().items()})
        return Near(kind, wrong) if wrong else Recognised(name, config)
    return None


def _difference(found: Shapes, wanted: Shapes) -> str:
    for key in wanted:
        if key not in found:
            return f"{key} is missing"
        if found[key] != wanted[key]:
            return f"{key} has the shape {found[key]} where {wanted[key]} was expected"
    return next((f"{key} is one too many" for key in found if key not in wanted), "")


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand in the group of ``pattern``, which names begin with."""
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})


def _deepdeblur(shapes: Shapes) -> DeepDeblurConfig:
    return DeepDeblurConfig(
        width=shapes["body_models.0.body.0.weight"][0],
        blocks=_count(shapes, r"body_models\.0\.body\.(\d+)\.") - 2,  # the first and the last are plain convolutions
    )


def _dmphn(shapes: Shapes) -> DMPHNConfig:
    return DMPHNConfig(width=shapes["encoder_lv1.layer1.weight"][0], levels=_count(shapes, r"encoder_lv(\d+)\."))


def _hinet(shapes: Shapes) -> HINetConfig:
    normed = sorted(int(match[1]) for key in shapes if (match := re.match(r"down_path_1\.(\d+)\.norm\.weight", key)))
    return HINetConfig(
        width=shapes["conv_01.weight"][0],
        depth=_count(shapes, r"down_path_1\.(\d+)\."),
        normed=(normed[0], normed[-1]) if normed else (1, 0),
    )


def _mimo_unet(shapes: Shapes) -> MIMOUNetConfig:
    blocks = _count(shapes, r"Encoder\.0\.layers\.(\d+)\.")
    # MIMO-UNet+ also drops channels in training, which its tensors do not show.
    return MIMOUNetConfig(
        width=shapes["feat_extract.0.main.0.weight"][0], blocks=blocks, dropout=0.1 if blocks == 20 else 0.0
    )


def _mprnet(shapes: Shapes) -> MPRNetConfig:
    width = shapes["shallow_feat1.0.weight"][0]
    first = MPRNetConfig(
        width=width,
        growth=shapes["stage1_encoder.down12.down.1.weight"][0] - width,
        reduction=width // shapes["shallow_feat1.1.CA.conv_du.0.weight"][0],
        stages=1,
    )
    if "tail.weight" not in shapes:
        return first
    return replace(
        first,
        stages=3,
        original_growth=shapes["tail.weight"][1] - width,
        original_blocks=_count(shapes, r"stage3_orsnet\.orb1\.body\.(\d+)\.") - 1,
    )


def _mssnet(shapes: Shapes) -> MSSNetConfig:
    middle, fine = shapes["E1_1.down12.down.1.weight"][:2]
    return MSSNetConfig(widths=(fine, middle, shapes["E1_1.down23.down.1.weight"][0]))


def _nafnet(shapes: Shapes) -> NAFNetConfig:
    def blocks(side: str) -> tuple[int, int, int, int]:
        first, second, third, fourth = (_count(shapes, rf"{side}\.{level}\.(\d+)\.") for level in range(4))
        return first, second, third, fourth

    return NAFNetConfig(
        width=shapes["intro.weight"][0],
        encoder=blocks("encoders"),
        middle=_count(shapes, r"middle_blks\.(\d+)\."),
        decoder=blocks("decoders"),
    )


_READERS: Mapping[tuple[str, str], Callable[[Shapes], Any]] = {
    ("body_models.0.body.0.weight", "conv_end_models.1.uppath.0.weight"): _deepdeblur,
    ("encoder_lv1.layer1.weight", "decoder_lv1.layer24.weight"): _dmphn,
    ("down_path_1.0.conv_1.weight", "sam12.conv1.weight"): _hinet,
    ("feat_extract.0.main.0.weight", "SCM1.conv.main.0.weight"): _mimo_unet,
    ("stage1_encoder.encoder_level1.0.CA.conv_du.0.weight", "sam12.conv2.weight"): _mprnet,
    ("E1_1.down12.down.1.weight", "tail3_3.weight"): _mssnet,
    ("intro.weight", "ending.weight"): _nafnet,
}
