"""Distances of other papers, against formulas written out in numpy, and their laws."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deblur_cli.pixels import distances

IMAGES = pytest.mark.parametrize("shape", [(2, 3, 8, 12), (1, 3, 7, 5)])


def pair(shape: tuple[int, ...], *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=dice, dtype=dtype), torch.rand(shape, generator=dice, dtype=dtype)


@IMAGES
def test_the_psnr_loss_is_minus_the_mean_psnr(shape: tuple[int, ...]) -> None:
    restored, sharp = pair(shape)
    squares = ((restored - sharp).numpy() ** 2).mean(axis=(1, 2, 3))
    assert distances.psnr_loss(restored, sharp).item() == pytest.approx(10 * np.log10(squares + 1e-8).mean(), rel=1e-12)


def test_the_psnr_loss_of_equal_images_is_minus_80() -> None:
    assert distances.psnr_loss(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)).item() == pytest.approx(-80)


@IMAGES
def test_the_frequency_distance_is_that_of_the_two_spectra(shape: tuple[int, ...]) -> None:
    restored, sharp = pair(shape)
    difference = np.fft.fft2(restored.numpy()) - np.fft.fft2(sharp.numpy())
    expected = (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2
    assert distances.frequency_l1(restored, sharp).item() == pytest.approx(expected, rel=1e-12)


def laplacian(plane: np.ndarray) -> np.ndarray:
    """Pixel by pixel, with the whole 5x5 kernel."""
    kernel = np.outer([0.05, 0.25, 0.4, 0.25, 0.05], [0.05, 0.25, 0.4, 0.25, 0.05])

    def blurred(image: np.ndarray) -> np.ndarray:
        around = np.pad(image, 2, mode="edge")
        rows, columns = image.shape
        return np.array([[(around[y : y + 5, x : x + 5] * kernel).sum() for x in range(columns)] for y in range(rows)])

    small = blurred(plane)[::2, ::2]
    sparse = np.zeros_like(plane)
    sparse[::2, ::2] = 4 * small
    return plane - blurred(sparse)


@IMAGES
def test_the_edge_loss_is_the_charbonnier_distance_of_two_laplacians(shape: tuple[int, ...]) -> None:
    restored, sharp = pair(shape)
    ours, theirs = (
        np.stack([laplacian(plane) for plane in image.flatten(0, 1).numpy()]) for image in (restored, sharp)
    )
    expected = np.sqrt((ours - theirs) ** 2 + 1e-6).mean()
    assert distances.edge_loss(restored, sharp).item() == pytest.approx(expected, rel=1e-10)


def test_the_laplacian_of_an_even_brightness_is_nothing_away_from_the_border() -> None:
    flat = distances.laplacian(torch.full((1, 1, 16, 16), 0.7, dtype=torch.float64))
    assert flat[..., 2:-3, 2:-3].abs().max() < 1e-12


def test_the_mean_square_has_a_closed_form() -> None:
    assert distances.mse(torch.full((2, 3), 0.5), torch.zeros(2, 3)).item() == 0.25


def maps(seed: int) -> list[Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return [torch.randn((4, c, s, s), generator=dice, dtype=torch.float64) for c, s in ((3, 8), (5, 4))]


def test_latents_are_compared_in_deviations_of_the_sharp_ones_which_do_not_move() -> None:
    ours, theirs = ([each.requires_grad_() for each in maps(seed)] for seed in (0, 1))
    loss = distances.latent_distance(ours, theirs)
    expected = sum(
        np.abs(a.detach().numpy() - b.detach().numpy()).mean() / b.detach().numpy().std(ddof=1)
        for a, b in zip(ours, theirs, strict=True)
    )
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert all(each.grad is not None for each in ours)
    assert all(each.grad is None for each in theirs)


def test_the_contrast_is_the_chance_of_the_own_sharp_image_among_all_others() -> None:
    ours, theirs = maps(0)[0], maps(1)[0].requires_grad_()
    loss = distances.contrast(ours, theirs, temperature=0.1)
    b, s = (each.detach().numpy().mean(axis=(2, 3)) for each in (ours, theirs))
    b, s = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (b, s))
    expected = 0.0
    for i in range(4):
        own = math.exp(b[i] @ s[i] / 0.1)
        others = sum(math.exp(b[i] @ s[j] / 0.1) + math.exp(b[i] @ b[j] / 0.1) for j in range(4) if j != i)
        expected -= math.log(own / (own + others)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert not loss.requires_grad  # the sharp side alone has a graph here, and is not moved


def test_latents_are_compared_in_float32_under_autocast() -> None:
    ours, theirs = ([each.float() for each in maps(seed)] for seed in (0, 1))
    exact = distances.contrast(ours[0], theirs[0]), distances.latent_distance(ours, theirs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (distances.contrast(ours[0], theirs[0]), distances.latent_distance(ours, theirs)) == exact


def test_the_contrast_of_a_single_image_is_nothing_and_has_a_finite_gradient() -> None:
    ours = maps(0)[0][:1].requires_grad_()
    loss = distances.contrast(ours, maps(1)[0][:1])
    loss.backward()
    assert loss == 0
    assert ours.grad is not None
    assert not ours.grad.any()


@pytest.mark.parametrize("distance", [distances.mse, distances.psnr_loss, distances.frequency_l1, distances.edge_loss])
def test_gradients_are_those_of_finite_differences(distance) -> None:
    restored, sharp = pair((2, 3, 6, 4))
    assert torch.autograd.gradcheck(lambda image: distance(image, sharp), (restored.requires_grad_(),))


@pytest.mark.parametrize("distance", [distances.mse, distances.psnr_loss, distances.frequency_l1, distances.edge_loss])
def test_half_precision_is_summed_in_float32(distance) -> None:
    restored, sharp = pair((1, 3, 8, 8), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(distance(restored, sharp), distance(restored.double().float(), sharp))
    half = distance(restored.bfloat16(), sharp.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, distance(restored, sharp), rtol=0.05, atol=0)
