"""Table 4 of the paper: which parts of the semantic prior each ablation has.

Paper: Take a Prior from Other Tasks for Severe Blur Removal, section 4.3; https://arxiv.org/abs/2302.06898
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from deblur_cli.nets.prior import Fusion, PriorConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """One row of the table; the defaults are the whole method."""

    guided: bool = True
    """There is a prior at all: F_S and the embedding."""
    distill: bool = True
    """Training compares the prior with the teacher; the net is the same without."""
    clc: bool = True
    """Cross-level connection, eq. 3; the distillation loss is then eq. 4, else eq. 2."""
    mla: bool = True
    """Multi-level aggregation, eq. 5."""
    fusion: Fusion = "sat"
    """How the prior enters the decoder."""

    def prior(self, base: PriorConfig) -> PriorConfig | None:
        """``base`` with the parts that this row has; None where it has no prior."""
        return replace(base, clc=self.clc, mla=self.mla, fusion=self.fusion) if self.guided else None


TABLE4: Mapping[str, Ablation] = MappingProxyType(
    {
        "Net0": Ablation(guided=False, distill=False, clc=False, mla=False),
        "Net0*": Ablation(distill=False),
        "Net1": Ablation(clc=False, mla=False, fusion="add"),
        "Net2": Ablation(clc=False, mla=False, fusion="concat"),
        "Net3": Ablation(clc=False, mla=False),
        "Net4": Ablation(mla=False),
        "Net5": Ablation(clc=False),
        "Net6": Ablation(),
    }
)
