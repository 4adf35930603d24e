"""What the subcommands of ``deblur weights`` were told, checked before anything heavy is imported."""

import re
from dataclasses import dataclass

from deblur_cli.errors import UsageError

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListOptions:
    """The options of ``deblur weights list``."""

    weights_list: str | None = None
    """A list of the user's own, like ``weights.toml``; None: the one that DEBLUR_WEIGHTS_LIST names."""
    json: bool = False
    """One line of JSON for each on standard output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InfoOptions:
    """The options of ``deblur weights info``."""

    name: str
    """A name, an address ``hf://…`` or the path of a checkpoint."""
    weights_list: str | None = None
    """As for :class:`ListOptions`."""
    json: bool = False
    """One line of JSON on standard output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PullOptions:
    """The options of ``deblur weights pull``."""

    names: tuple[str, ...]
    """Names or addresses ``hf://…``."""
    weights_list: str | None = None
    """As for :class:`ListOptions`."""
    json: bool = False
    """One line of JSON for each on standard output."""
    quiet: bool = False
    """Say nothing but errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyOptions:
    """The options of ``deblur weights verify``."""

    names: tuple[str, ...] = ()
    """Names or addresses ``hf://…``; none: all of the list that are here."""
    weights_list: str | None = None
    """As for :class:`ListOptions`."""
    json: bool = False
    """One line of JSON for each on standard output."""
    quiet: bool = False
    """Say nothing but errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertOptions:
    """The options of ``deblur weights convert``. Raises UsageError when they do not fit together."""

    source: str
    """A file or folder that somebody published, a name, or an address ``hf://…``."""
    output: str
    """The checkpoint to write, ending in ``.safetensors``."""
    overwrite: bool = False
    """Replace what is there."""
    weights_list: str | None = None
    """As for :class:`ListOptions`."""
    offline: bool = False
    """Ask no network."""
    json: bool = False
    """One line of JSON on standard output."""
    quiet: bool = False
    """Say nothing but errors."""

    def __post_init__(self) -> None:
        if not self.output.endswith(".safetensors"):
            raise UsageError(f"-o {self.output} does not end in .safetensors.", "Say -o FILE.safetensors.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishOptions:
    """The options of ``deblur weights publish``. Raises UsageError when they do not fit together."""

    file: str
    """A checkpoint that deblur made."""
    repo: str
    """Owner and name of the repository on the Hub."""
    name: str | None = None
    """What the weights will be called; None: as the repository."""
    licence: str | None = None
    """Of the weights; None: as the label says."""
    protocol: str = ""
    """How the scores of the label were measured, and by whom."""
    public: bool = False
    """Everybody may see them."""
    json: bool = False
    """One line of JSON with the row on standard output."""
    quiet: bool = False
    """Say nothing but the row and errors."""

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.repo) or "--" in self.repo or ".." in self.repo or len(self.repo) > 96:
            raise UsageError(
                f"--repo {self.repo} is not the owner and the name of a repository.", "Say --repo owner/name."
            )
        if not _NAME.fullmatch(self.called):
            raise UsageError(
                f"'{self.called}' cannot be a name of weights: those are of small letters, digits and - _.",
                "Say --name net-prior-data-1, for example.",
            )

    @property
    def called(self) -> str:
        """The name of the weights."""
        return self.repo.rpartition("/")[2].lower() if self.name is None else self.name
