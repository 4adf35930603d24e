"""What the nets of others gave when they were made, on tiny configs: no change of the code may change it unseen."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets import build, to_mapping
from deblur_cli.nets.bdirnet import BDIRNetConfig
from deblur_cli.nets.deepdeblur import DeepDeblurConfig
from deblur_cli.nets.dmphn import DMPHNConfig
from deblur_cli.nets.hinet import HINetConfig
from deblur_cli.nets.mimo_unet import MIMOUNetConfig
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.motion_unet import MotionUNetConfig
from deblur_cli.nets.mprnet import MPRNetConfig
from deblur_cli.nets.mssnet import MSSNetConfig
from deblur_cli.nets.nafnet import NAFNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.srn import SRNConfig

PRIOR = PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1))
_MPRNET = MPRNetConfig(width=4, growth=2, original_growth=2, original_blocks=1, reduction=2)
TINY = {
    "bdirnet": ("bdirnet", BDIRNetConfig(width=2, blocks=(1, 0, 1))),
    "deepdeblur": ("deepdeblur", DeepDeblurConfig(blocks=2, width=2)),
    "dmphn": ("dmphn", DMPHNConfig(width=2)),
    "hinet": ("hinet", HINetConfig(width=2, depth=4, normed=(2, 3))),
    "mimo-unet": ("mimo-unet", MIMOUNetConfig(width=2, blocks=1)),
    "motion-unet": (
        "motion-unet",
        MotionUNetConfig(width=2, blocks=(1, 1, 1), motion=MotionConfig(width=8, blocks=1, radius=4, steer=6)),
    ),
    "mprnet": ("mprnet", _MPRNET),
    "mprnet-stage1": ("mprnet", replace(_MPRNET, stages=1)),
    "mssnet": ("mssnet", MSSNetConfig(widths=(2, 3, 4))),
    "nafnet": ("nafnet", NAFNetConfig(width=2, encoder=(1, 1, 0, 1), window=16)),
    "srn": ("srn", SRNConfig(width=2, blocks=1)),
}


SIZE = {"mprnet": 0.7, "mssnet": 0.8}
"""Of the weights, where stages would multiply images out of their range."""
STAGED = {"deepdeblur": 2, "hinet": 1, "mimo-unet": 2, "mprnet": 2, "mssnet": 5, "srn": 2}
"""How many images each gives in training besides the final one."""
EXACT = {"nafnet"}
"""Computed in double precision: normalising two channels is nearly a sign, and shows what a processor rounds in single."""


def settle(net, size=1.0):
    """Weights by a closed formula, none of them zero, so that goldens do not depend on a random generator."""
    for index, parameter in enumerate(net.parameters()):
        wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 1.7 + index)
        parameter.data = (
            (size * wave / max(1, parameter[0].numel()) ** 0.5).reshape(parameter.shape).to(parameter.dtype)
        )
    return net.eval()


@pytest.mark.parametrize("name", TINY)
def test_results_are_the_golden_ones(name, golden):
    net, config = TINY[name]
    height, width = (64, 128) if name == "motion-unet" else (32, 48)
    wave = torch.arange(3 * height * width, dtype=torch.float64) * 0.37
    blurred = (0.5 + 0.5 * torch.sin(wave)).reshape(1, 3, height, width).float()
    results = {}
    with torch.no_grad():
        for key, dials in {"plain": config, "guided": replace(config, prior=PRIOR)}.items():
            built = settle(build(net, to_mapping(dials)), SIZE.get(name, 1.0))
            if name in EXACT:
                built, blurred = built.double(), blurred.double()
            results[key] = built(blurred)[0].float()
            if name in STAGED:  # what only training compares, in small
                others = [F.adaptive_avg_pool2d(image, 4) for image in built.train()(blurred)[1:]]
                assert len(others) == STAGED[name]
                results[f"{key}-others"] = torch.cat(others)
    assert not torch.allclose(results["plain"], results["guided"], atol=1e-3)
    golden(name, results)
