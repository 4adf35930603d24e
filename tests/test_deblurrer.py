"""The deblurrer: any image in, the same kind of image out, with tiny nets on the CPU."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from deblur_cli import nets
from deblur_cli.deblurrer import Deblurrer, devices
from deblur_cli.errors import DeviceError, InputError, UsageError, WeightsError
from deblur_cli.files import checkpoint
from deblur_cli.nets.unet import UNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = UNetConfig(width=4, blocks=(1, 1, 1), stem=2)


def _net(config: UNetConfig = TINY) -> nn.Module:
    torch.manual_seed(0)
    return nets.build("unet", nets.to_mapping(config))


def _save(module: nn.Module, path: Path, **label: Any) -> Path:
    fields = {"net": "unet", "config": nets.to_mapping(module.config)} | label
    said = checkpoint.Label(made_with="tests", licence="Apache-2.0", trained_on="nothing", **fields)
    checkpoint.save(checkpoint.Checkpoint(label=said, tensors=module.state_dict()), path)
    return path


def _scaled(net: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        net.out.weight.mul_(factor)
        net.out.bias.mul_(factor)
    return net


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that changes every photo visibly."""
    return _save(_scaled(_net(), 2), tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that changes nothing."""
    return _save(_scaled(_net(), 0), tmp_path_factory.mktemp("weights") / "idle.safetensors")


def _photo(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    dice = np.random.default_rng(height * 1000 + width)
    if dtype == "float32":
        return dice.normal(0.5, 0.5, (height, width, channels)).astype(np.float32)
    return dice.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def _formula(path: Path, photo: np.ndarray, strength: float = 1) -> np.ndarray:
    """What the net makes of a whole photo of legal size, by the definition."""
    found = checkpoint.load(path)
    net = nets.build(found.label.net, found.label.config)
    net.load_state_dict(dict(found.tensors))
    peak = 1 if photo.dtype == np.float32 else np.iinfo(photo.dtype).max
    blurred = torch.from_numpy(photo.astype(np.float32) / np.float32(peak)).permute(2, 0, 1)[None].clamp(0, 1)
    with torch.inference_mode():
        correction = (net(blurred)[0] - blurred)[0].permute(1, 2, 0).numpy()
    restored = photo + strength * peak * correction
    return restored if peak == 1 else np.clip(np.rint(restored), 0, peak)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 110),
    st.integers(1, 110),
    st.sampled_from([1, 3]),
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.sampled_from([0, 64]),
)
def test_where_the_net_corrects_nothing_the_photo_comes_back_to_the_last_bit(
    idle: Path, height: int, width: int, channels: int, dtype: str, tile: int
) -> None:
    photo = _photo(height, width, channels, dtype)
    restored = Deblurrer.open(idle, device="cpu", tile=tile, overlap=16).restore(photo)
    assert restored.dtype == photo.dtype
    assert np.array_equal(restored, photo)


@pytest.mark.parametrize("size", [(1, 1), (17, 4001), (683, 3)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_odd_sizes_come_back_whole(idle: Path, size: tuple[int, int], precision: str) -> None:
    photo = _photo(*size)
    assert np.array_equal(Deblurrer.open(idle, device="cpu", precision=precision, tta=True).restore(photo), photo)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_photo_gets_the_nets_correction_and_keeps_its_own_values(tiny: Path, dtype: str) -> None:
    photo = _photo(64, 88, dtype=dtype)
    restored = Deblurrer.open(tiny, device="cpu", precision="fp32", tile=0).restore(photo)
    assert not np.array_equal(restored, photo)
    tolerance = 2e-5 if dtype == "float32" else 1
    assert np.abs(restored.astype(np.float64) - _formula(tiny, photo)).max() <= tolerance
    assert np.mean(restored != _formula(tiny, photo).astype(dtype)) < 0.01 or dtype == "float32"


@pytest.mark.parametrize(("precision", "strength"), [("fp32", 1.0), ("bf16", 0.25)])
def test_tiled_equals_whole(tiny: Path, precision: str, strength: float) -> None:
    # The corrections of this net are ten times what a photo gets, and so is what bf16 rounds off: hence a part of them.
    photo = _photo(480, 430)
    dials = {"device": "cpu", "precision": precision, "strength": strength}
    whole = Deblurrer.open(tiny, tile=0, **dials).restore(photo).astype(int)
    deblurrer = Deblurrer.open(tiny, tile=256, overlap=96, **dials)
    assert deblurrer.plan_for(480, 430).count > 4
    assert np.abs(deblurrer.restore(photo) - whole).max() <= 1


def test_half_the_strength_is_half_the_correction(tiny: Path) -> None:
    photo = _photo(40, 40, dtype="float32")
    full = Deblurrer.open(tiny, device="cpu", precision="fp32").restore(photo)
    half = Deblurrer.open(tiny, device="cpu", precision="fp32", strength=0.5).restore(photo)
    assert np.allclose(half - photo, (full - photo) / 2, atol=1e-6)
    assert np.array_equal(Deblurrer.open(tiny, device="cpu", strength=0).restore(photo), photo)


def test_gray_is_three_equal_channels_averaged(tiny: Path) -> None:
    deblurrer = Deblurrer.open(tiny, device="cpu", precision="fp32")
    gray = _photo(50, 45, 1, "float32")
    colour = deblurrer.restore(np.repeat(gray, 3, axis=2))
    assert np.allclose(deblurrer.restore(gray)[:, :, 0], colour.mean(axis=2), atol=1e-6)


def test_eight_views_treat_all_directions_alike(tiny: Path) -> None:
    deblurrer = Deblurrer.open(tiny, device="cpu", precision="fp32", tile=0, tta=True)
    photo = _photo(48, 64, dtype="float32")
    restored = deblurrer.restore(photo)
    assert not np.allclose(restored, Deblurrer.open(tiny, device="cpu", precision="fp32").restore(photo), atol=1e-4)
    for turn in (np.rot90, lambda image: image[::-1], lambda image: image.transpose(1, 0, 2)):
        assert np.allclose(deblurrer.restore(turn(photo)), turn(restored), atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 21, 30), (2, 3, 21, 30), (1, 1, 5, 4), (1, 7, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_tensor_comes_back_as_it_was(tiny: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    deblurrer = Deblurrer.open(tiny, device="cpu", precision="fp32")
    image = torch.rand(shape).to(dtype)
    before = image.clone()
    restored = deblurrer(image)
    assert (restored.shape, restored.dtype, restored.device) == (image.shape, image.dtype, image.device)
    assert torch.equal(image, before)
    assert not torch.equal(restored, image)
    if len(shape) == 4:
        assert torch.equal(restored[-1], deblurrer(image[-1]))
    if dtype == torch.float32 and shape[-3] == 3:
        photo = image.reshape(-1, *shape[-3:])[0].permute(1, 2, 0).contiguous().numpy()
        assert np.allclose(deblurrer(photo), restored.reshape(-1, *shape[-3:])[0].permute(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_picture_comes_back_as_it_was(tiny: Path, mode: str) -> None:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    pixels = _photo(33, 20, channels, "uint16" if mode == "I;16" else "uint8")
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    picture.info["dpi"] = (300, 300)
    assert picture.mode == mode
    restored = Deblurrer.open(tiny, device="cpu")(picture)
    assert (restored.mode, restored.size, restored.info) == (mode, picture.size, picture.info)
    assert restored.tobytes() != picture.tobytes()
    if "A" in mode:
        assert restored.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


def test_views_of_an_array_are_taken_without_a_warning_and_not_written_to(tiny: Path) -> None:
    photo = _photo(40, 60)
    photo.flags.writeable = False
    deblurrer = Deblurrer.open(tiny, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(deblurrer(photo[::-1, 5:40:2]), deblurrer(photo[::-1, 5:40:2].copy()))
    assert np.array_equal(deblurrer(photo[:, :, 0])[:, :, None], deblurrer.restore(photo[:, :, :1]))


@pytest.mark.parametrize(
    "wrong",
    [
        "photo.jpg",
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.zeros(4, 4),
        torch.zeros(1, 3, 0, 4),
        Image.new("CMYK", (4, 4)),
        Image.new("P", (4, 4)),
    ],
)
def test_what_is_no_photo_is_the_callers_mistake(tiny: Path, wrong: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Deblurrer.open(tiny, device="cpu")(wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_photo_that_holds_no_numbers_is_refused(tiny: Path, value: float) -> None:
    photo = _photo(20, 20, dtype="float32")
    photo[7, 7, 1] = value
    with pytest.raises(InputError, match="not numbers"):
        Deblurrer.open(tiny, device="cpu").restore(photo)


def test_tiles_that_overflow_in_half_precision_are_redone_in_fp32(tmp_path: Path) -> None:
    net = _net()
    with torch.no_grad():
        net.conv1.weight.mul_(5e5)
        net.out.weight.mul_(1e-4)
    path = _save(net, tmp_path / "x.safetensors")
    photo = _photo(40, 40, dtype="float32")
    exact = Deblurrer.open(path, device="cpu", precision="fp32").restore(photo)
    assert np.array_equal(Deblurrer.open(path, device="cpu", precision="fp16").restore(photo), exact)


def test_a_net_that_overflows_even_in_fp32_is_told(tmp_path: Path) -> None:
    net = _net()
    with torch.no_grad():
        net.conv1.weight.fill_(1e38)
        net.out.weight.fill_(1e38)
    deblurrer = Deblurrer.open(_save(net, tmp_path / "x.safetensors"), device="cpu", precision="bf16")
    with pytest.raises(WeightsError, match="not numbers"):
        deblurrer.restore(_photo(20, 20))


class _Greedy(nn.Module):
    """A net for which memory ends beyond ``limit`` pixels, from its third tile on."""

    config = TINY

    def __init__(self, limit: int, shortage: Exception) -> None:
        super().__init__()
        self.limit = limit
        self.shortage = shortage
        self.seen: list[int] = []

    def forward(self, blurred: Tensor) -> tuple[Tensor]:
        self.seen.append(blurred.shape[-1] * blurred.shape[-2])
        if self.seen[-1] > self.limit and len(self.seen) > 2:
            raise self.shortage
        return (blurred + 0.125,)


def _greedy(tiny: Path, limit: int, shortage: Exception, tile: int) -> tuple[Deblurrer, _Greedy]:
    net = _Greedy(limit, shortage)
    label = checkpoint.read_label(tiny)
    cpu = torch.device("cpu")
    dials = {"device": cpu, "precision": "fp32", "tile": tile, "overlap": 16, "strength": 1.0, "tta": False}
    return Deblurrer(net, tiny, label, **dials), net


SHORTAGES = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_of_memory_halves_the_tile_and_goes_on(tiny: Path, shortage: Exception) -> None:
    deblurrer, net = _greedy(tiny, 64 * 64, shortage, tile=160)
    photo = _photo(400, 300, dtype="float32")
    told: list[tuple[int, int]] = []
    restored = deblurrer.restore(photo, progress=lambda done, of: told.append((done, of)))
    assert np.array_equal(restored, photo + np.float32(0.125))
    assert max(net.seen[-1:]) <= net.limit
    assert told[-1][0] == told[-1][1] == deblurrer.plan_for(400, 300).count
    net.seen.clear()
    deblurrer.restore(photo)
    assert max(net.seen) <= net.limit, "the next photo runs into the same wall"


def test_a_shortage_at_the_smallest_tile_is_told(tiny: Path) -> None:
    deblurrer, net = _greedy(tiny, 1, MemoryError(), tile=160)
    with pytest.raises(DeviceError, match="32 pixels"):
        deblurrer.restore(_photo(300, 300))
    assert net.seen[-1] == 32 * 32


def test_other_errors_of_a_net_keep_their_traceback(tiny: Path) -> None:
    with pytest.raises(RuntimeError, match="a mistake"):
        _greedy(tiny, 1, RuntimeError("a mistake"), tile=64)[0].restore(_photo(300, 300))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_a_real_shortage_of_memory_is_survived(tmp_path: Path) -> None:
    path = _save(_scaled(_net(UNetConfig(width=32, blocks=(1, 1, 1), stem=2)), 0), tmp_path / "x.safetensors")
    code = f"""
import resource, numpy, torch
from pathlib import Path
from deblur_cli.deblurrer import Deblurrer
torch.set_num_threads(1)
photo = numpy.random.default_rng(0).integers(0, 256, (1600, 1600, 3), numpy.uint8)
deblurrer = Deblurrer.open({str(path)!r}, device="cpu", precision="fp32", tile=0, overlap=16)
deblurrer.restore(photo[:64, :64])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150_000_000,) * 2)
assert numpy.array_equal(deblurrer.restore(photo), photo)
print(deblurrer.plan_for(1600, 1600).tile_height)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 32 <= int(done.stdout) <= 800


