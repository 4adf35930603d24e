"""From a checkpoint to its net, whoever made it."""

from pathlib import Path

import torch
from torch import nn

from deblur_cli import foreign, nets
from deblur_cli.errors import WeightsError
from deblur_cli.files import checkpoint, exported


def load(path: Path) -> tuple[checkpoint.Label, nn.Module]:
    """Label and net of a checkpoint, ours or one that other authors published, fp32 on the CPU.

    Raises:
        WeightsError: the checkpoint is missing, torn, or not that of a net.
    """
    exported.refuse(path)
    if foreign.is_published(path):
        return foreign.open_net(path)
    found = checkpoint.load(path)
    label = found.label
    if label.kind != "net":
        raise WeightsError(
            f"'{path}' is a {label.kind} and restores no photos by itself.", "Give the checkpoint of a net."
        )
    if label.net not in nets.NETS:
        raise WeightsError(
            f"'{path}' is made for the net '{label.net}'; this version of deblur has {', '.join(nets.NETS)}.",
            "Upgrade with pip install -U deblur-cli.",
        )
    try:
        with torch.random.fork_rng(devices=[]):  # building draws random weights; the caller's dice stay as they are
            net = nets.build(label.net, label.config)
        net.load_state_dict(dict(found.tensors))
    except (ValueError, RuntimeError) as error:
        raise WeightsError(
            f"The tensors or dials in '{path}' do not fit the net '{label.net}': {str(error).splitlines()[0]}",
            "Fetch or train it anew.",
        ) from error
    return label, net
