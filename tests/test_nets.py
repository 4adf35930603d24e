"""The catalogue of nets, and the laws of the UNet on the smallest configs; those of all nets: ``nets/test_every_net.py``."""

import json
from dataclasses import replace
from itertools import product
from weakref import finalize

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deblur_cli.nets import NETS, PRESETS, build, to_mapping
from deblur_cli.nets.ablation import TABLE4
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.unet import UNet, UNetConfig

PRIOR = PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1))
PLAIN = UNetConfig(width=4, blocks=(1, 1, 1))
TINY = {
    "unet": ("unet", PLAIN),
    "unet-stem2-act-tanh": ("unet", replace(PLAIN, stem=2, act_last=True, tanh_head=True)),
    "unet-sat": ("unet", replace(PLAIN, prior=PRIOR)),
    "unet-sat-stem2": ("unet", replace(PLAIN, stem=2, prior=replace(PRIOR, sat_width=2))),
    "unet-add": ("unet", replace(PLAIN, prior=replace(PRIOR, fusion="add", clc_maps=2))),
    "unet-concat": ("unet", replace(PLAIN, prior=replace(PRIOR, fusion="concat", clc_sigmoid=False))),
}
WITH_PRIOR = [name for name in TINY if TINY[name][1].prior is not None]


def tiny(name):
    net, config = TINY[name]
    torch.manual_seed(0)
    return build(net, to_mapping(config))


def settle(net):
    """Weights by a closed formula, none of them zero, so that goldens do not depend on a random generator."""
    for index, parameter in enumerate(net.parameters()):
        wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 1.7 + index)
        parameter.data = (wave / max(1, parameter[0].numel()) ** 0.5).reshape(parameter.shape).to(parameter.dtype)
    return net


