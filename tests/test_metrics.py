"""PSNR and both SSIMs: laws, closed forms, and parity with scikit-image and with a filter of three axes."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import measure
from skimage import metrics as skimage_metrics
from torch import Tensor

from deblur_cli.pixels import metrics

BOTH = pytest.mark.parametrize("similarity", [metrics.ssim, metrics.ssim_matlab])


def _pair(height: int = 37, width: int = 52, *, count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    sharp = torch.rand(count, 3, height, width, generator=chance)
    return (sharp + 0.1 * torch.randn(sharp.shape, generator=chance)).clamp(0, 1), sharp


def _as_hwc(image: Tensor) -> np.ndarray:
    return image.double().movedim(0, -1).numpy()


def test_psnr_agrees_with_scikit_image() -> None:
    restored, sharp = _pair()
    expected = [
        skimage_metrics.peak_signal_noise_ratio(_as_hwc(y), _as_hwc(x), data_range=1.0)
        for x, y in zip(restored, sharp, strict=True)
    ]
    assert metrics.psnr(restored, sharp).tolist() == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_constant_error_has_a_closed_form() -> None:
    sharp = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    assert metrics.psnr(sharp + 0.1, sharp).item() == pytest.approx(20.0, abs=1e-9)


def test_psnr_of_equal_images_is_infinite() -> None:
    _, sharp = _pair()
    assert metrics.psnr(sharp, sharp).tolist() == [math.inf, math.inf]


def test_psnr_judges_each_image_by_itself() -> None:
    restored, sharp = _pair(count=3)
    together = metrics.psnr(restored, sharp)
    alone = torch.cat([metrics.psnr(x[None], y[None]) for x, y in zip(restored, sharp, strict=True)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("score", [metrics.psnr, metrics.ssim, metrics.ssim_matlab])
def test_a_score_does_not_depend_on_the_unit_of_the_values(score) -> None:
    restored, sharp = _pair()
    torch.testing.assert_close(score(255 * restored, 255 * sharp, peak=255), score(restored, sharp), rtol=0, atol=1e-5)


@pytest.mark.parametrize("score", [metrics.psnr, metrics.ssim, metrics.ssim_matlab])
def test_a_score_is_symmetric(score) -> None:
    restored, sharp = _pair()
    torch.testing.assert_close(score(restored, sharp), score(sharp, restored), rtol=0, atol=1e-12)


@pytest.mark.parametrize("score", [metrics.psnr, metrics.ssim, metrics.ssim_matlab])
def test_a_score_of_different_shapes_is_refused(score) -> None:
    with pytest.raises(ValueError, match="one shape"):
        score(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 17))


@pytest.mark.parametrize("size", [(37, 52), (11, 11), (64, 12)])
def test_ssim_agrees_with_scikit_image(size: tuple[int, int]) -> None:
    restored, sharp = _pair(*size)
    expected = [
        skimage_metrics.structural_similarity(
            _as_hwc(y), _as_hwc(x), data_range=1.0, channel_axis=2, gaussian_weights=True, use_sample_covariance=False
        )
        for x, y in zip(restored, sharp, strict=True)
    ]
    assert metrics.ssim(restored, sharp).tolist() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_one_channel_is_defined_too() -> None:
    restored, sharp = _pair()
    channels = torch.stack([metrics.ssim(restored[:, [c]], sharp[:, [c]]) for c in range(3)])
    torch.testing.assert_close(channels.mean(dim=0), metrics.ssim(restored, sharp), rtol=0, atol=1e-12)


@BOTH
def test_similarity_of_equal_images_is_one(similarity) -> None:
    _, sharp = _pair()
    torch.testing.assert_close(similarity(sharp, sharp), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)


@BOTH
def test_similarity_never_exceeds_one_and_falls_with_noise(similarity) -> None:
    restored, sharp = _pair()
    slightly = sharp + 0.3 * (restored - sharp)
    assert (similarity(restored, sharp) < similarity(slightly, sharp)).all()
    assert (similarity(slightly, sharp) < 1).all()


@BOTH
def test_similarity_of_two_constants_has_a_closed_form(similarity) -> None:
    dark, bright = torch.full((1, 3, 16, 16), 0.25), torch.full((1, 3, 16, 16), 0.75)
    c1 = 0.01**2
    expected = (2 * 0.25 * 0.75 + c1) / (0.25**2 + 0.75**2 + c1)
    assert similarity(dark, bright).item() == pytest.approx(expected, abs=1e-9)


def test_ssim_of_an_image_smaller_than_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


def test_matlab_ssim_is_what_a_filter_of_three_axes_gives() -> None:
    restored, sharp = _pair(19, 8, count=1)
    x, y = restored[0].double().numpy(), sharp[0].double().numpy()

    def smooth(volume: np.ndarray) -> np.ndarray:
        # truncate 3.4 x sigma 1.5 rounds to a radius of 5; "nearest" is MATLAB's replicate.
        return ndimage.gaussian_filter(volume, 1.5, mode="nearest", truncate=3.4)

    mean_x, mean_y, c1, c2 = smooth(x), smooth(y), 0.01**2, 0.03**2
    variances = smooth(x * x) - mean_x**2 + smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    expected = (luminance * (2 * covariance + c2) / (variances + c2)).mean()
    assert metrics.ssim_matlab(restored, sharp).item() == pytest.approx(expected, abs=1e-12)


def test_matlab_ssim_of_a_gray_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        metrics.ssim_matlab(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize("size", [(37, 52), (11, 11), (64, 12)])
def test_blur_agrees_with_scikit_image(size: tuple[int, int]) -> None:
    restored, sharp = _pair(*size)
    images = torch.cat([restored, torch.from_numpy(ndimage.gaussian_filter(sharp.numpy(), (0, 0, 1, 3)))])
    expected = [measure.blur_effect(_as_hwc(each), channel_axis=2) for each in images]
    assert metrics.blur(images).tolist() == pytest.approx(expected, abs=1e-6)


def test_blur_rises_with_every_blur_along_either_axis() -> None:
    _, sharp = _pair()
    for axis in (2, 3):
        blurred = [
            sharp,
            *(torch.from_numpy(ndimage.uniform_filter1d(sharp.numpy(), n, axis=axis)) for n in (3, 7, 15)),
        ]
        found = torch.stack([metrics.blur(each) for each in blurred])
        assert (found.diff(dim=0) > 0).all()


def test_blur_knows_neither_brightness_nor_contrast_nor_which_axis_is_which() -> None:
    _, sharp = _pair()
    found = metrics.blur(sharp)
    for same in (0.3 * sharp + 0.2, 1 - sharp, sharp.mT):
        torch.testing.assert_close(metrics.blur(same), found, rtol=0, atol=1e-6)


def test_an_image_without_edges_is_as_blurred_as_can_be() -> None:
    assert metrics.blur(torch.full((1, 3, 16, 16), 0.4)).tolist() == [1]
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.blur(torch.zeros(1, 3, 10, 40))
