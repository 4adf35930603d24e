"""What ``deblur distill-motion`` was told, checked."""

from dataclasses import dataclass

from deblur_cli.errors import UsageError
from deblur_cli.options.recipes import Recipe
from deblur_cli.options.run import RunOptions

_RECIPE = Recipe(
    batch=32, crop=256, rate=1e-3, final_rate=2e-5, steps=10_000, warmup=0.005, betas=(0.9, 0.98), clip=1.0
)
MEANINGLESS = {
    "blur_key": "blur",
    "subset": False,
    "blur_skew": 1.0,
    "shaken": 0.0,
    "sharp_at": "mean",
    "kernels": None,
    "kernel_share": 0.2,
    "reuse": 8,
    "room": 96,
    "pool_size": 1024,
}
"""Options of the other training commands that say nothing here, and their defaults."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillMotionOptions(RunOptions):
    """The options of ``deblur distill-motion``. Raises UsageError when they do not fit together."""

    dataset: str = "photos"
    """``photos``: nothing else can be shaken."""
    preset: str = "motion-unet"
    """The net whose motion prior is trained: it gives the prior its size."""
    motion_weights: str | None = None
    """A motion prior to go on from, dials and all; else a new one."""
    still: float = 0.06
    """Share of crops that are not blurred at all."""
    trembling: float = 0.25
    """Share of crops whose camera trembles, so that its path winds."""

    def __post_init__(self) -> None:
        if self.dataset != "photos":
            raise UsageError(
                f"--dataset {self.dataset} holds pairs; a motion prior learns from sharp photographs that are shaken.",
                "Say --dataset photos --data DIR.",
            )
        if self.data is None:
            raise UsageError("The sharp photographs are not named.", "Name their folder with --data DIR.")
        # RunOptions by name: a dataclass with slots is another class than the one that super() remembers.
        RunOptions.__post_init__(self)
        for name, default in MEANINGLESS.items():
            if getattr(self, name) != default:
                raise UsageError(
                    f"--{name.replace('_', '-')} means nothing where photographs are shaken.", "Leave it out."
                )

    @property
    def recipe(self) -> Recipe:
        """Ours, found by trials of half an hour on one core."""
        return _RECIPE
