"""Side notes of a photo survive in every format that can hold them, and say only what is true of the restored photo."""

import struct
from dataclasses import replace
from io import BytesIO

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from deblur_cli.files import photo
from deblur_cli.files.photo import Metadata, Photo

HEIGHT, WIDTH = 24, 40
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="\xc3\xa9t\xc3\xa9"/></x:xmpmeta>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_ICC = ICC[:16] + b"GRAY" + ICC[20:]
IPTC = b"\x1c\x02\x78\x00\x07caption"
HOLDERS = [("jpeg", "uint8"), ("png", "uint8"), ("png", "uint16"), ("webp", "uint8"), ("avif", "uint8")]
HOLDERS += [("tiff", "uint8"), ("tiff", "uint16"), ("tiff", "float32"), ("heic", "uint8")]


def block(order="<", orientation=6, thumbnail=b"\xff\xd8the blurred thumbnail\xff\xd9"):
    """An EXIF block as a camera writes it: maker, orientation, resolution, maker note, GPS, thumbnail; tightly packed."""
    exif_at, gps_at, second_at = 200, 300, 400
    maker, note = b"Acme\0", b"opaque maker note at a fixed offset"
    entry = struct.Struct(f"{order}HHI4s")

    def short(value):
        return struct.pack(f"{order}HH", value, 0)

    def long(value):
        return struct.pack(f"{order}I", value)

    main = [
        entry.pack(271, 2, 5, long(150)),
        entry.pack(274, 3, 1, short(orientation)),
        entry.pack(282, 5, 1, long(160)),
    ]
    main += [entry.pack(283, 5, 1, long(168)), entry.pack(296, 3, 1, short(2)), entry.pack(34665, 4, 1, long(exif_at))]
    main += [entry.pack(34853, 4, 1, long(gps_at))]
    below = [
        entry.pack(37500, 7, len(note), long(260)),
        entry.pack(40962, 4, 1, long(WIDTH)),
        entry.pack(40963, 3, 1, short(HEIGHT)),
    ]
    gps = [entry.pack(1, 2, 2, b"N\0\0\0")]
    second = [entry.pack(513, 4, 1, long(450)), entry.pack(514, 4, 1, long(len(thumbnail)))]
    out = bytearray(450)
    out[:8] = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    directories = ((8, main, second_at), (exif_at, below, 0), (gps_at, gps, 0), (second_at, second, 0))
    for at, entries, link in directories:
        raw = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + long(link)
        out[at : at + len(raw)] = raw
    out[150:155], out[260 : 260 + len(note)] = maker, note
    out[160:176] = struct.pack(f"{order}4I", 300, 1, 300, 1)
    return bytes(out) + thumbnail


def full(dtype="uint8", **changes):
    """A photo whose notes are as a reader finds them before it settles them."""
    peak = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    pixels = (PIXELS / 255 * peak).astype(dtype)
    notes = Metadata(exif=block(), xmp=XMP, icc=ICC, iptc=IPTC, dpi=(300.0, 240.0))
    return Photo(pixels=pixels, alpha=None, metadata=replace(notes, **changes), format="png")


def tags(data):
    """EXIF as Pillow sees it, by name of directory."""
    exif = Image.Exif()
    exif.load(data)
    return dict(exif), dict(exif.get_ifd(0x8769)), dict(exif.get_ifd(0x8825)), exif.get_ifd(1)


@pytest.mark.parametrize(("sort", "dtype"), HOLDERS)
def test_exif_xmp_and_profile_survive_where_they_can(sort, dtype):
    if sort == "heic":
        pytest.importorskip("pillow_heif")
    read = photo.read(photo.encode(full(dtype), format=sort))
    back = photo.read(photo.encode(read, format=sort)).metadata
    main, below, gps, _ = tags(back.exif)
    assert main[271] == "Acme"
    assert main.get(274, 1) == 1
    assert below[37500].startswith(b"opaque maker note")
    assert gps[1] == "N"
    assert back.xmp == XMP.replace(b'"6"', b'"1"')
    assert back.icc == ICC


@pytest.mark.parametrize(("sort", "dtype"), [holder for holder in HOLDERS if holder[0] in ("jpeg", "png", "tiff")])
def test_the_resolution_survives(sort, dtype):
    notes = Metadata(dpi=(300.0, 240.0))
    back = photo.read(photo.encode(full(dtype, exif=b"", xmp=b""), format=sort)).metadata
    assert back.dpi == pytest.approx(notes.dpi, abs=0.02)


