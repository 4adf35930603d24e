"""Laws of measured kernels: what is read as one, and how photographs to train on are blurred by them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.errors import InputError, UsageError
from deblur_cli.files import kernels, photos
from deblur_cli.options.train import TrainOptions
from deblur_cli.pixels import blurring
from deblur_cli.trainer import sources
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.data import Data, DataDials
from deblur_cli.trainer.pool import PoolDials, PooledPhotos
from deblur_cli.trainer.sources import DevicePhotos

SLANTED = np.pad(np.eye(5, dtype=np.float32), 2)
"""A diagonal of five points in the middle of 9 x 9 pixels."""
CPU = Crew(torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs of 96 x 80 pixels with something to see in them."""
    made = tmp_path_factory.mktemp("photographs")
    for index in range(4):
        coarse = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(made / f"p{index}.png")
    return made


def test_a_kernel_is_read_without_its_empty_borders_and_with_the_sum_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", SLANTED)
    np.save(tmp_path / "b.npy", (1000 * SLANTED).astype(np.int16))
    Image.fromarray((SLANTED * 255).astype(np.uint8)).save(tmp_path / "deep.png")
    found = kernels.load(tmp_path, largest=9)
    assert [kernel.shape for kernel in found] == [(5, 5)] * 3
    for kernel in found:
        np.testing.assert_allclose(kernel, np.eye(5) / 5, atol=1e-6)


def test_an_even_kernel_becomes_odd(tmp_path: Path) -> None:
    np.save(tmp_path / "even.npy", np.ones((4, 6)))
    assert kernels.load(tmp_path / "even.npy", largest=9)[0].shape == (5, 7)


def test_a_stack_holds_many_kernels(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.stack([SLANTED, SLANTED.T, SLANTED[::-1]]))
    assert len(kernels.load(tmp_path, largest=9)) == 3


