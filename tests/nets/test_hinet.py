"""HINet: half instance normalisation, what the second stage takes from the first, and which levels it is told of."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets.hinet import Block, HINet, HINetConfig
from deblur_cli.nets.prior import PriorConfig

TINY = HINetConfig(width=4, depth=4, normed=(2, 3))
PRIOR = PriorConfig(widths=(3, 4, 5), channels=(4, 4, 4), blocks=(0, 0, 0))


def test_half_of_the_channels_is_normalised_between_the_convolutions():
    torch.manual_seed(0)
    block = Block(3, 8, normed=True)
    torch.nn.init.normal_(block.norm.weight)
    torch.nn.init.normal_(block.norm.bias)
    features = torch.rand(2, 3, 6, 5)
    seen = block.conv_1(features)
    own, rest = seen[:, :4], seen[:, 4:]
    mean, variance = own.mean((2, 3), keepdim=True), own.var((2, 3), keepdim=True, correction=0)
    own = (own - mean) / (variance + 1e-5).sqrt() * block.norm.weight.view(1, -1, 1, 1) + block.norm.bias.view(
        1, -1, 1, 1
    )
    seen = block.conv_2(F.leaky_relu(torch.cat((own, rest), dim=1), 0.2))
    torch.testing.assert_close(block(features), F.leaky_relu(seen, 0.2) + block.identity(features))


def test_a_level_of_one_pixel_is_legal_and_teaches():
    net = HINet(TINY)
    blurred = torch.rand(1, 3, 8, 8)
    net(blurred)[0].square().mean().backward()
    bias = net.down_path_1[3].norm.bias
    assert bias.grad is not None
    assert bias.grad.any()


def test_training_is_shown_both_stages_and_use_the_second_alone():
    net = HINet(TINY)
    blurred = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        late, early = net.train()(blurred)
        only = net.eval()(blurred)
    assert len(only) == 1
    assert torch.equal(only[0], late)
    assert early.shape == late.shape
    assert not torch.allclose(early, late)


@pytest.mark.parametrize("layer", ["csff_enc", "csff_dec"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_second_stage_adds_what_the_first_knew_of_the_same_level(layer, level):
    """The fusion of a level is handed the first stage's features of that level, recorded where they are made."""
    net = HINet(TINY).eval()
    made, given = [], []
    source = net.down_path_1[level] if layer == "csff_enc" else net.up_path_1[2 - level]
    source.register_forward_hook(lambda _module, _input, output: made.append(output.clone()))
    fusion = net.get_submodule(f"down_path_2.{level}.{layer}")
    fusion.register_forward_hook(lambda _module, inputs, _output: given.append(inputs[0].clone()))
    with torch.inference_mode():
        net(torch.rand(1, 3, 16, 24))
    assert len(made) == len(given) == 1
    assert torch.equal(made[0], given[0])


@pytest.mark.parametrize("normed", [(0, 3), (2, 3), (1, 0)])
def test_only_the_levels_that_are_named_are_normalised(normed):
    net = HINet(replace(TINY, normed=normed))
    found = {int(key.split(".")[1]) for key in net.state_dict() if ".norm." in key}
    assert found == set(range(normed[0], normed[1] + 1))


def test_a_prior_needs_a_decoder_of_three_levels():
    with pytest.raises(ValueError, match="depth is 3"):
        HINetConfig(width=4, depth=3, prior=PRIOR)
    net = HINet(replace(TINY, prior=PRIOR))
    assert net.embed.levels == (2, 1, 0, 2, 1, 0)
    assert [fusion.mu[2].out_channels for fusion in net.embed.fuse] == [16, 8, 4, 16, 8, 4]


@pytest.mark.parametrize("wrong", [{"width": 3}, {"depth": 1}, {"normed": (3,)}])
def test_a_wrong_dial_is_refused(wrong):
    with pytest.raises(ValueError, match="width"):
        HINetConfig(**wrong)


class Asked(dict):
    """A state dict that remembers which of its tensors were asked for."""

    def __init__(self, net):
        super().__init__(net.state_dict())
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)

    def convolved(self, name, features, *, padding=1, stride=1):
        bias = self.get(f"{name}.bias")
        return F.conv2d(features, self[f"{name}.weight"], bias, stride, padding)


def _block(state, name, features):
    change = state.convolved(f"{name}.conv_1", features)
    if f"{name}.norm.weight" in state:
        one, other = change.chunk(2, dim=1)
        one = F.instance_norm(one, weight=state[f"{name}.norm.weight"], bias=state[f"{name}.norm.bias"])
        change = torch.cat((one, other), dim=1)
    change = F.leaky_relu(state.convolved(f"{name}.conv_2", F.leaky_relu(change, 0.2)), 0.2)
    return change + state.convolved(f"{name}.identity", features, padding=0)


def _stage(state, stage, features, before):
    """The two lists of one stage, encoder finest first and decoder coarsest first."""
    encoded, decoded = [], []
    for level in range(5):
        name = f"down_path_{stage}.{level}"
        features = _block(state, name, features)
        if level == 4:
            break
        if before is not None:
            features = features + state.convolved(f"{name}.csff_enc", before[0][level])
            features = features + state.convolved(f"{name}.csff_dec", before[1][-1 - level])
        encoded.append(features)
        features = state.convolved(f"{name}.downsample", features, stride=2)
    for place in range(4):
        name = f"up_path_{stage}.{place}"
        larger = F.conv_transpose2d(features, state[f"{name}.up.weight"], state[f"{name}.up.bias"], stride=2)
        skip = state.convolved(f"skip_conv_{stage}.{place}", encoded[-1 - place])
        features = _block(state, f"{name}.conv_block", torch.cat((larger, skip), dim=1))
        decoded.append(features)
    return encoded, decoded


def test_the_net_computes_what_the_paper_says_from_tensors_of_the_authors_names():
    torch.manual_seed(0)
    net = HINet(HINetConfig(width=4)).train()
    state, image = Asked(net), torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        first = _stage(state, 1, state.convolved("conv_01", image), None)
        early = image + state.convolved("sam12.conv2", first[1][-1])
        attention = state.convolved("sam12.conv3", early).sigmoid()
        seen = first[1][-1] + attention * state.convolved("sam12.conv1", first[1][-1])
        both = torch.cat((state.convolved("conv_02", image), seen), dim=1)
        second = _stage(state, 2, state.convolved("cat12", both, padding=0), first)
        late = image + state.convolved("last", second[1][-1])
        torch.testing.assert_close(net(image), (late, early), rtol=1e-4, atol=1e-5)
    assert state.keys() <= state.names
    assert len(state) == 186
