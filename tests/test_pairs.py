"""Laws of the data sets: which folders are pairs, which are not, and what is said then."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.errors import InputError
from deblur_cli.files import pairs, photos, sheet


def picture(path: Path, *, size: tuple[int, int] = (40, 32), seed: int = 0) -> Path:
    """A photograph with something to see in it, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def layout(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


def found(dataset: str, folder: Path, **more) -> list[tuple[str, str, str]]:
    told = pairs.find(dataset, folder, subset=True, **more)
    return [
        (pair.name, pair.blurred.relative_to(folder).as_posix(), pair.sharp.relative_to(folder).as_posix())
        for pair in told.pairs
    ]


SEQUENCES = [f"train/S{number}/{side}/000001.png" for number in (1, 2) for side in ("blur", "blur_gamma", "sharp")]


@pytest.mark.parametrize("inside", ["", "GOPRO_Large/"])
def test_sequence_folders_are_pairs(tmp_path: Path, inside: str) -> None:
    layout(tmp_path, *(inside + name for name in SEQUENCES))
    assert found("gopro", tmp_path) == [
        (f"S{number}/000001", f"{inside}train/S{number}/blur/000001.png", f"{inside}train/S{number}/sharp/000001.png")
        for number in (1, 2)
    ]


def test_the_blur_that_was_asked_for_is_read_and_named(tmp_path: Path) -> None:
    layout(tmp_path, *SEQUENCES)
    told = pairs.find("gopro", tmp_path, blur_key="blur_gamma", subset=True)
    assert all("blur_gamma" in pair.blurred.parts for pair in told.pairs)
    assert "blur_gamma" in told.title


@pytest.mark.parametrize(
    ("blurred", "sharp"), [("input", "target"), ("blur", "sharp"), ("blurred", "sharp"), ("blur", "gt")]
)
@pytest.mark.parametrize("split", ["", "train/"])
def test_two_flat_folders_are_pairs(tmp_path: Path, blurred: str, sharp: str, split: str) -> None:
    layout(tmp_path, *(f"{split}{side}/{name}.png" for side in (blurred, sharp) for name in ("b", "a")))
    assert found("pairs", tmp_path) == [
        (name, f"{split}{blurred}/{name}.png", f"{split}{sharp}/{name}.png") for name in ("a", "b")
    ]


def test_names_that_say_the_role_match(tmp_path: Path) -> None:
    layout(
        tmp_path, "blur/S1_blur_0001.png", "sharp/S1_sharp_0001.png", "blur/S1_blur_0002.png", "sharp/S1_sharp_0002.png"
    )
    assert [(blurred[-8:], sharp[-8:]) for _, blurred, sharp in found("pairs", tmp_path)] == [
        ("0001.png", "0001.png"),
        ("0002.png", "0002.png"),
    ]


def test_hide_is_matched_by_file_name(tmp_path: Path) -> None:
    layout(
        tmp_path,
        "train/1.png",
        "test/test-close-ups/2.png",
        "test/test-long-shot/3.png",
        *(f"GT/{n}.png" for n in (1, 2, 3)),
    )
    assert found("hide", tmp_path) == [("1", "train/1.png", "GT/1.png")]
    assert [sharp for _, _, sharp in found("hide", tmp_path, split="test")] == ["GT/2.png", "GT/3.png"]


def test_reds_has_its_own_names(tmp_path: Path) -> None:
    layout(tmp_path, "train/train_blur/000/00000000.png", "train/train_sharp/000/00000000.png")
    assert [row[1:] for row in found("reds", tmp_path)] == [
        ("train/train_blur/000/00000000.png", "train/train_sharp/000/00000000.png")
    ]


def test_a_list_of_realblur_decides_what_is_in_a_split(tmp_path: Path) -> None:
    scenes = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
    layout(tmp_path, *(f"{scenes}/scene00{n}/{side}/{side}_1.png" for n in (1, 2) for side in ("blur", "gt")))
    rows = {n: f"{scenes}/scene00{n}/gt/gt_1.png {scenes}/scene00{n}/blur/blur_1.png \n" for n in (1, 2)}
    (tmp_path / "RealBlur_J_train_list.txt").write_text(rows[1])
    (tmp_path / "RealBlur_J_test_list.txt").write_text(rows[2])
    for number, split in ((1, "train"), (2, "test")):
        assert [row[1:] for row in found("realblur-j", tmp_path, split=split)] == [
            (f"{scenes}/scene00{number}/blur/blur_1.png", f"{scenes}/scene00{number}/gt/gt_1.png")
        ]


def test_the_list_of_one_realblur_says_nothing_of_the_other(tmp_path: Path) -> None:
    folders = {
        "J": "RealBlur-J_ECC_IMCORR_centroid_itensity_ref",
        "R": "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref",
    }
    for scenes in folders.values():
        layout(tmp_path, *(f"{scenes}/scene001/{side}/{side}_1.png" for side in ("blur", "gt")))
    row = f"{folders['R']}/scene001/gt/gt_1.png {folders['R']}/scene001/blur/blur_1.png\n"
    (tmp_path / "RealBlur_R_test_list.txt").write_text(row)
    assert [row[1] for row in found("realblur-r", tmp_path, split="test")] == [
        f"{folders['R']}/scene001/blur/blur_1.png"
    ]
    with pytest.raises(InputError, match="no list tells which") as caught:
        pairs.find("realblur-j", tmp_path, split="test")
    assert "RealBlur_J_test_list.txt" in caught.value.hint


def test_scene_folders_are_pairs(tmp_path: Path) -> None:
    layout(tmp_path, *(f"scene001/{side}/{side}_{n}.png" for n in (1, 2) for side in ("blur", "gt")))
    assert [name for name, _, _ in found("pairs", tmp_path)] == ["scene001/blur_1", "scene001/blur_2"]


def test_a_list_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    layout(tmp_path, "a.png")
    (tmp_path / "list.txt").write_text("a.png b.png\n")
    with pytest.raises(InputError, match=r"first 'b\.png'"):
        pairs.find("pairs", tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_of_several_lists_the_one_of_the_split_counts(tmp_path: Path, split: str) -> None:
    layout(tmp_path, *(f"{side}/{name}.png" for side in ("blurry", "clear") for name in ("train", "test")))
    for name in ("train", "test"):
        (tmp_path / f"{name}_list.txt").write_text(f"clear/{name}.png blurry/{name}.png\n")
    assert [row[1] for row in found("pairs", tmp_path, split=split)] == [f"blurry/{split}.png"]
    (tmp_path / f"{split}_list.txt").unlink()
    assert pairs.holds_pairs(tmp_path)
    with pytest.raises(InputError, match=f"holds no pairs for {split}"):
        pairs.find("pairs", tmp_path, split=split)


def test_two_lists_that_say_nothing_of_a_split_are_refused(tmp_path: Path) -> None:
    layout(tmp_path, "a.png", "b.png")
    for name in ("first", "second"):
        (tmp_path / f"{name}.txt").write_text("a.png b.png\n")
    with pytest.raises(InputError, match="nothing tells which of them is for train"):
        pairs.find("pairs", tmp_path)


def test_folders_of_another_split_are_no_sequences(tmp_path: Path) -> None:
    folders = ("train", "train_station", "val")
    layout(tmp_path, *(f"{name}/{side}/1.png" for name in folders for side in ("blur", "sharp")))
    assert [row[0] for row in found("pairs", tmp_path, split="test")] == ["train_station/1", "val/1"]
    assert [row[1] for row in found("pairs", tmp_path)] == ["train/blur/1.png"]


def test_a_text_that_is_no_list_is_passed_over_in_any_encoding(tmp_path: Path) -> None:
    layout(tmp_path, "blur/a.png", "sharp/a.png")
    (tmp_path / "notes.txt").write_bytes("Müller's photos\n".encode("latin-1"))
    assert [row[0] for row in found("pairs", tmp_path)] == ["a"]


def test_pairs_are_never_matched_by_order(tmp_path: Path) -> None:
    layout(tmp_path, "blur/1.png", "blur/2.png", "sharp/1.png", "sharp/3.png")
    with pytest.raises(InputError, match=r"2 images .* no counterpart of the same name, first '2\.png'"):
        pairs.find("pairs", tmp_path)


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    layout(tmp_path, "blur/1.png", "blur/1.jpg", "sharp/1.png")
    with pytest.raises(InputError, match="same name but for their suffix"):
        pairs.find("pairs", tmp_path)


def test_the_count_of_a_known_set_is_verified(tmp_path: Path) -> None:
    layout(tmp_path, *SEQUENCES)
    with pytest.raises(InputError, match=r"GoPro has 2,103 pairs in train, .* holds 2") as caught:
        pairs.find("gopro", tmp_path)
    assert "--subset" in caught.value.hint


def test_an_absent_set_says_where_it_is_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBLUR_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="seungjunnah") as caught:
        pairs.find("gopro", None)
    assert "--dataset photos --data DIR" in caught.value.hint


def test_a_set_is_found_under_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout(tmp_path / "GoPro", *SEQUENCES)
    monkeypatch.setenv("DEBLUR_DATA", str(tmp_path))
    assert len(pairs.find("gopro", None, subset=True).pairs) == 2


@pytest.mark.parametrize("names", [[], ["holiday.png"]])
def test_a_folder_without_pairs_is_refused(tmp_path: Path, names: list[str]) -> None:
    layout(tmp_path, *names)
    assert not pairs.holds_pairs(tmp_path)
    with pytest.raises(InputError, match="holds no pairs"):
        pairs.find("pairs", tmp_path)


def test_a_spread_covers_the_whole() -> None:
    everything = [pairs.Pair(str(index), Path("b"), Path("s")) for index in range(10)]
    assert [pair.name for pair in pairs.spread(everything, 3)] == ["0", "3", "6"]
    assert pairs.spread(everything, 20) == everything


def test_an_album_holds_every_photograph_below_the_folder(tmp_path: Path) -> None:
    layout(tmp_path, "b.png", "deep/er/a.png", ".hidden.png")
    (tmp_path / "notes.txt").write_text("")
    album = photos.load(tmp_path, smallest=32)
    assert [photograph.name for photograph in album.photographs] == ["b.png", "deep/er/a.png"]
    assert album.megabytes == pytest.approx(2 * 40 * 32 * 3 / 1e6)


def test_photographs_that_are_too_small_are_left_out(tmp_path: Path) -> None:
    layout(tmp_path, "small.png")
    picture(tmp_path / "large.png", size=(80, 64))
    album = photos.load(tmp_path, smallest=64)
    assert [photograph.name for photograph in album.photographs] == ["large.png"]
    with pytest.raises(InputError, match=r"largest has 64 pixels on its short side, .* need 65"):
        photos.load(tmp_path, smallest=65)


def test_an_album_stays_within_its_memory(tmp_path: Path) -> None:
    for index in range(10):
        picture(tmp_path / f"{index}.png", seed=index)
    album = photos.load(tmp_path, smallest=8, megabytes=0.0150)
    assert len(album.photographs) == 3
    assert album.found == 10
    assert "3 of 10" in str(album)
    with pytest.raises(InputError, match="fits into"):
        photos.load(tmp_path, smallest=8, megabytes=0.001)


def test_a_large_photograph_is_reduced_when_asked(tmp_path: Path) -> None:
    picture(tmp_path / "wide.jpg", size=(400, 200))
    assert photos.load(tmp_path, smallest=8, longest=100).photographs[0].pixels.shape == (50, 100, 3)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(tmp_path / "lying.jpg", exif=exif)
    assert photos.decode(tmp_path / "lying.jpg").shape == (40, 20, 3)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 40 * 32).reshape(32, 40).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", np.stack([deep] * 3, 2), photometric="rgb")
    tifffile.imwrite(tmp_path / "light.tif", np.stack([deep / np.float32(65535)] * 3, 2), photometric="rgb")
    wanted = np.stack([np.rint(deep / 257).astype(np.uint8)] * 3, 2)
    for name in ("deep.png", "deep.tif", "light.tif"):
        assert photos.size(tmp_path / name) == (40, 32)
        np.testing.assert_array_equal(photos.decode(tmp_path / name), wanted)


