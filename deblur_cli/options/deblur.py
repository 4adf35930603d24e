"""What ``deblur PHOTO`` was told, checked before anything heavy is imported."""

import re
from dataclasses import dataclass

from deblur_cli.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_SMALLEST_TILE = 64


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
    """A name of ``weights.toml`` or the path of a checkpoint."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    precision: str = "auto"
    """``auto``, ``fp32``, ``bf16`` or ``fp16``."""
    tile: int | None = None
    """Side of a tile in pixels; 0: the whole photo at once; None: from the free memory."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share; None: as many as the net needs."""
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
        for first, second in (("overwrite", "skip_existing"), ("quiet", "verbose")):
            if getattr(self, first) and getattr(self, second):
                raise UsageError(f"{_flag(first)} and {_flag(second)} exclude each other.", "Choose one of them.")

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

    def _check_names(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision {self.precision} is not one of {', '.join(PRECISIONS)}.", "Say auto.")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"--device {self.device} is none of auto, cpu, cuda, cuda:N, mps.", "Say auto.")
        if self.suffix is not None and re.search(r"[/\\\0]", self.suffix):
            raise UsageError(
                f"--suffix {self.suffix!r} would change the folder; it is part of a file name.",
                "Say -o FOLDER/ for another folder.",
            )
        if "" in self.inputs or self.output == "":
            raise UsageError("An empty word is not a file name.", "Look for an unset variable in the command.")

    def _check_streams(self) -> None:
        if "-" in self.inputs and len(self.inputs) > 1:
            raise UsageError("- is one photo from standard input and stands alone.", "Name the other photos later.")
        if self.output != "-":
            return
        for name in ("compare", "overwrite", "skip_existing", "suffix"):
            if getattr(self, name):
                raise UsageError(f"{_flag(name)} means nothing with -o -.", "Say -o FILE.")
        if self.json:
            raise UsageError("--json and the photo cannot both go to standard output.", "Say -o FILE.")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
