"""What ``deblur PHOTO`` was told, checked before anything heavy is imported."""

import re
from dataclasses import dataclass

from deblur_cli.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ENGINES = ("local", "ray")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+|:all)?")
_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")
_SMALLEST_TILE = 64
_LEAST_MEMORY = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class DeblurOptions:
    """The options of ``deblur deblur``. Raises UsageError when they do not fit together."""

    inputs: tuple[str, ...]
    """Files, folders, patterns such as ``**/*.jpg``, or ``-`` alone for standard input."""
    output: str | None = None
    """A file, a folder, or ``-`` for standard output; None: beside the input, see :attr:`suffix`."""
    recursive: bool = False
    """Folders are read with everything below them, and the tree is mirrored."""
    format: str | None = None
    """File format of the results, as a suffix without its dot; None: the output's suffix, else the input's."""
    suffix: str | None = None
    """Put between the stem and the dot; None: ``-sharp`` beside the input, nothing in an output folder."""
    overwrite: bool = False
    """Replace results that exist."""
    skip_existing: bool = False
    """Leave photos alone whose result exists."""
    shard: str | None = None
    """``I/N``: only the photos of share I of N, I from 1 to N."""
    manifest: str | None = None
    """A file of JSON lines, or a folder of them, in which finished photos are written down and looked up."""
    quality: int = 95
    """1 to 100, for formats that lose something."""
    strip_metadata: bool = False
    """Write no EXIF, XMP or resolution."""
    strength: float = 1.0
    """0 to 1: how much of the correction is applied."""
    tta: bool = False
    """Restore the eight turned and mirrored views of each tile and average them."""
    compare: bool = False
    """Write a before/after picture beside each result."""
    weights: str = "default"
    """A name of ``weights.toml``, the path of a checkpoint, or ``hf://owner/repo[@revision]/file`` on the Hub."""
    weights_list: str | None = None
    """A list of the user's own, like ``weights.toml``; None: the one that DEBLUR_WEIGHTS_LIST names."""
    offline: bool = False
    """Ask no network for weights."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``cuda:all`` or ``mps``."""
    workers: int | None = None
    """Worker processes that share the photos; None: one, or one for each GPU."""
    engine: str = "local"
    """``local``: on this machine; ``ray``: on a Ray cluster."""
    precision: str = "auto"
    """``auto``, ``fp32``, ``bf16`` or ``fp16``."""
    compile: bool | None = None
    """Compile the net for the shapes of its tiles; None: record it where that pays, see ``deblurrer.running``."""
    tile: int | None = None
    """Side of a tile in pixels; 0: the whole photo at once; None: from the free memory."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share; None: as many as the net needs."""
    max_memory: int | None = None
    """Bytes of memory that the run may take, all its workers together; None: as much as is free."""
    dry_run: bool = False
    """Say what would be done; read headers only, write nothing."""
    json: bool = False
    """One JSON line per photo on standard output."""
    quiet: bool = False
    """Say nothing but errors."""
    verbose: bool = False
    """Say also which net works, where, and on what tiles."""

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_names()
        self._check_streams()
        self._check_workers()
        for first, second in (("overwrite", "skip_existing"), ("quiet", "verbose")):
            if getattr(self, first) and getattr(self, second):
                raise UsageError(f"{_flag(first)} and {_flag(second)} exclude each other.", "Choose one of them.")

    @property
    def share(self) -> tuple[int, int]:
        """Which share of how many: I and N of :attr:`shard`."""
        said = _SHARD.fullmatch("1/1" if self.shard is None else self.shard)
        return (int(said[1]), int(said[2])) if said else (0, 0)

    def _check_numbers(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"--strength {self.strength:g} is not between 0 and 1.", "Say 1 for the full correction.")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality} is not between 1 and 100.", "Leave it out for 95.")
        if self.tile is not None and self.tile != 0 and self.tile < _SMALLEST_TILE:
            raise UsageError(
                f"--tile {self.tile} is too small; the smallest tile is {_SMALLEST_TILE} pixels.",
                "Say --tile auto, or --tile 0 for the whole photo at once.",
            )
        if self.overlap is not None and self.overlap < 0:
            raise UsageError(f"--overlap {self.overlap} is negative.", "Leave it out for what the net needs.")
        if self.overlap is not None and self.tile and 2 * self.overlap > self.tile:
            raise UsageError(
                f"--overlap {self.overlap} is more than half of --tile {self.tile}.",
                f"Say --tile {2 * self.overlap} or more, or a smaller overlap.",
            )

        if self.max_memory is not None and self.max_memory < _LEAST_MEMORY:
            raise UsageError(
                f"--max-memory {self.max_memory} is too little: it is a number of bytes, or ends in K, M, G or T.",
                "Say --max-memory 2G.",
            )

    def _check_names(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision {self.precision} is not one of {', '.join(PRECISIONS)}.", "Say auto.")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"--device {self.device} is none of auto, cpu, cuda, cuda:N, cuda:all, mps.", "Say auto.")
        if self.suffix is not None and re.search(r"[/\\\0]", self.suffix):
            raise UsageError(
                f"--suffix {self.suffix!r} would change the folder; it is part of a file name.",
                "Say -o FOLDER/ for another folder.",
            )
        if "" in self.inputs or "" in {self.output, self.manifest}:
            raise UsageError("An empty word is not a file name.", "Look for an unset variable in the command.")

    def _check_workers(self) -> None:
        if self.shard is not None and not 1 <= self.share[0] <= self.share[1]:
            raise UsageError(
                f"--shard {self.shard} is not I/N with I from 1 to N.", "Say --shard 1/4 for the first of four shares."
            )
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers} is less than one.", "Leave it out.")
        if self.engine not in ENGINES:
            raise UsageError(f"--engine {self.engine} is not one of {', '.join(ENGINES)}.", "Leave it out.")
        if self.engine == "ray" and not re.fullmatch(r"auto|cpu|cuda(:all)?", self.device):
            raise UsageError(
                f"--device {self.device} names a device of this machine, and --engine ray chooses among many.",
                "Say --device cuda or --device cpu.",
            )

    def _check_streams(self) -> None:
        if "-" in self.inputs and len(self.inputs) > 1:
            raise UsageError("- is one photo from standard input and stands alone.", "Name the other photos later.")
        many = {
            "shard": self.shard,
            "manifest": self.manifest,
            "workers": self.workers,
            "engine": self.engine != "local",
        }
        for name in (name for name, said in many.items() if said and "-" in {*self.inputs, self.output}):
            raise UsageError(f"{_flag(name)} is for photos in files, and - is none.", "Leave it out.")
        if self.output != "-":
            return
        for name in ("compare", "overwrite", "skip_existing", "suffix"):
            if getattr(self, name):
                raise UsageError(f"{_flag(name)} means nothing with -o -.", "Say -o FILE.")
        if self.json:
            raise UsageError("--json and the photo cannot both go to standard output.", "Say -o FILE.")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
