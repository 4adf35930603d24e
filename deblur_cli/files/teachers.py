"""Weights of the nets that training looks through: from a file, or from where their libraries publish them.

Only tensors leave this file; which net they fit is for its own file under ``nets`` to say. Nothing is unpickled but
tensors and plain values.
"""

import pickle
import socket
import textwrap
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from deblur_cli.errors import WeightsError

_ASL_SOURCE = "https://miil-public-eu.oss-eu-central-1.aliyuncs.com/model-zoo/ASL/Open_ImagesV6_TRresNet_L_448.pth"
_WRAPPERS = ("state_dict", "model", "params", "model_state_dict")


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors by name, in float32 where they are numbers, with what their file says of them."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str]
    """The metadata of a safetensors file; empty otherwise."""
    source: str
    """Where they come from, for a message."""


def read(path: Path) -> Weights:
    """The weights in ``path``, on the CPU.

    Args:
        path: safetensors, or a file of ``torch.save`` that holds a state dict, bare or under a usual name.

    Raises:
        WeightsError: there is no such file, or it holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                facts = dict(file.metadata() or {})
            return Weights(_plain(load_safetensors(path.read_bytes())), facts, path.name)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", "Give the path of a file with weights.") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        # torch's own sentence advises to run whatever code the file holds.
        pickled = isinstance(error, pickle.UnpicklingError)
        reason = "it is no file of torch.save, or holds more than tensors" if pickled else _reason(error)
        raise WeightsError(
            f"{path} cannot be read as weights: {reason}.",
            "Give a safetensors file, or a .pth file that holds tensors only.",
        ) from error
    return Weights(_plain(found), {}, path.name)


def fetch(family: str, name: str) -> Weights:
    """The weights that a teacher's library publishes for it, from its cache or the network.

    Args:
        family: ``timm``, ``torchvision`` or ``asl``.
        name: of the net there; timm's may say which weights, as in ``resnet50.a1_in1k``.

    Raises:
        WeightsError: they are not published, or cannot be had now.
    """
    if family == "asl":
        raise WeightsError(
            f"The weights of asl:{name} are on no hub.",
            f"Download {_ASL_SOURCE} and say --teacher-weights FILE.",
        )
    try:
        tensors = _from_timm(name) if family == "timm" else _from_torchvision(name)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"The weights of {family}:{name} cannot be fetched: {_reason(error)}.",
            "Download them on another machine and say --teacher-weights FILE.",
        ) from error
    return Weights(_plain(tensors), {}, f"{family}:{name}")


def fetch_vgg19() -> Weights:
    """The ImageNet weights of VGG19, from torchvision or, failing that, from timm.

    Raises:
        WeightsError: neither can be had now.
    """
    try:
        return Weights(_plain(_from_torchvision("vgg19")), {}, "torchvision's VGG19")
    except (OSError, RuntimeError):
        pass
    try:
        return Weights(_plain(_from_timm("vgg19.tv_in1k")), {}, "timm's VGG19")
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"The weights of VGG19 for the perceptual loss cannot be fetched: {_reason(error)}.",
            "Say --perceptual FILE with a copy of them, or --perceptual none.",
        ) from error


def _from_timm(name: str) -> Mapping[str, Any]:
    import timm
    from huggingface_hub import try_to_load_from_cache

    published = timm.get_pretrained_cfg(name)
    home = getattr(published, "hf_hub_id", None)
    if home and _is_offline() and not isinstance(try_to_load_from_cache(home, "model.safetensors"), str):
        raise OSError("there is no network")  # timm would try for a minute, and say so twelve times
    # The whole net, so that timm renames what older files call otherwise.
    return timm.create_model(name, pretrained=True).state_dict()


def _from_torchvision(name: str) -> Mapping[str, Any]:
    from torchvision.models import get_model_weights

    return cast("Any", get_model_weights(name)).DEFAULT.get_state_dict(progress=False, check_hash=True)


def _plain(found: object) -> dict[str, Tensor]:
    """The tensors of a state dict, wrapped or bare, without the prefix that training on several GPUs leaves."""
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(inner := cast("dict[str, Any]", found).get(wrapper), dict):
            found = cast("dict[str, Any]", inner)
    if not isinstance(found, Mapping):
        return {}
    named = {str(name): values for name, values in cast("Mapping[Any, Any]", found).items()}
    return {
        name.removeprefix("module."): values.float() if values.is_floating_point() else values
        for name, values in named.items()
        if isinstance(values, Tensor)
    }


def _reason(error: Exception) -> str:
    first = str(error).split("\n")[0].rstrip(". ")
    return textwrap.shorten(first, 160, placeholder=" ...") or type(error).__name__


def _is_offline() -> bool:
    """Whether the Hub's name leads nowhere; where a proxy is set, it is the proxy's to know."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return False
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return True
    return False
