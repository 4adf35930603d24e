"""Colours that code points name (CICP, nclx) are named in the result too, or the format is refused before any work."""

import base64
import zlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from deblur_cli.errors import UsageError
from deblur_cli.files import boxes, cicp, large, photo
from deblur_cli.files.cicp import Cicp
from deblur_cli.files.photo import Metadata, Photo
from deblur_cli.files.scratch import Scratch

P3, PQ, SDR = Cicp(12, 13), Cicp(9, 16), Cicp(1, 1)
PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)).resize((40, 24), 3)
)
TEN_BITS = base64.b64decode("""
AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAA
AAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAQwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEA
AGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAEAAAABAAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAA
AAAAE2NvbHJuY2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAS21kYXQSAAoIOAz/2sCAgaQyNRICQ0qAgggvIAAA
yWMt59QF3J1g/0LO+k4BjEruwFb3EJcMnkYPaol/Zlu2L7c1Ikpe6JiA""")  # a slope of gray, written by libavif


def heic(meant, pixels=PIXELS, mode="RGB", matrix=6):
    heif = pytest.importorskip("pillow_heif")
    out, size = BytesIO(), (pixels.shape[1], pixels.shape[0])
    said = {"color_primaries": meant.primaries, "transfer_characteristics": meant.transfer}
    said |= {"matrix_coefficients": matrix, "full_range_flag": 1}
    heif.encode(mode, size, pixels.tobytes(), out, quality=95, chroma=444, **said)
    return out.getvalue()


def avif(meant, **options):
    """An AVIF whose label is not the one that Pillow gives to all."""
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "AVIF", subsampling="4:4:4", **options)
    plain, label = b"colrnclx", bytes((0, meant.primaries, 0, meant.transfer))
    at = out.getvalue().index(plain) + len(plain)
    return out.getvalue()[:at] + label + out.getvalue()[at + 4 :]


def png(meant, *more):
    out = BytesIO()
    Image.fromarray(PIXELS).save(out, "PNG")
    kind, payload = meant.chunk
    chunk = len(payload).to_bytes(4, "big") + kind + payload + zlib.crc32(kind + payload).to_bytes(4, "big")
    return out.getvalue()[:33] + b"".join((chunk, *more)) + out.getvalue()[33:]


def label_of_heic(data):
    heif = pytest.importorskip("pillow_heif")
    found = heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False).info["nclx_profile"]
    return tuple(
        found[f"{name}"]
        for name in ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
    )


SOURCES = {"heic": heic, "avif": avif, "png": png}


@pytest.mark.parametrize("meant", [P3, PQ, SDR], ids=str)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("keep", [True, False])
def test_code_points_are_kept_where_the_format_names_them(source, meant, keep):
    read = photo.read(SOURCES[source](meant))
    assert read.metadata.cicp == meant
    again = photo.encode(read, format="png", keep_metadata=keep)
    assert again.count(b"cICP" + bytes((meant.primaries, meant.transfer, 0, 1))) == again.count(b"cICP") == 1
    assert np.array_equal(photo.read(again).pixels, read.pixels)
    again = photo.encode(read, format="avif", keep_metadata=keep)
    assert b"colrnclx" + bytes((0, meant.primaries, 0, meant.transfer)) in again
    pytest.importorskip("pillow_heif")
    again = photo.encode(read, format="heic", keep_metadata=keep)
    assert label_of_heic(again) == (meant.primaries, meant.transfer, 9 if meant == PQ else 6, 1)
    assert np.abs(photo.read(again).pixels.astype(int) - read.pixels).mean() < 1


def test_a_heic_of_ten_bits_in_pq_stays_one():
    read = photo.read(heic(PQ, PIXELS.astype(np.uint16) * 257, "RGB;16", matrix=9))
    assert read.pixels.dtype == np.uint16
    assert label_of_heic(photo.encode(read, format="heic")) == (9, 16, 9, 1)


@pytest.mark.parametrize("sort", ["jpeg", "tiff", "webp"])
@pytest.mark.parametrize("keep", [True, False])
def test_display_p3_becomes_a_profile_where_that_is_what_the_format_has(sort, keep):
    read = photo.read(avif(P3))
    photo.check_fit(read, format=sort, name="x")
    data = photo.encode(read, format=sort, keep_metadata=keep)
    profile = ImageCms.ImageCmsProfile(BytesIO(Image.open(BytesIO(data)).info["icc_profile"]))
    assert ImageCms.getProfileDescription(profile).strip() == "Display P3"


