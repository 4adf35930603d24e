"""Blur synthesis: a seed is a pair, standing still changes nothing, light is neither made nor lost, JPEG is the real one."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from deblur_cli.pixels import blurring, camera, motion

CLEAN = blurring.Recipe(max_length=12, still=0, objects=0, linear=0, lights=0, noise=0, defocus=0, jpeg=0)


def _scene(side: int = 48, count: int = 2, recipe: blurring.Recipe = CLEAN, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth random pictures with context around a crop of ``side``."""
    generator = torch.Generator().manual_seed(seed)
    wide = side + 2 * blurring.margin(recipe)
    coarse = torch.rand(2 * count, 3, 12, 12, generator=generator)
    scenes = F.interpolate(coarse, size=(wide, wide), mode="bicubic").clamp(0, 1)
    return scenes[:count], scenes[count:]


def _blur(recipe: blurring.Recipe, seed: int = 7, count: int = 2) -> tuple[Tensor, Tensor]:
    return blurring.blur(*_scene(recipe=recipe, count=count), recipe, torch.Generator().manual_seed(seed))


def test_the_same_seed_gives_the_same_pair_and_another_seed_another() -> None:
    recipe = blurring.Recipe(max_length=12)
    first, again, other = _blur(recipe, 7), _blur(recipe, 7), _blur(recipe, 8)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_sharp_image_is_the_middle_of_the_photograph() -> None:
    scene, _ = _scene()
    edge = blurring.margin(CLEAN)
    _, sharp = _blur(CLEAN)
    torch.testing.assert_close(sharp, scene[:, :, edge:-edge, edge:-edge], atol=1e-4, rtol=0)


def test_an_exposure_that_stands_still_is_sharp() -> None:
    blurred, sharp = _blur(replace(CLEAN, still=1.0))
    torch.testing.assert_close(blurred, sharp, atol=1e-4, rtol=0)


def test_a_longer_path_blurs_more() -> None:
    errors = []
    for length in (2.0, 6.0, 12.0):
        blurred, sharp = _blur(replace(CLEAN, min_length=length, max_length=length), count=6)
        errors.append(float((blurred - sharp).square().mean()))
    assert 0 < errors[0] < errors[1] < errors[2]


def test_a_flat_wall_stays_flat_under_any_movement() -> None:
    recipe = replace(CLEAN, objects=1.0, linear=0.5, max_length=12)
    side = 32 + 2 * blurring.margin(recipe)
    wall = torch.full((4, 3, side, side), 0.25)
    blurred, sharp = blurring.blur(wall, wall, recipe, torch.Generator().manual_seed(1))
    torch.testing.assert_close(blurred, torch.full_like(blurred, 0.25), atol=1e-4, rtol=0)
    torch.testing.assert_close(sharp, torch.full_like(sharp, 0.25), atol=1e-4, rtol=0)


