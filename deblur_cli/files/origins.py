"""Where published checkpoints come from, and what their authors allow: facts, not legal advice.

Nothing here needs torch: the notice is due for whatever runs the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deblur_cli.files.card import is_non_commercial
from deblur_cli.files.label import Label

_NONE = "none stated by the authors"
_ACADEMIC = "Academic Public License (non-commercial)"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Origin:
    """Of one net's published checkpoints."""

    title: str
    """As its authors write it."""
    repository: str
    """Of the authors, on GitHub."""
    licence: str
    """Of the repository; none of these states another one for its weights."""

    def __str__(self) -> str:
        return f"{self.title} ({self.repository})" if self.repository else self.title


ORIGINS: Mapping[str, Origin] = MappingProxyType(
    {
        "deepdeblur": Origin("DeepDeblur", "SeungjunNah/DeepDeblur-PyTorch", "MIT"),
        "dmphn": Origin("DMPHN", "HongguangZhang/DMPHN-cvpr19-master", _NONE),
        "hinet": Origin("HINet", "megvii-model/HINet", "MIT"),
        "mimo-unet": Origin("MIMO-UNet", "chosj95/MIMO-UNet", _NONE),
        "mprnet": Origin("MPRNet", "swz30/MPRNet", _ACADEMIC),
        "mssnet": Origin("MSSNet", "kky7/MSSNet", _NONE),
        "nafnet": Origin("NAFNet", "megvii-research/NAFNet", "MIT"),
    }
)
"""By the net's name in the catalogue of nets."""

OTHERS: Mapping[str, Origin] = MappingProxyType({"Restormer": Origin("Restormer", "swz30/Restormer", _ACADEMIC)})
"""By the name of an architecture of spandrel, where it is known."""


def other(architecture: str) -> Origin:
    """Of a net that spandrel runs."""
    return OTHERS.get(architecture, Origin(architecture, "", _UNKNOWN))


def notice(label: Label) -> str:
    """A sentence for whoever uses the weights, where their licence is missing or forbids something; else nothing."""
    name = label.net.rpartition(":")[2]
    origin = ORIGINS.get(label.net) or other(name)
    if label.licence == _NONE:
        return (
            f"These weights of {origin} come without a licence: their authors have not said what may be done with them."
        )
    if label.licence == _UNKNOWN:
        return (
            f"The licence of these weights of {origin} is not known here: ask their authors what may be done with them."
        )
    if is_non_commercial(label.licence):
        return f"These weights are not for commercial use: their licence is the {label.licence}."
    return ""