def test_matlab_files_old_and_new_hold_the_same(tmp_path: Path) -> None:
    scipy_io, h5py = pytest.importorskip("scipy.io"), pytest.importorskip("h5py")
    leaning = np.array([[1.0, 2.0, 3.0], [0.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = leaning, SLANTED
    scipy_io.savemat(tmp_path / "old.mat", {"kernels": cells, "count": 2})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        references = [file.create_dataset(f"#refs#/{name}", data=cells[0, name].T).ref for name in (0, 1)]
        file.create_dataset("kernels", data=np.array([references], dtype=h5py.ref_dtype))
    old, new = (kernels.load(tmp_path / name, largest=9) for name in ("old.mat", "new.mat"))
    np.testing.assert_allclose(old[0], leaning / leaning.sum(), atol=1e-6)
    assert all(np.array_equal(one, two) for one, two in zip(old, new, strict=True))


def test_without_the_library_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy.io").savemat(tmp_path / "old.mat", {"kernel": SLANTED})
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(UsageError, match="pip install scipy"):
        kernels.load(tmp_path, largest=9)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npy", b"torn", "cannot be read"),
        ("a.png", b"torn", "cannot be read"),
        ("a.mat", b"torn" * 50, "cannot be read"),
        ("a.txt", b"", "holds no kernel"),
    ],
)
def test_what_is_no_kernel_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    if name.endswith("mat"):
        pytest.importorskip("scipy")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        kernels.load(tmp_path, largest=9)


@pytest.mark.parametrize("values", [np.zeros((3, 3)), -np.ones((3, 3)), np.full((3, 3), np.nan), np.ones(3)])
def test_a_matrix_that_weighs_nothing_is_no_kernel(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match="no kernel"):
        kernels.load(tmp_path, largest=9)


def test_a_kernel_that_is_too_large_names_the_flag(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((21, 5)))
    with pytest.raises(InputError, match=r"5 x 21 pixels; 16 .*--max-blur"):
        kernels.load(tmp_path, largest=16)
    with pytest.raises(InputError, match="is not there"):
        kernels.load(tmp_path / "absent", largest=16)


def scene(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def recipe(**dials: float) -> blurring.Recipe:
    return blurring.Recipe(max_length=8, **({"still": 0, "noise": 0, "jpeg": 0, "defocus": 0, "linear": 0} | dials))


def test_a_share_of_one_blurs_every_crop_by_its_own_kernel() -> None:
    both = [torch.from_numpy(SLANTED), torch.ones(1, 7)]
    blurred, sharp = blurring.blur(scene(), scene(), recipe(kernels=1), torch.Generator().manual_seed(0), both)
    for index, kernel in enumerate(both):
        wanted = blurring.blur_with_kernel(scene()[index : index + 1], kernel)[0, :, 16:-16, 16:-16]
        torch.testing.assert_close(blurred[index], wanted)
    torch.testing.assert_close(sharp, scene()[:, :, 16:-16, 16:-16])


def test_a_kernel_averages_light_where_movements_do() -> None:
    sharp = torch.zeros(1, 3, 64, 64)
    sharp[:, :, :, ::2] = 1.0
    dials = recipe(kernels=1, linear=1, lights=0)
    blurred, _ = blurring.blur(sharp, sharp, dials, torch.Generator().manual_seed(0), [torch.ones(1, 3)])
    assert blurred.min() > (1 / 3) ** (1 / 2.2) - 1e-3


def test_without_kernels_nothing_is_drawn_for_them() -> None:
    plain = blurring.blur(scene(), scene(), recipe(), torch.Generator().manual_seed(0))
    none = blurring.blur(scene(), scene(), recipe(kernels=1), torch.Generator().manual_seed(0))
    assert all(torch.equal(one, two) for one, two in zip(plain, none, strict=True))


def test_a_kernel_whose_weight_lies_far_off_is_not_torn() -> None:
    kernel = torch.zeros(41, 41)
    kernel[1, 1], kernel[40, 40] = 9.0, 1.0
    point = torch.zeros(1, 1, 201, 201)
    point[0, 0, 100, 100] = 1.0
    blurred = blurring.blur_with_kernel(point, kernel)[0, 0]
    one, two = blurred.nonzero().tolist()
    assert [two[0] - one[0], two[1] - one[1]] in ([39, 39], [-39, -39])


def pool(folder: Path, workers: int) -> PooledPhotos:
    return PooledPhotos(
        photos.load(folder, smallest=40),
        blurring.Recipe(max_length=4, kernels=0.5),
        PoolDials(pairs=16, reuse=2, room=8, workers=workers),
        crop=16,
        batch=4,
        slots=range(4),
        seed=3,
        kernels=[SLANTED / 5, SLANTED[::-1].copy() / 5],
    )


def test_which_kernel_a_pair_gets_follows_from_the_seed_alone(folder: Path) -> None:
    both = [pool(folder, workers) for workers in (0, 1)]
    try:
        for step in range(3):
            one, two = (source.batch(step) for source in both)
            assert torch.equal(one[0], two[0])
            assert torch.equal(one[1], two[1])
    finally:
        both[1].close()


def test_photographs_on_a_device_are_blurred_by_kernels_too(folder: Path) -> None:
    album = photos.load(folder, smallest=40)
    made = [
        DevicePhotos(
            album,
            recipe(kernels=1),
            crop=16,
            slots=range(2),
            seed=0,
            device=torch.device("cpu"),
            kernels=found,
        ).batch(0)
        for found in ([SLANTED], [SLANTED], [])
    ]
    assert torch.equal(made[0][0], made[1][0])
    assert not torch.equal(made[0][0], made[2][0])


def test_a_kernel_is_drawn_evenly_from_all_of_them() -> None:
    found = [np.full((1, 1), index, np.float32) for index in range(3)]
    drawn = [sources.kernel(found, 0, step, 0)[0].item() for step in range(60)]
    assert set(drawn) == {0.0, 1.0, 2.0}


def test_a_label_says_which_kernels_blurred(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "levin").mkdir()
    np.save(tmp_path / "levin" / "a.npy", SLANTED)
    dials = DataDials(
        data=str(folder), dataset="photos", max_blur=4, kernels=str(tmp_path / "levin"), kernel_share=0.25
    )
    data = Data(dials, crop=16, multiple=8)
    assert "25% of it by 1 measured kernels ('levin')" in data.title
    assert str(tmp_path) not in data.title


def test_kernels_are_for_photographs_only() -> None:
    with pytest.raises(UsageError, match="--kernels"):
        TrainOptions(dataset="pairs", kernels="somewhere")
    with pytest.raises(UsageError, match="--kernel-share"):
        TrainOptions(dataset="photos", data="d", kernels="somewhere", kernel_share=1.5)
