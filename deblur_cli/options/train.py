"""What ``deblur train`` was told, checked."""

from dataclasses import dataclass

from deblur_cli.errors import UsageError
from deblur_cli.options.recipes import Recipe, recipe_of
from deblur_cli.options.run import RunOptions

FUSIONS = ("sat", "add", "concat")
READINGS = ("mse", "literal", "reviewkd")
LOSSES = ("l1", "psnr")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions(RunOptions):
    """The options of ``deblur train``. Raises UsageError when they do not fit together."""

    backbone: str = "unet"
    """A net of the catalogue or a preset of one, without a prior: a name in :data:`deblur_cli.options.recipes.RECIPES`."""
    preset: str | None = None
    """Named dials of the backbone's net; None: the backbone as its paper has it."""
    init: str | None = None
    """A checkpoint to start from, ours or one that a net's authors published; a prior that it does not have starts as the
    identity."""
    init_rate: float | None = None
    """Factor of the learning rate for the weights that came from :attr:`init`; None: 0.1 where a new prior joins them,
    else 1."""
    prior: bool | None = None
    """Guide the net by a semantic prior; None: as the preset says, and yes where there is none."""
    prior_weights: str | None = None
    """A prior checkpoint of ``deblur distill-teacher`` to start from."""
    freeze_prior: bool = False
    """Leave the weights of the prior's extractor as they are."""
    motion_weights: str | None = None
    """A motion prior of ``deblur distill-motion`` to start from."""
    freeze_motion: bool = False
    """Leave the weights of the motion prior as they are."""
    motion_rate: float = 1.0
    """Factor of the learning rate for the motion prior, which learns from the image as the net does."""
    motion_truth: float = 0.0
    """Weight of the distance of the motion prior's kernels from those that shook the crops of :attr:`shaken`."""
    phases_alone: bool = False
    """Nothing learns but the phases of the movement, and from nothing but crops of :attr:`shaken`."""
    fusion: str | None = None
    """``sat``, ``add`` or ``concat``: how the prior enters the decoder."""
    clc: bool | None = None
    """Cross-level connection, eq. 3."""
    mla: bool | None = None
    """Multi-level aggregation, eq. 5."""
    distill: bool = True
    """Train the prior against the teacher; without it the net is Net0* of the ablation."""
    teacher: str | None = None
    """``timm:NAME``, ``torchvision:NAME`` or ``asl:tresnet_l``; None: the one that the preset's prior is made for."""
    teacher_weights: str | None = None
    """A file with the teacher's weights; None: those that its library publishes."""
    reading: str = "mse"
    """How eq. 2 is read: ``mse``, ``literal`` or ``reviewkd``."""
    loss: str | None = None
    """``l1`` or ``psnr`` of the final image; None: the reconstruction loss of the backbone's paper."""
    tutor: str | None = None
    """Weights of a trained net whose images are learnt from beside the sharp ones; the loss is then ``psnr``."""
    perceptual: str | None = None
    """``vgg19``, ``none``, or a file with VGG19's weights; None: the recipe's."""
    alpha: float = 0.01
    """Weight of the perceptual term."""
    beta: float = 0.1
    """Weight of the distillation term."""

    def __post_init__(self) -> None:
        # RunOptions by name: a dataclass with slots is another class than the one that super() remembers.
        RunOptions.__post_init__(self)
        self._check_words()
        self._check_motion()
        self._check_phases()
        self._check_prior()

    @property
    def recipe(self) -> Recipe:
        """Of the backbone's paper."""
        return recipe_of(self.backbone, self.preset)

    def _check_words(self) -> None:
        chosen = (
            ("--fusion", self.fusion, FUSIONS),
            ("--reading", self.reading, READINGS),
            ("--loss", self.loss, LOSSES),
        )
        for flag, value, known in chosen:
            if value is not None and value not in known:
                raise UsageError(
                    f"{flag} {value} is not one of {', '.join(known)}.", f"Choose one, such as {known[0]}."
                )
        factors = (
            ("--alpha", self.alpha),
            ("--beta", self.beta),
            ("--init-rate", self.init_rate),
            ("--motion-rate", self.motion_rate),
            ("--motion-truth", self.motion_truth),
        )
        for flag, value in factors:
            if value is not None and value < 0:
                raise UsageError(f"{flag} {value:g} is negative.", "Leave it out.")
        if self.init_rate is not None and self.init is None:
            raise UsageError("--init-rate is for the weights of --init.", "Say --init FILE too.")
        if self.tutor is not None and self.loss not in {None, "psnr"}:
            raise UsageError(f"--tutor means nothing with --loss {self.loss}.", "Say --loss psnr, or leave it out.")
        if self.resume and self.init is not None:
            raise UsageError("--resume goes on where the run stood, --init begins anew.", "Leave one of them out.")

    def _check_motion(self) -> None:
        if self.freeze_motion and self.motion_weights is None and self.init is None and not self.resume:
            raise UsageError("--freeze-motion would keep an untrained motion prior.", "Say --motion-weights FILE too.")
        for flag, said in (("--motion-rate", self.motion_rate != 1), ("--motion-truth", self.motion_truth)):
            if self.freeze_motion and said:
                raise UsageError(f"{flag} means nothing with --freeze-motion.", "Leave one of them out.")
        if self.motion_truth and not self.shaken:
            raise UsageError("--motion-truth: the movement is known of shaken crops alone.", "Say --shaken SHARE too.")

    def _check_phases(self) -> None:
        if not self.phases_alone:
            return
        if self.init is None and not self.resume:
            raise UsageError("--phases-alone would keep an untrained net.", "Say --init FILE too.")
        if self.shaken != 1:
            raise UsageError("--phases-alone: the movement is known of shaken crops alone.", "Say --shaken 1 too.")
        for flag, said in (("--motion-truth", self.motion_truth), ("--tutor", self.tutor is not None)):
            if said:
                raise UsageError(f"{flag} means nothing with --phases-alone.", "Leave one of them out.")

    def _check_prior(self) -> None:
        if (self.freeze_prior or not self.distill) and (self.teacher is not None or self.teacher_weights is not None):
            raise UsageError("A teacher means nothing where the prior does not learn from it.", "Leave it out.")
        if self.prior is not False:
            if self.freeze_prior and self.prior_weights is None and self.init is None and not self.resume:
                raise UsageError("--freeze-prior would keep an untrained prior.", "Say --prior-weights FILE too.")
            return
        said = {
            "--prior-weights": self.prior_weights,
            "--freeze-prior": self.freeze_prior or None,
            "--fusion": self.fusion,
            "--clc": self.clc,
            "--mla": self.mla,
            "--teacher": self.teacher,
        }
        for flag, value in said.items():
            if value is not None:
                raise UsageError(f"{flag} means nothing with --no-prior.", "Leave one of them out.")