def test_a_heic_photograph_is_trained_on_too(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 100, 50))).save(tmp_path / "a.heic")
    album = photos.load(tmp_path, smallest=32)
    assert album.photographs[0].pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n torn"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.png' cannot be read"):
        photos.load(tmp_path, smallest=8)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no photographs"):
        photos.load(tmp_path, smallest=8)
    with pytest.raises(InputError, match="is not a folder"):
        photos.load(tmp_path / "absent", smallest=8)


def test_detail_tells_the_sky_from_the_trees(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 64:] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    Image.fromarray(pixels).save(tmp_path / "half.png")
    photograph = photos.load(tmp_path, smallest=8).photographs[0]
    assert photograph.detail_of(0, 0, 32) == 0
    assert photograph.detail_of(0, 96, 32) > 0.1


def test_a_sheet_holds_all_its_images(tmp_path: Path) -> None:
    tiles = [np.full((8, 10, 3), value, np.uint8) for value in (10, 200)]
    sheet.write_sheet(tmp_path / "deep" / "sheet.png", [tiles, tiles])
    written = photos.decode(tmp_path / "deep" / "sheet.png")
    assert written.shape == (8 + 4 + 8, 10 + 4 + 10, 3)
    assert (written[0, 0, 0], written[12, 14, 0]) == (10, 200)
