"""Recipes of the papers: their facts, the plan that becomes of them, and what they do to crops."""

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from deblur_cli import nets
from deblur_cli.errors import UsageError
from deblur_cli.options.recipes import RECIPES, Recipe, recipe_of
from deblur_cli.options.train import TrainOptions
from deblur_cli.trainer import Plan, start, words
from deblur_cli.trainer.augmented import Augmented, Changes, mix_with_grey, saturate
from deblur_cli.trainer.sources import Turn, item_chance

GOPRO = 2103
"""Pairs of GoPro's training split."""
CPU = torch.device("cpu")
ISSUED = {
    "unet": 2_623_619,
    "deepdeblur": 3_729_129,
    "deepdeblur-full": 11_721_321,
    "mprnet-stage1": 5_754_817,
    "mprnet": 20_127_073,
    "mimo-unet": 6_807_171,
    "mimo-unet-plus": 16_107_651,
    "mssnet": 15_614_497,
    "mssnet-small": 6_756_161,
    "mssnet-large": 28_182_041,
    "dmphn-1-2-4": 5_424_393,
    "dmphn-1-2-4-8": 7_232_524,
    "hinet": 88_668_806,
    "hinet-half": 22_176_070,
    "nafnet-32": 17_111_907,
    "nafnet-64": 67_888_835,
    "srn": 6_881_251,
}
"""What ``--backbone`` promises: name to parameters without a prior."""


def plan_of(backbone: str, **said) -> Plan:
    options = TrainOptions(backbone=backbone, **said)
    return words.plan_of(options, options.recipe, count=GOPRO, device=CPU)


def test_every_preset_without_a_prior_is_a_backbone_with_a_recipe() -> None:
    assert set(RECIPES) == {name for name, (_, config) in nets.PRESETS.items() if config.prior is None}
    assert {"bdirnet", *ISSUED} <= set(RECIPES)


