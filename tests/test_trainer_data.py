"""Laws of what is trained on and from: batches follow from seed and step alone; checkpoints fit or are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli import nets
from deblur_cli.commands import train
from deblur_cli.errors import DeblurError, DeviceError, InputError, UsageError, WeightsError
from deblur_cli.files import checkpoint, pairs, photos
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig
from deblur_cli.nets.prior import PriorConfig, SemanticPrior
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.options.train import TrainOptions
from deblur_cli.pixels import blurring
from deblur_cli.trainer import machine, sources, start, words
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.data import Data, DataDials
from deblur_cli.trainer.events import Previewed, Profiled, Started, Stopped, Validated
from deblur_cli.trainer.folder import FolderPairs
from deblur_cli.trainer.pool import PoolDials, PooledPhotos
from deblur_cli.trainer.validation import Validation, View

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = Crew(torch.device("cpu"))
RECIPE = blurring.Recipe(max_length=4.0)
PRIOR = PriorConfig(widths=(4, 4, 4), channels=(4, 4, 4), blocks=(1, 1, 1))
TINY = UNetConfig(width=4, blocks=(1, 1, 1), stem=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs of 96 x 80 pixels with something to see in them."""
    made = tmp_path_factory.mktemp("photographs")
    for index in range(6):
        coarse = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(made / f"p{index}.png")
    return made


@pytest.fixture(scope="module")
def album(folder: Path) -> photos.Album:
    return photos.load(folder, smallest=40)


def pool(album: photos.Album, *, workers: int = 0, slots: range = range(4), seed: int = 3) -> PooledPhotos:
    dials = PoolDials(pairs=16, reuse=2, room=8, workers=workers)
    return PooledPhotos(album, RECIPE, dials, crop=16, batch=4, slots=slots, seed=seed)


