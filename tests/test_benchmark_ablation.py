"""The paper's Table 4 from a folder of checkpoints: which net is which, and the paper's figures beside the measured ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.cli import main
from deblur_cli.errors import InputError
from deblur_cli.files.checkpoint import Checkpoint, Label, save
from deblur_cli.nets import to_mapping
from deblur_cli.nets.ablation import TABLE4
from deblur_cli.nets.prior import PriorConfig
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.scorer import ablation, reported

PRIOR = PriorConfig(widths=(4, 4, 4), channels=(4, 4, 4), blocks=(1, 1, 1))


def trained(folder: Path, name: str, row: str) -> None:
    """The checkpoint of ``row``, named as ``name``."""
    net = UNet(UNetConfig(width=4, blocks=(1, 1, 1), prior=TABLE4[row].prior(replace(PRIOR))))
    label = Label(net="unet", config=to_mapping(net.config), made_with="a test", licence="MIT", trained_on="nothing")
    path = folder / name / "best.safetensors"
    path.parent.mkdir(parents=True)
    save(Checkpoint(label=label, tensors=net.state_dict()), path)


def test_every_row_is_found_by_its_name_in_the_order_of_the_table(tmp_path: Path) -> None:
    for row in reversed(TABLE4):
        trained(tmp_path, row.replace("*", "-star"), row)
    assert list(ablation.find(tmp_path)) == list(TABLE4)


@pytest.mark.parametrize(("name", "row"), [("Net0", "Net6"), ("Net6", "Net0"), ("Net3", "Net4"), ("Net1", "Net2")])
def test_a_net_that_is_another_one_is_refused(tmp_path: Path, name: str, row: str) -> None:
    trained(tmp_path, name, row)
    with pytest.raises(InputError, match=f"is not {name}: its prior is"):
        ablation.find(tmp_path)


def test_a_folder_without_any_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of Net0") as caught:
        ablation.find(tmp_path)
    assert "best.safetensors" in caught.value.hint


def test_table_4_stands_beside_what_was_measured(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for row in ("Net0", "Net5"):
        trained(tmp_path / "nets", row, row)
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    for side in ("blur", "sharp"):
        path = tmp_path / "GOPRO_Large" / "test" / "S1" / side / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(noise).save(path)
    words = ("benchmark", "--data", ".", "--ablation", "nets", "--compare-paper", "--limit", "1", "--device", "cpu")
    with pytest.raises(SystemExit) as stop:
        main((*words, "--output", "r.json"))
    assert stop.value.code == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown if " all " in line] == ["Net0", "Net5"]
    quoted = [line for line in shown if "Table 4" in line]
    assert len(quoted) == 8
    assert "31.0608" in quoted[-1]
    assert "0.0745" in quoted[-1]
    assert [each["name"] for each in json.loads(Path("r.json").read_text())["weights"]] == ["Net0", "Net5"]


def test_the_rows_of_the_paper_are_those_of_the_nets() -> None:
    rows = reported.rows("ablation")
    assert [row.method.partition(" ")[0] for row in rows] == list(TABLE4)
    for row in rows:
        parts = TABLE4[row.method.partition(" ")[0]]
        said = row.method.partition("(")[2].rstrip(")").split(", ")
        fusion = {"sat": "SAT", "add": "Add", "concat": "Concat"}[parts.fusion]
        wanted = [name for name, has in (("HCL", parts.distill), ("CLC", parts.clc), ("MLA", parts.mla)) if has]
        assert said == ([*wanted, fusion] if parts.guided else ["no prior"])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
