"""The wheel holds the package, its table of weights and the weights, and nothing else."""

import os
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

import deblur_cli
from deblur_cli.files import weights

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "deblur_cli"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> ZipFile:
    build = pytest.importorskip("hatchling.build", reason="the backend that builds the wheel is not installed")
    place, before = tmp_path_factory.mktemp("wheel"), Path.cwd()
    os.chdir(ROOT)  # where a build backend is called
    try:
        name = build.build_wheel(str(place))
    finally:
        os.chdir(before)
    return ZipFile(place / name)


def test_the_wheel_holds_every_module_and_the_files_that_they_read(wheel):
    modules = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    bundled = {f"deblur_cli/bundled/{each.bundled}" for each in weights.entries().values() if each.bundled}
    tables = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.toml")}
    held = {name for name in wheel.namelist() if name.startswith("deblur_cli/")}
    assert held == modules | bundled | tables | {"deblur_cli/py.typed", "deblur_cli/weights.toml"}
    assert wheel.read("deblur_cli/weights.toml") == (ROOT / "weights.toml").read_bytes()


def test_beside_the_package_the_wheel_holds_only_what_describes_it(wheel):
    described = f"deblur_cli-{deblur_cli.__version__}.dist-info/"
    held = {name.removeprefix(described) for name in wheel.namelist() if not name.startswith("deblur_cli/")}
    assert held == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    told = message_from_bytes(wheel.read(described + "METADATA"))
    assert (told["Name"], told["Version"]) == ("deblur-cli", deblur_cli.__version__)
    assert wheel.read(described + "entry_points.txt") == b"[console_scripts]\ndeblur = deblur_cli.cli:main\n"


def test_the_weights_that_need_no_network_are_small_enough_to_ship(wheel):
    shipped = [each for each in wheel.infolist() if each.filename.startswith("deblur_cli/bundled/")]
    assert all(each.file_size <= 20e6 for each in shipped)
