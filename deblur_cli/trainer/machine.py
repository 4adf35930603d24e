"""Which device and which precision a run computes with."""

import torch

from deblur_cli.errors import DeviceError


def device_of(said: str) -> torch.device:
    """The device that ``--device`` names; ``auto`` takes a GPU where there is one.

    Raises:
        DeviceError: it is not there.
    """
    if said == "auto":
        said = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(said)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"There is no {said} on this machine.", "Say --device auto.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("There is no mps on this machine.", "Say --device auto.")
    return device


def use_threads(count: int) -> None:
    """Compute with ``count`` threads; 0 leaves it to torch.

    The threads of one operation wait for each other by spinning. Where another program holds one of the processor's cores
    most of the time is lost so: one thread was found to be four to thirteen times as fast as two.
    """
    if count:
        torch.set_num_threads(count)


def precision_of(said: str, device: torch.device) -> str:
    """The precision that ``--precision`` names; ``auto`` takes bf16 where the device is fast in it.

    Raises:
        DeviceError: the device does not know it.
    """
    if said == "auto":
        return "bf16" if _fast_in_bf16(device) else "fp32"
    if said == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"{torch.cuda.get_device_name(device)} does not know bf16.", "Say --precision fp16 or fp32.")
    return said


def _fast_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
