"""What the user is told of a licence: once, whoever knows of it."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import FIRST, Hub, Repository
from PIL import Image

from deblur_cli.cli import main
from deblur_cli.files.label import Label
from deblur_cli.files.origins import notice
from deblur_cli.nets.mprnet import MPRNet, MPRNetConfig


@pytest.mark.parametrize("command", ["restore", "convert"])
@pytest.mark.parametrize("named", [True, False], ids=["row", "path"])
def test_that_weights_are_not_for_commerce_is_said_once(
    named: bool, command: str, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mprnet.pth"
    torch.save(MPRNet(MPRNetConfig(width=4, growth=2, stages=1)).state_dict(), path)
    content = path.read_bytes()
    hub.repositories["owner/net"] = Repository(files={path.name: content})
    listed = tmp_path / "mine.toml"
    listed.write_text(
        f'''[mine]
net = "mprnet"
hub = "owner/net"
file = "{path.name}"
revision = "{FIRST}"
sha256 = "{hashlib.sha256(content).hexdigest()}"
size = {len(content)}
licence = "Academic Public License (non-commercial)"
non_commercial = true
trained_on = "nothing"
'''
    )
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photo.png")
    name = ["mine", "--weights-list", str(listed)] if named else [str(path)]
    words = {
        "restore": [str(tmp_path / "photo.png"), "--device", "cpu", "--weights", *name],
        "convert": ["weights", "convert", "-o", str(tmp_path / "ours.safetensors"), *name],
    }
    with pytest.raises(SystemExit) as stop:
        main(words[command])
    assert not stop.value.code
    told = [line for line in capsys.readouterr().err.splitlines() if "commercial use" in line]
    assert len(told) == 1
    assert "Academic Public License" in told[0]


@pytest.mark.parametrize(
    ("licence", "bound"),
    [
        ("CC-BY-NC-4.0", True),
        ("CC BY-NC-SA 4.0", True),
        ("Academic Public License (non-commercial)", True),
        ("MIT", False),
        ("Apache-2.0", False),
        ("that of whoever trained it", False),
    ],
)
def test_a_licence_that_forbids_commerce_is_known_by_its_name(licence: str, bound: bool) -> None:
    label = Label(net="unet", config={}, made_with="tests", licence=licence, trained_on="nothing")
    assert ("not for commercial use" in notice(label)) is bound
