"""Muon: filters move by evened-out steps, everything else by AdamW, a broken step moves nothing, a stop changes nothing."""

import copy

import torch
from torch import Tensor, nn

from deblur_cli.trainer.muon import MuonAdamW


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 24, 3), nn.Conv2d(24, 3, 3))


def _optimiser(net: nn.Sequential, rate: float = 0.1, weight_decay: float = 0.0) -> MuonAdamW:
    optimiser = MuonAdamW([{"params": list(net.parameters())}], weight_decay=weight_decay)
    for group in optimiser.param_groups:
        group["lr"] = rate
    return optimiser


def _gradients(net: nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def _copies(net: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def test_a_step_of_a_filter_has_even_singular_values() -> None:
    net = _net()
    before = net[2].weight.detach().clone()
    _gradients(net)
    _optimiser(net).step()
    matrix = (net[2].weight.detach() - before).flatten(1)
    values = torch.linalg.svdvals(matrix) / (0.1 * 0.2 * max(matrix.shape) ** 0.5)
    assert ((values > 0.5) & (values < 1.4)).all(), values


def test_ends_and_biases_move_as_adamw_moves_them() -> None:
    net, other = _net(), _net()
    _gradients(net)
    _gradients(other)
    _optimiser(net, weight_decay=0.01).step()
    torch.optim.AdamW(other.parameters(), lr=0.1, weight_decay=0.01).step()
    for place in (0, 3):
        torch.testing.assert_close(net[place].weight, other[place].weight)
    for place in range(4):
        torch.testing.assert_close(net[place].bias, other[place].bias)
    assert not torch.allclose(net[1].weight, other[1].weight)


def test_a_broken_step_moves_nothing() -> None:
    net = _net()
    before = _copies(net)
    optimiser = _optimiser(net)
    _gradients(net)
    net[1].weight.grad.fill_(float("nan"))
    optimiser.found_inf = torch.tensor(1.0)
    optimiser.step()
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
    _gradients(net)
    optimiser.found_inf = torch.tensor(0.0)
    optimiser.step()
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    assert not torch.equal(before[2], net[1].weight)


def test_a_run_that_was_stopped_goes_on_bit_for_bit() -> None:
    net = _net()
    optimiser = _optimiser(net)
    _gradients(net)
    optimiser.step()
    twin = copy.deepcopy(net)
    resumed = _optimiser(twin)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for each, owner in ((optimiser, net), (resumed, twin)):
        _gradients(owner, seed=2)
        for group in each.param_groups:
            group["lr"] = 0.05
        each.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