def folder_pairs(folder: Path, count: int = 10, **more) -> FolderPairs:
    found = []
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        paths = [folder / side / f"{index}.png" for side in ("blur", "sharp")]
        for path, shown in zip(paths, (pixels // 2, pixels), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shown).save(path)
        found.append(pairs.Pair(str(index), *paths))
    return FolderPairs(found, **{"crop": 16, "batch": 4, "slots": range(4), "seed": 5, **more})


def same(first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_a_batch_of_photographs_follows_from_seed_and_step_alone(album: photos.Album) -> None:
    walked = pool(album)
    batches = [walked.batch(step) for step in range(12)]
    assert same(pool(album).batch(11), batches[11])
    assert not same(pool(album, seed=4).batch(11), batches[11])
    assert not same(batches[0], batches[1])


def test_other_processes_blur_to_the_same_bits(album: photos.Album) -> None:
    shared = pool(album, workers=1)
    try:
        assert same(shared.batch(3), pool(album).batch(3))
    finally:
        shared.close()


def test_the_shares_of_a_crew_make_up_the_batch(album: photos.Album, tmp_path: Path) -> None:
    for whole, parts in (
        (pool(album), [pool(album, slots=range(rank, 4, 2)) for rank in range(2)]),
        (folder_pairs(tmp_path), [folder_pairs(tmp_path, slots=range(rank, 4, 2)) for rank in range(2)]),
    ):
        blurred, sharp = whole.batch(2)
        for rank, part in enumerate(parts):
            assert same(part.batch(2), (blurred[rank::2], sharp[rank::2]))


def test_a_pool_is_renewed_and_stays_small(album: photos.Album) -> None:
    source = pool(album)
    for step in range(60):
        source.batch(step)
    held = {generation for generation, _ in source._pairs}
    assert min(held) >= 60 // 2 + 4 - 4 - 1
    assert len(source._pairs) <= 16 + 4


@pytest.mark.parametrize("kind", ["pool", "device", "folder"])
def test_batches_are_float_images_of_the_right_shape(album: photos.Album, tmp_path: Path, kind: str) -> None:
    made: dict[str, sources.PairSource] = {
        "pool": pool(album),
        "device": sources.DevicePhotos(album, RECIPE, crop=16, slots=range(4), seed=0, device=torch.device("cpu")),
        "folder": folder_pairs(tmp_path),
    }
    for image in made[kind].batch(0):
        assert image.shape == (4, 3, 16, 16)
        assert image.dtype == torch.float32
        assert 0 <= float(image.min()) < float(image.max()) <= 1
        assert image.is_contiguous(memory_format=torch.channels_last)


def test_photographs_on_a_device_follow_from_seed_and_step_too(album: photos.Album) -> None:
    def made() -> sources.DevicePhotos:
        return sources.DevicePhotos(album, RECIPE, crop=16, slots=range(2), seed=1, device=torch.device("cpu"))

    first = made()
    first.batch(0)
    assert same(first.batch(5), made().batch(5))


def test_blurred_and_sharp_are_cut_and_turned_alike(tmp_path: Path) -> None:
    source = folder_pairs(tmp_path)
    for step in range(4):
        blurred, sharp = (image.mul(255).round().int() for image in source.batch(step))
        assert torch.equal(blurred, sharp // 2)


def test_an_epoch_takes_every_pair_once(tmp_path: Path) -> None:
    source = folder_pairs(tmp_path, count=9)
    for epoch in range(3):
        taken = [source._index(2 * epoch + step, slot) for step in range(2) for slot in range(4)]
        assert len(set(taken)) == 8
    assert [source._index(0, slot) for slot in range(4)] != [source._index(2, slot) for slot in range(4)]


def test_a_batch_larger_than_the_data_is_filled_all_the_same(tmp_path: Path) -> None:
    assert folder_pairs(tmp_path, count=2).batch(7)[0].shape[0] == 4


def test_a_pair_of_two_sizes_is_refused(tmp_path: Path) -> None:
    source = folder_pairs(tmp_path, count=4)
    Image.new("RGB", (30, 30)).save(tmp_path / "blur" / "2.png")
    with pytest.raises(InputError, match=r"30 x 30 pixels, .* 24 x 20"):
        source.batch(0)


def test_a_crop_larger_than_the_images_is_refused(tmp_path: Path, folder: Path) -> None:
    folder_pairs(tmp_path)
    with pytest.raises(InputError, match=r"crop of 32 pixels is larger than .*24 x 20"):
        Data(DataDials(data=str(tmp_path), dataset="pairs"), crop=32, multiple=8)
    with pytest.raises(InputError, match="too small"):
        Data(DataDials(data=str(folder), dataset="photos"), crop=96, multiple=8)


def test_photographs_held_out_are_not_trained_on(folder: Path) -> None:
    data = Data(DataDials(data=str(folder), dataset="photos", hold_out=1, max_blur=4), crop=16, multiple=8)
    held = {view.name for view in data.views()}
    assert len(held) == 1
    assert len(data) == 5
    assert held.isdisjoint(photograph.name for photograph in data._album.photographs)


def test_validation_views_never_change(folder: Path) -> None:
    dials = DataDials(data=str(folder), dataset="photos", val=str(folder), val_count=3, val_crop=32, max_blur=4)
    first, second = (Data(dials, crop=16, multiple=8).views() for _ in range(2))
    assert [view.name for view in first] == ["p0.png", "p2.png", "p4.png"]
    for one, two in zip(first, second, strict=True):
        assert one.sharp.shape == (32, 32, 3)
        assert np.array_equal(one.blurred, two.blurred)


def test_a_net_that_changes_nothing_gains_nothing(tmp_path: Path) -> None:
    def view(name: str, seed: int) -> View:
        blurred, sharp = np.random.default_rng(seed).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
        return View(name, blurred, sharp)

    views = [view("mild-a", 0), view("mild-b", 1), view("severe-a", 2)]
    net = torch.nn.Module()
    net.forward = lambda blurred: (blurred,)
    scores = Validation(views, CPU, sheet=tmp_path / "sheet.png")(net)
    assert list(scores) == ["psnr", "ssim", "gain", "gain mild", "gain severe"]
    assert [scores[name] for name in ("gain", "gain mild", "gain severe")] == pytest.approx([0, 0, 0], abs=1e-5)
    assert (tmp_path / "sheet.png").exists()


def test_an_image_that_is_sharp_already_does_not_decide_which_weights_are_best() -> None:
    blurred, sharp = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    views = [View("mild-a", blurred, sharp), View("still-a", sharp, sharp)]
    net = torch.nn.Module()
    net.forward = lambda image: (image + 0.01,)
    scores, alone = (Validation(chosen, CPU)(net) for chosen in (views, views[:1]))
    assert [scores[name] for name in ("psnr", "ssim", "gain")] == [alone[name] for name in ("psnr", "ssim", "gain")]
    assert "gain still" not in scores
    assert 40 < scores["kept"] < 45
    assert Validation(views[1:], CPU)(net)["psnr"] == pytest.approx(scores["kept"])


def test_pairs_are_validated_on_the_test_split_beside_them(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for index in range(count):
            for side in ("blur", "sharp"):
                path = tmp_path / split / side / f"{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (24, 20), (index, 0, 0)).save(path)
    data = Data(DataDials(data=str(tmp_path), dataset="pairs", val_crop=16), crop=16, multiple=8)
    assert len(data) == 3
    assert [view.name for view in data.views()] == ["test0", "test1"]
    alone = Data(DataDials(data=str(tmp_path / "train"), dataset="pairs", val_crop=16), crop=16, multiple=8)
    assert alone.views() == []


def test_a_label_names_files_and_no_place_on_a_disk(tmp_path: Path) -> None:
    said = {"data": str(tmp_path / "my photos"), "dataset": "photos", "init": str(tmp_path / "start.safetensors")}
    told = words.made_with("train", TrainOptions(**said, prior=False, steps=7, threads=3, out=str(tmp_path)))
    assert str(tmp_path) not in told
    assert "--data 'my photos'" in told
    assert "--init start.safetensors" in told
    assert "--no-prior" in told
    assert "--steps 7" in told
    assert "--threads" not in told


def saved(path: Path, module: torch.nn.Module, **more) -> Path:
    said = {"net": "unet", "config": nets.to_mapping(module.config), "made_with": "", "licence": "", "trained_on": ""}
    label = checkpoint.Label(**said | more)
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=module.state_dict()), path)
    return path


def test_a_fresh_prior_leaves_what_a_checkpoint_does_as_it_is(tmp_path: Path) -> None:
    plain = UNet(TINY)
    path = saved(tmp_path / "plain.safetensors", plain)
    guided = UNet(replace(TINY, prior=PRIOR))
    brought = start.begin_from(guided, "unet", guided.config, checkpoint.load(path), str(path))
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(plain(image)[0], guided(image)[0])
    assert brought == set(plain.state_dict())


def test_a_fresh_second_look_leaves_what_a_checkpoint_does_as_it_is(tmp_path: Path) -> None:
    once = MotionConfig(width=8, blocks=1, radius=6, steer=6)
    before = MotionUNet(MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=once))
    torch.nn.init.normal_(before.get_parameter("look.weight"))
    path = saved(tmp_path / "once.safetensors", before, net="motion-unet")
    config = replace(before.config, motion=replace(once, looks=2))
    twice = MotionUNet(config)
    brought = start.begin_from(twice, "motion-unet", config, checkpoint.load(path), str(path))
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(before(image)[0], twice(image)[0])
    assert brought == set(before.state_dict())
    later = saved(tmp_path / "twice.safetensors", twice, net="motion-unet")
    with pytest.raises(WeightsError, match="motion is"):
        start.begin_from(before, "motion-unet", before.config, checkpoint.load(later), str(later))


@pytest.mark.parametrize("dial", ["coarse", "hindsight"])
def test_a_net_may_be_given_another_part_which_changes_nothing_at_first(dial: str, tmp_path: Path) -> None:
    motion = MotionConfig(width=8, blocks=1, radius=6, steer=6)
    before = MotionUNet(MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=motion, phases=True, midway=True))
    path = saved(tmp_path / "before.safetensors", before, net="motion-unet")
    later = MotionUNet(replace(before.config, **{dial: True}))
    brought = start.begin_from(later, "motion-unet", later.config, checkpoint.load(path), str(path))
    assert brought == set(before.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(before(image)[0], later(image)[0])
    again = saved(tmp_path / "later.safetensors", later, net="motion-unet")
    with pytest.raises(WeightsError, match=f"{dial} is True there and False here"):
        start.begin_from(before, "motion-unet", before.config, checkpoint.load(again), str(again))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (replace(TINY, width=8), "width is 4 there and 8 here"),
        (replace(TINY, prior=PRIOR), "another prior"),
    ],
)
def test_a_checkpoint_of_another_net_is_not_begun_from(tmp_path: Path, config: UNetConfig, match: str) -> None:
    theirs = UNet(replace(TINY, prior=replace(PRIOR, clc=False)) if config.prior else TINY)
    path = saved(tmp_path / "other.safetensors", theirs)
    with pytest.raises(WeightsError, match=match):
        start.begin_from(UNet(config), "unet", config, checkpoint.load(path), str(path))


