"""What the machine has: devices, number formats, free memory."""

import ctypes
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from deblur_cli.errors import DeviceError
from deblur_cli.files import memory

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision to the number format of weights and feature maps."""

_HARMLESS = 0.02
"""dB of PSNR that a faster precision may cost."""
_SHORTAGES = (
    "out of memory",
    "out_of_memory",
    "allocate memory",  # "can't allocate memory", "Cannot allocate memory"
    "not enough memory",
    "alloc_failed",  # cuDNN and cuBLAS
)
_SHARE = {"cpu": 0.5, "cuda": 0.8, "mps": 0.5}
"""Of the free memory that a tile may take; what it does not is for the photos before and after, and for errors of measuring."""
_MOST = {"cpu": 9 * 2**28, "cuda": 12 * 2**30, "mps": 2 * 2**30}
"""Bytes that a tile may take however much is free: a photo of 100 megapixels is then restored within 4 GB."""
_LARGE = 2**22
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Names of glibc's ``mallopt``, from malloc.h."""


def keep_memory() -> bool:
    """Have the C library keep freed feature maps for the next ones; False where it is not glibc and nothing is changed.

    By default glibc gives every large block back to the system, and each map of each tile begins with page faults: a fifth of
    the time of a 12-megapixel photo. It concerns the whole process, so a command asks for it, not the library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 2**30)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def spare_memory() -> bool:
    """Have the C library give freed feature maps back at once, the opposite of :func:`keep_memory`; False likewise.

    What it keeps has holes that larger maps do not fit in, and they count.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGE))


def choose(word: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` names; auto prefers cuda to mps to cpu.

    Raises:
        DeviceError: it is not there, or there is no such word.
    """
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = word.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (":" in word and not (kind == "cuda" and number.isdecimal())):
        raise DeviceError(f"'{word}' is no device.", "Say auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda":
        _check_cuda(int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("There is no Apple GPU that this torch can use.", "Say --device auto or --device cpu.")
    return torch.device(word)


def precision(word: str, device: torch.device, measured: Mapping[str, float]) -> str:
    """The precision that ``auto``, ``fp32``, ``bf16`` or ``fp16`` names.

    auto is bf16 where the hardware computes in it and ``measured``, the change of PSNR in dB against fp32 for each
    precision, says that it does no harm; otherwise fp32.

    Raises:
        DeviceError: there is no such word.
    """
    if word == "auto":
        return "bf16" if has_bf16(device) and abs(measured.get("bf16", 1.0)) <= _HARMLESS else "fp32"
    if word not in DTYPES:
        raise DeviceError(f"'{word}' is no precision.", "Say auto, fp32, bf16 or fp16.")
    return word


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 faster than fp32; elsewhere it is emulated, correct and slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    # The public query came after the private ones, which older versions of the range have.
    query: Callable[[], Mapping[str, Any]] | None = getattr(torch.cpu, "get_capabilities", None)
    if query is not None:
        found = query()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def free_bytes(device: torch.device) -> int:
    """Memory of ``device`` that can be taken now."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return memory.free_bytes()


def room(device: torch.device, max_memory: int | None, coming: int = 0) -> float:
    """Bytes of ``device`` that tiles may take now.

    Args:
        device: where the net runs.
        max_memory: bytes of the machine's own memory that this process may have in all, or None.
        coming: bytes of them that will be used for other things.
    """
    size = min(free_bytes(device) * _SHARE[device.type], _MOST[device.type])
    if max_memory is None or device.type != "cpu":
        return size
    return min(size, memory.left_of(max_memory) - coming)


def is_shortage(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _SHORTAGES)


def _check_cuda(index: int) -> None:
    if not torch.cuda.is_available():
        why = "torch cannot reach one" if torch.backends.cuda.is_built() else "this torch was built without CUDA"
        raise DeviceError(f"There is no CUDA device: {why}.", "Say --device auto or --device cpu.")
    if index >= torch.cuda.device_count():
        raise DeviceError(f"There is no cuda:{index}; the last one is cuda:{torch.cuda.device_count() - 1}.")