@pytest.mark.parametrize("backbone", RECIPES)
def test_a_backbones_name_is_enough_and_the_prior_is_a_word_of_its_own(backbone: str) -> None:
    net, plain = start.config_of(start.NetWords(backbone=backbone, prior=False))
    assert nets.PRESETS[backbone] == (net, plain)
    for said in (None, True):
        name, guided = start.config_of(start.NetWords(backbone=backbone, prior=said))
        assert name == net
        assert guided.prior is not None
        assert nets.PRESETS.get(f"{backbone}-sp", (net, guided)) == (net, guided)
    if backbone in ISSUED:
        with torch.device("meta"):
            built = nets.build(net, nets.to_mapping(plain))
        assert sum(value.numel() for value in built.parameters()) == ISSUED[backbone]


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"backbone": "mimo"}, "--backbone mimo is not one of unet, .*mimo-unet-plus.*bdirnet"),
        ({"backbone": "mimo-unet-sp"}, "is not one of"),
        ({"backbone": "nafnet-64", "preset": "nafnet-32"}, "both say the dials of nafnet"),
        ({"backbone": "mimo-unet-plus", "preset": "srn"}, "--preset srn is of srn"),
    ],
)
def test_names_that_are_none_or_contradict_are_refused(said: dict[str, str], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        start.config_of(start.NetWords(**said))


@pytest.mark.parametrize(
    ("backbone", "preset", "expected"),
    [("nafnet", "nafnet-64-sp", "nafnet-64"), ("unet", "unet-sp-large", "unet"), ("mimo-unet-plus", None, "mimo-unet")],
)
def test_a_preset_has_the_recipe_of_its_backbone(backbone: str, preset: str | None, expected: str) -> None:
    assert recipe_of(backbone, preset) is RECIPES[expected]


@pytest.mark.parametrize(
    ("backbone", "batch", "steps", "rates"),
    [
        # Passes through GoPro, and the learning rate at shares of the run.
        ("unet", 10, 700 * 210, {0: 2e-4, 0.5: 1.005e-4, 1: 1e-6}),
        ("deepdeblur", 16, 1000 * 131, {0: 1e-4, 0.49: 1e-4, 0.51: 5e-5, 0.76: 2.5e-5, 0.91: 1.25e-5, 1: 1.25e-5}),
        ("mprnet", 16, 3000 * 131, {0.0005: 1e-4, 0.001: 2e-4, 1: 1e-6}),
        ("mprnet-stage1", 16, 3000 * 131, {0.001: 2e-4, 1: 1e-6}),
        ("mimo-unet", 4, 3000 * 525, {0: 1e-4, 0.16: 1e-4, 0.17: 5e-5, 0.5 + 1e-3: 1.25e-5, 1: 3.125e-6}),
        ("mimo-unet-plus", 4, 3000 * 525, {0: 1e-4, 0.34: 2.5e-5}),
        ("mssnet", 16, 3000 * 131, {0.001: 2e-4, 1: 1e-6}),
        ("srn", 16, 4000 * 131, {0: 1e-4, 0.5: 1e-6 + 9.9e-5 * 0.5**0.3, 1: 1e-6}),
        ("dmphn", 6, 4000 * 350, {0: 1e-4, 0.26: 1e-5, 0.51: 1e-6, 0.76: 1e-7}),
        ("hinet", 64, 400_000, {0: 2e-4, 1: 1e-7}),
        ("nafnet-32", 32, 200_000, {0: 1e-3, 1: 1e-7}),
        ("nafnet-64", 64, 400_000, {0: 1e-3, 1: 1e-7}),
        ("bdirnet", 10, 700 * 210, {0: 2e-4, 1: 1e-6}),
    ],
)
def test_the_plan_on_gopro_is_the_papers(backbone: str, batch: int, steps: int, rates: dict[float, float]) -> None:
    plan = plan_of(backbone)
    assert (plan.batch, plan.steps) == (batch, steps)
    for share, rate in rates.items():
        assert plan.rate_at(min(round(share * steps), steps - 1)) == pytest.approx(rate, rel=3e-3)


@pytest.mark.parametrize(
    ("backbone", "optimiser", "betas", "decay", "clip", "perceptual"),
    [
        ("unet", "adamw", (0.9, 0.999), 0.01, 0.0, "vgg19"),
        ("deepdeblur-full", "adam", (0.9, 0.999), 0.0, 0.0, "none"),
        ("mimo-unet", "adam", (0.9, 0.999), 0.0, 0.0, "none"),
        ("hinet", "adam", (0.9, 0.99), 0.0, 0.01, "none"),
        ("nafnet-32", "adamw", (0.9, 0.9), 1e-3, 0.01, "none"),
    ],
)
def test_the_optimiser_is_the_papers(
    backbone: str, optimiser: str, betas: tuple[float, float], decay: float, clip: float, perceptual: str
) -> None:
    plan = plan_of(backbone)
    assert (plan.optimiser, plan.betas, plan.weight_decay, plan.clip) == (optimiser, betas, decay, clip)
    assert TrainOptions(backbone=backbone).recipe.perceptual == perceptual


def test_what_is_said_goes_before_the_recipe() -> None:
    said = {"steps": 60, "batch": 2, "lr": 3e-4, "final_lr": 3e-5, "warmup": 7, "clip": 0.5, "weight_decay": 0.1}
    plan = plan_of("nafnet-32", optimiser="muon", **said)
    assert (plan.steps, plan.batch, plan.rate, plan.final_rate, plan.warmup) == (60, 2, 3e-4, 3e-5, 7)
    assert (plan.optimiser, plan.clip, plan.weight_decay) == ("muon", 0.5, 0.1)
    assert plan_of("nafnet-32", epochs=2).steps == 2 * (GOPRO // 32)
    assert plan_of("hinet", clip=0.0).clip == 0
    assert plan_of("mprnet", warmup=0).rate_at(0) == 2e-4


@pytest.mark.parametrize("backbone", RECIPES)
def test_a_short_run_goes_the_whole_way_down(backbone: str) -> None:
    plan = plan_of(backbone, steps=20)
    rates = [plan.rate_at(step) for step in range(20)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == plan.rate
    assert rates[-1] == pytest.approx(plan.final_rate)


def test_drops_wait_for_the_hold_and_end_where_they_are_told_to() -> None:
    plan = Plan(steps=40, batch=1, rate=1.0, final_rate=0.01, hold=20, drops=(0.25, 0.5))
    assert [plan.rate_at(step) for step in (0, 24, 25, 29)] == pytest.approx([1, 1, 0.1, 0.1])
    assert [plan.rate_at(step) for step in (30, 39)] == pytest.approx([0.01, 0.01])


class Grey:
    """Crops whose pixels tell their place in the batch."""

    threads = 2
    on_device = False
    closed = False

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        dice = torch.Generator().manual_seed(step)
        return torch.rand(4, 3, 8, 8, generator=dice), torch.rand(4, 3, 8, 8, generator=dice)

    def close(self) -> None:
        self.closed = True


def changed(seed: int = 0, slots: range = range(4), **dials) -> Augmented:
    return Augmented(Grey(), Changes(**dials), seed=seed, slots=slots)


def test_saturation_is_that_of_hsv() -> None:
    image = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors = torch.tensor([0.6, 1.0, 1.5], dtype=torch.float64)
    found = saturate(image, factors).numpy()
    for index, y, x in np.ndindex(3, 4, 5):
        hue, purity, value = colorsys.rgb_to_hsv(*image[index, :, y, x].tolist())
        wanted = colorsys.hsv_to_rgb(hue, min(1.0, purity * factors[index].item()), value)
        np.testing.assert_allclose(found[index, :, y, x], wanted, atol=1e-9)


def test_grey_stays_grey() -> None:
    grey = torch.rand(2, 1, 4, 4).expand(2, 3, 4, 4)
    torch.testing.assert_close(saturate(grey, torch.tensor([0.5, 1.5])), grey)


def test_colours_change_alike_on_both_sides() -> None:
    blurred, sharp = changed(colours=True).batch(5)
    before, after = Grey().batch(5)
    orders = []
    for index in range(4):
        order = [next(c for c in range(3) if torch.equal(blurred[index, k], before[index, c])) for k in range(3)]
        assert sorted(order) == [0, 1, 2]
        assert torch.equal(sharp[index], after[index, order])
        orders.append(order)
    assert any(order != orders[0] for order in orders)


def test_grain_is_on_the_blurred_side_alone_and_stays_in_range() -> None:
    blurred, sharp = changed(grain=0.05).batch(1)
    before, after = Grey().batch(1)
    assert torch.equal(sharp, after)
    assert all(not torch.equal(*pair) for pair in zip(blurred, before, strict=True))
    assert blurred.min() >= 0
    assert blurred.max() <= 1
    assert (blurred - before).abs().mean() < 0.1


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_mixing_with_grey_is_that_of_pillow(factor: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(factor), np.float32)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    found = 255 * mix_with_grey(image, torch.tensor([factor]))[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 1.5  # Pillow rounds grey and result


def test_mprnet_and_mssnet_alone_mix_with_grey() -> None:
    assert {name for name, recipe in RECIPES.items() if recipe.grey} == {
        "mprnet", "mprnet-stage1", "mssnet", "mssnet-small", "mssnet-large"
    }  # fmt: skip
    plain, mixed = (changed(saturation=0.5, grey=grey).batch(0)[1] for grey in (False, True))
    assert not torch.allclose(plain, mixed, atol=1e-3)


def test_a_share_of_the_crops_keeps_its_saturation() -> None:
    source = changed(saturation=0.5, saturated=1 / 3)
    kept = [
        torch.allclose(now, then, atol=1e-6)
        for step in range(60)
        for now, then in zip(source.batch(step)[1], Grey().batch(step)[1], strict=True)
    ]
    assert 0.57 < np.mean(kept) < 0.77


def test_changes_depend_on_the_seed_and_the_place_alone() -> None:
    dials = {"saturation": 0.5, "colours": True, "grain": 0.02}
    first, again, other = (changed(seed, **dials).batch(3)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    elsewhere = changed(0, range(4, 8), **dials).batch(3)[0]
    assert not torch.equal(first, elsewhere)


def test_a_changed_source_is_the_source_to_everybody_else() -> None:
    source = Grey()
    around = Augmented(source, Changes(colours=True), seed=0, slots=range(4))
    assert (around.threads, around.on_device) == (2, False)
    around.close()
    assert source.closed
    assert not Changes()


def test_turns_are_as_many_as_a_recipe_allows() -> None:
    def seen(turns: str) -> set[tuple[bool, bool, bool]]:
        drawn = [Turn.draw((16, 16), 8, item_chance(0, step, 0), turns) for step in range(100)]
        return {(turn.down, turn.right, turn.over) for turn in drawn}

    assert len(seen("all")) == 8
    assert seen("mirror") == {(False, False, False), (False, True, False)}
    assert seen("none") == {(False, False, False)}
    places = [Turn.draw((16, 16), 8, item_chance(0, 3, 0), turns) for turns in ("all", "none")]
    assert (places[0].top, places[0].left) == (places[1].top, places[1].left)


def test_a_recipe_is_complete_by_itself() -> None:
    assert Recipe() == RECIPES["bdirnet"]


def test_help_lists_the_backbones() -> None:
    from deblur_cli.cli.train import _SAID

    assert all(name in _SAID["backbone"].help for name in RECIPES)


def test_a_label_says_the_backbone(tmp_path: Path) -> None:
    told = words.made_with("train", TrainOptions(backbone="mimo-unet-plus", prior=False, out=str(tmp_path)))
    assert told.endswith("train --backbone mimo-unet-plus --no-prior")