def test_a_prior_checkpoint_fills_the_prior_and_nothing_else(tmp_path: Path) -> None:
    prior = SemanticPrior(PRIOR, stem=2)
    path = saved(
        tmp_path / "prior.safetensors", prior, kind="prior", net="prior", config={**nets.to_mapping(PRIOR), "stem": 2}
    )
    found = checkpoint.load(path)
    config = start.with_prior_of(replace(TINY, prior=PriorConfig(fusion="add")), found, str(path))
    assert config.prior == replace(PRIOR, fusion="add")
    net = UNet(config)
    start.fill_prior(net, found, str(path))
    assert all(torch.equal(value, prior.state_dict()[name]) for name, value in net.prior.state_dict().items())
    with pytest.raises(WeightsError, match="a net, not a prior"):
        start.with_prior_of(config, checkpoint.load(saved(tmp_path / "net.safetensors", net)), "net.safetensors")


@pytest.mark.parametrize(
    ("said", "prior"),
    [
        ({}, True),
        ({"prior": False}, False),
        ({"preset": "unet-narrow"}, False),
        ({"preset": "unet-narrow", "prior": True}, True),
        ({"preset": "unet-narrow-sp", "prior": False}, False),
        ({"preset": "unet-narrow-sp", "fusion": "add", "clc": False}, True),
    ],
)
def test_the_words_decide_whether_there_is_a_prior(said: dict, prior: bool) -> None:
    _, config = start.config_of(start.NetWords(backbone="unet", **said))
    assert (config.prior is not None) == prior
    if "fusion" in said:
        assert (config.prior.fusion, config.prior.clc, config.prior.mla) == ("add", False, True)


