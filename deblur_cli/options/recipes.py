"""How each paper trains its net: the numbers that ``deblur train --backbone NAME`` takes where nobody says others.

Of the papers' numbers these are the authors' code's where the two differ. What ours does not do as they do is the same for
all: weights are averaged beside the training (the average is kept, the training does not see it), a warm-up that theirs
takes by epochs is a straight line by steps, and every way to turn a crop is equally likely.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a paper trains its net; the defaults are those of the prior's own paper, section 4.1, for the UNet."""

    batch: int = 10
    crop: int = 256
    """Pixels."""
    rate: float = 2e-4
    final_rate: float = 1e-6
    epochs: int = 700
    steps: int | None = None
    """In place of :attr:`epochs`, where a paper counts so."""
    warmup: float = 0.0
    """Share of the steps over which the rate rises."""
    drops: tuple[float, ...] = ()
    """Shares of the steps where the rate drops, each time by the same factor; empty: it falls smoothly."""
    power: float = 0.0
    """Of the distance to the end, by which the rate falls; 0: along half a cosine."""
    optimiser: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip: float = 0.0
    """Largest norm of the gradient; 0 clips nothing."""
    perceptual: str = "none"
    """What the perceptual term looks through: ``vgg19`` or ``none``."""
    turns: str = "all"
    """How crops of pairs are turned: ``all`` eight ways, ``mirror``: left to right alone, ``none``."""
    saturation: float = 0.0
    """Saturation is multiplied by anything between 1 - this and 1 + this; 0 leaves it."""
    saturated: float = 1.0
    """Share of the crops whose saturation changes."""
    grey: bool = False
    """Saturation changes by mixing with the image's grey, not as HSV knows it."""
    colours: bool = False
    """Put red, green and blue in any order."""
    grain: float = 0.0
    """Noise is added to the blurred crop, of a deviation that is normal with this one; 1 is the whole range."""


_ADAM = Recipe(optimiser="adam", weight_decay=0.0)
_MPRNET = replace(
    _ADAM,
    batch=16,
    rate=2e-4,
    final_rate=1e-6,
    epochs=3000,
    warmup=3 / 3000,
    saturation=0.2,
    saturated=1 / 3,
    grey=True,
)
_MIMO = replace(
    _ADAM,
    batch=4,
    rate=1e-4,
    final_rate=1e-4 / 2**5,
    epochs=3000,
    drops=(1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6),
    turns="mirror",
)
_DEEPDEBLUR = replace(
    _ADAM,
    batch=16,
    rate=1e-4,
    final_rate=1e-4 / 2**3,
    epochs=1000,
    drops=(0.5, 0.75, 0.9),
    saturation=0.5,
    colours=True,
    grain=2 / 255,
)
_DMPHN = replace(_ADAM, batch=6, rate=1e-4, final_rate=1e-7, epochs=4000, drops=(0.25, 0.5, 0.75), turns="none")
_HINET = replace(_ADAM, batch=64, rate=2e-4, final_rate=1e-7, steps=400_000, betas=(0.9, 0.99), clip=0.01)
_NAFNET = Recipe(batch=32, rate=1e-3, final_rate=1e-7, steps=200_000, betas=(0.9, 0.9), weight_decay=1e-3, clip=0.01)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "unet": Recipe(perceptual="vgg19"),
        "unet-48": Recipe(perceptual="vgg19"),
        "unet-narrow": Recipe(perceptual="vgg19"),
        "unet-fast": Recipe(perceptual="vgg19"),
        "motion-unet": Recipe(perceptual="vgg19"),
        "motion-unet-fast": Recipe(perceptual="vgg19"),
        "deepdeblur": _DEEPDEBLUR,
        "deepdeblur-full": _DEEPDEBLUR,
        "mprnet": _MPRNET,
        "mprnet-stage1": _MPRNET,
        "mimo-unet": _MIMO,
        "mimo-unet-plus": _MIMO,
        "mssnet": _MPRNET,
        "mssnet-small": _MPRNET,
        "mssnet-large": _MPRNET,
        "srn": replace(_ADAM, batch=16, rate=1e-4, epochs=4000, power=0.3, turns="none"),
        "dmphn": _DMPHN,
        "dmphn-1-2-4": _DMPHN,
        "dmphn-1-2-4-8": _DMPHN,
        "hinet": _HINET,
        "hinet-half": _HINET,
        "nafnet": _NAFNET,
        "nafnet-32": _NAFNET,
        "nafnet-64": replace(_NAFNET, batch=64, steps=400_000),
        "bdirnet": Recipe(),
    }
)
"""By backbone: the catalogue's presets without a prior. With one the recipe is the same."""


def recipe_of(backbone: str, preset: str | None = None) -> Recipe:
    """The recipe of a backbone, or of the preset of it that was named; a name that is unknown gets the UNet's."""
    plain = (preset or backbone).removesuffix("-sp")
    return RECIPES.get(plain) or RECIPES.get(backbone, RECIPES["unet"])
