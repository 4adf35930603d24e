"""XMP goes on to say what it said, less what it promised of a video or a gain map that does not come along."""

from io import BytesIO
from xml.parsers import expat

import numpy as np
import pytest
from PIL import Image

from deblur_cli.files import large, photo, xmp
from deblur_cli.files.scratch import Scratch

SPACES = (
    b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:Container="http://ns.google.com/photos/1.0/container/"'
    b' xmlns:Item="http://ns.google.com/photos/1.0/container/item/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
    b' xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
HEAD = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
HEAD += b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n<rdf:Description rdf:about="" ' + SPACES
TAIL = b"</rdf:RDF></x:xmpmeta>\n   \n<?xpacket end='w'?>"
WORDS = '<dc:title>a &lt; "été" > b</dc:title>'.encode()


def directory(*items):
    parts = b"".join(
        b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="%b" Item:Length="4711"/></rdf:li>' % item
        for item in items
    )
    return b"<Container:Directory><rdf:Seq>" + parts + b"</rdf:Seq></Container:Directory>"


def packet(attributes=b"", elements=b""):
    return HEAD + attributes + b">" + WORDS + elements + b"</rdf:Description>\n" + TAIL


def jpeg(said):
    out = BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(out, "JPEG", xmp=said)
    return out.getvalue() + b"ftyp the video that was behind"


VIDEO = "'x.jpg' has a video behind the picture, which is not carried over."
GAIN_MAP = VIDEO.replace("video", "gain map")
CASES = {
    "attributes of a motion photo": (
        packet(b' GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', directory(b"Primary", b"MotionPhoto")),
        packet(b' GCamera:MotionPhoto="0" GCamera:MotionPhotoVersion="1"'),
        VIDEO,
    ),
    "elements of a motion photo": (
        packet(b"", b"<GCamera:MotionPhoto>1</GCamera:MotionPhoto><GCamera:MotionPhotoVersion/>"),
        packet(b"", b"<GCamera:MotionPhoto>0</GCamera:MotionPhoto><GCamera:MotionPhotoVersion/>"),
        VIDEO,
    ),
    "a micro video": (
        packet(b'\n GCamera:MicroVideo=\'1\'\n GCamera:MicroVideoOffset = "2107"\n dc:x=\'"GCamera:MicroVideo="1"\''),
        packet(b'\n GCamera:MicroVideo=\'0\'\n GCamera:MicroVideoOffset = "0"\n dc:x=\'"GCamera:MicroVideo="1"\''),
        VIDEO,
    ),
    "an Ultra HDR photo": (
        packet(b' hdrgm:Version="1.0" dc:x="1"', directory(b"Primary", b"GainMap") + b"<dc:y/>"),
        packet(b' dc:x="1"', b"<dc:y/>"),
        GAIN_MAP,
    ),
    "a gain map's version as an element": (
        packet(b"", b"<hdrgm:Version>1.0</hdrgm:Version><dc:y/>"),
        packet(b"", b"<dc:y/>"),
        GAIN_MAP,
    ),
    "both": (
        packet(b' hdrgm:Version="1.0" GCamera:MotionPhoto="1"', directory(b"Primary", b"GainMap", b"MotionPhoto")),
        packet(b' GCamera:MotionPhoto="0"'),
        "'x.jpg' has a gain map and a video behind the picture, which are not carried over.",
    ),
    "a depth map": (
        packet(b"", directory(b"Primary", b"Depth")),
        packet(),
        "'x.jpg' has a further picture behind the picture, which is not carried over.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_promise_that_is_not_kept_is_taken_back_and_told(case, tmp_path):
    before, after, told = CASES[case]
    (tmp_path / "x.jpg").write_bytes(jpeg(before))
    read = photo.read(tmp_path / "x.jpg", name="x.jpg")
    assert read.metadata.xmp == after
    assert read.notices == (told,)
    again = photo.encode(read, format="jpeg")
    assert Image.open(BytesIO(again)).info["xmp"] == after
    assert photo.read(again).notices == ()
    expat.ParserCreate(namespace_separator=" ").Parse(after, True)  # raises over what is not well-formed
    with Scratch(tmp_path) as room:
        twin = large.read(tmp_path / "x.jpg", room, "x.jpg")
        assert (twin.metadata.xmp, twin.notices) == (after, (told,))


def test_other_prefixes_of_the_same_names_count_and_other_names_of_the_same_prefix_do_not():
    said = packet(b' Camera:MotionPhoto="1"').replace(b"xmlns:GCamera", b"xmlns:Camera")
    assert photo.read(jpeg(said)).metadata.xmp == said.replace(b'MotionPhoto="1"', b'MotionPhoto="0"')
    said = packet(b' dc:MotionPhoto="1" dc:Version="2"')
    read = photo.read(jpeg(said))
    assert (read.metadata.xmp, read.notices) == (said, ())


@pytest.mark.parametrize(
    "said",
    [
        packet(b' GCamera:MotionPhoto="1"')[:-40],
        packet(b' GCamera:MotionPhoto="1"').decode().encode("utf-16-le"),
        packet(b' GCamera:MotionPhoto="1"').decode().encode("utf-16-be"),
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>" + packet(b' GCamera:MotionPhoto="1"'),
        packet(b"", b"<GCamera:MotionPhoto><rdf:Seq/></GCamera:MotionPhoto>"),
        packet(b"", b'<dc:y xmlns:GCamera="else" GCamera:MotionPhoto="1"/>'),
    ],
    ids=["cut off", "UTF-16", "UTF-16 the other way", "entities", "no plain value", "a prefix of two meanings"],
)
def test_a_packet_that_cannot_be_mended_stays_and_is_told(said):
    read = photo.read(jpeg(said), name="x.jpg")
    assert read.metadata.xmp == said.rstrip(b"\0")
    (told,) = read.notices
    assert told.startswith("'x.jpg' may have a video or a gain map: neither is carried over")


def test_damage_never_costs_the_photo():
    whole, dice = CASES["both"][0], np.random.default_rng(0)
    for _ in range(500):
        torn = bytearray(whole)
        for at in dice.integers(0, len(whole), 2):
            torn[at] = dice.choice(np.frombuffer(b"<>/\"'= :a\0", np.uint8))
        after, told = xmp.without_promises(bytes(torn))
        assert told or after == torn
