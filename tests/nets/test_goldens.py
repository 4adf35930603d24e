"""What the nets of others gave when they were made, on tiny configs: no change of the code may change it unseen."""

from dataclasses import replace

import pytest
import torch

from deblur_cli.nets import build, to_mapping
from deblur_cli.nets.bdirnet import BDIRNetConfig
from deblur_cli.nets.dmphn import DMPHNConfig
from deblur_cli.nets.hinet import HINetConfig
from deblur_cli.nets.nafnet import NAFNetConfig
from deblur_cli.nets.prior import PriorConfig

PRIOR = PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1))
TINY = {
    "bdirnet": ("bdirnet", BDIRNetConfig(width=2, blocks=(1, 0, 1))),
    "dmphn": ("dmphn", DMPHNConfig(width=2)),
    "hinet": ("hinet", HINetConfig(width=2, depth=4, normed=(2, 3))),
    "nafnet": ("nafnet", NAFNetConfig(width=2, encoder=(1, 1, 0, 1), window=16)),
}


def settle(net):
    """Weights by a closed formula, none of them zero, so that goldens do not depend on a random generator."""
    for index, parameter in enumerate(net.parameters()):
        wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 1.7 + index)
        parameter.data = (wave / max(1, parameter[0].numel()) ** 0.5).reshape(parameter.shape).to(parameter.dtype)
    return net.eval()


@pytest.mark.parametrize("name", TINY)
def test_results_are_the_golden_ones(name, golden):
    net, config = TINY[name]
    wave = torch.arange(3 * 32 * 48, dtype=torch.float64) * 0.37
    blurred = (0.5 + 0.5 * torch.sin(wave)).reshape(1, 3, 32, 48).float()
    nets = {"plain": config, "guided": replace(config, prior=PRIOR)}
    with torch.no_grad():
        golden(name, {key: settle(build(net, to_mapping(dials)))(blurred)[0] for key, dials in nets.items()})
