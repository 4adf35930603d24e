"""Photos go through files whole: every sample, every depth, every orientation."""

from dataclasses import replace
from io import BytesIO

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, features

from deblur_cli.files import photo
from deblur_cli.files.photo import Metadata, Photo

HEIGHT, WIDTH = 37, 53
DEPTHS = {"uint8": 255, "uint16": 65535, "float32": 1}
LOSSLESS = [("png", "uint8"), ("png", "uint16"), ("tiff", "uint8"), ("tiff", "uint16"), ("tiff", "float32")]


def noise(*shape, dtype="uint8", seed=0):
    values = np.random.default_rng(seed).random(shape)
    return values.astype(np.float32) if dtype == "float32" else (values * (DEPTHS[dtype] + 1)).astype(dtype)


def smooth(channels=3):
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [120 + 60 * np.sin(rows / 9 + channel) + 50 * np.cos(columns / 11) for channel in range(channels)]
    return np.stack(planes, axis=2).astype(np.uint8)


def made(pixels, alpha=None, metadata=None, sort="png"):
    return Photo(pixels=pixels, alpha=alpha, metadata=metadata or Metadata(), format=sort)


def saved(image, sort, **options):
    out = BytesIO()
    image.save(out, sort, **options)
    return out.getvalue()


@pytest.mark.parametrize(("sort", "dtype"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_lossless_formats_give_every_sample_back(sort, dtype, channels, with_alpha):
    pixels = noise(HEIGHT, WIDTH, channels, dtype=dtype)
    alpha = noise(HEIGHT, WIDTH, dtype=dtype, seed=1) if with_alpha else None
    back = photo.read(photo.encode(made(pixels, alpha), format=sort))
    assert back.format == sort
    assert back.pixels.dtype == dtype
    assert back.pixels.flags.c_contiguous
    np.testing.assert_array_equal(back.pixels, pixels)
    if with_alpha:
        assert back.alpha.flags.c_contiguous
        np.testing.assert_array_equal(back.alpha, alpha)
    else:
        assert back.alpha is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 301), (301, 1), (2, 3)])
@pytest.mark.parametrize(("sort", "dtype"), LOSSLESS)
def test_the_smallest_and_thinnest_photos_come_back(shape, sort, dtype):
    pixels = noise(*shape, 3, dtype=dtype)
    np.testing.assert_array_equal(photo.read(photo.encode(made(pixels), format=sort)).pixels, pixels)