def picture(height, width, count=1):
    wave = torch.arange(count * 3 * height * width, dtype=torch.float64) * 0.37
    return (0.5 + 0.5 * torch.sin(wave)).reshape(count, 3, height, width).float()


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once, ``beside`` left out."""

    def __init__(self, beside):
        super().__init__()
        self.alive: dict[int, int] = dict.fromkeys((tensor.untyped_storage()._cdata for tensor in beside), 0)
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                finalize(storage, self.alive.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("times", [(1, 1), (3, 5)])
def test_every_multiple_is_a_legal_size(name, times):
    net = tiny(name)
    height, width = (net.config.multiple_of * count for count in times)
    restored = net(picture(height, width, count=2))
    assert isinstance(restored, tuple)
    assert restored[0].shape == (2, 3, height, width)
    assert restored[0].isfinite().all()


@pytest.mark.parametrize("name", TINY)
def test_a_net_is_deterministic_and_sees_each_image_alone(name):
    net = settle(tiny(name)).eval()
    blurred = picture(16, 24, count=2)
    with torch.inference_mode():
        together = net(blurred)[0]
        assert torch.equal(together, net(blurred)[0])
        torch.testing.assert_close(together[1:], net(blurred[1:])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_results_are_the_golden_ones(name, golden):
    with torch.no_grad():
        golden(name, {"restored": settle(tiny(name))(picture(16, 24))[0]})


@pytest.mark.parametrize("name", TINY)
def test_gradient_reaches_every_parameter(name):
    # Weights that are all non-zero: a new embedding stops the gradient on purpose, see the next test.
    net = settle(tiny(name))
    net(picture(16, 24))[0].square().mean().backward()
    blocked = [key for key, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert blocked == []


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_a_new_embedding_learns_at_the_first_step_and_its_prior_at_the_second(name):
    net = tiny(name)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for reached in (False, True):
        optimiser.zero_grad()
        net(picture(16, 24))[0].square().mean().backward()
        assert any(value.grad is not None and value.grad.any() for value in net.embed.fuse.parameters())
        assert any(value.grad is not None and value.grad.any() for value in net.prior.parameters()) == reached
        optimiser.step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", TINY)
def test_half_precision_weights_add_their_residual_to_the_image_in_its_own_dtype(name, dtype):
    net = tiny(name).to(dtype)
    blurred = picture(16, 24)
    with torch.inference_mode():
        assert net(blurred)[0].dtype == torch.float32
        net.out.weight.zero_()
        net.out.bias.zero_()
        assert torch.equal(net(blurred)[0], blurred)


@pytest.mark.parametrize("name", TINY)
def test_channels_last_changes_no_result(name):
    net = settle(tiny(name)).eval()
    blurred = picture(16, 24)
    with torch.inference_mode():
        plain = net(blurred)[0]
        last = net.to(memory_format=torch.channels_last)(blurred.contiguous(memory_format=torch.channels_last))[0]
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", ["unet", "unet-narrow", "unet-narrow-sp", "unet-sp"])
def test_the_declared_memory_is_what_forward_holds(preset):
    name, config = PRESETS[preset]
    net = build(name, to_mapping(config))
    blurred = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), Held((blurred, *net.parameters())) as held:
        net(blurred)
    assert config.values_per_pixel == pytest.approx(held.peak / 4 / 64**2, rel=0.01)


@pytest.mark.parametrize("name", TINY)
def test_mixed_precision_trains_and_shifts_the_image_little(name):
    net = settle(tiny(name))
    blurred = picture(16, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        restored = net(blurred)[0]
    assert restored.dtype == torch.float32
    restored.square().mean().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in net.parameters())
    exact = net(blurred)[0]
    assert (restored - exact).abs().max() < 0.05 * (exact - blurred).abs().max()


def test_a_plain_net_has_the_published_key_scheme():
    blocks = [f"{side}{level}.{block}.{conv}" for level in (1, 2, 3) for side in ("enc", "dec") for block in range(3)
              for conv in ("c1", "c2")]  # fmt: skip
    layers = ["conv1", "down2", "down3", "up2", "up1", "out", *blocks]
    expected = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(UNet(UNetConfig()).state_dict()) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_survives_json(preset):
    name, config = PRESETS[preset]
    mapping = json.loads(json.dumps(to_mapping(config)))
    with torch.device("meta"):
        assert build(name, mapping).config == config
    assert to_mapping(config) == mapping


def test_missing_dials_keep_their_default():
    assert build("unet", {"width": 4, "prior": {"clc": False}}).config == UNetConfig(
        width=4, prior=PriorConfig(clc=False)
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"widht": 4}, "UNetConfig has no widht; it has width, blocks"),
        ({"width": "4"}, "width is '4'; it is to be int"),
        ({"width": True}, "width is True; it is to be int"),
        ({"width": 0}, "width 0"),
        ({"act_last": 1}, "act_last is 1; it is to be bool"),
        ({"blocks": [3, 3]}, r"blocks is \[3, 3\]; it is to be tuple\[int, int, int\]"),
        ({"blocks": None}, "blocks is None"),
        ({"prior": {"fusion": "sum"}}, "fusion is 'sum'; it is to be 'sat' or 'add' or 'concat'"),
        ({"prior": {"levels": 3}}, "PriorConfig has no levels"),
        ({"prior": {"clc_maps": 3}}, "clc_maps is 3; it is 1 or 2"),
        ({"prior": {"widths": [1, 0, 1]}}, "three positive numbers"),
        ({"prior": {"sat_width": -1}}, "neither may be negative"),
        ({"prior": 1}, "prior is 1; it is to be PriorConfig"),
    ],
)
def test_a_wrong_dial_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        build("unet", config)


def test_an_unknown_net_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="There is no net 'unett'; there are unet"):
        build("unett", {})


def test_the_catalogue_cannot_be_changed():
    for table in (NETS, PRESETS, TABLE4):
        with pytest.raises(TypeError):
            table["unet"] = None


SWITCHES = [
    replace(PRIOR, fusion=fusion, clc=clc, mla=mla)
    for fusion, clc, mla in product(("sat", "add", "concat"), (False, True), (False, True))
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prior", SWITCHES, ids=lambda prior: f"{prior.fusion}-clc{prior.clc:d}-mla{prior.mla:d}")
def test_a_new_prior_changes_nothing_bit_for_bit(prior, dtype):
    torch.manual_seed(1)
    plain = UNet(PLAIN).to(dtype)
    guided = UNet(replace(PLAIN, prior=prior)).to(dtype)
    missing = guided.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(key.startswith(("prior.", "embed.")) for key in missing.missing_keys)
    blurred = picture(16, 24)
    with torch.inference_mode():
        assert torch.equal(guided(blurred)[0], plain(blurred)[0])


def test_the_same_seed_gives_a_guided_net_the_weights_of_the_plain_one():
    torch.manual_seed(7)
    plain = UNet(PLAIN).state_dict()
    torch.manual_seed(7)
    guided = UNet(replace(PLAIN, prior=PRIOR)).state_dict()
    assert all(torch.equal(guided[key], value) for key, value in plain.items())


def test_a_prior_that_was_trained_does_change_the_image():
    net = tiny("unet-sat")
    before = net(picture(16, 24))[0]
    torch.nn.init.constant_(net.embed.fuse[0].sigma[2].bias, 0.5)
    assert not torch.allclose(net(picture(16, 24))[0], before)


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_the_maps_come_with_the_images_from_one_run_of_the_extractor(name):
    net = settle(tiny(name))
    runs = []
    net.prior.extract.register_forward_hook(lambda *_: runs.append(1))
    restored, maps = net.forward_with_prior(picture(16, 24))
    assert len(runs) == 1
    assert torch.equal(restored[0], net(picture(16, 24))[0])
    for level, width in enumerate(net.config.prior.widths):
        stride = net.config.stem * 2**level
        assert maps.m[level].shape == maps.f_pri[level].shape == (1, width, 16 // stride, 24 // stride)


def test_a_net_without_a_prior_has_no_maps_to_show():
    with pytest.raises(ValueError, match="has no prior"):
        tiny("unet").forward_with_prior(picture(8, 8))


def test_table_4_is_the_papers():
    rows = {name: (row.guided, row.distill, row.clc, row.mla, row.fusion) for name, row in TABLE4.items()}
    assert rows == {
        "Net0": (False, False, False, False, "sat"),
        "Net0*": (True, False, True, True, "sat"),
        "Net1": (True, True, False, False, "add"),
        "Net2": (True, True, False, False, "concat"),
        "Net3": (True, True, False, False, "sat"),
        "Net4": (True, True, True, False, "sat"),
        "Net5": (True, True, False, True, "sat"),
        "Net6": (True, True, True, True, "sat"),
    }


def test_the_nets_of_table_4_differ_in_their_weights():
    shapes = {}
    for name, row in TABLE4.items():
        net = build("unet", to_mapping(replace(PLAIN, prior=row.prior(PRIOR))))
        assert net(picture(8, 8))[0].shape == (1, 3, 8, 8)
        shapes[name] = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert shapes.pop("Net0*") == shapes["Net6"]  # they differ in training only
    assert len({tuple(sorted(shape.items())) for shape in shapes.values()}) == 7
