"""Tiles in batches: however many at once and however many on their way, the photo is the same and nothing is lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deblur_cli import nets
from deblur_cli.deblurrer import Deblurrer, lanes
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.files import checkpoint
from deblur_cli.nets.unet import UNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = UNetConfig(width=4, blocks=(1, 1, 1), stem=2)
CPU = torch.device("cpu")


class Deep(lanes.PlainLane):
    """Two batches on their way and other steps, as on a GPU; it writes down what happens."""

    depth = 2
    rows = 17
    fill = 2**14

    def __init__(self) -> None:
        super().__init__(CPU)
        self.log: list[str] = []

    def up(self, tiles: list[Tensor]) -> Tensor:
        self.log.append(f"up {len(tiles)}")
        return super().up(tiles)

    def down(self, values: Tensor) -> lanes.Landing:
        landing = super().down(values)

        def wait() -> Tensor:
            self.log.append("landed")
            return landing()

        return wait


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nets.build("unet", nets.to_mapping(TINY))
    with torch.no_grad():
        net.out.weight.mul_(2)
    label = checkpoint.Label(
        net="unet", config=nets.to_mapping(TINY), made_with="tests", licence="Apache-2.0", trained_on="nothing"
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=net.state_dict()), path)
    return path


def _photo(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    dice = np.random.default_rng(height * 1000 + width)
    if dtype == "float32":
        return dice.normal(0.5, 0.5, (height, width, channels)).astype(np.float32)
    return dice.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def _open(
    path: Path, monkeypatch: pytest.MonkeyPatch, net: nn.Module | None = None, **dials: Any
) -> tuple[Deblurrer, Deep]:
    """A deblurrer that works as one on a GPU would."""
    lane = Deep()
    said: dict[str, Any] = {"precision": "fp32", "tile": 64, "overlap": 16} | dials
    with monkeypatch.context() as patch:
        patch.setattr(lanes, "lane_of", lambda _device: lane)
        if net is None:
            return Deblurrer.open(path, device="cpu", **said), lane
        said = {"strength": 1.0, "tta": False} | said
        return Deblurrer(net, path, checkpoint.read_label(path), device=CPU, **said), lane


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from([1, 3]),
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.integers(1, 9),
    st.booleans(),
)
def test_any_number_of_tiles_at_once_gives_the_same_photo(
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    height: int,
    width: int,
    channels: int,
    dtype: str,
    batch: int,
    tta: bool,
) -> None:
    photo = _photo(height, width, channels, dtype)
    alone = Deblurrer.open(tiny, device="cpu", precision="fp32", tile=64, overlap=16, tta=tta).restore(photo)
    many = _open(tiny, monkeypatch, batch=batch, tta=tta)[0].restore(photo)
    assert many.dtype == alone.dtype
    # Convolutions of several images may add in another order.
    tolerance = {"uint8": 1, "uint16": 2, "float32": 1e-5}[dtype]
    assert np.abs(many.astype(np.float64) - alone).max() <= tolerance


def test_one_tile_at_once_is_the_same_to_the_last_bit_however_deep(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in ("uint8", "uint16", "float32"):
        photo = _photo(200, 150, dtype=dtype)
        alone = Deblurrer.open(tiny, device="cpu", precision="bf16", tile=64, overlap=16).restore(photo)
        assert np.array_equal(_open(tiny, monkeypatch, batch=1, precision="bf16")[0].restore(photo), alone)


def test_a_tensor_goes_through_batches_too(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(2, 3, 150, 100)
    alone = Deblurrer.open(tiny, device="cpu", precision="fp32", tile=64, overlap=16)(image)
    assert torch.allclose(_open(tiny, monkeypatch, batch=3)[0](image), alone, atol=1e-5)


def test_the_next_batch_is_on_its_way_before_the_last_one_is_waited_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deblurrer, lane = _open(tiny, monkeypatch, batch=2)
    deblurrer.restore(_photo(64, 230))
    plan = deblurrer.plan_for(64, 230)
    assert plan.count == 5
    assert lane.log[:5] == ["up 2", "up 2", "landed", "up 1", "landed"]
    assert lane.log[5] == "landed"


def test_tiles_at_once_are_as_many_as_occupy_the_device_evenly_divided(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deblurrer, lane = _open(tiny, monkeypatch)
    deblurrer.restore(_photo(64, 230))  # five tiles of 64 x 64, of which four occupy the device
    assert [each for each in lane.log if each != "up 1"][:2] == ["up 3", "up 2"]


def test_progress_counts_every_tile_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    deblurrer, _ = _open(tiny, monkeypatch, batch=4)
    deblurrer.restore(_photo(150, 100), progress=lambda done, of: told.append((done, of)))
    count = deblurrer.plan_for(150, 100).count
    assert told == [(done + 1, count) for done in range(count)]


class Greedy(nn.Module):
    """A net for which memory ends beyond ``limit`` pixels at once, from its third batch on."""

    config = TINY

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.seen: list[tuple[int, int]] = []

    def forward(self, blurred: Tensor) -> tuple[Tensor]:
        self.seen.append((blurred.shape[0], blurred.shape[2] * blurred.shape[3]))
        if len(self.seen) > 2 and self.seen[-1][0] * self.seen[-1][1] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (blurred + 0.125,)


@pytest.mark.parametrize("limit", [3 * 64 * 64, 64 * 64, 40 * 40])
def test_a_shortage_halves_first_the_batch_and_then_the_tile_and_loses_nothing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    net = Greedy(limit)
    deblurrer, _ = _open(tiny, monkeypatch, net, batch=8)
    photo = _photo(400, 300, dtype="float32")
    told: list[tuple[int, int]] = []
    restored = deblurrer.restore(photo, progress=lambda done, of: told.append((done, of)))
    assert np.array_equal(restored, photo + np.float32(0.125))
    assert told[-1][0] == told[-1][1] == deblurrer.plan_for(400, 300).count
    refused = [each for each in net.seen[2:] if each[0] * each[1] > limit]
    assert refused == sorted(refused, key=lambda each: (-each[1], -each[0])), "tiles shrank before batches did"
    assert (refused[-1][0] == 1) == (limit < 64 * 64)
    net.seen.clear()
    assert np.array_equal(deblurrer.restore(photo), photo + np.float32(0.125))
    assert max(count * pixels for count, pixels in net.seen) <= limit, "the next photo runs into the same wall"


class Fragile(nn.Module):
    """A net that fails for tiles with a bright first pixel, in half precision."""

    config = TINY

    def __init__(self, sound: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.sound = sound
        self.seen: list[tuple[int, torch.dtype]] = []

    def forward(self, blurred: Tensor) -> tuple[Tensor]:
        self.seen.append((len(blurred), self.weight.dtype))
        ill = (blurred[:, 0, 0, 0] > 0.9) & (self.weight.dtype != torch.float32 or not self.sound)
        return (torch.where(ill[:, None, None, None], float("nan"), blurred + 0.125),)


def test_of_a_batch_only_the_tile_that_overflowed_is_redone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, exact = Fragile(sound=True), Fragile(sound=True)
    deblurrer, _ = _open(tiny, monkeypatch, net, batch=4, precision="fp16", overlap=0)
    monkeypatch.setattr("deblur_cli.deblurrer.load", lambda _path: (None, exact))
    photo = np.full((128, 128, 3), 0.5, np.float32)
    photo[0, 64] = photo[64, 0] = 0.95
    assert np.array_equal(deblurrer.restore(photo), photo + np.float32(0.125))
    assert net.seen == [(4, torch.float16)]
    assert exact.seen == [(1, torch.float32)] * 2


def test_a_net_that_fails_in_fp32_too_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deblurrer, _ = _open(tiny, monkeypatch, Fragile(sound=False), batch=4, overlap=0)
    with pytest.raises(WeightsError, match="not numbers"):
        deblurrer.restore(np.full((128, 128, 3), 0.95, np.float32))


def test_a_tile_that_holds_no_numbers_is_refused_amid_a_batch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = _photo(128, 128, dtype="float32")
    photo[100, 100, 1] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        _open(tiny, monkeypatch, batch=4)[0].restore(photo)


def test_a_stop_amid_a_batch_is_passed_on_and_the_next_photo_is_whole(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deblurrer, _ = _open(tiny, monkeypatch, batch=3)
    photo = _photo(150, 150)
    expected = deblurrer.restore(photo)

    def stop(done: int, _of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deblurrer.restore(photo, progress=stop)
    assert np.array_equal(deblurrer.restore(photo), expected)


class Work:
    """Adds one; it wants batches of one shape."""

    fixed = True

    def __init__(self) -> None:
        self.seen: list[int] = []

    def settle(self, tiles: Tensor, white: int) -> Tensor:
        return tiles.to(torch.float32) / white

    def correct(self, blurred: Tensor) -> Tensor:
        self.seen.append(len(blurred))
        return blurred + 1

    def again(self, blurred: Tensor) -> Tensor:
        raise AssertionError("nothing overflowed")


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_batches_of_one_shape_are_filled_up_and_every_tile_comes_out_once(depth: int) -> None:
    lane, work = Deep(), Work()
    lane.depth = depth
    tiles = [torch.full((1, 1, 4, 4), each, dtype=torch.uint8) for each in range(7)]
    made = list(lanes.flow(iter(tiles), work, lane, batch=3, white=2))
    assert [each[0, 0, 0, 0].item() for each in made] == [each / 2 + 1 for each in range(7)]
    assert work.seen == [3, 3, 3]


def test_a_batch_below_one_is_the_callers_mistake(tiny: Path) -> None:
    with pytest.raises(ValueError, match="batch=0"):
        Deblurrer.open(tiny, device="cpu", batch=0)