@pytest.mark.parametrize(("sort", "dtype"), LOSSLESS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_photos_of_many_bands_come_back(sort, dtype, orientation):
    block = Image.Exif()
    block[274] = orientation
    height, width = (2200, 2000) if dtype == "uint8" else (1100, 1000)
    rows = np.arange(height, dtype=np.uint32)[:, None, None] * 7 + np.arange(width, dtype=np.uint32)[None, :, None] * 13
    pixels = ((rows + np.arange(3, dtype=np.uint32)) % (65521 if dtype == "uint16" else 251)).astype(dtype)
    kept = Metadata(exif=block.tobytes()[6:])
    data = photo.encode(made(pixels, pixels[..., 0], kept), format=sort)
    back = photo.read(data)
    turned = -1 if orientation == 6 and sort != "tiff" else 0  # whatever EXIF says, a TIFF is written as upright
    np.testing.assert_array_equal(back.pixels, np.rot90(pixels, turned))
    np.testing.assert_array_equal(back.alpha, np.rot90(pixels[..., 0], turned))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_other_readers_agree_with_our_16_bit_png(channels):
    stored = noise(HEIGHT, WIDTH, channels, dtype="uint16")
    colours = 1 if channels < 3 else 3
    alpha = stored[..., -1] if channels in (2, 4) else None
    data = photo.encode(made(np.ascontiguousarray(stored[..., :colours]), alpha), format="png")
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(HEIGHT, WIDTH, -1)
    order = {1: [0], 2: [0, -1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    np.testing.assert_array_equal(seen[..., order], stored)
    Image.open(BytesIO(data)).load()


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_other_readers_agree_with_our_tiff(dtype, channels):
    stored = noise(HEIGHT, WIDTH, channels, dtype=dtype)
    colours = 1 if channels < 3 else 3
    alpha = stored[..., -1] if channels in (2, 4) else None
    data = photo.encode(made(np.ascontiguousarray(stored[..., :colours]), alpha), format="tiff")
    seen = tifffile.imread(BytesIO(data))
    np.testing.assert_array_equal(seen.reshape(stored.shape), stored)
    if dtype == "uint8":
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(data))).reshape(stored.shape), stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sort", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_each_orientation_is_applied_once(sort, orientation):
    image = Image.fromarray(smooth())
    block = Image.Exif()
    block[274] = orientation
    options = {"quality": 100, "subsampling": 0} if sort == "JPEG" else {"lossless": True} if sort == "WEBP" else {}
    data = saved(image, sort, exif=block.tobytes(), **options)
    expected = np.asarray(saved_upright(image, orientation))
    facts, read = photo.probe(data), photo.read(data)
    assert (facts.height, facts.width) == expected.shape[:2]
    assert read.pixels.shape == expected.shape
    assert np.abs(read.pixels.astype(int) - expected).mean() < 3
    again = photo.encode(read, format=sort.lower())
    assert Image.open(BytesIO(again)).getexif().get(274, 1) == 1
    assert photo.read(again).pixels.shape == expected.shape


def saved_upright(image, orientation):
    turns = [None, *(getattr(Image.Transpose, name) for name in TURNS)]
    return image.transpose(turns[orientation - 1]) if orientation > 1 else image


TURNS = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_each_orientation_of_a_deep_tiff_is_applied_once(orientation, dtype):
    stored = noise(HEIGHT, WIDTH, 4, dtype=dtype)
    out = BytesIO()
    tags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(out, stored, photometric="rgb", extrasamples=["unassalpha"], extratags=tags, metadata=None)
    back = photo.read(out.getvalue())
    planes = [
        np.asarray(saved_upright(Image.fromarray(stored[..., at].astype(np.float32)), orientation)) for at in range(4)
    ]
    np.testing.assert_array_equal(back.pixels, np.stack(planes[:3], axis=2).astype(dtype))
    np.testing.assert_array_equal(back.alpha, planes[3].astype(dtype))
    np.testing.assert_array_equal(photo.read(photo.encode(back, format="tiff")).pixels, back.pixels)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_16_bit_png_is_turned_too(orientation):
    block = Image.Exif()
    block[274] = orientation
    pixels = noise(HEIGHT, WIDTH, 3, dtype="uint16")
    data = photo.encode(made(pixels, metadata=Metadata(exif=block.tobytes()[6:])), format="png")
    back = photo.read(data)
    np.testing.assert_array_equal(back.pixels, np.rot90(pixels, -1) if orientation == 6 else pixels)


@pytest.mark.parametrize("sort", ["jpeg", "webp", "avif", "bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_stay_close(sort, channels):
    pixels = smooth(channels)
    back = photo.read(photo.encode(made(pixels), format=sort))
    assert back.pixels.shape[2] == (3 if sort == "webp" else channels)
    assert np.abs(back.pixels.astype(int) - pixels).mean() < (0.01 if sort == "bmp" else 3)


@pytest.mark.parametrize("sort", ["webp", "avif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_exact_in_lossy_formats(sort, channels):
    alpha = noise(HEIGHT, WIDTH)
    back = photo.read(photo.encode(made(smooth(channels), alpha), format=sort, quality=70))
    np.testing.assert_array_equal(back.alpha, alpha)


def test_a_jpeg_keeps_colour_at_full_resolution_at_quality_95():
    image = Image.open(BytesIO(photo.encode(made(smooth()), format="jpeg")))
    assert image.layer[0][1:3] == image.layer[1][1:3] == (1, 1)
    reference = Image.open(BytesIO(saved(Image.fromarray(smooth()), "JPEG", quality=95)))
    assert image.quantization == reference.quantization


def test_a_lossless_webp_stays_lossless_until_the_quality_is_lowered():
    pixels, alpha = noise(HEIGHT, WIDTH, 3), noise(HEIGHT, WIDTH, seed=1)
    data = saved(Image.fromarray(np.dstack((pixels, alpha))), "WEBP", lossless=True, exact=True)
    read = photo.read(data)
    np.testing.assert_array_equal(read.pixels, pixels)
    kept = photo.read(photo.encode(read, format="webp"))
    np.testing.assert_array_equal(kept.pixels, pixels)
    np.testing.assert_array_equal(kept.alpha, alpha)
    assert photo.read(photo.encode(read, format="webp", keep_metadata=False)).metadata.lossless
    assert not photo.read(photo.encode(read, format="webp", quality=80)).metadata.lossless


@pytest.mark.parametrize("sort", ["jpeg", "webp", "avif", "bmp"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_fewer_bits_are_rounded_to_the_nearest(sort, dtype):
    levels = np.arange(256)
    values = levels * 257 if dtype == "uint16" else levels / 255
    flat = np.broadcast_to(values[::16, None, None], (16, 16, 3)).astype(dtype)
    back = photo.read(photo.encode(made(np.ascontiguousarray(flat)), format=sort, quality=100))
    assert np.abs(back.pixels[..., 0].mean(axis=1) - levels[::16]).max() < 1.5


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (128, 0), (129, 1), (257, 1), (65406, 254), (65407, 255), (65535, 255)]
)
def test_16_bits_become_8_by_the_nearest(value, expected):
    back = photo.read(photo.encode(made(np.full((2, 2, 3), value, np.uint16)), format="bmp"))
    assert (back.pixels == expected).all()


def test_floats_beyond_white_and_not_numbers_become_legal_samples():
    pixels = np.array([[[-1.0], [0.5], [7.0], [np.nan]]], np.float32)
    assert photo.read(photo.encode(made(pixels), format="png")).pixels[0, :, 0].tolist() == [0, 32768, 65535, 0]
    np.testing.assert_array_equal(photo.read(photo.encode(made(pixels), format="tiff")).pixels, pixels)


def test_restored_pixels_go_into_the_photo_that_was_read():
    read = photo.read(saved(Image.fromarray(np.dstack((smooth(), noise(HEIGHT, WIDTH)))), "PNG"))
    restored = replace(read, pixels=255 - read.pixels)
    back = photo.read(photo.encode(restored, format="png"))
    np.testing.assert_array_equal(back.pixels, 255 - smooth())
    np.testing.assert_array_equal(back.alpha, noise(HEIGHT, WIDTH))


@pytest.mark.parametrize("sort", ["jpeg", "png", "tiff", "webp", "avif", "bmp"])
def test_the_facts_are_those_of_the_photo(sort, tmp_path):
    path = tmp_path / f"photo.{sort}"
    for channels in (1, 3):
        photo.write(made(smooth(channels)), path)
        facts, read = photo.probe(path), photo.read(path)
        assert (facts.height, facts.width, facts.channels) == read.pixels.shape
        assert (facts.format, facts.dtype, facts.alpha) == (read.format, read.pixels.dtype, False)


def test_every_decoder_that_the_formats_need_is_in_this_pillow():
    assert features.check("webp")
    assert features.check("avif")