def test_lights_draw_streaks_that_are_brighter_than_the_mean_of_their_values() -> None:
    recipe = replace(CLEAN, min_length=12, linear=1.0)
    side = 48 + 2 * blurring.margin(recipe)
    night = torch.zeros(1, 3, side, side)
    night[:, :, side // 2 - 2 : side // 2 + 2, side // 2 - 2 : side // 2 + 2] = 1.0
    plain = blurring.blur(night, night, recipe, torch.Generator().manual_seed(3))[0]
    lamp = blurring.blur(night, night, replace(recipe, lights=1.0), torch.Generator().manual_seed(3))[0]
    assert float(lamp.sum()) > 1.1 * float(plain.sum())
    assert float(lamp.max()) <= 1.0


def test_lights_are_clipped_in_both_images_so_that_what_stands_still_is_sharp() -> None:
    bright = _scene(count=4)[0] * 0.2 + 0.8
    recipe = replace(CLEAN, still=1.0, linear=1.0, lights=1.0)
    blurred, sharp = blurring.blur(bright, bright, recipe, torch.Generator().manual_seed(2))
    edge = blurring.margin(recipe)
    assert float((sharp - bright[:, :, edge:-edge, edge:-edge]).max()) > 0.02, "there are lights"
    torch.testing.assert_close(blurred, sharp, atol=1e-4, rtol=0)


def test_a_coloured_wall_is_no_light() -> None:
    recipe = replace(CLEAN, linear=1.0, lights=1.0)
    side = 32 + 2 * blurring.margin(recipe)
    sky = torch.tensor([0.4, 0.6, 1.0]).view(1, 3, 1, 1).expand(2, 3, side, side).contiguous()
    blurred, _ = blurring.blur(sky, sky, recipe, torch.Generator().manual_seed(1))
    torch.testing.assert_close(blurred, sky[:, :, :32, :32], atol=1e-4, rtol=0)


def test_a_moving_object_mixes_with_what_is_behind_it() -> None:
    recipe = replace(CLEAN, objects=1.0, min_length=12)
    side = 64 + 2 * blurring.margin(recipe)
    black, white = torch.zeros(1, 3, side, side), torch.ones(1, 3, side, side)
    blurred, sharp = blurring.blur(black, white, recipe, torch.Generator().manual_seed(5))
    assert float(sharp.max()) > 0.9, "the object is in the picture"
    between = ((blurred > 0.1) & (blurred < 0.9)).float().mean()
    assert between > ((sharp > 0.1) & (sharp < 0.9)).float().mean()


def test_a_skewed_lot_favours_short_paths_and_an_even_one_is_the_former() -> None:
    sharp = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    plain = blurring.Recipe(max_length=24, still=0, objects=0, noise=0, jpeg=0, lights=0, defocus=0)

    def change(skew: float) -> float:
        total = 0.0
        for seed in range(8):
            lot = torch.Generator().manual_seed(seed)
            blurred, still = blurring.blur(sharp, sharp, replace(plain, skew=skew), lot)
            total += float((blurred - still).abs().mean())
        return total

    assert change(3.0) < change(1.0) < change(0.3)


def test_a_movement_is_at_rest_at_its_middle_sample() -> None:
    drawn = motion.draw(torch.tensor([20.0, 5.0]), 16, torch.Generator().manual_seed(0))
    for track in (drawn.shift, drawn.roll, drawn.tilt, drawn.zoom):
        assert not track[:, 8].any()
    grid = motion.grid(drawn, 8, height=6, width=10, margin=0)
    straight = F.affine_grid(torch.eye(2, 3).expand(2, 2, 3), [2, 1, 6, 10], align_corners=False)
    torch.testing.assert_close(grid, straight, atol=1e-3, rtol=0)


def test_a_path_is_as_long_as_it_was_asked_to_be() -> None:
    lengths = torch.tensor([0.0, 3.0, 30.0])
    drawn = motion.draw(lengths, 32, torch.Generator().manual_seed(2))
    at_crop = drawn.shift.diff(dim=1).norm(dim=2).sum(1)
    assert (at_crop <= lengths + 1e-4).all()
    assert (at_crop >= 0.39 * lengths).all(), "the rest of the path is rotation"


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("halve", [False, True])
def test_jpeg_agrees_with_the_real_one(quality: int, halve: bool) -> None:
    scene = _scene(side=40, count=1)[0][:, :, :53, :70]
    eight = (scene * 255).round() / 255
    ours = camera.jpeg(eight, quality=quality, halve_colour=halve)
    file = io.BytesIO()
    picture = Image.fromarray((eight[0].permute(1, 2, 0) * 255).byte().numpy())
    picture.save(file, "JPEG", quality=quality, subsampling="4:2:0" if halve else "4:4:4")
    theirs = np.asarray(Image.open(file), dtype=np.float32) / 255
    error = np.abs(ours[0].permute(1, 2, 0).numpy() - theirs)
    assert error.mean() < 1.2 / 255
    assert np.abs(theirs - eight[0].permute(1, 2, 0).numpy()).mean() > error.mean(), (
        "closer to JPEG than to the original"
    )


def test_noise_has_the_variance_that_was_asked_for() -> None:
    gray = torch.full((2, 3, 128, 128), 0.5)
    noisy = camera.add_noise(
        gray,
        read=torch.tensor([0.02, 0.0]),
        shot=torch.tensor([0.0, 0.001]),
        generator=torch.Generator().manual_seed(0),
    )
    spread = (noisy - gray).flatten(1).std(1)
    torch.testing.assert_close(spread, torch.tensor([0.02, (0.001 * 0.5) ** 0.5]), rtol=0.03, atol=0)


def test_light_and_back_is_the_identity() -> None:
    values = torch.linspace(0, 1, 256)
    torch.testing.assert_close(camera.to_srgb(camera.to_linear(values)), values, atol=1e-5, rtol=0)


def test_a_kernel_of_one_point_changes_nothing_wherever_the_point_lies() -> None:
    scene = _scene()[0]
    kernel = torch.zeros(9, 9)
    kernel[2, 7] = 3.0
    torch.testing.assert_close(blurring.blur_with_kernel(scene, kernel), scene)


def test_a_kernel_blurs_as_the_mean_of_shifted_images() -> None:
    scene = _scene()[0]
    blurred = blurring.blur_with_kernel(scene, torch.tensor([[1.0, 1.0, 1.0]]))
    shifted = (scene[..., :-2] + scene[..., 1:-1] + scene[..., 2:]) / 3
    torch.testing.assert_close(blurred[..., 1:-1], shifted)


def test_a_trembling_hand_winds_its_path() -> None:
    def paths(trembling: Tensor | None) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        return motion.draw(torch.full((200,), 20.0), 32, generator, trembling=trembling).shift

    def ends(path: Tensor) -> Tensor:
        """From end to end, as a share of the way."""
        return ((path[:, -1] - path[:, 0]).norm(dim=1) / path.diff(dim=1).norm(dim=2).sum(1)).mean()

    steady, trembling = paths(None), paths(torch.ones(200, dtype=torch.bool))
    assert ends(trembling) < 0.8 * ends(steady)
    assert torch.equal(paths(torch.zeros(200, dtype=torch.bool)), steady)


def test_the_share_of_trembling_changes_the_pairs_and_none_of_it_changes_no_draw() -> None:
    sharp = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def blurred(share: float) -> Tensor:
        recipe = replace(CLEAN, trembling=share)
        return blurring.blur(sharp, sharp.flip(3), recipe, torch.Generator().manual_seed(1))[0]

    assert torch.equal(blurred(0.0), blurring.blur(sharp, sharp.flip(3), CLEAN, torch.Generator().manual_seed(1))[0])
    assert not torch.equal(blurred(1.0), blurred(0.0))
