"""Laws that every net of the catalogue keeps, on a tiny config of each; a new net joins by a row in TINY and in COUNTS."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deblur_cli.deblurrer import Deblurrer
from deblur_cli.files import checkpoint
from deblur_cli.nets import NETS, PRESETS, build, grid_of, to_mapping
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
from deblur_cli.nets.unet import UNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

PRIOR = PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1))
_MOTION = MotionConfig(width=8, blocks=1, radius=4, steer=6)
_MPRNET = MPRNetConfig(width=4, growth=2, original_growth=2, original_blocks=1, reduction=2)
TINY: Mapping[str, tuple[str, Any]] = {
    "unet": ("unet", UNetConfig(width=4, blocks=(1, 1, 1))),
    "motion-unet": ("motion-unet", MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=_MOTION)),
    "motion-unet-midway": (
        "motion-unet",
        MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=_MOTION, phases=True, midway=True),
    ),
    "motion-unet-coarse": (
        "motion-unet",
        MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=_MOTION, phases=True, midway=True, coarse=True),
    ),
    "motion-unet-hindsight": (
        "motion-unet",
        MotionUNetConfig(
            width=4, blocks=(1, 1, 1), motion=_MOTION, phases=True, midway=True, coarse=True, hindsight=True
        ),
    ),
    "deepdeblur": ("deepdeblur", DeepDeblurConfig(blocks=2, width=4)),
    "deepdeblur-one-block": ("deepdeblur", DeepDeblurConfig(blocks=1, width=4)),
    "mprnet": ("mprnet", _MPRNET),
    "mprnet-whole": ("mprnet", replace(_MPRNET, patched=False)),
    "mprnet-stage1": ("mprnet", replace(_MPRNET, stages=1)),
    "mprnet-stage1-whole": ("mprnet", replace(_MPRNET, stages=1, patched=False)),
    "mimo-unet": ("mimo-unet", MIMOUNetConfig(width=4, blocks=1)),
    "mimo-unet-dropout": ("mimo-unet", MIMOUNetConfig(width=4, blocks=0, dropout=0.1)),
    "mssnet": ("mssnet", MSSNetConfig(widths=(4, 5, 6))),
    "mssnet-scale3": ("mssnet", MSSNetConfig(widths=(4, 5, 6), guided="scale3")),
    "mssnet-last": ("mssnet", MSSNetConfig(widths=(4, 5, 6), guided="last")),
    "srn": ("srn", SRNConfig(width=4, blocks=1)),
    "dmphn": ("dmphn", DMPHNConfig(width=4)),
    "dmphn-1-2-4": ("dmphn", DMPHNConfig(width=4, levels=3)),
    "hinet": ("hinet", HINetConfig(width=4)),
    "hinet-shallow": ("hinet", HINetConfig(width=4, depth=4, normed=(0, 1))),
    "nafnet": ("nafnet", NAFNetConfig(width=4, encoder=(1, 1, 1, 2))),
    "nafnet-windows": ("nafnet", NAFNetConfig(width=4, encoder=(1, 1, 0, 1), window=16)),
    "bdirnet": ("bdirnet", BDIRNetConfig(width=4, blocks=(1, 0, 1))),
    "bdirnet-residual": ("bdirnet", BDIRNetConfig(width=4, blocks=(1, 0, 1), residual=True)),
}
COUNTS = {
    "unet": 2_623_619,
    "unet-48": 5_893_827,
    "unet-narrow": 3_141_708,
    "unet-fast": 1_769_148,
    "unet-sp": 6_462_979,
    "unet-sp-small": 5_097_603,
    "unet-sp-large": 12_173_059,
    "unet-narrow-sp": 3_526_876,
    "unet-fast-sp": 2_138_076,
    "motion-unet": 8_454_338,
    "motion-unet-fast": 1_942_935,
    "motion-unet-sp": 8_839_506,
    "motion-unet-phases-sp": 9_949_778,
    "motion-unet-midway-sp": 9_973_038,
    "motion-unet-coarse-sp": 9_974_624,
    "motion-unet-hindsight-sp": 9_974_659,
    "deepdeblur": 3_729_129,
    "deepdeblur-full": 11_721_321,
    "mprnet": 20_127_073,
    "mprnet-stage1": 5_754_817,
    "mimo-unet": 6_807_171,
    "mimo-unet-plus": 16_107_651,
    "mssnet": 15_614_497,
    "mssnet-small": 6_756_161,
    "mssnet-large": 28_182_041,
    "srn": 6_881_251,
    "dmphn": 7_232_524,
    "dmphn-1-2-4-8": 7_232_524,
    "dmphn-1-2-4": 5_424_393,
    "hinet": 88_668_806,
    "hinet-half": 22_176_070,
    "nafnet": 17_111_907,
    "nafnet-32": 17_111_907,
    "nafnet-64": 67_888_835,
    "bdirnet": 3_463_843,
    "deepdeblur-sp": 7_271_145,
    "deepdeblur-full-sp": 15_263_337,
    "mprnet-sp": 27_213_025,
    "mprnet-stage1-sp": 10_782_721,
    "mimo-unet-sp": 10_646_531,
    "mimo-unet-plus-sp": 19_947_011,
    "mssnet-sp": 25_454_881,
    "srn-sp": 10_720_611,
    "dmphn-sp": 13_680_396,
    "dmphn-1-2-4-sp": 11_002_761,
    "hinet-sp": 96_664_966,
    "hinet-half-sp": 26_884_934,
    "nafnet-sp": 20_951_267,
    "nafnet-32-sp": 20_951_267,
    "nafnet-64-sp": 73_371_843,
    "bdirnet-sp": 7_303_203,
}
"""Without a prior, what the papers' own nets have; with one, what ours had when they were made."""
BOTH = {**TINY, **{f"{name}-sp": (net, replace(config, prior=PRIOR)) for name, (net, config) in TINY.items()}}
LOCAL = [name for name in BOTH if BOTH[name][1].local]


