"""What a photo may be to a Python program, and its pixels as an array and back."""

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_MODES = ("L", "LA", "RGB", "RGBA", "I;16")
_Picture = TypeVar("_Picture")


def is_picture(image: object) -> bool:
    """Whether ``image`` is a PIL image; PIL is not loaded to find out."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def from_picture(image: "Image.Image") -> "tuple[np.ndarray[Any, Any], Image.Image | None]":
    """Pixels (H, W) or (H, W, 3) of a PIL image, and its alpha channel."""
    if image.mode not in _MODES:
        raise ValueError(f"an image of mode {image.mode!r} was given; convert it to one of {', '.join(_MODES)}")
    if image.mode in {"LA", "RGBA"}:
        return np.asarray(image.convert(image.mode[:-1])), image.getchannel("A")
    return np.asarray(image), None


def to_picture(pixels: "np.ndarray[Any, Any]", alpha: "Image.Image | None", like: "Image.Image") -> "Image.Image":
    """The PIL image of ``pixels`` and ``alpha``, with what ``like`` tells besides its pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if alpha is not None:
        picture.putalpha(alpha)
    picture.info = dict(like.info)
    return picture
