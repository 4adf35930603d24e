"""Released weights: every row stands for a file, and a file that was changed is refused."""

import argparse
import hashlib
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from deblur_cli import nets
from deblur_cli.deblurrer.loading import load
from deblur_cli.errors import WeightsError
from deblur_cli.files import checkpoint, rows, sums, weights
from deblur_cli.nets.motion import MotionConfig
from deblur_cli.nets.motion_unet import MotionUNet, MotionUNetConfig

CONTENT = b"a checkpoint, for all that this file knows"
ROW = {
    "net": "unet",
    "bundled": "unet-tests-1.safetensors",
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "size": len(CONTENT),
    "licence": "Apache-2.0",
    "trained_on": "nothing",
}


def _toml(row: dict[str, str | int]) -> str:
    lines = [f"{name} = {value!r}".replace("'", '"') for name, value in row.items()]
    return "\n".join(["[aliases]", 'default = "unet-tests-1"', "[unet-tests-1]", *lines])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with one row and its file, in a working directory of its own."""
    place = tmp_path / "package"
    (place / "bundled").mkdir(parents=True)
    (place / "bundled" / "unet-tests-1.safetensors").write_bytes(CONTENT)
    (place / "weights.toml").write_text(_toml(ROW))
    monkeypatch.setattr(weights, "_PACKAGE", place)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    weights._table.cache_clear()
    yield place
    weights._table.cache_clear()


def test_every_row_of_the_package_stands_for_a_checkpoint_that_agrees_with_it() -> None:
    bundled = [entry for entry in weights.entries().values() if entry.bundled]
    assert bundled
    for entry in bundled:
        label = checkpoint.read_label(weights.locate(entry.name))
        assert (label.net, label.licence, label.trained_on) == (entry.net, entry.licence, entry.trained_on)
        assert (bool(label.config.get("prior")), label.precisions) == (entry.prior, entry.precisions)
        assert entry.size <= 20_000_000


def test_every_row_has_a_net_that_there_is_and_says_how_it_was_scored() -> None:
    for name, entry in weights.entries().items():
        assert entry.net in nets.NETS
        assert name.startswith(entry.net)
        assert entry.scores
        assert entry.protocol
        assert rows.read(tomllib.loads(rows.text(entry))) == {name: entry}


def test_a_release_prints_a_row_that_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(Path(__file__).parent / "measure_weights.py"))
    score, source = script["Score"], weights.locate("unet-prior-photos-1")
    measured = [score("mild", 20.0, 21.0, 0.5, 0.6), score("still", 50.0, 51.0, 0.9, 0.9)]
    scores, protocol = script["table"](measured), script["protocol"](measured)
    capsys.readouterr()
    words = argparse.Namespace(made_with="", trained_on="", licence="MIT", notes="")
    script["release"](source, tmp_path / "unet-x-1.safetensors", words, scores, protocol, -0.5)
    row = rows.read(tomllib.loads(capsys.readouterr().out))["unet-x-1"]
    assert (row.net, row.prior, row.bundled, row.licence) == ("unet", True, "unet-x-1.safetensors", "MIT")
    assert (row.scores["psnr mild"], row.precisions) == (21.0, {"bf16": -0.5})
    assert "1 images blurred by synthesis" in row.protocol
    label = checkpoint.read_label(tmp_path / "unet-x-1.safetensors")
    assert (label.scores, label.precisions) == (row.scores, row.precisions)
    assert sums.fault(tmp_path / "unet-x-1.safetensors", sha256=row.sha256, size=row.size) == ""


def test_what_is_measured_in_the_mean_of_a_movement_is_the_net_without_mid_exposure(tmp_path: Path) -> None:
    script = runpy.run_path(str(Path(__file__).parent / "measure_weights.py"))
    config = MotionUNetConfig(
        width=4, blocks=(1, 1, 1), motion=MotionConfig(width=8, blocks=1), phases=True, midway=True
    )
    torch.manual_seed(0)
    net = MotionUNet(config).eval()
    for part in (net.phases, net.midway):
        assert part is not None
        for each in part.parameters():
            torch.nn.init.normal_(each, std=0.1)
    label = checkpoint.Label(
        net="motion-unet", config=nets.to_mapping(config), made_with="a test", licence="MIT", trained_on="nothing"
    )
    checkpoint.save(checkpoint.Checkpoint(label=label, tensors=net.state_dict()), tmp_path / "net.safetensors")
    (tmp_path / "mean").mkdir()
    kept = script["in_the_mean"](tmp_path / "net.safetensors", tmp_path / "mean")
    image = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        moved, found = net(image)[0], load(kept)[1](image)[0]
        net.midway = None
        assert torch.equal(found, net(image)[0])
    assert not torch.equal(found, moved)


def test_every_alias_names_a_row_that_needs_no_network() -> None:
    for alias, name in weights.aliases().items():
        assert alias not in weights.entries()
        assert weights.locate(alias) == weights.locate(name)


@pytest.mark.network
@pytest.mark.parametrize("name", [entry.name for entry in weights.entries().values() if entry.hub])
def test_every_row_of_the_hub_is_what_the_hub_has_at_both_places(name: str) -> None:
    import huggingface_hub

    entry = weights.entries()[name]
    for place in entry.places:
        found = huggingface_hub.get_hf_file_metadata(place.url)
        assert (found.etag, found.size) == (entry.sha256, entry.size), place


@pytest.mark.parametrize("name", ["unet-tests-1", "default"])
def test_a_name_is_the_file_of_its_row(name: str, package: Path) -> None:
    assert weights.locate(name) == package / "bundled" / "unet-tests-1.safetensors"


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"X", b"", None])
def test_a_changed_file_is_refused(content: bytes | None, package: Path) -> None:
    path = package / "bundled" / "unet-tests-1.safetensors"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"was changed|cannot be read") as caught:
        weights.locate("default")
    assert caught.value.hint.startswith("Install")


def test_a_path_is_given_back(package: Path) -> None:
    for name in ("mine.safetensors", "mine", "deep/mine.bin"):
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        assert weights.locate(name) == path


@pytest.mark.parametrize("name", ["mine.safetensors", "deep/mine", "./default"])
def test_a_path_that_is_not_there_is_told(name: str, package: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        weights.locate(name)


@pytest.mark.parametrize("name", ["~nobody-at-all/net.safetensors", "a" * 300])
def test_a_name_that_no_disk_can_hold_is_told(name: str, package: Path) -> None:
    with pytest.raises(WeightsError):
        weights.known(name)


def test_a_name_that_is_not_there_brings_the_nearest_one(package: Path) -> None:
    with pytest.raises(WeightsError, match="neither a file nor one of default, unet-tests-1") as caught:
        weights.locate("unet-test-1")
    assert caught.value.hint == "Did you mean unet-tests-1?"
    with pytest.raises(WeightsError) as caught:
        weights.locate("defualt.safetensors")
    assert caught.value.hint == "Did you mean default?"
    with pytest.raises(WeightsError) as caught:
        weights.locate("zzz")
    assert "Did you mean" not in caught.value.hint


def test_a_package_without_weights_is_legal(package: Path) -> None:
    (package / "weights.toml").write_text("[aliases]\n")
    assert weights.entries() == weights.aliases() == {}
    with pytest.raises(WeightsError, match="no weights"):
        weights.locate("default")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
        {"size": 0},
        {"net": ""},
        {"licence": ""},
        {"bundled": "../x.safetensors"},
        {"bundled": "x.pth"},
        {"colour": "blue"},
        {"hub": "owner/name"},
        {"bundled": ""},
        {"size": "large"},
        {"scores": "good"},
    ],
)
def test_a_wrong_row_is_our_own_mistake(wrong: dict[str, str | int], package: Path) -> None:
    (package / "weights.toml").write_text(_toml(ROW | wrong))
    with pytest.raises(ValueError, match=r"weights\.toml"):
        weights.entries()


@pytest.mark.parametrize(
    "wrong",
    [
        {"hub": "name"},
        {"hub": "owner/na--me"},
        {"mirror": "name"},
        {"file": "x.exe"},
        {"file": "../x.pth"},
        {"file": ""},
        {"revision": "main"},
        {"revision": "1" * 39},
        {"non_commercial": "no"},
    ],
)
def test_a_row_of_the_hub_names_a_repository_a_file_and_a_commit(wrong: dict[str, str]) -> None:
    right = {**ROW, "bundled": "", "hub": "owner/name", "file": "x.pth", "revision": "1" * 40}
    assert [str(each) for each in rows.read({"x": {**right, "mirror": "a/b@v1"}})["x"].places] == [
        f"hf://owner/name@{'1' * 40}/x.pth",
        "hf://a/b@v1/x.pth",
    ]
    with pytest.raises(ValueError, match="x "):
        rows.read({"x": right | wrong})


def test_an_incomplete_row_and_a_lost_alias_are_our_own_mistakes(package: Path) -> None:
    (package / "weights.toml").write_text(_toml({name: value for name, value in ROW.items() if name != "licence"}))
    with pytest.raises(ValueError, match="licence"):
        weights.entries()
    weights._table.cache_clear()
    (package / "weights.toml").write_text('[aliases]\ndefault = "gone"\n')
    with pytest.raises(ValueError, match="gone"):
        weights.aliases()
