"""Devices and their memory: what is there is found, and what is absent is told."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deblur_cli.deblurrer import devices
from deblur_cli.errors import DeviceError
from deblur_cli.files import memory

CPU = torch.device("cpu")


def test_automatic_takes_the_fastest_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert devices.choose("auto").type == expected
    assert devices.choose("cpu") == CPU


@pytest.mark.parametrize("word", ["cuda:99", "tpu", "cpu:1", "cuda:", "cuda:x", "cuda:-1", "mps:0", ""])
def test_a_device_that_is_not_there_is_told_and_not_replaced(word: str) -> None:
    with pytest.raises(DeviceError) as caught:
        devices.choose(word)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_cuda_it_is_said_why() -> None:
    with pytest.raises(DeviceError, match=r"no CUDA device: (torch cannot|this torch)") as caught:
        devices.choose("cuda")
    assert "--device cpu" in caught.value.hint


def test_an_unknown_precision_is_told() -> None:
    with pytest.raises(DeviceError, match="no precision"):
        devices.precision("fp8", CPU, {})


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the flags are Linux's")
def test_bf16_is_found_where_the_processor_says_so() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert devices.has_bf16(CPU) == bool({"avx512_bf16", "amx_bf16"} & set(flags))


def test_there_is_some_memory_and_not_more_than_there_can_be() -> None:
    assert 2**20 < devices.free_bytes(CPU) < 2**50


def _group(folder: Path, limit: str, used: int, *, second: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(limit + "\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{'' if second else 'total_'}inactive_file 100\n")


def test_limits_of_control_groups_count_with_all_above(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    _group(tmp_path / "outer" / "inner", "max", 300, second=True)
    _group(tmp_path / "outer", "1000", 300, second=True)
    assert list(memory._groups(tmp_path, own)) == [800]


def test_limits_of_the_first_version_count_too(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("12:cpu,cpuacct:/job\n4:memory:/job\n0::/elsewhere\n")
    _group(tmp_path / "memory" / "job", "5000", 1000, second=False)
    _group(tmp_path / "memory", "9000", 1000, second=False)
    assert sorted(memory._groups(tmp_path, own)) == [4100, 8100]


def test_a_system_without_control_groups_has_no_such_limits(tmp_path: Path) -> None:
    assert list(memory._groups(tmp_path, tmp_path / "nothing")) == []


def test_keeping_memory_changes_no_result() -> None:
    # In a process of its own: what it asks of the allocator lasts.
    code = """
import torch
from deblur_cli.deblurrer import devices

net, image = torch.nn.Conv2d(3, 8, 3), torch.rand(1, 3, 64, 64)
before = net(image)
assert devices.keep_memory() in (True, False)
assert torch.equal(before, net(image))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
