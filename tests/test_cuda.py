"""The same photo on a CUDA device as on the CPU: batches, recordings, pinned copies, half precision. Needs such a device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deblur_cli.deblurrer import Deblurrer, devices, lanes, running

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_exact_as_the_cpu() -> Iterator[None]:
    """Convolutions of fp32 in fp32, not in TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def _photo(height: int, width: int, dtype: str = "uint8", channels: int = 3) -> np.ndarray:
    from PIL import Image

    whole = Image.open(Path(__file__).parent.parent / "docs" / "blurred.png").convert("RGB").resize((width, height))
    pixels = np.asarray(whole)[:, :, :channels]
    if dtype == "uint8":
        return pixels.copy()
    return pixels.astype(np.uint16) * 257 if dtype == "uint16" else (pixels / 255).astype(np.float32)


def _both(photo: np.ndarray, weights: str = "default", precision: str = "fp32", **dials: Any) -> float:
    """The largest difference between what the CPU gives in fp32 and what the GPU gives, of white."""
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[photo.dtype.name]
    expected = Deblurrer.open(weights, device="cpu", precision="fp32", tile=dials.get("tile")).restore(photo)
    made = Deblurrer.open(weights, device="cuda", precision=precision, **dials).restore(photo)
    assert made.dtype == photo.dtype
    return float(np.abs(made.astype(np.float64) - expected).max() / white)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("batch", [1, 3, None])
def test_batches_on_a_gpu_are_the_tiles_of_the_cpu(dtype: str, batch: int | None) -> None:
    assert _both(_photo(1300, 1900, dtype), tile=1280, batch=batch) <= 1.01 / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_a_whole_photo_of_odd_size_is_the_same(channels: int) -> None:
    assert _both(_photo(683, 1021, channels=channels), tile=0) <= 1.01 / 255


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("fp16", 0.01)])
@pytest.mark.parametrize("weights", ["default", "fast"])
def test_half_precision_costs_no_more_than_it_may(weights: str, precision: str, tolerance: float) -> None:
    assert _both(_photo(700, 900), weights, precision, tile=0) <= tolerance


@pytest.mark.parametrize("weights", ["default", "fast"])
def test_a_recorded_net_gives_what_the_plain_one_does(weights: str) -> None:
    photo = _photo(640, 640)
    plain = Deblurrer.open(weights, device="cuda", precision="bf16", tile=0, compile=False).restore(photo)
    deblurrer = Deblurrer.open(weights, device="cuda", precision="bf16", tile=0)
    runner = deblurrer._work._runner
    assert isinstance(runner, running.Graphed)
    for _ in range(6):
        assert np.abs(deblurrer.restore(photo).astype(int) - plain).max() <= 1
    assert len(runner._recorded) == 1, "the net could not be recorded"
    other = _photo(640, 640)[::-1].copy()
    flipped = Deblurrer.open(weights, device="cuda", precision="bf16", tile=0, compile=False).restore(other)
    assert np.abs(deblurrer.restore(other).astype(int) - flipped).max() <= 1, "the recording plays the first photo"


def test_copies_on_their_own_streams_arrive_whole() -> None:
    lane = lanes.CudaLane(CUDA)
    landings = []
    sent = [torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8) for _ in range(12)]
    for place in range(0, 12, 3):
        there = lane.up(sent[place : place + 3])
        assert (there.device.type, there.shape) == ("cuda", (3, 3, 512, 512))
        landings.append(lane.down((there.float() * 2).contiguous()))
        del there  # its memory may be taken by the next batch at once
    for place, landing in enumerate(landings):
        assert torch.equal(landing(), torch.cat(sent[3 * place : 3 * place + 3]).float() * 2)


def test_tensors_of_the_device_stay_on_it() -> None:
    image = torch.from_numpy(_photo(800, 1000, "float32")).permute(2, 0, 1)[None]
    expected = Deblurrer.open("fast", device="cpu", precision="fp32", tile=704)(image)
    made = Deblurrer.open("fast", device="cuda", precision="fp32", tile=704)(image.cuda())
    assert made.device.type == "cuda"
    assert (made.cpu() - expected).abs().max() < 1 / 255


def test_a_shortage_on_the_device_is_survived() -> None:
    """The allocator is allowed a sliver of the device: batches and tiles shrink until they fit."""
    photo = _photo(1400, 2000)
    deblurrer = Deblurrer.open("fast", device="cuda", precision="fp32", tile=0, batch=4)
    expected = Deblurrer.open("fast", device="cuda", precision="fp32", tile=640).restore(photo)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**28) / total)
    try:
        restored = deblurrer.restore(photo)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert deblurrer.plan_for(1400, 2000).count > 1
    assert np.abs(restored.astype(int) - expected).max() <= 2


def test_what_a_batch_takes_is_what_was_planned() -> None:
    photo = _photo(1600, 2400)
    deblurrer = Deblurrer.open("default", device="cuda", precision="bf16", tile=1280, compile=False)
    plan, batch = deblurrer._layout._plan(1600, 2400)
    assert batch > 1
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    deblurrer.restore(photo)
    room = deblurrer._memory.room()
    assert torch.cuda.max_memory_allocated() - before <= room.taken(plan, batch)
    assert devices.free_bytes(CUDA) > 0


@pytest.mark.slow
def test_a_compiled_net_gives_what_the_plain_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    photo = _photo(640, 640)
    plain = Deblurrer.open("default", device="cuda", precision="bf16", tile=0, compile=False).restore(photo)
    compiled = Deblurrer.open("default", device="cuda", precision="bf16", tile=0, compile=True)
    for _ in range(3):
        assert np.abs(compiled.restore(photo).astype(int) - plain).max() <= 3
