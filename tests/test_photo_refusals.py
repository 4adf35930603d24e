"""Bad files get one sentence each, and a write is whole or leaves nothing behind."""

import contextlib
import os
import resource
import stat
import struct
import subprocess
import sys
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.errors import DeblurError, InputError, UsageError
from deblur_cli.files import photo
from deblur_cli.files.photo import Metadata, Photo

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
SORTS = ["jpeg", "png", "tiff", "webp", "avif", "bmp"]


@pytest.fixture(autouse=True)
def _silent(capfd):
    yield
    seen = capfd.readouterr()
    assert seen.out == seen.err == ""


def made(pixels=PIXELS, alpha=None):
    return Photo(pixels=pixels, alpha=alpha, metadata=Metadata(), format="png")


def saved(image, sort, **options):
    out = BytesIO()
    image.save(out, sort, **options)
    return out.getvalue()


def chunk(kind, payload):
    return len(payload).to_bytes(4, "big") + kind + payload + zlib.crc32(kind + payload).to_bytes(4, "big")


def frames(sort):
    pictures = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    return saved(
        pictures[0], sort, save_all=True, append_images=pictures[1:], **({} if sort == "TIFF" else {"duration": 50})
    )


def vast_png(depth=8):
    header = struct.pack(">IIBBBBB", 100_000, 100_000, depth, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def vast_tiff(**options):
    out = BytesIO()
    tifffile.imwrite(out, np.zeros((1, 1), np.uint16), metadata=None, **options)
    data = bytearray(out.getvalue())
    with tifffile.TiffFile(BytesIO(data)) as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[name]
            data[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", 100_000)
    return bytes(data)


def vast_bmp():
    data = bytearray(saved(Image.fromarray(PIXELS), "BMP"))
    data[18:26] = struct.pack("<ii", 100_000, 100_000)
    return bytes(data)


def jpeg_of_size(side):
    data = bytearray(saved(Image.fromarray(PIXELS), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def tiff(array, **options):
    out = BytesIO()
    tifffile.imwrite(out, array, **options)
    return out.getvalue()


def raw_tiff():
    return tiff(PIXELS[..., 0].astype(np.uint16), photometric=32803, extratags=[(33421, 3, 2, (2, 2), True)])


REFUSED = {
    "empty": (lambda: b"", "zero bytes"),
    "text": (lambda: b"hello, this is no picture\n" * 10, "is text"),
    "nothing but zeros": (lambda: bytes(5000), "zero bytes"),
    "noise": (lambda: b"\x80\x01\x02\x03" * 100, "not a photo"),
    "gif": (lambda: saved(Image.fromarray(PIXELS[..., 0]), "GIF"), "is a GIF"),
    "pdf": (lambda: b"%PDF-1.7\n", "PDF"),
    "video": (lambda: b"\0\0\0\x20ftypisom" + bytes(60), "video"),
    "jpeg xl": (lambda: b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "animated png": (lambda: frames("PNG"), "animated PNG of 2 frames"),
    "animated webp": (lambda: frames("WEBP"), "animated WebP of 2 frames"),
    "animated avif": (lambda: frames("AVIF"), "animated AVIF of 2 frames"),
    "pages": (lambda: frames("TIFF"), "TIFF of 2 pages"),
    "vast png": (vast_png, "100000 x 100000"),
    "vast 16-bit png": (lambda: vast_png(16), "100000 x 100000"),
    "vast tiff": (vast_tiff, "100000 x 100000"),
    "vast bmp": (vast_bmp, "100000 x 100000"),
    "vast jpeg": (lambda: jpeg_of_size(60_000), "60000 x 60000"),
    "cmyk jpeg": (lambda: saved(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"), "CMYK"),
    "cmyk tiff": (lambda: saved(Image.fromarray(PIXELS).convert("CMYK"), "TIFF"), "CMYK"),
    "deep cmyk tiff": (lambda: tiff(np.zeros((8, 8, 4), np.uint16), photometric="separated"), "CMYK"),
    "lab": (lambda: tiff(PIXELS, photometric="cielab"), "photometric 8"),
    "32-bit integers": (lambda: tiff(PIXELS[..., 0].astype(np.uint32)), "32-bit unsigned"),
    "signed": (lambda: tiff(PIXELS[..., 0].astype(np.int16)), "16-bit signed"),
    "five channels": (lambda: tiff(np.zeros((8, 8, 5), np.uint16), photometric="rgb"), "5 x 16-bit"),
    "raw by its tags": (raw_tiff, "raw camera file"),
    "raw by its head": (lambda: b"FUJIFILMCCD-RAW 0201", "raw camera file"),
    "canon raw": (lambda: b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "raw camera file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_single_photo_is_refused_in_one_sentence(case, tmp_path):
    make, words = REFUSED[case]
    path = tmp_path / "schöne Aufnahme.jpg"
    path.write_bytes(make())
    tracemalloc.start()
    for look in (photo.read, photo.probe):
        with pytest.raises(InputError, match=words) as caught:
            look(path)
        assert str(path) in caught.value.message
        assert caught.value.message.count(".") - str(path).count(".") <= 2
        assert caught.value.hint.endswith(".") or ":" in caught.value.hint
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize("suffix", [".nef", ".CR2", ".dng", ".arw"])
def test_a_raw_file_that_looks_like_tiff_is_known_by_its_suffix(suffix, tmp_path):
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(saved(Image.fromarray(PIXELS), "TIFF"))
    with pytest.raises(InputError, match="raw camera file"):
        photo.read(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("sort", SORTS)
def test_a_truncated_file_is_refused_and_not_half_gray(sort, kept, dtype):
    if dtype == "uint16" and sort not in ("png", "tiff"):
        return
    data = photo.encode(made(PIXELS.astype(dtype) * (1 if dtype == "uint8" else 257)), format=sort)
    with pytest.raises(InputError, match=r"truncated|damaged"):
        photo.read(data[: int(len(data) * kept)])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
def test_a_jpeg_that_lacks_its_last_rows_is_truncated(options):
    data = saved(Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), np.uint8))), "JPEG", **options)
    for missing in (100, 2000, len(data) // 2):
        with pytest.raises(InputError, match="is a truncated JPEG"):
            photo.read(data[:-missing])


@pytest.mark.parametrize("sort", SORTS)
def test_no_damage_of_a_header_gets_past_as_another_exception(sort):
    data = photo.encode(made(), format=sort)
    generator = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for at in generator.integers(4, min(300, len(data)), 4):
            damaged[at] = generator.integers(0, 256)
        for look in (photo.read, photo.probe):
            with contextlib.suppress(DeblurError):
                look(bytes(damaged))


def test_a_flipped_bit_in_a_png_is_noticed():
    for dtype in (np.uint8, np.uint16):
        data = bytearray(photo.encode(made(PIXELS.astype(dtype)), format="png"))
        data[len(data) // 2] ^= 1
        with pytest.raises(InputError, match="checksum"):
            photo.read(bytes(data))


def test_a_missing_file_a_folder_and_a_forbidden_one_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        photo.read(tmp_path / "missing.jpg")
    with pytest.raises(InputError, match="is a folder"):
        photo.read(tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        photo.probe(tmp_path)
    if os.geteuid():
        (tmp_path / "secret.jpg").touch(mode=0)
        with pytest.raises(InputError, match="permission"):
            photo.read(tmp_path / "secret.jpg")


def test_a_link_that_leads_nowhere_is_not_called_a_misspelt_name(tmp_path):
    for name, place in (("broken.jpg", "nowhere.jpg"), ("circle.jpg", "circle.jpg")):
        (tmp_path / name).symlink_to(place)
        with pytest.raises(InputError, match="link that leads to no file"):
            photo.read(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without end")
def test_a_device_is_not_read_for_ever():
    with pytest.raises(InputError, match="is a device"):
        photo.read(Path("/dev/zero"))


@pytest.mark.parametrize("head", [b"BM\0\0\0", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\0"])
def test_a_header_that_is_cut_off_is_called_truncated(head):
    with pytest.raises(InputError, match="truncated"):
        photo.read(head)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory that is enforced")
def test_a_photo_that_the_memory_does_not_hold_is_told():
    # In a process of its own: one that has kept freed memory for later has more than its limit says.
    code = """
import io, resource
from pathlib import Path
from PIL import Image
from deblur_cli.errors import InputError
from deblur_cli.files import photo

file = io.BytesIO()
Image.new("1", (6000, 6000)).save(file, "PNG")
photo.read(file.getvalue())  # what is imported on the way is imported now
for room in (8e6, 50e6):  # too little for Pillow's picture, too little for what comes after it
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(room), resource.RLIM_INFINITY))
    try:
        photo.read(file.getvalue())
    except InputError as error:
        assert "needs more memory" in str(error), error
    else:
        raise AssertionError(f"{room} bytes were enough")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_format_cannot_hold_is_known_before_anything_is_restored():
    transparent = made(alpha=np.zeros((48, 64), np.uint8))
    photo.check_fit(transparent, format="png", name="x")
    for picture, sort in ((transparent, "jpeg"), (made(np.zeros((1, 20000, 3), np.uint8)), "webp")):
        with pytest.raises(UsageError, match="'x' cannot be a"):
            photo.check_fit(picture, format=sort, name="x")


def test_bytes_are_called_standard_input_unless_named():
    with pytest.raises(InputError, match="'standard input' is text"):
        photo.read(b"text")
    with pytest.raises(InputError, match=r"'here\.png' is text"):
        photo.read(b"text", name="here.png")


def test_heic_without_its_library_names_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UsageError, match=r"pip install 'deblur-cli\[heic\]'"):
        photo.check_fit(made(), format="heic", name="x.heic")
    with pytest.raises(UsageError, match=r"pip install 'deblur-cli\[heic\]'"):
        photo.read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UsageError, match=r"pip install 'deblur-cli\[heic\]'"):
        photo.encode(made(), format="heic")


@pytest.mark.parametrize("sort", ["jpeg", "bmp"])
def test_alpha_is_not_dropped_silently(sort):
    alpha = np.full(PIXELS.shape[:2], 255, np.uint8)
    photo.encode(made(alpha=alpha), format=sort)
    alpha[3, 4] = 254
    with pytest.raises(UsageError, match=r"holds no alpha.*PNG, TIFF, WebP, AVIF"):
        photo.encode(made(alpha=alpha), format=sort)


@pytest.mark.parametrize(("sort", "side"), [("webp", 16384), ("jpeg", 65501)])
def test_a_side_too_long_for_the_format_is_told(sort, side):
    with pytest.raises(UsageError, match="a side"):
        photo.encode(made(np.zeros((1, side, 1), np.uint8)), format=sort)


@pytest.mark.parametrize("quality", [0, 101, -3])
def test_a_quality_out_of_range_is_told(quality):
    with pytest.raises(UsageError, match="--quality"):
        photo.encode(made(), format="jpeg", quality=quality)


@pytest.mark.parametrize("name", ["photo.gif", "photo", "photo.jpg.xyz"])
def test_a_suffix_that_names_no_format_is_told(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.avif, \.bmp"):
        photo.write(made(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["été 写真 📷.png", "with space.TIFF", "'quoted'.png"])
def test_any_name_can_be_written_and_read(name, tmp_path):
    photo.write(made(), tmp_path / name)
    np.testing.assert_array_equal(photo.read(tmp_path / name).pixels, PIXELS)
    assert photo.probe(tmp_path / name).width == 64


def test_a_new_file_follows_the_umask_and_an_old_one_keeps_its_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        photo.write(made(), tmp_path / "new.png")
        (tmp_path / "old.png").touch(mode=0o600)
        photo.write(made(), tmp_path / "old.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old.png").stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "folder" / "photo.png")
    photo.write(made(), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert photo.probe(tmp_path / "folder" / "photo.png").width == 64


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for path, words in (
        (tmp_path / "missing" / "photo.png", "folder does not exist"),
        (tmp_path / "file" / "photo.png", "is a file, not a folder"),
        (tmp_path / ("long" * 100 + ".png"), "name is too long"),
        (tmp_path / "folder.png", "is a folder"),
    ):
        with pytest.raises(DeblurError, match=words):
            photo.write(made(), path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_takes_no_more_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"what was there before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match="larger than is allowed"):
            photo.write(made(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"what was there before"


def test_an_encoding_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="pixels are"):
        photo.write(made(PIXELS.astype(np.int64)), tmp_path / "photo.png")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        photo.write(made(), tmp_path / "photo.png")
    assert list(tmp_path.iterdir()) == []