def test_the_plan_is_the_one_that_was_used_and_progress_counts_its_tiles(tiny: Path) -> None:
    deblurrer = Deblurrer.open(tiny, device="cpu", tile=64, overlap=16)
    told: list[tuple[int, int]] = []
    deblurrer.restore(_photo(150, 100), progress=lambda done, of: told.append((done, of)))
    plan = deblurrer.plan_for(150, 100)
    assert (plan.height, plan.width, plan.overlap) == (150, 100, 16)
    assert max(plan.tile_height, plan.tile_width) <= 64
    assert told == [(done + 1, plan.count) for done in range(plan.count)]


@pytest.mark.parametrize("size", [(8664, 11552), (5773, 8660), (4000, 6000), (3000, 4000), (2001, 30011)])
@pytest.mark.parametrize("preset", ["unet", "unet-narrow", "unet-fast", "unet-narrow-sp"])
def test_automatic_tiles_cost_at_most_fifteen_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda _device: 2**33)
    name, config = nets.PRESETS[preset]
    net = nets.build(name, nets.to_mapping(config))
    plan = Deblurrer.open(_save(net, tmp_path / "x.safetensors", net=name), device="cpu").plan_for(*size)
    assert plan.work <= 1.15
    assert plan.overlap == config.overlap
    assert plan.tile_height * plan.tile_width * config.values_per_pixel * 4 < 2**31


