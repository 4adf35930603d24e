"""The protocols of the field: closed forms, parity with scikit-image, and a RealBlur case made by hand."""

import math

import numpy as np
import pytest
import torch
from skimage import metrics as skimage_metrics

from deblur_cli.options.benchmark import PROTOCOLS, REPORTED
from deblur_cli.pixels import metrics
from deblur_cli.scorer import alignment, protocols, reported


def scene(height: int = 96, width: int = 128, *, seed: int = 0) -> np.ndarray:
    """Something smooth enough to be moved by parts of a pixel, (height, width, 3) in 0.15 to 0.85."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.zeros((height, width, 3))
    for _ in range(12):
        turn, pace = chance.uniform(0, 2 * math.pi, 3), chance.uniform(-0.35, 0.35, 2)
        waves += np.sin(x[..., None] * pace[0] + y[..., None] * pace[1] + turn)
    return (0.5 + 0.35 * waves / np.abs(waves).max()).astype(np.float32)


def eight(image: np.ndarray) -> np.ndarray:
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)


def measured(name: str, restored: np.ndarray, sharp: np.ndarray) -> dict[str, float]:
    return protocols.score(protocols.PROTOCOLS[name], restored, sharp)


def test_the_options_know_every_protocol() -> None:
    assert tuple(protocols.PROTOCOLS) == PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_measures_what_it_says(name: str) -> None:
    noisy = eight(scene() + 0.05 * np.random.default_rng(1).standard_normal((96, 128, 3)))
    found = measured(name, noisy, eight(scene()))
    assert set(found) - {"aligned"} == set(protocols.PROTOCOLS[name].measures)
    assert all(math.isfinite(value) for value in found.values())


def test_gopro_agrees_with_scikit_image_on_8_bit_images() -> None:
    sharp = eight(scene())
    restored = eight(scene() + 0.05 * np.random.default_rng(1).standard_normal(sharp.shape))
    found = measured("gopro", restored, sharp)
    assert found["psnr"] == pytest.approx(skimage_metrics.peak_signal_noise_ratio(sharp, restored), abs=1e-6)
    expected = skimage_metrics.structural_similarity(
        sharp, restored, channel_axis=2, gaussian_weights=True, use_sample_covariance=False
    )
    assert found["ssim2d"] == pytest.approx(expected, abs=1e-6)
    assert measured("nah", restored, sharp) == {"psnr": found["psnr"], "ssim": found["ssim2d"]}


def test_mimo_does_not_round_but_clamps() -> None:
    sharp = np.full((16, 16, 3), 255, np.uint8)
    sharp[8:] = 100
    restored = sharp.astype(np.float32) / 255 + np.float32(0.4 / 255)
    found = measured("mimo", restored, sharp)  # the error of the white half is clamped away
    assert found["psnr"] == pytest.approx(20 * math.log10(255 / 0.4) + 10 * math.log10(2), abs=1e-3)


def test_a_mask_of_ones_changes_nothing_and_zeros_hide() -> None:
    sharp = torch.from_numpy(scene()).permute(2, 0, 1)[None]
    restored = sharp.clone()
    restored[:, :, :, 60:] += 0.2
    ones = torch.ones(1, 1, 96, 128)
    for measure in (metrics.psnr, metrics.ssim):
        assert measure(restored, sharp, mask=ones).item() == pytest.approx(measure(restored, sharp).item(), abs=1e-12)
    hidden = ones.clone()
    hidden[:, :, :, 50:] = 0
    assert metrics.psnr(restored, sharp, mask=hidden).isinf()
    assert metrics.ssim(restored, sharp, mask=hidden).item() == pytest.approx(1, abs=1e-12)


def test_a_known_shift_and_a_known_gain_are_undone() -> None:
    whole = scene(120, 160)
    sharp, moved = whole[10:106, 10:138], 0.9 * whole[12:108, 13:141]
    found = alignment.align(moved, sharp)
    assert found.converged
    homography = alignment._homography(moved / np.float32(0.9), sharp, __import__("cv2"))
    # ECC smooths the borders into its estimate, which costs a tenth of a pixel on an image this small.
    assert homography == pytest.approx(np.array([[1, 0, -3], [0, 1, -2], [0, 0, 1]]), abs=0.15)
    # Three columns and two rows of the sharp image lie outside the moved one.
    assert found.mask[:2].max() == 0
    assert found.mask[:, :3].max() == 0
    assert found.mask[3:, 4:].min() == 1
    assert (found.sharp == sharp * found.mask[:, :, None]).all()
    scores = measured("realblur", eight(moved), eight(sharp))
    assert scores["psnr"] > 40
    assert scores["psnr unaligned"] < 23
    assert scores["ssim"] > 0.99
    assert scores["aligned"] == 1


def test_a_gain_alone_leaves_only_what_rounding_lost() -> None:
    sharp = eight(scene())
    darker = eight(0.7 * scene())
    scores = measured("realblur", darker, sharp)
    assert scores["psnr"] > 48  # 0.5 / 0.7 of a step of 8 bits, spread evenly, is 55 dB; ECC's subpixels take some
    assert scores["psnr unaligned"] == pytest.approx(measured("gopro", darker, sharp)["psnr"])


def test_realblur_agrees_with_its_definition_step_by_step() -> None:
    import cv2

    whole = scene(120, 160, seed=3)
    chance = np.random.default_rng(4)
    x = eight(whole[10:106, 10:138]).astype(np.float32) / 255
    z = eight(0.95 * whole[11:107, 12:140] + 0.02 * chance.standard_normal((96, 128, 3))).astype(np.float32) / 255
    zs = (np.sum(x * z) / np.sum(z * z)) * z
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    gray = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (x, zs)]
    eye = np.eye(3, 3, dtype=np.float32)
    _, warp = cv2.findTransformECC(*gray, eye, cv2.MOTION_HOMOGRAPHY, criteria, inputMask=None, gaussFiltSize=5)
    flags = cv2.WARP_INVERSE_MAP
    zr = cv2.warpPerspective(zs, warp, (128, 96), flags=cv2.INTER_CUBIC + flags, borderMode=cv2.BORDER_REFLECT)
    cr = cv2.warpPerspective(np.ones_like(zs), warp, (128, 96), flags=cv2.INTER_NEAREST + flags, borderValue=0)
    zr, xr = zr * cr, x * cr
    psnr = 10 * np.log10(1 / (np.sum((xr - zr) ** 2, dtype=np.float64) / np.sum(cr)))
    _, map_ = skimage_metrics.structural_similarity(
        xr.astype(np.float64),
        zr.astype(np.float64),
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    inner = cr[5:-5, 5:-5]
    ssim = np.mean((map_ * cr)[5:-5, 5:-5].sum((0, 1)) / inner.sum((0, 1)))
    found = measured("realblur", eight(z), eight(x))
    assert found["psnr"] == pytest.approx(psnr, abs=1e-4)
    assert found["ssim"] == pytest.approx(ssim, abs=1e-6)


@pytest.mark.parametrize("dull", [np.zeros((96, 128, 3), np.uint8), np.full((96, 128, 3), 90, np.uint8)])
def test_a_result_that_cannot_be_aligned_is_compared_in_place(dull: np.ndarray) -> None:
    found = measured("realblur", dull, eight(scene()))
    assert found["aligned"] == 0
    assert 0 < found["psnr"] < 30


def test_the_paper_is_quoted_as_it_stands() -> None:
    table = {row.method: row for row in reported.rows("gopro")}
    assert len(table) == 17
    assert (table["UNet+SP"].psnr, table["UNet+SP"].ssim, table["UNet+SP"].lpips) == (31.06, 0.946, 0.075)
    assert table["Niu et al."].lpips is None
    assert [len(reported.rows(name)) for name in ("hide", "realblur-j", "reds", "ablation")] == [8, 8, 0, 8]
    for name in REPORTED:
        for row in reported.rows(name):
            assert "2302.06898" in row.source
            assert 25 < (row.psnr or 0) < 35
            assert 0.8 < (row.ssim or 0) < 1