def test_a_bmp_keeps_the_resolution():
    assert photo.read(photo.encode(full(exif=b"", xmp=b""), format="bmp")).metadata.dpi == pytest.approx(
        (300, 240), abs=0.02
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_bmp_keeps_the_profile_behind_its_pixels(channels):
    plain = full(exif=b"", xmp=b"")
    plain = replace(plain, pixels=plain.pixels[..., :channels].copy())
    data = photo.encode(plain, format="bmp")
    back = photo.read(data)
    assert back.metadata.icc == ICC
    assert data.endswith(ICC)
    assert len(data) == int.from_bytes(data[2:6], "little")
    for other in (np.asarray(Image.open(BytesIO(data))), opencv(data, channels)):
        np.testing.assert_array_equal(other.reshape(plain.pixels.shape), plain.pixels)
    np.testing.assert_array_equal(back.pixels, plain.pixels)


def opencv(data, channels):
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return found[..., ::-1] if channels == 3 else found


@pytest.mark.parametrize("cut", [1, 100, len(ICC)])
def test_half_a_profile_of_a_bmp_is_none(cut):
    data = photo.encode(full(exif=b"", xmp=b""), format="bmp")
    assert photo.read(data[:-cut]).metadata.icc == b""


@pytest.mark.parametrize("sort", ["jpeg", "tiff"])
def test_iptc_survives_where_it_can(sort):
    assert photo.read(photo.encode(full(), format=sort)).metadata.iptc == IPTC


def test_other_readers_find_the_notes_of_a_jpeg():
    image = Image.open(BytesIO(photo.encode(full(), format="jpeg")))
    assert image.info["icc_profile"] == ICC
    assert image.info["xmp"] == XMP
    assert image.info["photoshop"][0x0404] == IPTC
    assert image.getexif()[271] == "Acme"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_other_readers_find_the_notes_of_a_tiff(dtype):
    with tifffile.TiffFile(BytesIO(photo.encode(full(dtype), format="tiff"))) as file:
        found = file.pages.first.tags
    assert found["Make"].value == "Acme"
    assert found["InterColorProfile"].value == ICC
    assert found["XMP"].value == XMP
    assert found["ExifTag"].value["PixelXDimension"] == WIDTH
    assert found["GPSTag"].value["GPSLatitudeRef"] == "N"
    assert found["Orientation"].value == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_other_readers_find_the_notes_of_a_png(dtype):
    image = Image.open(BytesIO(photo.encode(full(dtype), format="png")))
    image.load()
    assert image.info["icc_profile"] == ICC
    assert image.info["dpi"] == pytest.approx((300, 240), abs=0.02)
    assert image.getexif()[271] == "Acme"
    assert image.info["xmp"] == XMP


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_an_upright_photo_keeps_every_byte_but_the_patched(order):
    before = block(order, thumbnail=b"")
    after = photo.read(photo.encode(full(exif=before), format="jpeg")).metadata.exif
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    assert len(after) == len(before)
    assert len(changed) <= 8
    main, below, _, _ = tags(after)
    assert (main[274], below[40962], below[40963]) == (1, HEIGHT, WIDTH)


@pytest.mark.parametrize("sort", ["jpeg", "png", "tiff", "webp", "avif"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_of_the_blurred_photo_does_not_survive(sort, order):
    read = photo.read(photo.encode(full(exif=block(order)), format="jpeg"))
    data = photo.encode(read, format=sort)
    assert b"blurred thumbnail" not in data
    assert not tags(photo.read(data).metadata.exif)[3]


def test_a_thumbnail_in_the_middle_is_blanked():
    packed = block() + b"what the camera put behind"
    kept = photo.read(photo.encode(full(exif=packed), format="png")).metadata.exif
    assert len(kept) == len(packed)
    assert kept.endswith(b"what the camera put behind")
    assert b"blurred thumbnail" not in kept


@pytest.mark.parametrize("source", ["jpeg", "png", "tiff", "webp", "avif"])
@pytest.mark.parametrize("target", ["jpeg", "png", "tiff", "webp", "avif"])
def test_exif_goes_from_any_format_to_any_other(source, target):
    read = photo.read(photo.encode(full(), format=source))
    main, below, gps, _ = tags(photo.read(photo.encode(read, format=target)).metadata.exif)
    assert main[271] == "Acme"
    assert below[37500].startswith(b"opaque maker note")
    assert gps[1] == "N"


def test_the_tags_of_a_foreign_tiff_are_carried():
    out = BytesIO()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[315], info[33432], info[269], info[330] = "An Artist", "Someone 2024", "document", 8
    Image.fromarray(PIXELS).save(out, "TIFF", tiffinfo=info, dpi=(240, 240), compression="tiff_lzw")
    read = photo.read(out.getvalue())
    main = tags(photo.read(photo.encode(read, format="jpeg")).metadata.exif)[0]
    assert (main[315], main[33432], main[269]) == ("An Artist", "Someone 2024", "document")
    assert not {256, 257, 258, 259, 273, 279, 330} & main.keys()
    assert read.metadata.dpi == (240, 240)
    again = Image.open(BytesIO(photo.encode(read, format="tiff")))
    assert again.tag_v2[315] == "An Artist"


@pytest.mark.parametrize(("sort", "dtype"), [*HOLDERS[:8], ("bmp", "uint8")])
def test_stripping_leaves_the_profile_alone(sort, dtype):
    data = photo.encode(full(dtype), format=sort, keep_metadata=False)
    back = photo.read(data).metadata
    assert replace(back, icc=b"", lossless=False) == Metadata()
    assert back.icc == ICC
    assert not any(word in data for word in (b"Acme", b"maker note", b"caption", b"adobe:ns:meta"))


def test_the_words_and_colours_of_a_png_stay_in_a_png():
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "somebody")
    info.add_itxt("Title", "été", zip=True)
    info.add(b"gAMA", (45455).to_bytes(4, "big"))
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "PNG", pnginfo=info)
    read = photo.read(out.getvalue())
    back = Image.open(BytesIO(photo.encode(read, format="png")))
    back.load()
    assert (back.text["Author"], back.text["Title"], back.info["gamma"]) == ("somebody", "été", 0.45455)
    bare = Image.open(BytesIO(photo.encode(read, format="png", keep_metadata=False)))
    bare.load()
    assert bare.text == {}
    assert bare.info["gamma"] == 0.45455


def test_exif_that_imagemagick_wrote_as_text_becomes_exif():
    text = "\nexif\n{:8}\n{}\n".format(6 + len(block()), (b"Exif\0\0" + block()).hex())
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", text, zip=True)
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "PNG", pnginfo=info)
    read = photo.read(out.getvalue())
    assert read.pixels.shape == (WIDTH, HEIGHT, 3)
    data = photo.encode(read, format="png")
    assert Image.open(BytesIO(data)).getexif()[274] == 1
    assert b"Raw profile" not in data


