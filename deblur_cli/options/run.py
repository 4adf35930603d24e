"""What every training command was told of its data, its machine and its pace, checked."""

import re
from dataclasses import dataclass

from deblur_cli.errors import UsageError

DATASETS = ("gopro", "hide", "realblur-j", "realblur-r", "reds", "pairs", "photos")
OPTIMISERS = ("adamw", "adam", "muon")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_TIME = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
_SECONDS = {"s": 1, "": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """The options that training commands share. Raises UsageError when they do not fit together."""

    data: str | None = None
    """Folder of the data set or of the photographs; None: DEBLUR_DATA or the user's cache."""
    dataset: str = "gopro"
    """One of :data:`DATASETS`; ``photos``: any folder of sharp photographs, ``pairs``: any folder of pairs."""
    blur_key: str = "blur"
    """``blur`` or ``blur_gamma``: which of the two blurs that GoPro comes with."""
    subset: bool = False
    """Accept another number of pairs than a known set has."""
    steps: int | None = None
    """Length of the whole run; None: from :attr:`epochs`."""
    epochs: int | None = None
    """Length of the whole run in passes through the data; None: the recipe's."""
    batch: int | None = None
    """Crops per step over all processes; None: the recipe's."""
    crop: int | None = None
    """Side of a crop in pixels; None: the recipe's."""
    lr: float | None = None
    """Learning rate; None: the recipe's."""
    final_lr: float | None = None
    """Learning rate of the last step; None: the recipe's."""
    warmup: int | None = None
    """Steps over which the learning rate rises from nothing; None: the recipe's."""
    hold: int = 0
    """Steps before the learning rate begins to fall."""
    optimiser: str | None = None
    """``adamw``, ``adam``, or ``muon``, which learns from fewer crops; None: the recipe's."""
    weight_decay: float | None = None
    """Of the optimiser, decoupled but for ``adam``; None: the recipe's."""
    clip: float | None = None
    """Largest norm of the gradient, 0 clips nothing; None: the recipe's."""
    ema: float = 0.999
    """Decay per step of the averaged weights that are validated and kept; 0 averages nothing."""
    seed: int = 0
    """Of everything that is drawn by lot."""
    out: str = "deblur-run"
    """Folder of the checkpoints and the log."""
    resume: bool = False
    """Continue the run in :attr:`out`."""
    max_time: str | None = None
    """``9m``, ``90s`` or ``2h``: stop cleanly before so much time has passed."""
    save_every: str = "5m"
    """Time between two saves."""
    log_every: int = 50
    """Steps between two lines of the log."""
    val: str | None = None
    """Folder of pairs, or of sharp photographs, to validate on; None: the test split that lies beside the pairs that are
    trained on, or photographs held out of the data."""
    val_every: int = 2000
    """Steps between two validations."""
    val_count: int = 24
    """Most images to validate on; 0 validates nothing."""
    val_crop: int = 256
    """Side of the middle of each image that is looked at, in pixels."""
    hold_out: int = 8
    """Photographs that are kept for validation when no :attr:`val` is said."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    precision: str = "auto"
    """``auto``, ``fp32``, ``bf16`` or ``fp16``."""
    compile: bool = False
    """Compile the net with torch.compile."""
    threads: int = 0
    """Threads that compute; 0: as many as torch takes. Fewer are faster where other work keeps the processor busy."""
    workers: int | None = None
    """Processes or threads that prepare data; None: as many as the machine allows."""
    memory: float = 0.0
    """Most memory for decoded images, in MB; 0: all photographs, and half of the free memory for pairs."""
    longest: int = 0
    """Photographs with a longer side are reduced to it, in pixels; 0 reduces nothing."""
    reuse: int = 8
    """How often a synthesised pair is used, each time another part of it; on a GPU always once."""
    room: int = 96
    """Pixels by which a synthesised pair is larger than a crop."""
    pool_size: int = 1024
    """Synthesised pairs held at a time."""
    max_blur: float = 40.0
    """Longest motion of synthesised blur, in pixels."""
    blur_skew: float = 1.0
    """1 draws the lengths of motion evenly; more favours short ones: the power to which the lot is raised."""
    shaken: float = 0.0
    """Share of batches whose crops are shaken as one piece: made many times faster, and none is used twice."""
    sharp_at: str = "mean"
    """Where the sharp side of a shaken crop lies: ``mean`` of its movement, or ``middle`` of the exposure, as in GoPro."""
    still: float = 0.1
    """Share of synthesised pairs that are not blurred at all."""
    objects: float = 0.3
    """Share of synthesised blurred crops in which something moves by itself."""
    trembling: float = 0.0
    """Share of synthesised blurred crops whose camera trembles, so that its path winds."""
    soft: float = 0.0
    """Share of the crops shaken as one piece that are out of focus too."""
    noise: float = 0.5
    """Share of synthesised blurred crops with sensor noise."""
    read_noise: float = 0.01
    """Largest standard deviation of that noise; 1 is the whole range."""
    jpeg: float = 0.4
    """Share of synthesised blurred crops that went through JPEG."""
    kernels: str | None = None
    """Folder or file of measured kernels of camera shake, which blur a part of the synthesised pairs."""
    kernel_share: float = 0.2
    """How large a part of those that are blurred."""
    tensorboard: bool = False
    """Write TensorBoard's events too."""
    profile: bool = False
    """Measure the speed, save nothing."""
    preview: str | None = None
    """Write sheets of pairs into this folder and stop."""

    def __post_init__(self) -> None:
        self._check_names()
        self._check_numbers()
        self._check_times()

    @property
    def seconds(self) -> float | None:
        """:attr:`max_time` in seconds."""
        return None if self.max_time is None else _seconds("--max-time", self.max_time)

    @property
    def save_minutes(self) -> float:
        """:attr:`save_every` in minutes."""
        return _seconds("--save-every", self.save_every) / 60

    def _check_names(self) -> None:
        for flag, value, known in (
            ("--dataset", self.dataset, DATASETS),
            ("--blur-key", self.blur_key, ("blur", "blur_gamma")),
            ("--precision", self.precision, PRECISIONS),
            ("--sharp-at", self.sharp_at, ("mean", "middle")),
            ("--optimiser", self.optimiser, OPTIMISERS),
        ):
            if value is not None and value not in known:
                raise UsageError(
                    f"{flag} {value} is not one of {', '.join(known)}.", f"Choose one, such as {known[0]}."
                )
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"--device {self.device} is none of auto, cpu, cuda, cuda:N, mps.", "Say auto.")
        if self.dataset == "photos" and self.data is None:
            raise UsageError("--dataset photos needs a folder of sharp photographs.", "Name it with --data DIR.")
        if self.shaken and self.dataset != "photos":
            raise UsageError("--shaken shakes photographs; pairs are blurred already.", "Say --dataset photos too.")
        if self.kernels is not None and self.dataset != "photos":
            raise UsageError("--kernels blur photographs; pairs are blurred already.", "Say --dataset photos too.")
        if self.steps is not None and self.epochs is not None:
            raise UsageError("--steps and --epochs both say how long to train.", "Leave one of them out.")

    def _check_numbers(self) -> None:
        for name in ("steps", "epochs", "batch", "crop", "reuse", "pool_size", "log_every", "val_every", "val_crop"):
            _at_least(self, name, 1)
        for name in (
            "warmup",
            "hold",
            "clip",
            "weight_decay",
            "seed",
            "val_count",
            "hold_out",
            "threads",
            "workers",
            "memory",
        ):
            _at_least(self, name, 0)
        for name in ("longest", "max_blur", "final_lr", "room", "read_noise"):
            _at_least(self, name, 0)
        for name in ("ema", "noise", "jpeg", "still", "objects", "trembling", "soft", "kernel_share", "shaken"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{_flag(name)} {getattr(self, name):g} is not between 0 and 1.", "Leave it out.")
        if self.blur_skew <= 0:
            raise UsageError(f"--blur-skew {self.blur_skew:g} is not positive.", "Leave it out.")
        if self.lr is not None and self.lr <= 0:
            raise UsageError(f"--lr {self.lr:g} is not positive.", "Leave it out for the recipe's.")

    def _check_times(self) -> None:
        for flag, text in (("--max-time", self.max_time), ("--save-every", self.save_every)):
            if text is not None:
                _seconds(flag, text)


def _at_least(options: RunOptions, name: str, least: int) -> None:
    value = getattr(options, name)
    if value is not None and value < least:
        raise UsageError(f"{_flag(name)} {value:g} is less than {least}.", f"Say {least} or more, or leave it out.")


def _seconds(flag: str, text: str) -> float:
    found = _TIME.fullmatch(text)
    if not found:
        raise UsageError(f"{flag} {text} is no time.", "Say 90s, 9m or 2h.")
    return float(found[1]) * _SECONDS[found[2]]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
