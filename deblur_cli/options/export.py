"""What ``deblur export`` was told, checked."""

from dataclasses import dataclass
from pathlib import PurePath

from deblur_cli.errors import UsageError

FORMATS = ("onnx", "pt2", "safetensors")
PRECISIONS = ("fp32", "fp16")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """The options of ``deblur export``. Raises UsageError when they do not fit together."""

    output: str
    """The file; its suffix is the format."""
    weights: str = "default"
    """A name of ``weights.toml``, the path of a checkpoint, or ``hf://owner/repo[@revision]/file`` on the Hub."""
    weights_list: str | None = None
    """A list of the user's own, like ``weights.toml``; None: the one that DEBLUR_WEIGHTS_LIST names."""
    offline: bool = False
    """Ask no network for weights."""
    format: str | None = None
    """``onnx``, ``pt2`` or ``safetensors``; None: as the output's suffix says."""
    precision: str = "fp32"
    """Of the weights in the file: ``fp32`` or ``fp16``."""
    tile: int | None = None
    """The only height and width in pixels that the file is to take; None: all, where the net allows it."""
    check_image: str | None = None
    """A photo that the file is checked with; None: a drawn one."""
    overwrite: bool = False
    """Replace a file that is there."""
    json: bool = False
    """One line of JSON on standard output."""

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"--format {self.format} is not one of {', '.join(FORMATS)}.", "Say --format onnx.")
        suffix = PurePath(self.output).suffix.removeprefix(".").lower()
        if suffix not in FORMATS or (self.format is not None and self.format != suffix):
            wanted = f".{self.format}" if self.format else ", ".join(f".{each}" for each in FORMATS)
            raise UsageError(
                f"-o '{self.output}' does not end in {wanted}: the suffix is what other programs go by.",
                f"Say -o {PurePath(self.output or 'net').stem}.{self.format or 'onnx'}",
            )
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision {self.precision} is not one of {', '.join(PRECISIONS)}.", "Say fp32.")
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"--tile {self.tile} is not positive.", "Leave it out for all sizes.")
        if self.tile is not None and self.sort == "safetensors":
            raise UsageError("--tile means nothing for safetensors, which holds no graph.", "Leave it out.")

    @property
    def sort(self) -> str:
        """The format that is written."""
        return PurePath(self.output).suffix.removeprefix(".").lower()
