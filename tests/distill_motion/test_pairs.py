"""Crops shaken along random paths, and the kernels that belong to them."""

from pathlib import Path

import pytest
import torch
from small_motion import RADIUS, one_step, only, source_of
from torch import Tensor

from deblur_cli.commands import train
from deblur_cli.files import photos
from deblur_cli.nets.midway import midway_through
from deblur_cli.nets.motion import half_plane
from deblur_cli.options.distill_motion import DistillMotionOptions
from deblur_cli.pixels import shaking
from deblur_cli.trainer.events import Step
from deblur_cli.trainer.shaken import PartlyShaken, Pictured, ShakenPhotos


def test_a_batch_depends_on_the_seed_and_the_step_alone(photographs: Path) -> None:
    source = source_of(photographs)
    later = source.batch(7)
    source.batch(0)
    again = source_of(photographs).batch(7)
    assert [tuple(side.shape) for side in later] == [(3, 3, 64, 64), (3, 2, 2, half_plane(RADIUS))]
    assert all(torch.equal(one, other) for one, other in zip(later, again, strict=True))
    for other in (source.batch(8), source_of(photographs, seed=6).batch(7)):
        assert not torch.equal(later[0], other[0])
        assert not torch.equal(later[1], other[1])


def test_what_is_shaken_and_sharp_are_one_crop(photographs: Path) -> None:
    source = source_of(photographs, range(4))
    blurred, sharp, *_ = source.pairs(3)
    assert blurred.shape == sharp.shape == (4, 3, 64, 64)
    again = source.pairs(3)
    assert torch.equal(blurred, again[0])
    assert torch.equal(sharp, again[1])
    still = shaking.Shaking(still=1, objects=0, noise=0, jpeg=0, linear=0)
    album = photos.load(photographs, smallest=128)
    calm = ShakenPhotos(album, still, crop=64, radius=RADIUS, slots=range(2), seed=5, device=torch.device("cpu"))
    blurred, sharp, _, midway = calm.pairs(0)
    torch.testing.assert_close(blurred, sharp, atol=0.51 / 255, rtol=0)
    assert not midway.any()


def test_mid_exposure_is_by_how_far_the_mean_of_a_movement_is_off(photographs: Path) -> None:
    album = photos.load(photographs, smallest=192)

    def pairs(where: str) -> tuple[Tensor, ...]:
        moves = shaking.Shaking(still=0, objects=0, noise=0, jpeg=0, linear=0, longest=16, sharp_at=where)
        return ShakenPhotos(
            album, moves, crop=128, radius=RADIUS, slots=range(8), seed=5, device=torch.device("cpu")
        ).pairs(0)

    (mean, sharp, _, midway), (middle, same, _, again) = pairs("mean"), pairs("middle")
    assert torch.equal(sharp, same)
    assert torch.equal(midway, again)
    assert midway.shape == (8, 4, 4, 2)
    assert midway.abs().max() > 1
    back = midway_through(middle, midway)
    inner = (slice(None), slice(None), slice(12, -12), slice(12, -12))
    assert float((back - mean)[inner].square().mean()) < 0.1 * float((middle - mean)[inner].square().mean())


def test_where_something_moves_by_itself_its_mid_exposure_is_its_own(photographs: Path) -> None:
    album = photos.load(photographs, smallest=192)
    moves = shaking.Shaking(still=0, objects=1)
    found = ShakenPhotos(
        album, moves, crop=128, radius=RADIUS, slots=range(4), seed=5, device=torch.device("cpu")
    ).pairs(0)[3]
    assert all(len(each.flatten(0, 1).unique(dim=0)) > 1 for each in found)


def test_in_the_mean_of_a_movement_nothing_is_shifted_and_at_its_middle_something_is(photographs: Path) -> None:
    """A shift turns the phase of long waves; a blur in its mean hardly does."""
    album = photos.load(photographs, smallest=128)

    def pair(where: str) -> tuple[Tensor, Tensor]:
        moves = shaking.Shaking(still=0, trembling=1, objects=0, noise=0, jpeg=0, linear=0, longest=16, sharp_at=where)
        return ShakenPhotos(
            album, moves, crop=64, radius=RADIUS, slots=range(16), seed=5, device=torch.device("cpu")
        ).pairs(0)[:2]

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
    shaken = source_of(photographs, range(2))

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
    events = list(train.run(one_step(options, shaken=1.0, loss="psnr", blur_skew=2.0)))
    [step] = only(Step, events)
    # Minus a PSNR in dB, bounded at 40.
    assert -40 < step.losses["reconstruction"] < -5


def test_kernels_are_shown_as_pictures(photographs: Path) -> None:
    blurred, shown = Pictured(source_of(photographs)).batch(0)
    assert blurred.shape == shown.shape
    torch.testing.assert_close(shown.amax((1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(shown, shown.flip(2, 3))
