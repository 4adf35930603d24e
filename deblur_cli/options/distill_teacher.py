"""What ``deblur distill-teacher`` was told, checked."""

from dataclasses import dataclass

from deblur_cli.errors import UsageError
from deblur_cli.options.recipes import Recipe
from deblur_cli.options.run import RunOptions
from deblur_cli.options.train import READINGS

TEACHER_FAMILIES = ("timm", "torchvision", "asl")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillTeacherOptions(RunOptions):
    """The options of ``deblur distill-teacher``. Raises UsageError when they do not fit together."""

    preset: str = "unet-sp"
    """The net whose prior is trained: it gives the prior its size."""
    clc: bool | None = None
    """Cross-level connection, eq. 3; None: as the preset says."""
    teacher: str | None = None
    """``timm:NAME``, ``torchvision:NAME`` or ``asl:tresnet_l``; None: the one that the preset's prior is made for."""
    teacher_weights: str | None = None
    """A file with the teacher's weights; None: those that its library publishes."""
    reading: str = "mse"
    """How eq. 2 is read: ``mse``, ``literal`` or ``reviewkd``."""

    def __post_init__(self) -> None:
        # RunOptions by name: a dataclass with slots is another class than the one that super() remembers.
        RunOptions.__post_init__(self)
        if self.reading not in READINGS:
            raise UsageError(
                f"--reading {self.reading} is not one of {', '.join(READINGS)}.", "Choose one, such as mse."
            )
        if self.teacher is not None and self.teacher.partition(":")[0] not in TEACHER_FAMILIES:
            raise UsageError(
                f"--teacher {self.teacher} is of none of {', '.join(TEACHER_FAMILIES)}.",
                "Say timm:NAME, torchvision:NAME or asl:tresnet_l.",
            )

    @property
    def recipe(self) -> Recipe:
        """The paper's, for the prior as for the net that it guides."""
        return Recipe()
