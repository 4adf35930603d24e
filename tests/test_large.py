"""Photos by bands and in disk-backed pixels: the values and the bytes of the ways through memory."""

import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.errors import InputError
from deblur_cli.files import bands, large, photo
from deblur_cli.files.scratch import Scratch

HEIGHT, WIDTH = 97, 61


def noise(channels: int, dtype: str) -> np.ndarray:
    dice = np.random.default_rng(channels)
    if dtype == "float32":
        return dice.random((HEIGHT, WIDTH, channels), np.float32)
    smooth = np.linspace(0, np.iinfo(dtype).max * 0.8, WIDTH)[None, :, None]
    return (smooth + dice.integers(0, np.iinfo(dtype).max // 5, (HEIGHT, WIDTH, channels))).astype(dtype)


def saved(name: str, channels: int, dtype: str, **more) -> Path:
    """A file whose name tells how it is packed."""
    path, pixels = Path(name), noise(channels, dtype)
    if path.suffix == ".tif":
        extra = {"extrasamples": ["unassalpha"]} if channels in {2, 4} else {}
        kind = "rgb" if channels >= 3 else "minisblack"
        tifffile.imwrite(path, pixels[..., 0] if channels == 1 else pixels, photometric=kind, **extra, **more)
        return path
    colours = pixels[..., : 3 if channels >= 3 else 1]
    alpha = pixels[..., -1].copy() if channels in {2, 4} else None
    kept = photo.Metadata(dpi=(300.0, 300.0), xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    picture = photo.Photo(pixels=np.ascontiguousarray(colours), alpha=alpha, metadata=kept, format="png")
    photo.write(picture, path)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bands, "_BAND_BYTES", 3000)  # or such photos would be one band each
    return tmp_path


KINDS = [
    *(("x.png", channels, dtype, {}) for channels in (1, 2, 3, 4) for dtype in ("uint8", "uint16")),
    *(("x.tif", channels, dtype, {}) for channels in (1, 3, 4) for dtype in ("uint8", "uint16", "float32")),
    ("x.tif", 3, "uint16", {"byteorder": ">"}),
    ("x.tif", 3, "uint8", {"compression": "zlib", "predictor": True, "rowsperstrip": 10}),
    ("x.tif", 3, "uint16", {"compression": "zlib", "tile": (16, 32)}),
    ("x.tif", 4, "uint8", {"tile": (32, 16)}),
]
WHOLE = [("x.jpg", 3, "uint8", {}), ("x.jpg", 1, "uint8", {}), ("x.webp", 4, "uint8", {}), ("x.bmp", 3, "uint8", {})]


def by_bands(path: Path) -> bool:
    return large._banded(path, photo.probe(path).format, str(path)) is not None


@pytest.mark.parametrize(("name", "channels", "dtype", "more"), KINDS + WHOLE)
def test_pixels_on_disk_are_those_in_memory(name: str, channels: int, dtype: str, more: dict) -> None:
    path = saved(name, channels, dtype, **more)
    assert by_bands(path) == (name not in {each[0] for each in WHOLE})
    assert large.probe(path) == photo.probe(path)
    expected = photo.read(path)
    with Scratch(Path()) as room:
        found = large.read(path, room)
        assert np.array_equal(found.pixels, expected.pixels)
        assert (found.alpha is None) == (expected.alpha is None)
        assert found.alpha is None or np.array_equal(found.alpha, expected.alpha)
        assert (found.metadata, found.format) == (expected.metadata, expected.format)
        room.rest()
        assert np.array_equal(found.pixels, expected.pixels), "what was let go of in memory is still on disk"
    assert [each.name for each in Path().iterdir()] == [name]


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg"])
def test_photos_are_turned_upright_on_the_way(name: str, turned: int) -> None:
    exif = Image.Exif()
    exif[274] = turned
    Image.fromarray(noise(3, "uint8")).save(name, exif=exif)
    with Scratch(Path()) as room:
        found, expected = large.read(Path(name), room), photo.read(Path(name))
        assert np.array_equal(found.pixels, expected.pixels)
        assert found.metadata == expected.metadata


@pytest.mark.parametrize("sort", ["jpeg", "png", "tiff", "bmp", "webp"])
@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (4, "uint8"), (3, "uint16"), (3, "float32")]
)
def test_the_bytes_are_those_of_pixels_in_memory(sort: str, channels: int, dtype: str) -> None:
    picture = photo.read(saved("x.tif", channels, dtype))
    if picture.alpha is not None and sort in {"jpeg", "bmp"}:
        picture.alpha[:] = 255
    expected = photo.encode(picture, format=sort, name="x")
    with Scratch(Path()) as room:
        copied = large.twin(picture, room)
        large.copy(picture.pixels, copied.pixels, room)
        for keep in (True, False):
            out = BytesIO()
            large.write(out, copied, room, format=sort, quality=95, keep_metadata=keep, name="x")
            assert out.getvalue() == photo.encode(picture, format=sort, name="x", keep_metadata=keep)
        assert expected == photo.encode(copied, format=sort, name="x")


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("x.png", {"interlaced": True}),
        ("palette.png", {}),
        ("bits.png", {}),
        ("x.tif", {"compression": "zlib", "rowsperstrip": HEIGHT}),
    ],
)
def test_what_has_no_bands_is_read_whole(name: str, more: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "_MOST_SEGMENT", 1000)
    if name == "x.tif":
        saved(name, 3, "uint8", **more)
    else:
        image = Image.fromarray(noise(3, "uint8"))
        image = image.convert({"palette.png": "P", "bits.png": "1"}.get(name, "RGB"))
        image.save(name)
    if more.get("interlaced"):
        data = bytearray(Path(name).read_bytes())
        data[28] = 1
        Path(name).write_bytes(data)
        assert bands.of_png(Path(name), name) is None
        return
    assert not by_bands(Path(name))
    with Scratch(Path()) as room:
        assert np.array_equal(large.read(Path(name), room).pixels, photo.read(Path(name)).pixels)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_damage_is_one_sentence(name: str) -> None:
    path = saved(name, 3, "uint8")
    whole = path.read_bytes()
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 0xFF
    for data, kinds in ((whole[: len(whole) // 2], {".png", ".tif"}), (bytes(spoilt), {".png"})):
        if path.suffix not in kinds:
            continue
        path.write_bytes(data)
        with Scratch(Path()) as room, pytest.raises(InputError, match=r"truncated|damaged") as refused:
            large.read(path, room)
        assert "\n" not in refused.value.message
    assert [each.name for each in Path().iterdir()] == [name]


def test_a_full_disk_is_told_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved("x.png", 3, "uint8")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 10, 0))
    with Scratch(Path("not", "there", "yet")) as room, pytest.raises(InputError, match="no room for"):
        large.read(path, room)


def test_sixteen_bits_that_become_eight_are_rounded_alike() -> None:
    picture = photo.read(saved("x.png", 4, "uint16"))
    with Scratch(Path()) as room:
        out = BytesIO()
        large.write(out, picture, room, format="webp", quality=95, keep_metadata=True, name="x")
    assert out.getvalue() == photo.encode(replace(picture), format="webp", name="x")
