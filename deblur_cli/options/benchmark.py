"""What ``deblur benchmark`` was told, checked before anything heavy is imported."""

import re
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import UsageError

DATASETS = ("gopro", "hide", "realblur-j", "realblur-r", "reds", "pairs", "synthetic", "blurred")
PROTOCOLS = ("gopro", "realblur", "nah", "mimo", "blind")
PERCEPTUAL = ("none", "alex", "vgg")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FETCHED = ("gopro",)
"""Data sets that can be downloaded."""
REPORTED = ("gopro", "hide", "realblur-j")
"""Data sets of which the paper has a table."""
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkOptions:
    """The options of ``deblur benchmark``. Raises UsageError when they do not fit together."""

    dataset: str = "gopro"
    """One of :data:`DATASETS`; ``synthetic``: sharp photographs, blurred here, the same on every run; ``blurred``: blurred
    photographs of which no sharp version is known."""
    data: str | None = None
    """Folder of the data set or of the photographs; None: DEBLUR_DATA or the user's cache."""
    download: bool = False
    """Fetch the set first if it is not there: GoPro, to :attr:`data`, DEBLUR_DATA or the cache."""
    weights: tuple[str, ...] = ("default",)
    """Names of ``weights.toml``, paths of checkpoints, or addresses ``hf://…`` on the Hub; each is a row."""
    weights_list: str | None = None
    """A list of the user's own, like ``weights.toml``; None: the one that DEBLUR_WEIGHTS_LIST names."""
    offline: bool = False
    """Ask no network for weights."""
    ablation: str | None = None
    """Folder with the nets of the paper's Table 4, which take the place of :attr:`weights`."""
    protocol: str = "auto"
    """One of :data:`PROTOCOLS`; ``auto``: that of the data set's papers. ``blind`` is that of ``blurred`` and of no other."""
    blur_key: str = "auto"
    """``blur`` or ``blur_gamma``: which of the two blurs that GoPro comes with; ``auto``: that of the protocol."""
    limit: int | None = None
    """Score so many images, evenly chosen; None: all."""
    subset: bool = False
    """Accept another number of pairs than a known set has."""
    longest: int | None = None
    """``synthetic`` and ``blurred`` reduce larger photographs to this many pixels; 0 leaves them; None: see :attr:`reduced`."""
    seed: int = 0
    """Of the movements of ``synthetic``."""
    lpips: str = "none"
    """``alex`` or ``vgg``: measure LPIPS, too."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    precision: str = "auto"
    """``auto``, ``fp32``, ``bf16`` or ``fp16``."""
    compile: bool | None = None
    """Compile the net for the shapes of its tiles; None: record it where that pays, see ``deblurrer.running``."""
    tile: int | None = None
    """Side of a tile in pixels; 0: the whole image at once; None: from the free memory."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share; None: as many as the net needs."""
    tta: bool = False
    """Average over the eight turned and mirrored views."""
    speed_only: bool = False
    """Measure time and memory on random images, and nothing else."""
    peers: bool = True
    """With :attr:`speed_only`: measure the same net through a plain loop of PyTorch and ONNX Runtime, too."""
    size: str = "1280x720"
    """Width and height of the random images."""
    repeats: int = 10
    """How often the speed is measured, after two calls that do not count."""
    output: tuple[str, ...] = ()
    """Files for all that was measured: ``.json`` or ``.csv``."""
    resume: bool = False
    """Leave out images that the ``.json`` of :attr:`output` has scores of, by the same weights and settings."""
    overwrite: bool = False
    """Replace the files of :attr:`output`."""
    save_images: str | None = None
    """Folder for the restored images, one folder in it for each set of weights."""
    report: str | None = None
    """Folder for a page with pictures and plots."""
    compare_paper: bool = False
    """Show what the paper reports beside what was measured."""
    quiet: bool = False
    """Say nothing but the table and errors."""

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()
        self._check_output()
        self._check_together()

    @property
    def measured_by(self) -> str:
        """The protocol, chosen by the data set where nothing was said."""
        if self.protocol != "auto":
            return self.protocol
        own = {"realblur-j": "realblur", "realblur-r": "realblur", "blurred": "blind"}
        return own.get(self.dataset, "gopro")

    @property
    def blur(self) -> str:
        """Which blur is read, where a set has two."""
        if self.blur_key != "auto":
            return self.blur_key
        return "blur_gamma" if self.measured_by == "nah" and self.dataset == "gopro" else "blur"

    @property
    def reduced(self) -> int:
        """The longest side in pixels of ``synthetic`` and ``blurred``; 0: blurred photographs stay as they are."""
        if self.longest is not None:
            return self.longest
        return 1280 if self.dataset == "synthetic" else 0

    @property
    def reported(self) -> str | None:
        """Which table of the paper is shown; Table 4 beside its nets on its data set."""
        if not self.compare_paper:
            return None
        return "ablation" if self.ablation and self.dataset == "gopro" else self.dataset

    @property
    def split(self) -> str:
        """The part of the data set that is scored; the test images of REDS were never given out."""
        return "val" if self.dataset == "reds" else "test"

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height of the random images, in pixels."""
        width, height = self.size.split("x")
        return int(width), int(height)

    @property
    def record(self) -> str | None:
        """The output that can be resumed from."""
        return next((name for name in self.output if name.endswith(".json")), None)

    def _check_words(self) -> None:
        for flag, word, words in (
            ("--dataset", self.dataset, DATASETS),
            ("--protocol", self.protocol, ("auto", *PROTOCOLS)),
            ("--blur-key", self.blur_key, ("auto", "blur", "blur_gamma")),
            ("--lpips", self.lpips, PERCEPTUAL),
            ("--precision", self.precision, PRECISIONS),
        ):
            if word not in words:
                raise UsageError(f"{flag} {word} is not one of {', '.join(words)}.", f"Say {flag} {words[0]}.")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"--device {self.device} is none of auto, cpu, cuda, cuda:N, mps.", "Say auto.")
        if not _SIZE.fullmatch(self.size) or not min(self.sides):
            raise UsageError(f"--size {self.size} is no size.", "Say WIDTHxHEIGHT, such as --size 1280x720.")

    def _check_numbers(self) -> None:
        for flag, value, least in (
            ("--limit", self.limit, 1),
            ("--repeats", self.repeats, 1),
            ("--longest", self.longest, 0),
            ("--seed", self.seed, 0),
            ("--tile", self.tile, 0),
            ("--overlap", self.overlap, 0),
        ):
            if value is not None and value < least:
                raise UsageError(f"{flag} {value} is too small; it is at least {least}.", "Leave it out.")

    def _check_output(self) -> None:
        suffixes = [Path(name).suffix for name in self.output]
        for name, suffix in zip(self.output, suffixes, strict=True):
            if suffix not in {".json", ".csv"}:
                raise UsageError(f"--output {name} is neither .json nor .csv.", "Say --output results.json.")
        if len(set(suffixes)) < len(suffixes):
            raise UsageError("--output names two files of one kind.", "Name one .json and one .csv at most.")
        if self.resume and self.record is None:
            raise UsageError("--resume needs the scores of an earlier run.", "Say --output results.json, too.")
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other.", "Choose one of them.")

    def _check_together(self) -> None:
        if len(set(self.weights)) < len(self.weights):
            raise UsageError("--weights names the same weights twice.", "Name each once.")
        if self.ablation and self.weights != ("default",):
            raise UsageError("--ablation brings its own weights.", "Leave out --weights.")
        if self.dataset in {"synthetic", "blurred"} and self.data is None and not self.speed_only:
            kind = "sharp" if self.dataset == "synthetic" else "blurred"
            raise UsageError(
                f"--dataset {self.dataset} needs {kind} photographs.",
                "Say --data DIR, any folder of your own photographs.",
            )
        self._check_blind()
        if self.compare_paper and self.dataset not in REPORTED:
            raise UsageError(
                f"The paper reports nothing of --dataset {self.dataset}.", f"It does of {', '.join(REPORTED)}."
            )
        if self.download and self.offline:
            raise UsageError("--download and --offline exclude each other.", "Choose one of them.")
        if self.download and self.dataset not in FETCHED:
            raise UsageError(
                f"--download does not know where --dataset {self.dataset} lies.", f"It fetches {', '.join(FETCHED)}."
            )
        self._check_speed()

    def _check_blind(self) -> None:
        blind = self.dataset == "blurred"
        if blind != (self.measured_by == "blind"):
            raise UsageError(
                f"--protocol {self.measured_by} does not fit --dataset {self.dataset}.",
                "Leave out --protocol: blind is for blurred photographs, and the others need sharp ones.",
            )
        if blind and self.lpips != "none":
            raise UsageError("--lpips needs sharp images to compare with.", "Leave it out of --dataset blurred.")

    def _check_speed(self) -> None:
        if not self.speed_only and not self.peers:
            raise UsageError(
                "--no-peers means nothing without --speed-only.", "Say --speed-only, too, or leave it out."
            )
        if self.speed_only:
            for name in ("save_images", "report", "resume", "compare_paper", "limit", "download"):
                if getattr(self, name):
                    flag = "--" + name.replace("_", "-")
                    raise UsageError(f"{flag} means nothing with --speed-only.", "Leave out one of them.")
