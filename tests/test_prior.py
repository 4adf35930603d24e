"""The equations of the semantic prior against loops written from the paper, and their gradients in float64."""

import math

import numpy as np
import pytest
import torch

from deblur_cli.nets.blocks import ResidualBlock, resize
from deblur_cli.nets.embedding import MultiLevelAggregate, PriorAddition, PriorConcatenation, SemanticAttention
from deblur_cli.nets.prior import CrossLevelConnection, PriorConfig, PriorExtractor, SemanticPrior


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scramble(module):
    """Weights that are random and not zero, in float64."""
    module.double()
    for index, parameter in enumerate(module.parameters()):
        parameter.data = 0.5 * tensor(*parameter.shape, seed=100 + index)
    return module


def convolve(features, convolution):
    """A convolution of a (C, H, W) array with zeros around it, one output at a time."""
    kernel, bias = convolution.weight.detach().numpy(), convolution.bias.detach().numpy()
    side = kernel.shape[-1]
    around = np.pad(features, ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    result = np.empty((kernel.shape[0], *features.shape[1:]))
    for c, y, x in np.ndindex(*result.shape):
        result[c, y, x] = bias[c] + (kernel[c] * around[:, y : y + side, x : x + side]).sum()
    return result


def bilinear(features, height, width):
    """A (C, H, W) array at another size; the corners of the pictures, not of the pixels' centres, coincide."""
    rows, columns = features.shape[1:]
    result = np.empty((features.shape[0], height, width))
    for y, x in np.ndindex(height, width):
        down = max(0.0, (y + 0.5) * rows / height - 0.5)
        right = max(0.0, (x + 0.5) * columns / width - 0.5)
        top, left = int(down), int(right)
        bottom, far = min(top + 1, rows - 1), min(left + 1, columns - 1)
        v, h = down - top, right - left
        upper = (1 - h) * features[:, top, left] + h * features[:, top, far]
        lower = (1 - h) * features[:, bottom, left] + h * features[:, bottom, far]
        result[:, y, x] = (1 - v) * upper + v * lower
    return result


def sigmoid(values):
    return np.vectorize(lambda value: 1 / (1 + math.exp(-value)))(values)


def leaky(values, slope=0.1):
    return np.where(values > 0, values, slope * values)


def same(restored, expected):
    np.testing.assert_allclose(restored.detach()[0].numpy(), expected, rtol=1e-10, atol=1e-12)


MAPS = [tensor(1, 3, 8, 12, seed=1), tensor(1, 2, 4, 6, seed=2), tensor(1, 4, 2, 3, seed=3)]


@pytest.mark.parametrize("size", [(4, 6), (16, 24), (3, 5), (7, 13)])
def test_resizing_is_bilinear_between_pixel_areas(size):
    same(resize(MAPS[0], torch.empty(1, 1, *size)), bilinear(MAPS[0][0].numpy(), *size))


@pytest.mark.parametrize(("maps", "squash"), [(1, True), (1, False), (2, True)])
def test_the_cross_level_connection_is_equation_3(maps, squash):
    connect = scramble(CrossLevelConnection(3, 2, maps=maps, sigmoid=squash))
    fine, deep = MAPS[0][0].numpy(), MAPS[1][0].numpy()
    upped = bilinear(convolve(deep, connect.match), 8, 12)
    attention = convolve(np.concatenate((fine, upped)), connect.attention)
    attention = sigmoid(attention) if squash else attention
    expected = attention[:3] * fine + attention[-3:] * upped
    same(connect(MAPS[0], MAPS[1]), expected)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_aggregation_is_equation_5(level):
    aggregate = scramble(MultiLevelAggregate((3, 2, 4), level))
    own = MAPS[level][0].numpy()
    others = [bilinear(MAPS[t][0].numpy(), *own.shape[1:]) for t in range(3) if t != level]
    attention = sigmoid(convolve(np.concatenate((own, *others)), aggregate.attention))
    same(aggregate(MAPS), attention * own + own)


@pytest.mark.parametrize("hidden", [0, 2])
def test_the_semantic_attention_is_equation_6(hidden):
    attention = scramble(SemanticAttention(3, 5, hidden=hidden))
    features = tensor(1, 5, 8, 12, seed=4)
    prior = MAPS[0][0].numpy()
    mu, sigma = (convolve(leaky(convolve(prior, block[0])), block[2]) for block in (attention.mu, attention.sigma))
    same(attention(features, MAPS[0]), mu * features[0].numpy() + sigma)


def test_addition_adds_the_projected_prior():
    addition = scramble(PriorAddition(3, 5))
    features = tensor(1, 5, 8, 12, seed=4)
    same(addition(features, MAPS[0]), features[0].numpy() + convolve(MAPS[0][0].numpy(), addition.change))


def test_concatenation_is_one_convolution_of_both():
    concatenation = scramble(PriorConcatenation(3, 5))
    features = tensor(1, 5, 8, 12, seed=4)
    both = np.concatenate((features[0].numpy(), MAPS[0][0].numpy()))
    with torch.no_grad():
        concatenation_of_paper = torch.nn.Conv2d(8, 5, 1).double()
        concatenation_of_paper.bias.copy_(concatenation.change.bias)
        concatenation_of_paper.weight.copy_(concatenation.change.weight + torch.eye(5, 8)[:, :, None, None])
    same(concatenation(features, MAPS[0]), convolve(both, concatenation_of_paper))


@pytest.mark.parametrize("fusion", [SemanticAttention, PriorAddition, PriorConcatenation])
def test_a_fusion_brings_the_prior_to_the_size_of_the_features(fusion):
    fuse = scramble(fusion(3, 5))
    features = tensor(1, 5, 7, 11, seed=4)
    resized = torch.from_numpy(bilinear(MAPS[0][0].numpy(), 7, 11))[None]
    torch.testing.assert_close(fuse(features, MAPS[0]), fuse(features, resized))


@pytest.mark.parametrize("act_last", [False, True])
def test_overwriting_maps_leaves_the_gradient_of_a_block_right(act_last):
    block = scramble(ResidualBlock(2, act_last=act_last))
    inputs = (tensor(1, 2, 3, 4).requires_grad_(), *block.parameters())
    assert torch.autograd.gradcheck(lambda features, *_: block(features), inputs)


@pytest.mark.parametrize(("maps", "squash"), [(1, True), (1, False), (2, True)])
def test_overwriting_maps_leaves_the_gradient_of_equation_3_right(maps, squash):
    connect = scramble(CrossLevelConnection(2, 3, maps=maps, sigmoid=squash))
    inputs = (tensor(1, 2, 4, 4).requires_grad_(), tensor(1, 3, 2, 2, seed=1).requires_grad_(), *connect.parameters())
    assert torch.autograd.gradcheck(lambda fine, deep, *_: connect(fine, deep), inputs)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_overwriting_maps_leaves_the_gradient_of_equation_5_right(level):
    aggregate = scramble(MultiLevelAggregate((1, 2, 3), level))
    maps = [tensor(1, width, size, size, seed=width).requires_grad_() for width, size in ((1, 4), (2, 2), (3, 1))]
    assert torch.autograd.gradcheck(lambda *given: aggregate(given[:3]), (*maps, *aggregate.parameters()))


def test_overwriting_maps_leaves_the_gradient_of_equation_6_right():
    attention = scramble(SemanticAttention(2, 2))
    inputs = (tensor(1, 2, 3, 3).requires_grad_(), tensor(1, 2, 3, 3, seed=1).requires_grad_(), *attention.parameters())
    assert torch.autograd.gradcheck(lambda features, prior, *_: attention(features, prior), inputs)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (PriorConfig(), 2_836_400),
        (PriorConfig(blocks=(1, 2, 4)), 1_471_024),
        (PriorConfig(channels=(64, 128, 256), blocks=(2, 3, 6)), 8_546_480),
    ],
)
def test_extractors_have_the_parameters_of_the_paper(config, count):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in PriorExtractor(config).parameters()) == count


