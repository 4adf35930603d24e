"""Photos of every make are read: bits, palettes, transparent colours, TIFFs of all layouts, phones' own formats."""

import struct
import subprocess
import sys
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from deblur_cli.errors import InputError
from deblur_cli.files import decoding, photo, png
from deblur_cli.files.photo import Metadata, Photo

HEIGHT, WIDTH = 37, 53


def noise(*shape, dtype="uint8", seed=0):
    values = np.random.default_rng(seed).random(shape)
    return values.astype(np.float32) if dtype == "float32" else (values * (np.iinfo(dtype).max + 1)).astype(dtype)


def smooth(channels=3):
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [120 + 60 * np.sin(rows / 9 + channel) + 50 * np.cos(columns / 11) for channel in range(channels)]
    return np.stack(planes, axis=2).astype(np.uint8)


def made(pixels):
    return Photo(pixels=pixels, alpha=None, metadata=Metadata(), format="png")


def saved(image, sort, **options):
    out = BytesIO()
    image.save(out, sort, **options)
    return out.getvalue()


@pytest.mark.parametrize("sort", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_gray(sort):
    bits = noise(HEIGHT, WIDTH) > 127
    back = photo.read(saved(Image.fromarray(bits), sort))
    np.testing.assert_array_equal(back.pixels[..., 0], bits * 255)


@pytest.mark.parametrize("sort", ["PNG", "TIFF", "BMP"])
def test_a_palette_becomes_colour(sort):
    places = noise(HEIGHT, WIDTH) % 16
    colours = noise(256, 3, seed=2)
    image = Image.fromarray(places)
    image.putpalette(colours.tobytes())
    back = photo.read(saved(image, sort))
    assert back.alpha is None
    np.testing.assert_array_equal(back.pixels, colours[places])


def test_a_palette_of_grays_becomes_gray():
    image = Image.fromarray(noise(HEIGHT, WIDTH))
    image.putpalette(bytes(np.repeat(np.arange(255, -1, -1), 3).astype(np.uint8)))
    np.testing.assert_array_equal(photo.read(saved(image, "PNG")).pixels[..., 0], 255 - noise(HEIGHT, WIDTH))


def test_the_transparency_of_a_palette_becomes_alpha():
    places = noise(HEIGHT, WIDTH) % 4
    image = Image.fromarray(places)
    image.putpalette(noise(256, 3, seed=2).tobytes())
    back = photo.read(saved(image, "PNG", transparency=bytes([0, 80, 160, 255])))
    np.testing.assert_array_equal(back.alpha, places * 80 + (places == 3) * 15)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_becomes_alpha(mode):
    stored = noise(HEIGHT, WIDTH) if mode == "L" else noise(HEIGHT, WIDTH, 3)
    key = int(stored[3, 4]) if mode == "L" else tuple(int(value) for value in stored[3, 4])
    data = saved(Image.fromarray(stored), "PNG", transparency=key)
    back = photo.read(data)
    hit = stored == key if mode == "L" else (stored == key).all(axis=2)
    np.testing.assert_array_equal(back.alpha, np.where(hit, 0, 255))
    assert photo.probe(data).alpha


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits_becomes_alpha(channels):
    stored = noise(HEIGHT, WIDTH, channels, dtype="uint16")
    data = photo.encode(made(stored), format="png")
    key = stored[5, 6].astype(">u2").tobytes()
    back = photo.read(data[:33] + chunk(b"tRNS", key) + data[33:])
    np.testing.assert_array_equal(back.alpha == 0, (stored == stored[5, 6]).all(axis=2))
    np.testing.assert_array_equal(back.pixels, stored)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_gray_of_few_bits_becomes_alpha(depth):
    stored = noise(HEIGHT, 48) >> (8 - depth)
    bits = np.unpackbits(stored[..., None], axis=2)[..., 8 - depth :].reshape(HEIGHT, -1)
    rows = np.insert(np.packbits(bits, axis=1), 0, 0, axis=1)
    head = struct.pack(">IIBBBBB", 48, HEIGHT, depth, 0, 0, 0, 0)
    key = struct.pack(">H", int(stored[5, 6]))
    chunks = [(b"IHDR", head), (b"tRNS", key), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    back = photo.read(png.joined(chunks))
    np.testing.assert_array_equal(back.pixels[..., 0], stored * (255 // (2**depth - 1)))
    np.testing.assert_array_equal(back.alpha, np.where(stored == stored[5, 6], 0, 255))


def test_a_transparent_colour_that_lacks_a_channel_is_told():
    data = photo.encode(made(noise(HEIGHT, WIDTH, 3, dtype="uint16")), format="png")
    for key in (b"\0\1", b"\0\1\2"):
        with pytest.raises(InputError, match="parts contradict each other"):
            photo.read(data[:33] + chunk(b"tRNS", key) + data[33:])


@pytest.mark.parametrize("sort", ["PNG", "TIFF"])
def test_a_palette_of_grays_with_a_profile_of_rgb_stays_colour_and_keeps_it(sort):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(noise(HEIGHT, WIDTH))
    image.putpalette(bytes(np.repeat(np.arange(256), 3).astype(np.uint8)))
    back = photo.read(saved(image, sort, icc_profile=profile))
    np.testing.assert_array_equal(back.pixels, np.repeat(noise(HEIGHT, WIDTH)[..., None], 3, axis=2))
    assert photo.read(photo.encode(back, format="png")).metadata.icc == profile


def chunk(kind, payload):
    return len(payload).to_bytes(4, "big") + kind + payload + zlib.crc32(kind + payload).to_bytes(4, "big")


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", ["plain", "planar", "tiled", "deflate", "lzw", "big", "half"])
def test_16_bit_tiffs_of_every_make_are_read(byteorder, layout):
    stored = noise(64, 80, 3, dtype="uint16")
    if layout == "half":
        stored = noise(64, 80, 3, dtype="float32").astype(np.float16)
    options = {
        "planar": {"planarconfig": "separate"},
        "tiled": {"tile": (16, 16)},
        "deflate": {"compression": "zlib", "predictor": 2},
        "big": {"bigtiff": True},
    }.get(layout, {})
    rows = np.moveaxis(stored, -1, 0) if layout == "planar" else stored
    out = BytesIO()
    if layout == "lzw":
        out.write(lzw_tiff(stored, byteorder))
    else:
        tifffile.imwrite(out, rows, photometric="rgb", byteorder=byteorder, **options)
    back = photo.read(out.getvalue())
    np.testing.assert_array_equal(back.pixels, stored)
    facts = photo.probe(out.getvalue())
    assert (facts.width, facts.height, facts.dtype, facts.channels) == (80, 64, back.pixels.dtype, 3)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (16, 16)}, {"bigtiff": True}])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_lzw_of_channels_that_lie_apart_is_read(channels, layout, dtype, byteorder):
    stored = noise(channels, 64, 80, dtype=dtype)
    back = photo.read(lzw_tiff(stored, byteorder, **kind_of(channels), planarconfig="separate", **layout))
    planes = list(np.moveaxis(back.pixels, -1, 0)) + ([] if back.alpha is None else [back.alpha])
    np.testing.assert_array_equal(planes, stored)
    assert (back.alpha is None) == (channels == 3)


@pytest.mark.parametrize(("channels", "dtype"), [(2, "uint16"), (2, "float32"), (3, "float16")])
def test_lzw_that_nobody_here_unpacks_is_refused_with_what_to_do(channels, dtype):
    stored = noise(64, 80, channels, dtype="float32").astype("float16") if dtype == "float16" else None
    stored = noise(64, 80, channels, dtype=dtype) if stored is None else stored
    with pytest.raises(InputError, match=rf"a TIFF of {channels} x \d+-bit samples, damaged or packed") as refused:
        photo.read(lzw_tiff(stored, "<", **kind_of(channels), planarconfig="contig"))
    assert refused.value.hint == "Save it uncompressed or with deflate (ZIP), its channels interleaved."


def kind_of(channels):
    alpha = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    return {"photometric": "rgb" if channels >= 3 else "minisblack", **alpha}


def lzw_tiff(stored, byteorder, **options):
    """An LZW file that no tifffile writes without its codecs."""
    out = BytesIO()
    tifffile.imwrite(out, stored, byteorder=byteorder, metadata=None, **{"photometric": "rgb", **options})
    data = bytearray(out.getvalue())
    order = "little" if byteorder == "<" else "big"
    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages[0]
        lists = [tag for tag in page.tags if tag.name.endswith(("Offsets", "ByteCounts"))]
        at, pieces = page.tags["Compression"].valueoffset, list(zip(page.dataoffsets, page.databytecounts, strict=True))
    data[at : at + 2] = (5).to_bytes(2, order)
    for index, (start, size) in enumerate(pieces):
        packed = lzw(bytes(data[start : start + size]))
        for tag in lists:
            width = {3: 2, 4: 4, 16: 8}[tag.dtype]
            value = len(data) if tag.name.endswith("Offsets") else len(packed)
            at = tag.valueoffset + index * width
            data[at : at + width] = value.to_bytes(width, order)
        data += packed
    return bytes(data)


def lzw(raw):
    """A clear code before each run of 128 literal codes."""
    codes = [code for at in range(0, len(raw), 128) for code in (256, *raw[at : at + 128])]
    bits = "".join(f"{code:09b}" for code in (*codes, 257))
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_that_only_its_xmp_turns_is_turned_once(dtype):
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description tiff:Orientation=\"6\"/></x:xmpmeta>"
    stored, out = noise(HEIGHT, WIDTH, 3, dtype=dtype), BytesIO()
    tags = [(700, 1, len(packet), packet, True)]
    tifffile.imwrite(out, stored, photometric="rgb", metadata=None, extratags=tags)
    back = photo.read(out.getvalue())
    np.testing.assert_array_equal(back.pixels, np.rot90(stored, -1))
    assert back.metadata.xmp == packet.replace(b'"6"', b'"1"')


def test_zero_as_white_is_inverted():
    stored = noise(HEIGHT, WIDTH, dtype="uint16")
    out = BytesIO()
    tifffile.imwrite(out, stored, photometric="miniswhite")
    np.testing.assert_array_equal(photo.read(out.getvalue()).pixels[..., 0], 65535 - stored)


def test_colours_multiplied_by_alpha_are_freed():
    colours, alpha = noise(HEIGHT, WIDTH, 3, dtype="float32"), noise(HEIGHT, WIDTH, dtype="float32", seed=1)
    out = BytesIO()
    tifffile.imwrite(
        out, np.dstack((colours * alpha[..., None], alpha)), photometric="rgb", extrasamples=["assocalpha"]
    )
    back = photo.read(out.getvalue())
    np.testing.assert_allclose(back.pixels, colours, atol=1e-5)
    np.testing.assert_array_equal(back.alpha, alpha)


def test_a_fourth_channel_of_zeros_is_not_alpha():
    out = BytesIO()
    tifffile.imwrite(
        out, np.dstack((smooth(), np.zeros((HEIGHT, WIDTH), np.uint8))), photometric="rgb", extrasamples=[0]
    )
    back = photo.read(out.getvalue())
    assert back.alpha is None
    np.testing.assert_array_equal(back.pixels, smooth())


def test_a_phones_multi_picture_jpeg_is_its_first_picture():
    out = BytesIO()
    Image.fromarray(smooth()).save(
        out, "MPO", save_all=True, append_images=[Image.fromarray(smooth()[::2])], quality=95
    )
    assert photo.read(out.getvalue()).pixels.shape == (HEIGHT, WIDTH, 3)


def test_a_tiff_with_a_thumbnail_page_is_one_photo():
    out = BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(smooth(), photometric="rgb")
        file.write(smooth()[::4, ::4], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(photo.read(out.getvalue()).pixels, smooth())


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_heic_photo_comes_back_close(depth, channels):
    pytest.importorskip("pillow_heif")
    pixels = smooth(channels) if depth == 8 else smooth(channels).astype(np.uint16) * 257
    back = photo.read(photo.encode(made(pixels), format="heic", quality=95))
    assert back.pixels.dtype == pixels.dtype
    peak = np.iinfo(pixels.dtype).max
    assert np.abs(back.pixels / peak - pixels / peak).mean() < 0.02
    facts = photo.probe(photo.encode(back, format="heic"))
    assert (facts.width, facts.height, facts.channels, facts.dtype) == (WIDTH, HEIGHT, channels, pixels.dtype)


def test_a_heic_photo_that_is_turned_is_applied_once():
    heif = pytest.importorskip("pillow_heif")
    block = Image.Exif()
    block[274] = 6
    out = BytesIO()
    heif.encode("RGB", (WIDTH, HEIGHT), smooth().tobytes(), out, quality=95, exif=block.tobytes())
    read = photo.read(out.getvalue())
    assert np.abs(read.pixels.astype(int) - np.rot90(smooth(), -1)).mean() < 5
    assert photo.probe(out.getvalue()).width == HEIGHT
    assert photo.read(photo.encode(read, format="heic")).pixels.shape == read.pixels.shape
    assert photo.read(photo.encode(read, format="jpeg")).pixels.shape == read.pixels.shape


def test_a_plain_photo_needs_no_heavy_library():
    code = (
        "import sys; from io import BytesIO; from PIL import Image; from deblur_cli.files import photo; out = BytesIO();"
        "Image.new('RGB', (9, 9)).save(out, 'JPEG'); read = photo.read(out.getvalue());"
        "[photo.encode(read, format=sort) for sort in ('jpeg', 'png', 'tiff', 'webp', 'avif', 'bmp')];"
        "print(sorted({'cv2', 'tifffile', 'pillow_heif', 'torch'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_threads_that_silence_warnings_together_give_them_back():
    before = list(warnings.filters)
    entered, done = threading.Event(), threading.Event()

    def work():
        with decoding.quiet():
            entered.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(10)
    with decoding.quiet():
        done.set()
        thread.join()
        warnings.warn("unheard", stacklevel=1)
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
