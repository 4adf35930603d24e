"""Checkpoints: what is written comes back, and what is none is said to be none."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from deblur_cli.errors import DeblurError, InputError, WeightsError
from deblur_cli.files import checkpoint

LABEL = checkpoint.Label(
    net="unet",
    config={"width": 4, "blocks": [1, 1, 1], "prior": None, "name": "ü"},
    made_with="deblur 0.0, --steps 1",
    licence="Apache-2.0",
    trained_on="two photographs: 'Ägypten' and \"Nil\"",
    scores={"psnr val": 30.25},
    precisions={"bf16": -0.001},
    notes="",
)


def _checkpoint(label: checkpoint.Label = LABEL) -> checkpoint.Checkpoint:
    tensors = {
        "b.weight": torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last),
        "a.bias": torch.randn(7).bfloat16(),
        "half": torch.randn(2, 2).half().T,
        "count": torch.tensor(3),
    }
    return checkpoint.Checkpoint(label=label, tensors=tensors)


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


def _forge(path: Path, **changes: str | None) -> Path:
    """A whole checkpoint whose label was edited by hand."""
    checkpoint.save(_checkpoint(), path)
    metadata = {name: text for name, text in (_metadata(path) | changes).items() if text is not None}
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata=metadata)
    return path


def test_label_and_tensors_come_back(tmp_path: Path) -> None:
    saved, path = _checkpoint(), tmp_path / "über.safetensors"
    checkpoint.save(saved, path)
    loaded = checkpoint.load(path)
    assert loaded.label == saved.label
    assert checkpoint.read_label(path) == saved.label
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype


def test_the_same_checkpoint_is_the_same_bytes(tmp_path: Path) -> None:
    saved = _checkpoint()
    backwards = checkpoint.Checkpoint(label=LABEL, tensors=dict(reversed(saved.tensors.items())))
    files = []
    for index, each in enumerate([saved, backwards] * 4):
        checkpoint.save(each, tmp_path / str(index))
        files.append((tmp_path / str(index)).read_bytes())
    assert len(set(files)) == 1


def test_the_header_is_readable_text_sorted_and_aligned(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(_checkpoint(), path)
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert length % 8 == 0
    assert list(metadata) == sorted(metadata)
    assert metadata["trained_on"] == LABEL.trained_on
    assert json.loads(metadata["config"]) == LABEL.config


def test_nothing_is_left_aside_and_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_text("older")
    checkpoint.save(_checkpoint(), path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]
    assert checkpoint.read_label(path) == LABEL


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be written"):
        checkpoint.save(_checkpoint(), tmp_path / "no" / "x.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match="could not be written"):
        checkpoint.save(_checkpoint(), tmp_path / "folder.safetensors")
    assert [each.name for each in tmp_path.iterdir()] == ["folder.safetensors"]


def _whole() -> bytes:
    return safetensors.torch.save({"a": torch.zeros(9)}, metadata={"net": "unet", "config": "{}", "format": "1"})


OTHERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"this is no checkpoint, but a letter to a friend", "no checkpoint"),
    "short text": (b"hi", "no checkpoint"),
    "torn in the header": (_whole()[:30], "torn"),
    "torn in the tensors": (_whole()[:-3], "torn"),
    "with a tail": (_whole() + b"\0" * 8, "torn"),
    "zeros": (b"\0" * 100, "no checkpoint"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "pickle"),
    "pickle": (b"\x80\x02}q\x00." + b"\0" * 20, "pickle"),
    "without a label": (safetensors.torch.save({"a": torch.zeros(1)}), "no label"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_file_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(OTHERS[kind][0])
    for read in (checkpoint.load, checkpoint.read_label):
        with pytest.raises(WeightsError, match=OTHERS[kind][1]) as caught:
            read(path)
        assert str(path) in caught.value.message
        assert "\n" not in str(caught.value)


def test_a_pickle_of_torch_is_known_as_one(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="pickle"):
        checkpoint.load(tmp_path / "x.pth")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        checkpoint.load(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="is a folder"):
        checkpoint.load(tmp_path)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_forbidden_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(_whole())
    path.chmod(0)
    with pytest.raises(WeightsError, match="cannot be read"):
        checkpoint.load(path)


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = _forge(tmp_path / "x", format=str(checkpoint.FORMAT + 1), config="of another kind")
    with pytest.raises(WeightsError, match="knows formats up to") as caught:
        checkpoint.load(path)
    assert "Upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"format": "one"},
        {"format": "0"},
        {"format": "1.5"},
        {"kind": "photo"},
        {"net": ""},
        {"config": "{"},
        {"config": "[1]"},
        {"scores": "3"},
        {"precisions": '{"bf16": "little"}'},
        {"precisions": '{"bf16": true}'},
        {"licence": None},
    ],
)
def test_a_label_that_cannot_be_is_refused(change: dict[str, str | None], tmp_path: Path) -> None:
    path = _forge(tmp_path / "x", **change)
    with pytest.raises(WeightsError, match="label") as caught:
        checkpoint.load(path)
    assert str(path) in caught.value.message


def test_words_of_a_label_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    assert checkpoint.load(_forge(tmp_path / "x", colour="blue")).label == LABEL


@pytest.mark.parametrize("spoilt", [torch.tensor([float("nan")]), torch.zeros(2, dtype=torch.float64)])
def test_tensors_that_no_net_should_meet_are_refused(spoilt: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(checkpoint.Checkpoint(label=LABEL, tensors={"good": torch.ones(1), "bad": spoilt}), path)
    with pytest.raises(WeightsError, match="bad"):
        checkpoint.load(path)


@pytest.mark.parametrize("wrong", [{"kind": "teacher"}, {"net": ""}, {"format": 0}])
def test_our_own_wrong_labels_are_our_own_mistakes(wrong: dict[str, Any]) -> None:
    fields = {name: getattr(LABEL, name) for name in LABEL.__slots__} | wrong
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - that it is no DeblurError is what matters
        checkpoint.Label(**fields)
    assert not isinstance(caught.value, DeblurError)
