"""``deblur distill-motion``: from a folder of sharp photographs to a motion prior that a net starts from."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor

from deblur_cli import nets
from deblur_cli.cli import distill_motion as words
from deblur_cli.commands import distill_motion, train
from deblur_cli.errors import DeblurError, InputError, UsageError, WeightsError
from deblur_cli.files import checkpoint, photos
from deblur_cli.nets.motion import MotionConfig, half_plane, spectra
from deblur_cli.nets.motion_prior import MotionPrior
from deblur_cli.nets.motion_unet import MotionUNetConfig
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.objective import MotionObjective
from deblur_cli.options.distill_motion import MEANINGLESS, DistillMotionOptions
from deblur_cli.options.train import TrainOptions
from deblur_cli.pixels import shaking
from deblur_cli.trainer import sources, state
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.events import Step, Validated
from deblur_cli.trainer.shaken import Insight, PartlyShaken, Pictured, ShakenPhotos, acquaint
from deblur_cli.trainer.validation import View

ROOT = Path(__file__).resolve().parent.parent
RADIUS = 20
CALM = shaking.Shaking(linear=0.0, noise=0.0, jpeg=0.0)
TINY = MotionConfig(width=16, blocks=1, steer=4)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    chance = np.random.default_rng(0)
    for index in range(4):
        rough = chance.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        coarse = Image.fromarray(chance.integers(0, 256, (28, 28, 3), dtype=np.uint8)).resize((224, 224))
        Image.blend(coarse, Image.fromarray(rough), 0.3).save(folder / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tiny = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=TINY)
    guided = replace(tiny, prior=PriorConfig(widths=(3, 5, 6), channels=(4, 6, 8), blocks=(1, 0, 1)))
    small = {"motion-unet": ("motion-unet", tiny), "motion-unet-sp": ("motion-unet", guided)}
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, **small})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def options(photographs: Path, tmp_path: Path) -> DistillMotionOptions:
    return DistillMotionOptions(
        data=str(photographs),
        hold_out=1,
        steps=4,
        batch=2,
        crop=64,
        warmup=0,
        lr=3e-3,
        final_lr=3e-3,
        max_blur=16.0,
        val_every=2,
        val_crop=64,
        log_every=2,
        device="cpu",
        precision="fp32",
        threads=1,
        out=str(tmp_path / "out"),
    )


def _train(options: DistillMotionOptions, **said: Any) -> TrainOptions:
    """One step of a net on the photographs of ``options``."""
    given: dict[str, Any] = {
        "data": options.data,
        "dataset": "photos",
        "backbone": "motion-unet",
        "prior": False,
        "perceptual": "none",
        "max_blur": 4.0,
        "steps": 1,
        "batch": 1,
        "crop": 64,
        "workers": 0,
        "pool_size": 1,
        "val_count": 0,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "out": f"{options.out}-net",
    }
    return TrainOptions(**(given | said))


def _only(kind: type, events: Iterator[object] | list) -> list:
    return [event for event in events if isinstance(event, kind)]


def _scene(count: int = 1, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side + 2 * shaking.MARGIN, side + 2 * shaking.MARGIN, generator=torch.Generator())


def _source(photographs: Path, slots: range = range(3), seed: int = 5) -> ShakenPhotos:
    album = photos.load(photographs, smallest=128)
    recipe = shaking.Shaking()
    place = torch.device("cpu")
    return ShakenPhotos(album, recipe, crop=64, radius=RADIUS, slots=slots, seed=seed, device=place)


def test_a_batch_depends_on_the_seed_and_the_step_alone(photographs: Path) -> None:
    source = _source(photographs)
    later = source.batch(7)
    source.batch(0)
    again = _source(photographs).batch(7)
    assert [tuple(side.shape) for side in later] == [(3, 3, 64, 64), (3, 2, 2, half_plane(RADIUS))]
    assert all(torch.equal(one, other) for one, other in zip(later, again, strict=True))
    for other in (source.batch(8), _source(photographs, seed=6).batch(7)):
        assert not torch.equal(later[0], other[0])
        assert not torch.equal(later[1], other[1])


def test_what_is_shaken_and_sharp_are_one_crop(photographs: Path) -> None:
    source = _source(photographs, range(4))
    blurred, sharp = source.pairs(3)
    assert blurred.shape == sharp.shape == (4, 3, 64, 64)
    again = source.pairs(3)
    assert torch.equal(blurred, again[0])
    assert torch.equal(sharp, again[1])
    still = shaking.Shaking(still=1, objects=0, noise=0, jpeg=0, linear=0)
    album = photos.load(photographs, smallest=128)
    calm = ShakenPhotos(album, still, crop=64, radius=RADIUS, slots=range(2), seed=5, device=torch.device("cpu"))
    blurred, sharp = calm.pairs(0)
    torch.testing.assert_close(blurred, sharp, atol=0.51 / 255, rtol=0)


def test_in_the_mean_of_a_movement_nothing_is_shifted_and_at_its_middle_something_is(photographs: Path) -> None:
    """A shift turns the phase of long waves; a blur in its mean hardly does."""
    album = photos.load(photographs, smallest=128)

    def pair(where: str) -> tuple[Tensor, Tensor]:
        moves = shaking.Shaking(still=0, trembling=1, objects=0, noise=0, jpeg=0, linear=0, longest=16, sharp_at=where)
        return ShakenPhotos(
            album, moves, crop=64, radius=RADIUS, slots=range(16), seed=5, device=torch.device("cpu")
        ).pairs(0)

    def turned(blurred: Tensor, sharp: Tensor) -> float:
        bell = torch.hann_window(64, periodic=False)
        around = (side - side.mean((2, 3), keepdim=True) for side in (blurred, sharp))
        spectra = (torch.fft.rfft2(side * bell[:, None] * bell) for side in around)
        one, other = (each[:, :, 1:4, 1:4] for each in spectra)
        crossed = (one * other.conj()).sum(1)
        return float((crossed.angle().abs() * crossed.abs()).sum() / crossed.abs().sum())

    mean, middle = pair("mean"), pair("middle")
    assert torch.equal(mean[1], middle[1])
    assert turned(*mean) < 0.6 * turned(*middle)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_batches_is_shaken(photographs: Path, share: float) -> None:
    shaken = _source(photographs, range(2))

    class Scenes(ShakenPhotos):
        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            return torch.full((2, 3, 64, 64), float(step)), torch.zeros(2, 3, 64, 64)

    both = PartlyShaken(Scenes.__new__(Scenes), shaken, share=share)
    taken = [both.batch(step)[0] for step in range(12)]
    scenes = [
        float(each[0, 0, 0, 0]) for each in taken if torch.equal(each, torch.full_like(each, float(each[0, 0, 0, 0])))
    ]
    # Each once, in order, none left out.
    assert scenes == [float(count) for count in range({0.0: 12, 0.5: 6, 1.0: 0}[share])]
    assert all(torch.equal(both.batch(step)[0], taken[step]) for step in (3, 0))


def test_a_net_trains_on_shaken_photographs(options: DistillMotionOptions, tmp_path: Path) -> None:
    events = list(train.run(_train(options, shaken=1.0, loss="psnr", blur_skew=2.0)))
    [step] = _only(Step, events)
    # Minus a PSNR in dB, bounded at 40.
    assert -40 < step.losses["reconstruction"] < -5


def test_kernels_are_shown_as_pictures(photographs: Path) -> None:
    blurred, shown = Pictured(_source(photographs)).batch(0)
    assert blurred.shape == shown.shape
    torch.testing.assert_close(shown.amax((1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(shown, shown.flip(2, 3))


def test_a_prior_gets_to_know_what_is_usual(photographs: Path) -> None:
    prior = MotionPrior(TINY)
    source = _source(photographs)
    acquaint(prior, source, 2)
    seen = torch.cat([spectra(source.batch(step)[0]).flatten(0, 2) for step in range(2)])
    torch.testing.assert_close(prior.usual, seen.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prior.spread, seen.std(0, correction=0), atol=1e-3, rtol=1e-3)
    flat = torch.full((1, 3, 64, 64), 0.5)

    class Flat(ShakenPhotos):
        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            return flat, flat

    acquaint(prior, Flat.__new__(Flat), 1)
    assert float(prior.spread.min()) == pytest.approx(1e-3)


def test_the_loss_falls_and_is_nothing_for_who_knows_the_truth(photographs: Path) -> None:
    torch.manual_seed(0)
    source = _source(photographs, range(8))
    prior, aim = MotionPrior(TINY), MotionObjective(RADIUS)
    acquaint(prior, source, 2)
    pair = source.batch(0)

    class Knowing(torch.nn.Module):
        def forward(self, blurred: Tensor) -> Any:
            motion = prior(blurred)
            return replace(motion, kernels=pair[1])

    assert float(aim(Knowing(), *pair).total) < 1e-6
    optimiser = torch.optim.AdamW(prior.parameters(), lr=1e-2)
    before = aim(prior, *pair).total.item()
    for _ in range(40):
        optimiser.zero_grad()
        aim(prior, *pair).total.backward()
        optimiser.step()
    after = aim(prior, *pair)
    assert list(after.terms) == ["transfer", "anywhere"]
    assert after.total.item() < 0.6 * before
    fixed, more = (float(value) for value in after.terms.values())
    assert after.total.item() == pytest.approx((60 * fixed + 100 * more) / 160)


def test_losses_are_exact_under_autocast(photographs: Path) -> None:
    blurred, kernels = _source(photographs).batch(0)

    class Found(torch.nn.Module):
        def forward(self, blurred: Tensor) -> Any:
            return prior_of_truth

    motion = MotionPrior(TINY)(blurred)
    prior_of_truth = replace(motion, kernels=motion.kernels.detach())
    torch.manual_seed(1)
    exact = MotionObjective(RADIUS)(Found(), blurred, kernels).total
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = MotionObjective(RADIUS)(Found(), blurred, kernels).total
    assert torch.equal(exact, found)


def test_who_knows_the_truth_sees_everything_and_who_says_the_mean_sees_nothing() -> None:
    sharp = np.ascontiguousarray(_scene()[0].permute(1, 2, 0).mul(255).byte().numpy())
    insight = Insight([View("one", sharp, sharp)] * 2, CALM, radius=RADIUS, crew=Crew(torch.device("cpu")))
    truths: list[Tensor] = []
    paths_of = shaking.even_kernels

    class Says(torch.nn.Module):
        def __init__(self, kernels: list[Tensor]) -> None:
            super().__init__()
            self.kernels = kernels

        def forward(self, blurred: Tensor) -> Any:
            truths.append(blurred)
            return replace(known, kernels=self.kernels[len(truths) - 1][:, None, None].expand(-1, 2, 2, -1))

    known = MotionPrior(TINY)(torch.rand(1, 3, 64, 64))
    kernels = [
        paths_of(shaking.draw(8, CALM, sources.generator(0, index), radius=RADIUS), RADIUS) for index in range(2)
    ]
    scores = insight(Says(kernels))
    assert list(scores) == ["seen", "r2_1", "r2_2", "r2_3", "r2_4", "r2_5"]
    assert all(value == pytest.approx(1.0) for value in scores.values())
    truths.clear()
    mean = torch.cat(kernels).mean(0).expand(8, -1)
    assert insight(Says([mean, mean]))["seen"] == pytest.approx(0.0, abs=1e-4)


def test_a_run_reports_what_is_seen(options: DistillMotionOptions) -> None:
    events = list(distill_motion.run(options))
    assert all(set(step.losses) == {"total", "transfer", "anywhere"} for step in _only(Step, events))
    validated = _only(Validated, events)
    assert [event.step for event in validated] == [2, 4]
    assert all(next(iter(event.scores)) == "seen" for event in validated)
    seen, *waves = validated[-1].scores.values()
    assert seen == pytest.approx(sum(waves) / 5)
    assert events[-1].reason == "finished"


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "muon"])
def test_every_optimiser_moves_a_prior_without_filters(options: DistillMotionOptions, optimiser: str) -> None:
    moved: list[Tensor] = []
    for steps in (1, 2):
        out = f"{options.out}-{steps}"
        list(distill_motion.run(replace(options, optimiser=optimiser, ema=0.0, val_count=0, steps=steps, out=out)))
        moved.append(checkpoint.load(Path(out, "last.safetensors")).tensors["kernel.weight"])
    assert not torch.equal(*moved)


def test_a_resumed_run_ends_where_an_unbroken_one_does(options: DistillMotionOptions) -> None:
    list(distill_motion.run(replace(options, val_count=0)))
    broken = replace(options, val_count=0, out=f"{options.out}-broken")
    list(distill_motion.run(replace(broken, steps=2)))
    events = list(distill_motion.run(replace(broken, resume=True)))
    assert events[0].step == 2
    one, other = (state.load(Path(each.out), net="motion", config=nets.to_mapping(TINY)) for each in (options, broken))
    assert one.step == other.step == 4
    for part in ("net", "average"):
        assert all(torch.equal(value, other.learner[part][name]) for name, value in one.learner[part].items())


def test_a_crew_of_two_begins_with_the_same_numbers_as_one_alone(photographs: Path, tmp_path: Path) -> None:
    said = "--crop 64 --batch 2 --steps 1 --val-count 2 --val-crop 64 --hold-out 1 --max-blur 16 --precision fp32 --threads 1"
    where = ["--device", "cpu", "--data", str(photographs), "--out", str(tmp_path / "two")]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "deblur_cli"]
    done = subprocess.run(
        [sys.executable, *launcher, "distill-motion", *said.split(), *where],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = checkpoint.load(tmp_path / "two" / "last.safetensors").tensors
    alone = MotionPrior(MotionConfig(scales=2))
    album = photos.load(photographs, smallest=128)
    album = album.part([0, 1, 3])  # the third is held out
    recipe = shaking.Shaking(longest=16.0)
    place = torch.device("cpu")
    source = ShakenPhotos(album, recipe, crop=64, radius=RADIUS, slots=range(2), seed=0, device=place)
    acquaint(alone, source, 128)
    torch.testing.assert_close(found["usual"], alone.usual)
    torch.testing.assert_close(found["spread"], alone.spread)


def test_the_checkpoint_is_a_motion_prior_that_a_net_starts_from(options: DistillMotionOptions) -> None:
    list(distill_motion.run(replace(options, val_count=0)))
    path = Path(options.out) / "last.safetensors"
    found = checkpoint.load(path)
    assert (found.label.kind, found.label.net) == ("prior", "motion")
    assert found.label.config == nets.to_mapping(TINY)
    assert "deblur" in found.label.made_with
    assert "distill-motion" in found.label.made_with
    assert bool((found.tensors["usual"] != 0).all())
    said = _train(options, motion_weights=str(path), freeze_motion=True)
    list(train.run(said))
    net = checkpoint.load(Path(said.out) / "last.safetensors")
    assert f"--motion-weights {path.name}" in net.label.made_with
    for name, value in found.tensors.items():
        assert torch.equal(value, net.tensors[f"motion.{name}"])
    learns = _train(options, motion_weights=str(path), steps=3, lr=1e-2, out=f"{options.out}-learns")
    list(train.run(learns))
    net = checkpoint.load(Path(learns.out) / "last.safetensors")
    assert torch.equal(found.tensors["usual"], net.tensors["motion.usual"])
    assert not torch.equal(found.tensors["kernel.weight"], net.tensors["motion.kernel.weight"])
    slow = replace(learns, motion_rate=0.0, out=f"{options.out}-slow")
    list(train.run(slow))
    net = checkpoint.load(Path(slow.out) / "last.safetensors")
    assert torch.equal(found.tensors["kernel.weight"], net.tensors["motion.kernel.weight"])


def test_a_motion_prior_that_looked_once_learns_to_look_again(options: DistillMotionOptions) -> None:
    list(distill_motion.run(options))
    first = Path(options.out) / "last.safetensors"
    again = replace(TINY, looks=2)
    nets.PRESETS["motion-unet"] = ("motion-unet", MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=again))  # type: ignore[index]
    twice = replace(options, motion_weights=str(first), out=f"{options.out}-2")
    list(distill_motion.run(twice))
    before, after = (checkpoint.load(Path(each.out) / "last.safetensors") for each in (options, twice))
    assert after.label.config["looks"] == 2
    assert before.tensors.keys() < after.tensors.keys()
    assert bool(after.tensors["again.more.weight"].any())


def test_a_run_goes_on_from_a_motion_prior(options: DistillMotionOptions) -> None:
    list(distill_motion.run(options))
    first = Path(options.out) / "last.safetensors"
    stays = replace(options, motion_weights=str(first), out=f"{options.out}-2", steps=1, lr=1e-9, final_lr=1e-9)
    # Its dials come from the file: the preset has others by now.
    nets.PRESETS["motion-unet"] = ("motion-unet", MotionUNetConfig(width=4, blocks=(1, 1, 1)))  # type: ignore[index]
    list(distill_motion.run(stays))
    before, after = (checkpoint.load(each) for each in (first, Path(stays.out) / "last.safetensors"))
    assert {**before.label.config, "steer": 96} == after.label.config  # how a net is told stays the net's
    for name, tensor in before.tensors.items():
        torch.testing.assert_close(after.tensors[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_a_net_takes_the_size_of_the_motion_prior(
    options: DistillMotionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(distill_motion.run(replace(options, val_count=0, steps=1)))
    wider = MotionUNetConfig(width=4, blocks=(1, 1, 1), motion=replace(TINY, width=24, steer=6))
    monkeypatch.setattr(nets, "PRESETS", {**nets.PRESETS, "motion-unet": ("motion-unet", wider)})
    said = _train(options, motion_weights=f"{options.out}/last.safetensors")
    list(train.run(said))
    motion = checkpoint.read_label(Path(said.out) / "last.safetensors").config["motion"]
    assert (motion["width"], motion["steer"]) == (16, 6)


def test_priors_are_told_from_each_other(options: DistillMotionOptions, tmp_path: Path) -> None:
    list(distill_motion.run(replace(options, val_count=0, steps=1)))
    motion = f"{options.out}/last.safetensors"
    with pytest.raises(WeightsError, match="is a motion prior, not a semantic one") as caught:
        list(train.run(_train(options, prior=True, prior_weights=motion)))
    assert "--motion-weights" in caught.value.hint
    with pytest.raises(UsageError, match="no motion prior"):
        list(train.run(_train(options, backbone="unet-fast", motion_weights=motion)))
    semantic = tmp_path / "semantic.safetensors"
    label = checkpoint.Label(
        kind="prior", net="prior", config={}, made_with="a test", licence="none", trained_on="nothing"
    )
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors={"one": torch.ones(1)}), semantic)
    with pytest.raises(WeightsError, match="is a semantic prior, not a motion prior") as caught:
        list(train.run(_train(options, motion_weights=str(semantic))))
    assert "--prior-weights" in caught.value.hint
    checkpoint.save(
        checkpoint.Checkpoint(label=replace(label, kind="net", net="unet"), tensors={"one": torch.ones(1)}), semantic
    )
    with pytest.raises(WeightsError, match="is the net unet, not a motion prior"):
        list(train.run(_train(options, motion_weights=str(semantic))))
    config = nets.to_mapping(TINY)
    checkpoint.save(
        checkpoint.Checkpoint(label=replace(label, net="motion", config=config), tensors={"one": torch.ones(1)}),
        semantic,
    )
    with pytest.raises(WeightsError, match="is not whole"):
        list(train.run(_train(options, motion_weights=str(semantic))))


def test_a_label_tells_how_long_the_movements_were(options: DistillMotionOptions) -> None:
    list(distill_motion.run(replace(options, val_count=0, steps=1)))
    label = checkpoint.read_label(Path(options.out) / "last.safetensors")
    assert label.trained_on.startswith("4 sharp photographs")
    assert label.trained_on.endswith("blur of up to 16 px")


def test_views_that_are_all_margin_are_refused(options: DistillMotionOptions, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    Image.new("RGB", (120, 120)).save(tmp_path / "val" / "small.png")
    with pytest.raises(InputError, match="has 128 x 128 pixels"):
        list(distill_motion.run(replace(options, val=str(tmp_path / "val"))))


def test_an_untrained_motion_prior_is_not_frozen(options: DistillMotionOptions) -> None:
    with pytest.raises(UsageError, match="--freeze-motion would keep an untrained"):
        _train(options, freeze_motion=True)


def test_a_sheet_shows_crops_and_kernels(options: DistillMotionOptions, tmp_path: Path) -> None:
    list(distill_motion.run(replace(options, preview=str(tmp_path / "sheets"))))
    with Image.open(tmp_path / "sheets" / "pairs-0.png") as sheet:
        assert sheet.size == (2 * 64 + 4, 2 * 64 + 4)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"crop": 96}, "--crop 96 is not a multiple of 64"),
        ({"preset": "unet-sp"}, "--preset unet-sp is none with a motion prior: motion-unet"),
        ({"preset": "no-such"}, "--preset no-such is none with a motion prior"),
        ({"max_blur": 50.0}, "--max-blur 50 is more than this prior can see: 40 px"),
        ({"crop": 192}, "photograph"),
    ],
)
def test_what_does_not_fit_is_refused(options: DistillMotionOptions, said: dict[str, Any], message: str) -> None:
    with pytest.raises(DeblurError, match=message):
        list(distill_motion.run(replace(options, **said)))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"dataset": "gopro", "data": "somewhere"}, "--dataset gopro holds pairs"),
        ({}, "photographs are not named"),
        ({"data": "somewhere", "objects": 1.5}, "--objects 1.5 is not between 0 and 1"),
        ({"data": "somewhere", "reuse": 3}, "--reuse means nothing"),
        ({"data": "somewhere", "trembling": 1.5}, "--trembling 1.5 is not between 0 and 1"),
    ],
)
def test_what_means_nothing_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DistillMotionOptions(**said)


def test_every_option_has_a_word() -> None:
    app = typer.Typer()
    words.register(app)
    words.register(app)  # a group of two shows the command's own name
    command = typer.main.get_command(app).commands["distill-motion"]
    names = {parameter.name for parameter in command.params}
    assert {field.name for field in fields(DistillMotionOptions)} - MEANINGLESS.keys() == names - {"help"}