@pytest.mark.parametrize("stem", [1, 2])
def test_the_maps_lie_at_the_stem_and_at_twice_and_four_times_it(stem):
    config = PriorConfig(widths=(3, 5, 6), channels=(2, 3, 4), blocks=(1, 1, 1))
    maps = SemanticPrior(config, stem=stem)(torch.rand(2, 3, 16, 24))
    for level, width in enumerate(config.widths):
        stride = stem * 2**level
        assert maps.m[level].shape == maps.f_pri[level].shape == (2, width, 16 // stride, 24 // stride)


def test_the_deepest_map_is_connected_to_nothing():
    maps = SemanticPrior(PriorConfig(blocks=(0, 0, 0)))(torch.rand(1, 3, 8, 8))
    assert maps.f_pri[2] is maps.m[2]
    assert not torch.allclose(maps.f_pri[0], maps.m[0])
    assert not torch.allclose(maps.f_pri[1], maps.m[1])


def test_without_the_connection_f_pri_is_m():
    maps = SemanticPrior(PriorConfig(blocks=(0, 0, 0), clc=False))(torch.rand(1, 3, 8, 8))
    assert maps.f_pri is maps.m


def test_the_connection_reaches_from_deep_to_shallow_and_one_level_only():
    prior = SemanticPrior(PriorConfig(widths=(2, 2, 2), channels=(2, 2, 2), blocks=(0, 0, 0)))
    before = prior(torch.ones(1, 3, 8, 8))
    with torch.no_grad():
        prior.extract.heads[2].bias.add_(1.0)
    after = prior(torch.ones(1, 3, 8, 8))
    assert torch.equal(before.f_pri[0], after.f_pri[0])
    assert not torch.equal(before.f_pri[1], after.f_pri[1])
