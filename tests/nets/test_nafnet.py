"""NAFNet: its normalisation, and channel attention over a window in place of the whole image (TLC)."""

import pytest
import torch
from torch.nn import functional as F

from deblur_cli.nets.nafnet import ChannelAttention, ChannelNorm, NAFNet, NAFNetConfig, gate, window_means

TINY = NAFNetConfig(width=4, encoder=(1, 1, 0, 1), window=16)


def trained(config):
    """A net whose blocks do something: new ones add nothing to what they are given."""
    torch.manual_seed(0)
    net = NAFNet(config)
    for name, values in net.named_parameters():
        if name.endswith((".beta", ".gamma")):
            torch.nn.init.normal_(values)
    return net


def test_normalisation_is_over_the_channels_of_each_pixel():
    features = torch.rand(2, 6, 3, 5)
    norm = ChannelNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    mean, variance = features.mean(1, keepdim=True), features.var(1, keepdim=True, correction=0)
    wanted = (features - mean) / (variance + 1e-6).sqrt() * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(norm(features), wanted)


def test_a_gate_multiplies_the_halves_of_the_channels():
    features = torch.rand(1, 4, 2, 2)
    assert torch.equal(gate(features), features[:, :2] * features[:, 2:])


@pytest.mark.parametrize(("height", "width"), [(9, 12), (5, 12), (12, 5), (7, 7)])
@pytest.mark.parametrize("side", [1, 4, 7])
def test_means_over_windows_are_those_of_average_pooling(height, width, side):
    features = torch.rand(2, 3, height, width)
    wanted = F.avg_pool2d(features, (min(side, height), min(side, width)), stride=1)
    torch.testing.assert_close(window_means(features, side), wanted)


def test_means_of_half_precision_are_summed_in_single():
    features = torch.full((1, 1, 300, 300), 7.0, dtype=torch.float16)
    assert torch.equal(window_means(features, 200), torch.full((1, 1, 101, 101), 7.0, dtype=torch.float16))


def test_attention_outside_training_sees_a_window_around_each_pixel():
    torch.manual_seed(0)
    attention = ChannelAttention(3, 5).eval()
    features = torch.rand(1, 3, 12, 9)
    centred = F.pad(F.avg_pool2d(features, 5, stride=1), (2, 2, 3 - 1, 3 - 1), mode="replicate")
    torch.testing.assert_close(attention(features), features * attention[1](centred))


def test_an_even_window_leans_to_the_upper_left_as_the_authors_does():
    attention = ChannelAttention(1, 4).eval()
    torch.nn.init.ones_(attention[1].weight)
    torch.nn.init.zeros_(attention[1].bias)
    features = torch.arange(1.0, 7).expand(1, 1, 6, 6)
    means = (attention(features) / features)[0, 0, 0]
    torch.testing.assert_close(means, torch.tensor([2.5, 2.5, 3.5, 4.5, 4.5, 4.5]))


@pytest.mark.parametrize("training", [False, True])
def test_a_window_that_covers_the_image_is_the_whole_of_it(training):
    features = torch.rand(1, 3, 8, 6)
    whole, window = ChannelAttention(3, 0), ChannelAttention(3, 8)
    window.load_state_dict(whole.state_dict())
    assert torch.equal(window.train(training)(features), whole.train(training)(features))


def test_the_window_is_of_the_image_at_every_level_and_not_for_training():
    net = trained(TINY)
    windows = {name: each.window for name, each in net.named_modules() if isinstance(each, ChannelAttention)}
    assert windows["encoders.0.0.sca"] == windows["decoders.3.0.sca"] == 16
    assert windows["encoders.3.0.sca"] == windows["decoders.0.0.sca"] == 2
    assert windows["middle_blks.0.sca"] == 1
    blurred = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        local, whole = net.eval()(blurred)[0], net.train()(blurred)[0]
    assert (local - whole).abs().max() > 1e-4


def test_with_windows_a_photo_far_away_hardly_matters():
    net = trained(TINY)
    near = torch.rand(1, 3, 32, 48)
    dark, bright = (torch.cat((near, torch.full((1, 3, 32, 480), shade)), dim=3) for shade in (0.0, 1.0))
    with torch.no_grad():
        window, whole = (
            (net.train(training)(dark)[0] - net(bright)[0])[..., :1].abs().max() for training in (False, True)
        )
    assert window < 0.1 * whole


def test_gradients_pass_through_windows_too():
    net = trained(TINY).eval()
    net(torch.rand(1, 3, 32, 48))[0].square().mean().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


@pytest.mark.parametrize("wrong", [{"width": 0}, {"window": -1}, {"encoder": (1, 1, 1)}, {"decoder": (1, 1, 1, -1)}])
def test_a_wrong_dial_is_refused(wrong):
    with pytest.raises(ValueError, match=r"width|window|encoder|decoder"):
        NAFNetConfig(**wrong)


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

    def convolved(self, name, features, **how):
        bias = self.get(f"{name}.bias")
        return F.conv2d(features, self[f"{name}.weight"], bias, **how)

    def normed(self, name, features):
        even = features - features.mean(1, keepdim=True)
        even = even / (even.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return even * self[f"{name}.weight"].view(1, -1, 1, 1) + self[f"{name}.bias"].view(1, -1, 1, 1)


def _gated(features):
    half = features.shape[1] // 2
    return features[:, :half] * features[:, half:]


def _block(state, name, features):
    change = state.convolved(f"{name}.conv1", state.normed(f"{name}.norm1", features))
    change = _gated(state.convolved(f"{name}.conv2", change, padding=1, groups=change.shape[1]))
    change = change * state.convolved(f"{name}.sca.1", change.mean((2, 3), keepdim=True))
    features = features + state.convolved(f"{name}.conv3", change) * state[f"{name}.beta"]
    change = _gated(state.convolved(f"{name}.conv4", state.normed(f"{name}.norm2", features)))
    return features + state.convolved(f"{name}.conv5", change) * state[f"{name}.gamma"]


def test_the_net_computes_what_the_paper_says_from_tensors_of_the_authors_names():
    torch.manual_seed(0)
    net = NAFNet(NAFNetConfig(width=4, encoder=(1, 2, 1, 2), middle=2)).train()
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    state, image = Asked(net), torch.rand(2, 3, 32, 48)
    skips = []
    with torch.no_grad():
        features = state.convolved("intro", image, padding=1)
        for level, count in enumerate((1, 2, 1, 2)):
            for block in range(count):
                features = _block(state, f"encoders.{level}.{block}", features)
            skips.append(features)
            features = state.convolved(f"downs.{level}", features, stride=2)
        for block in range(2):
            features = _block(state, f"middle_blks.{block}", features)
        for level in range(4):
            features = F.pixel_shuffle(state.convolved(f"ups.{level}.0", features), 2) + skips.pop()
            features = _block(state, f"decoders.{level}.0", features)
        expected = image + state.convolved("ending", features, padding=1)
        torch.testing.assert_close(net(image)[0], expected, rtol=1e-4, atol=1e-5)
    assert state.keys() <= state.names