def test_an_automatic_tile_fits_into_the_free_memory(tiny: Path) -> None:
    plan = Deblurrer.open(tiny, device="cpu", precision="fp32").plan_for(20_000, 20_000)
    assert plan.tile_height * plan.tile_width * TINY.values_per_pixel * 4 < devices.free_bytes(torch.device("cpu"))


def test_a_tile_smaller_than_its_overlap_allows_is_refused(tiny: Path) -> None:
    with pytest.raises(UsageError, match="--tile 64") as caught:
        Deblurrer.open(tiny, device="cpu", tile=64, overlap=40)
    assert "--tile 80" in caught.value.hint


@pytest.mark.parametrize("wrong", [{"strength": 1.5}, {"strength": -0.1}, {"tile": -1}, {"overlap": -1}])
def test_dials_that_cannot_be_are_the_callers_mistake(tiny: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"strength|negative"):
        Deblurrer.open(tiny, device="cpu", **wrong)


def test_checkpoints_that_are_no_net_of_ours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wider = nets.to_mapping(UNetConfig(width=8))
    cases: list[tuple[Callable[[], Path], str]] = [
        (lambda: _save(_net(), path, kind="prior"), "is a prior"),
        (lambda: _save(_net(), path, net="restormer"), "has unet"),
        (lambda: _save(_net(), path, config=wider), "do not fit"),
        (lambda: _save(_net(), path, config={"colour": "blue"}), "do not fit"),
    ]
    for make, said in cases:
        with pytest.raises(WeightsError, match=said) as caught:
            Deblurrer.open(make(), device="cpu")
        assert "\n" not in str(caught.value)