def tiny(name: str) -> Any:
    net, config = BOTH[name]
    torch.manual_seed(0)
    return build(net, to_mapping(config))


def settle(net: Any, *, seed: int = 1) -> Any:
    """Weights that are random and none of them zero: a new embedding and a new gate stop the gradient on purpose."""
    dice = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=dice) / fan**0.5
    return net


def picture(height: int, width: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def sides(config: Any, *, least: int = 16) -> tuple[int, int]:
    """A small legal size that is not square."""
    unit = config.multiple_of
    rows = -(-least // unit)
    return rows * unit, (rows + 1) * unit


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once, ``beside`` left out."""

    def __init__(self, beside: Any) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in beside}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _forget(self, name: int, size: int) -> None:
        self.known.remove(name)
        self.now -= size


def test_every_net_has_a_tiny_config_and_a_preset() -> None:
    assert {net for net, _ in TINY.values()} == set(NETS) == {net for net, _ in PRESETS.values()}
    assert set(NETS) <= set(PRESETS), "a net's name alone is a preset"


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_their_parameter_counts(preset: str) -> None:
    name, config = PRESETS[preset]
    with torch.device("meta"):
        net = build(name, to_mapping(config))
    count = sum(parameter.numel() for parameter in net.parameters())
    if preset in COUNTS:
        assert count == COUNTS[preset]
    else:
        # A preset with a prior has the plain one's parameters and, under two names, the prior's.
        assert preset.endswith("-sp")
        added = sum(value.numel() for key, value in net.named_parameters() if key.startswith(("prior.", "embed.")))
        assert added > 0
        assert count - added == COUNTS[preset.removesuffix("-sp")]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_declared_memory_is_what_forward_holds(preset: str) -> None:
    name, config = PRESETS[preset]
    with torch.device("meta"):
        net = build(name, to_mapping(config)).eval()
        blurred = torch.zeros(1, 3, 256, 256)
    with torch.no_grad(), Held((blurred, *net.parameters(), *net.buffers())) as held:
        net(blurred)
    exact = held.peak / 4 / 256**2
    assert 0.99 * exact < config.values_per_pixel < 1.1 * exact


@pytest.mark.parametrize("name", BOTH)
def test_a_config_tells_what_the_rest_of_the_program_asks(name: str) -> None:
    config = BOTH[name][1]
    assert config.multiple_of >= 1
    assert config.overlap >= 0
    assert config.values_per_pixel > 0
    assert isinstance(config.local, bool)
    assert config.precisions[0] == "fp32"
    assert set(config.precisions) <= {"fp32", "bf16", "fp16"}


@pytest.mark.parametrize("times", [(1, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("name", BOTH)
def test_every_multiple_is_a_legal_size(name: str, times: tuple[int, int]) -> None:
    net = tiny(name)
    height, width = (net.config.multiple_of * count for count in times)
    if min(height, width) < 8:
        height, width = 4 * height, 4 * width
    final, *others = net.train()(picture(height, width, 2))
    assert final.shape == (2, 3, height, width)
    for image in (final, *others):
        assert image.isfinite().all()
        scale = height // image.shape[2]
        assert image.shape == (2, 3, height // scale, width // scale)
    with torch.no_grad():
        assert [image.shape for image in net.eval()(picture(height, width, 2))] == [final.shape]


@pytest.mark.parametrize("name", BOTH)
def test_a_net_is_deterministic_and_sees_each_image_alone(name: str) -> None:
    net = settle(tiny(name)).eval()
    blurred = picture(*sides(net.config), count=2)
    with torch.inference_mode():
        together = net(blurred)[0]
        assert torch.equal(together, net(blurred)[0])
        torch.testing.assert_close(
            together[1:], net(blurred[1:])[0], rtol=1e-4, atol=1e-4 * float(together.abs().max())
        )


@pytest.mark.parametrize("name", BOTH)
def test_gradient_reaches_every_parameter(name: str) -> None:
    net = tiny(name).train()
    blocked = {key for key, _ in net.named_parameters()}
    for seed in range(8):  # a few ReLUs in a row can all be shut by chance
        net.zero_grad()
        images = settle(net, seed=seed)(picture(*sides(net.config), count=2))
        torch.stack([image.square().mean() for image in images]).sum().backward()
        blocked -= {key for key, value in net.named_parameters() if value.grad is not None and value.grad.any()}
        if not blocked:
            break
    assert blocked == set()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TINY)
def test_a_new_prior_changes_nothing_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    plain, guided = settle(tiny(name)).to(dtype).eval(), tiny(f"{name}-sp").to(dtype).eval()
    missing = guided.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(key.startswith(("prior.", "embed.")) for key in missing.missing_keys)
    blurred = picture(*sides(guided.config))
    with torch.inference_mode():
        assert torch.equal(guided(blurred)[0], plain(blurred)[0])


@pytest.mark.parametrize("name", TINY)
def test_the_same_seed_gives_a_guided_net_the_weights_of_the_plain_one(name: str) -> None:
    plain, guided = tiny(name).state_dict(), tiny(f"{name}-sp").state_dict()
    assert all(torch.equal(guided[key], value) for key, value in plain.items())


@pytest.mark.parametrize("name", [name for name in BOTH if name.endswith("-sp")])
def test_each_insertion_of_a_trained_prior_changes_the_image(name: str) -> None:
    net = tiny(name).eval()
    blurred = picture(*sides(net.config))
    with torch.inference_mode():
        net = _stirred(net)
        before = net(blurred)[0]
        for fuse in net.embed.fuse:
            fuse.sigma[2].bias.add_(0.5)
            after = net(blurred)[0]
            assert not torch.equal(after, before)
            before = after


def _stirred(net: Any) -> Any:
    """No factor of the net's own is left at the zero it began with."""
    for key, parameter in net.named_parameters():
        if not key.startswith(("prior.", "embed.")) and not parameter.any():
            parameter.add_(0.5)
    return net


@pytest.mark.parametrize("name", [name for name in BOTH if name.endswith("-sp")])
def test_the_maps_come_with_the_images_from_one_run_of_the_extractor(name: str) -> None:
    net = settle(tiny(name)).eval()
    runs: list[int] = []
    net.prior.extract.register_forward_hook(lambda *_: runs.append(1))
    height, width = sides(net.config)
    with torch.no_grad():
        restored, maps = net.forward_with_prior(picture(height, width))
        smaller = [dial for dial in ("phases", "coarse") if getattr(net.config, dial, False)]
        assert len(runs) == 1 + len(smaller)
        assert torch.equal(restored[0], net(picture(height, width))[0])
    for level, channels in enumerate(net.config.prior.widths):
        scale = getattr(net.config, "stem", 1) * 2**level
        shape = (1, channels, height // scale, width // scale)
        assert maps.m[level].shape == maps.f_pri[level].shape == shape


@pytest.mark.parametrize("name", TINY)
def test_a_net_without_a_prior_has_no_maps_to_show(name: str) -> None:
    net = tiny(name)
    with pytest.raises(ValueError, match="has no prior"):
        net.forward_with_prior(picture(*sides(net.config)))


@pytest.mark.parametrize("name", BOTH)
def test_half_precision_gives_images_in_the_dtype_of_the_image_and_like_those_of_float32(name: str) -> None:
    net = tiny(name).eval()
    blurred = picture(*sides(net.config))
    with torch.inference_mode():
        exact = net(blurred)[0]
        for precision in net.config.precisions[1:]:
            half = tiny(name).eval().to({"bf16": torch.bfloat16, "fp16": torch.float16}[precision])
            restored = half(blurred)[0]
            assert restored.dtype == torch.float32
            assert (restored - exact).abs().max() < 0.02


@pytest.mark.parametrize("name", BOTH)
def test_mixed_precision_trains(name: str) -> None:
    net = settle(tiny(name)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = net(picture(*sides(net.config), count=2))
    assert all(image.dtype == torch.float32 for image in images)
    torch.stack([image.square().mean() for image in images]).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in net.parameters())


@pytest.mark.parametrize("name", BOTH)
def test_channels_last_changes_no_result(name: str) -> None:
    net = settle(tiny(name)).eval()
    blurred = picture(*sides(net.config))
    with torch.inference_mode():
        plain = net(blurred)[0]
        last = net.to(memory_format=torch.channels_last)(blurred.contiguous(memory_format=torch.channels_last))[0]
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Deblurrer]:
    """A deblurrer from a net's file, as a user has it."""

    def open_(name: str, net: nn.Module, **options: Any) -> Deblurrer:
        label = checkpoint.Label(
            net=BOTH[name][0],
            config=to_mapping(BOTH[name][1]),
            made_with="tests",
            licence="Apache-2.0",
            trained_on="nothing",
        )
        path = tmp_path / "net.safetensors"
        checkpoint.save(checkpoint.Checkpoint(label=label, tensors=net.state_dict()), path)
        return Deblurrer.open(path, device="cpu", precision="fp32", **options)

    return open_


@pytest.mark.parametrize("name", BOTH)
def test_a_photo_of_any_size_comes_back_through_a_file(name: str, opened: Callable[..., Deblurrer]) -> None:
    net = tiny(name).eval()
    deblurrer = opened(name, net)
    for height, width in ((1, 1), (7, 13), (33, 18)):
        photo = np.random.default_rng(0).random((height, width, 3), np.float32)
        restored = deblurrer.restore(photo)
        assert restored.shape == photo.shape
        assert np.isfinite(restored).all()
    height, width = sides(net.config)
    blurred = picture(height, width)
    with torch.inference_mode():
        torch.testing.assert_close(deblurrer(blurred), net(blurred)[0], rtol=1e-4, atol=1e-4)


FAR = 3072
"""Pixels beyond which no net that is said to be local sees, the one that looks at the image's half size too."""


def reach(net: nn.Module, unit: int, half: int) -> int:
    """How many pixels beyond a border a restored pixel can see: whatever lies there spoils what sees it."""
    blurred = torch.rand(1, 3, unit, 2 * half)
    far = 0
    for hidden, seen in ((slice(half, None), slice(None, half)), (slice(None, half), slice(half, None))):
        spoilt = blurred.clone()
        spoilt[..., hidden] = torch.nan
        with torch.inference_mode():
            far = max(far, int(net(spoilt)[0].isnan().any(1).any(1)[0, seen].sum()))
    return far


def wide(config: Any, tile: int) -> int:
    """How wide a photo of two tiles is: filled up alike in tiles and as a whole."""
    width = tile + tile // 3
    return width if grid_of(config) == config.multiple_of else width - width % grid_of(config)


@pytest.mark.parametrize("name", LOCAL)
def test_tiles_equal_the_whole_where_a_net_says_that_it_looks_no_further(
    name: str, opened: Callable[..., Deblurrer]
) -> None:
    net = settle(tiny(name)).eval()
    unit = grid_of(net.config)
    far = reach(net, unit, FAR)
    assert far < FAR
    # Beside a border the outer quarter of what two tiles share belongs to one of them alone.
    overlap = 4 * far
    tile = 2 * -(-overlap // unit) * unit
    photo = np.random.default_rng(0).random((unit, wide(net.config, tile), 3), np.float32)
    tiled = opened(name, net, tile=tile, overlap=overlap)
    whole = opened(name, net, tile=0).restore(photo)
    np.testing.assert_allclose(tiled.restore(photo), whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())
    assert tiled.plan_for(*photo.shape[:2]).count > 1


@pytest.mark.parametrize("name", LOCAL)
def test_tiles_of_the_declared_overlap_look_like_the_whole(name: str, opened: Callable[..., Deblurrer]) -> None:
    net = settle(tiny(name)).eval()
    unit, overlap = grid_of(net.config), net.config.overlap
    tile = 2 * -(-overlap // unit) * unit
    photo = np.random.default_rng(0).random((unit, wide(net.config, tile), 3), np.float32)
    tiled = opened(name, net, tile=tile)  # the overlap is what the net says
    whole = opened(name, net, tile=0).restore(photo)
    assert tiled.plan_for(*photo.shape[:2]).count > 1
    change = max(1.0, float(np.abs(whole - photo).max()))
    assert np.abs(tiled.restore(photo) - whole).max() < 0.15 / 255 * change
