"""What becomes of a net when it is exported: the one list of those that change.

A net that is not in the list is exported as it is, for all sizes that it takes. A test tries every net of the catalogue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from torch import nn

from deblur_cli import nets


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How one net is exported, where that is not as it is."""

    dials: Mapping[str, Any]
    """Dials that are set so, and need no other tensors."""
    alike: str
    """The dial that tells up to what side of a tile, in pixels, both forms restore alike."""
    why: str
    """Told to the user: what was done, and why."""


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "nafnet": Form(
            dials={"window": 0},
            alike="window",
            why="channel attention averages over the whole tile, not over a window around each pixel (TLC), which leaves"
            " blocks in some photos; in tiles of at most {alike} pixels, which deblur PHOTO takes, both are the same",
        ),
    }
)
"""Name in the catalogue of nets to its form."""

_WHOLE = "restored pixels depend on the whole tile: a photo in tiles differs from the photo taken whole, in every program alike"


@dataclass(frozen=True, slots=True)
class Settled:
    """A net in the form that is exported."""

    net: nn.Module
    """With the tensors of the checkpoint, in evaluation mode."""
    longest: int = 0
    """Side of a tile in pixels up to which it restores as the net of the checkpoint; 0: any."""
    why: str = ""
    """What was done, and why; empty: nothing."""


def settle(name: str, net: nn.Module) -> Settled:
    """The net in the form that is exported."""
    form = FORMS.get(name)
    config: Any = net.config
    if form is None or all(getattr(config, dial) == value for dial, value in form.dials.items()):
        return Settled(net.eval().requires_grad_(requires_grad=False))
    safe = nets.build(name, nets.to_mapping(replace(config, **form.dials)))
    safe.load_state_dict(net.state_dict())
    alike: int = getattr(config, form.alike)
    return Settled(safe.eval().requires_grad_(requires_grad=False), alike, form.why.format(alike=alike))


def notes(settled: Settled, sort: str) -> list[str]:
    """What the user should know of a net in this form and this format."""
    config: Any = settled.net.config
    told = [settled.why] if settled.why else []
    if not config.local:
        told.append(_WHOLE)
    if sort == "pt2":
        told.append(f"height and width are to be {2 * config.multiple_of} pixels at least")
    return told