def test_weights_of_half_precision_are_those_of_fp32(tmp_path: Path) -> None:
    net = _net().bfloat16()
    half = Deblurrer.open(_save(net, tmp_path / "half.safetensors"), device="cpu", precision="fp32")
    full = Deblurrer.open(_save(net.float(), tmp_path / "full.safetensors"), device="cpu", precision="fp32")
    photo = _photo(40, 40, dtype="float32")
    assert np.array_equal(half.restore(photo), full.restore(photo))


def test_opening_throws_no_dice(tiny: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    Deblurrer.open(tiny, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_precision_that_was_said_is_obeyed(tiny: Path) -> None:
    photo = _photo(64, 64, dtype="float32")
    exact = Deblurrer.open(tiny, device="cpu", precision="fp32").restore(photo)
    for precision, tolerance in (("bf16", 0.05), ("fp16", 0.005)):
        deblurrer = Deblurrer.open(tiny, device="cpu", precision=precision)
        assert deblurrer.precision == precision
        difference = np.abs(deblurrer.restore(photo) - exact).max()
        assert 0 < difference < tolerance


def test_automatic_precision_wants_both_the_hardware_and_the_measurement(tiny: Path, tmp_path: Path) -> None:
    fast = devices.has_bf16(torch.device("cpu"))
    for measured, expected in (
        ({}, "fp32"),
        ({"bf16": -0.01}, "bf16" if fast else "fp32"),
        ({"bf16": -0.03}, "fp32"),
        ({"fp16": 0.0}, "fp32"),
    ):
        path = _save(_net(), tmp_path / "x.safetensors", precisions=measured)
        assert Deblurrer.open(path, device="cpu").precision == expected


def test_the_deblurrer_loads_no_library_that_it_does_not_need() -> None:
    code = (
        "import sys, deblur_cli.deblurrer\n"
        "assert not {'torchvision', 'timm', 'cv2', 'PIL', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tiles_of_the_bundled_weights_leave_no_seam() -> None:
    # Untrained nets say nothing of how far a trained one looks: this one left 12/255 where tiles shared 64 pixels.
    path = Path(__file__).parent.parent / "docs" / "blurred.png"
    photo = np.array(Image.open(path), dtype=np.float32) / 255
    photo = np.concatenate([photo, photo[:, ::-1], photo], axis=1)
    deblurrer = Deblurrer.open("default", device="cpu", precision="fp32", tile=1280)
    assert deblurrer.plan_for(*photo.shape[:2]).count > 1
    whole = Deblurrer.open("default", device="cpu", precision="fp32", tile=0).restore(photo)
    apart = np.abs(deblurrer.restore(photo) - whole) * 255
    # Where tiles meet they fade into each other: what is left is no edge, and one place in a thousand is half a step off.
    assert apart.max() < 1.3
    assert np.quantile(apart, 0.999) < 0.5