def test_orientation_that_only_xmp_knows_is_applied_and_reset():
    read = photo.read(photo.encode(full(exif=b""), format="jpeg"))
    assert read.pixels.shape == (WIDTH, HEIGHT, 3)
    assert photo.read(photo.encode(read, format="jpeg")).pixels.shape == (WIDTH, HEIGHT, 3)


def test_the_comment_of_a_jpeg_stays():
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG", comment=b"by hand")
    data = photo.encode(photo.read(out.getvalue()), format="jpeg")
    assert Image.open(BytesIO(data)).info["comment"] == b"by hand"


def test_xmp_longer_than_a_jpeg_segment_is_written_as_extended_xmp():
    long = XMP + b"<!--" + bytes(range(48, 58)) * 20000 + b"-->"
    data = photo.encode(full(xmp=long, exif=b""), format="jpeg")
    image = Image.open(BytesIO(data))
    assert b"HasExtendedXMP" in image.info["xmp"]
    head = len(b"http://ns.adobe.com/xmp/extension/\0") + 40
    parts = [part for name, part in image.applist if name == "APP1" and part.startswith(b"http://ns.adobe.com/xmp/ext")]
    assert b"".join(part[head:] for part in parts) == long
    again = Image.open(BytesIO(photo.encode(photo.read(data), format="jpeg")))
    assert [part for part in image.applist if b"xmp/ext" in part[1]] == [
        part for part in again.applist if b"xmp/ext" in part[1]
    ]


def test_exif_longer_than_a_jpeg_segment_loses_only_its_long_tags():
    exif = Image.Exif()
    exif[271] = "Acme"
    exif.get_ifd(0x8769)[37500] = bytes(70000)
    read = photo.read(photo.encode(full(exif=exif.tobytes()[6:]), format="png"))
    main, below, _, _ = tags(photo.read(photo.encode(read, format="jpeg")).metadata.exif)
    assert main[271] == "Acme"
    assert 37500 not in below


def test_a_resolution_that_was_not_stated_is_not_invented():
    for sort in ("JPEG", "PNG", "TIFF"):
        out = BytesIO()
        Image.fromarray(PIXELS).save(out, sort)
        assert photo.read(out.getvalue()).metadata.dpi is None


def test_a_turned_photo_has_its_resolution_turned():
    read = photo.read(photo.encode(full(), format="png"))
    assert read.metadata.dpi == pytest.approx((240, 300), abs=0.02)


@pytest.mark.parametrize("at", [0, 4, 9, 20, 60, 203, 402, 420])
@pytest.mark.parametrize("value", [0, 0xFF])
def test_damaged_exif_never_costs_the_photo(at, value):
    damaged = bytearray(block())
    damaged[at : at + 4] = bytes([value]) * 4
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG", exif=b"Exif\0\0" + bytes(damaged))
    read = photo.read(out.getvalue())
    for sort in ("jpeg", "png", "tiff", "webp", "avif"):
        photo.read(photo.encode(read, format=sort))


@pytest.mark.parametrize("length", [0, 3, 8, 13, 40, 101, 210, 290, 410, 425, 455])
def test_exif_that_is_cut_off_never_costs_the_photo(length):
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG", exif=b"Exif\0\0" + block()[:length])
    read = photo.read(out.getvalue())
    for sort in ("jpeg", "png", "tiff", "webp", "avif"):
        photo.read(photo.encode(read, format=sort))


def test_a_profile_for_gray_stays_out_of_coloured_files():
    gray = replace(full(icc=GRAY_ICC), pixels=PIXELS[..., :1].copy())
    assert photo.read(photo.encode(gray, format="webp")).metadata.icc == b""
    for sort in ("jpeg", "png", "tiff", "avif"):
        assert photo.read(photo.encode(gray, format=sort)).metadata.icc == GRAY_ICC