def test_the_profiles_are_those_that_others_publish():
    """The colorants are published ones of Display P3 and BT.2020, and littleCMS makes of sRGB's red what is known of it."""
    published = {
        P3: ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
        Cicp(9, 14): ((0.67348, 0.27904, -0.00193), (0.16566, 0.67534, 0.02998), (0.12505, 0.04562, 0.79686)),
    }
    for meant, wanted in published.items():
        found = ImageCms.ImageCmsProfile(BytesIO(meant.profile())).profile
        colorants = [each[0] for each in (found.red_colorant, found.green_colorant, found.blue_colorant)]
        assert np.allclose(colorants, wanted, atol=1e-4)
        assert np.allclose(found.media_white_point[0], (0.9642, 1, 0.8249), atol=1e-4)
    profile = ImageCms.ImageCmsProfile(BytesIO(P3.profile()))
    colours = Image.fromarray(np.array([[[255, 0, 0], [128, 128, 128], [255, 255, 255]]], np.uint8))
    turned = np.asarray(ImageCms.profileToProfile(colours, ImageCms.createProfile("sRGB"), profile))
    assert turned.tolist() == [[[234, 51, 35], [128, 128, 128], [255, 255, 255]]]


@pytest.mark.parametrize("meant", [Cicp(5, 6), Cicp(6, 6), Cicp(9, 1), Cicp(12, 1)], ids=str)
def test_colours_of_video_that_a_profile_describes_go_into_a_jpeg(meant):
    data = photo.encode(photo.read(avif(meant)), format="jpeg")
    assert Image.open(BytesIO(data)).info["icc_profile"] == meant.profile() != b""


@pytest.mark.parametrize("sort", ["jpeg", "tiff", "webp", "bmp"])
def test_light_that_no_profile_describes_is_refused_before_any_work(sort):
    read = photo.read(avif(PQ))
    for attempt in (photo.check_fit, photo.encode):
        with pytest.raises(UsageError, match=r"cannot be a .* CICP 9/16 \(BT\.2020, PQ\)") as refused:
            attempt(read, format=sort, name="x")
        assert refused.value.hint == "Write a PNG or a HEIC instead."


def test_display_p3_goes_into_a_bmp_as_a_profile():
    data = photo.encode(photo.read(png(P3)), format="bmp")
    assert photo.read(data).metadata.icc == P3.profile() != b""


@pytest.mark.parametrize("sort", ["jpeg", "tiff", "webp", "bmp"])
def test_what_is_as_good_as_srgb_goes_anywhere(sort):
    for meant in (SDR, Cicp(1, 6), Cicp(2, 1)):
        data = photo.encode(photo.read(avif(meant)), format=sort)
        assert "icc_profile" not in Image.open(BytesIO(data)).info
    gray = Photo(pixels=PIXELS[..., :1].copy(), alpha=None, metadata=Metadata(cicp=P3), format="png")
    assert photo.read(photo.encode(gray, format=sort)).metadata.icc == b""


@pytest.mark.parametrize("points", [(1, 13), (2, 2), (0, 0), (3, 13), (700, 900)])
def test_code_points_that_say_nothing_new_are_no_label(points):
    assert cicp.named(*points) is None


def test_a_profile_goes_before_code_points_but_in_png():
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    read = photo.read(avif(P3, icc_profile=own))
    assert (read.metadata.icc, read.metadata.cicp) == (own, None)
    packed = b"p\0\0" + zlib.compress(own)
    chunk = len(packed).to_bytes(4, "big") + b"iCCP" + packed + zlib.crc32(b"iCCP" + packed).to_bytes(4, "big")
    both = photo.read(png(PQ, chunk))
    assert (both.metadata.icc, both.metadata.cicp) == (own, PQ)
    assert photo.read(photo.encode(both, format="jpeg")).metadata.icc == own
    assert photo.encode(both, format="png").count(b"cICP") == 1


def test_a_png_of_narrow_range_stays_a_png():
    read = photo.read(png(replace(PQ, full=False)))
    assert b"cICP\t\x10\0\0" in photo.encode(read, format="png")
    for sort in ("jpeg", "avif", "tiff"):
        with pytest.raises(UsageError, match="narrow range") as refused:
            photo.check_fit(read, format=sort, name="x")
        assert refused.value.hint == "Write a PNG instead."


def test_boxes_that_contradict_themselves_say_nothing():
    """Nothing that a file says of its own sizes leads astray."""
    data, dice = avif(PQ), np.random.default_rng(0)
    assert boxes.colours(data) == PQ
    for length in range(0, 400, 3):
        boxes.colours(data[:length])
    for _ in range(3000):
        forged = bytearray(data)
        for at in dice.integers(0, 320, 3):
            forged[at] = dice.choice((0, 1, 127, 255, dice.integers(0, 256)))
        boxes.colours(forged)
        boxes.depth(forged)


def test_an_avif_of_ten_bits_is_told_to_be_read_to_eight(tmp_path):
    read = photo.read(TEN_BITS, name="ten.avif")
    assert read.notices == ("'ten.avif' has 10 bits per sample, of which AVIF is read to 8.",)
    (tmp_path / "ten.avif").write_bytes(TEN_BITS)
    with Scratch(tmp_path) as room:
        assert large.read(tmp_path / "ten.avif", room, "ten.avif").notices == read.notices
    assert photo.read(avif(P3)).notices == ()