@pytest.mark.parametrize("said", [{"preset": "none-such"}, {"preset": "unet-narrow", "clc": False}, {"backbone": "x"}])
def test_words_that_name_no_net_are_refused(said: dict) -> None:
    with pytest.raises(UsageError):
        start.config_of(start.NetWords(**{"backbone": "unet", **said}))


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(DeviceError, match="batch of 5 cannot be shared by 2"):
        Crew(torch.device("cpu"), rank=0, size=2).shard(5)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        machine.device_of("cuda:99")


@pytest.mark.parametrize(
    "said",
    [
        {"dataset": "photos"},
        {"dataset": "unheard"},
        {"steps": 5, "epochs": 5},
        {"max_time": "soon"},
        {"batch": 0},
        {"lr": -1.0},
        {"ema": 1.5},
        {"fusion": "sum"},
        {"resume": True, "init": "a"},
        {"prior": False, "mla": True},
        {"freeze_prior": True},
        {"init_rate": 0.1},
        {"shaken": 0.5},
        {"motion_weights": "a", "freeze_motion": True, "motion_rate": 0.3},
        {"freeze_prior": True, "prior_weights": "a", "teacher_weights": "b"},
        {"distill": False, "teacher": "timm:mobilenetv2_100"},
        {"device": "gpu"},
    ],
)
def test_options_that_do_not_fit_are_refused(said: dict) -> None:
    with pytest.raises(UsageError):
        TrainOptions(**said)


@pytest.mark.parametrize(("said", "seconds"), [("90s", 90), ("9m", 540), ("1.5h", 5400), ("20", 20)])
def test_times_are_read(said: str, seconds: float) -> None:
    assert TrainOptions(max_time=said).seconds == seconds


def options(folder: Path, out: Path, **more) -> TrainOptions:
    said = {
        "data": str(folder),
        "dataset": "photos",
        "preset": "unet-fast",
        "perceptual": "none",
        "steps": 2,
        "batch": 2,
        "crop": 16,
        "max_blur": 4.0,
        "room": 8,
        "workers": 0,
        "hold_out": 1,
        "val_crop": 16,
        "device": "cpu",
        "out": str(out),
    }
    return TrainOptions(**said | more)


def test_a_run_from_photographs_ends_with_a_checkpoint_that_says_how_it_was_made(folder: Path, tmp_path: Path) -> None:
    events = list(train.run(options(folder, tmp_path / "out")))
    assert [type(event) for event in events if isinstance(event, Started | Validated | Stopped)] == [
        Started,
        Validated,
        Stopped,
    ]
    label = checkpoint.read_label(tmp_path / "out" / "best.safetensors")
    assert "train" in label.made_with
    assert "--steps 2" in label.made_with
    assert "5 sharp photographs" in label.trained_on
    assert label.scores["psnr"] > 0
    assert (tmp_path / "out" / "validation.png").exists()


def test_a_preview_trains_nothing(folder: Path, tmp_path: Path) -> None:
    events = list(train.run(options(folder, tmp_path / "out", preview=str(tmp_path / "sheets"))))
    assert [type(event) for event in events] == [Previewed]
    assert len(list((tmp_path / "sheets").iterdir())) == 4
    assert not (tmp_path / "out").exists()


def test_a_profile_saves_nothing(folder: Path, tmp_path: Path) -> None:
    events = list(train.run(options(folder, tmp_path / "out", profile=True)))
    assert [type(event) for event in events] == [Profiled]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "said",
    [{"crop": 20}, {"preset": "unheard"}, {"init": "absent.safetensors"}, {"teacher": "timm:x"}, {"data": "absent"}],
)
def test_a_run_that_cannot_begin_says_so_and_leaves_nothing(folder: Path, tmp_path: Path, said: dict) -> None:
    with pytest.raises(DeblurError):
        list(train.run(options(folder, tmp_path / "out", **said)))
    assert not (tmp_path / "out").exists()
