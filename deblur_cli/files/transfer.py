"""One file from one place on the Hub: announced, fetched by the Hub's own library, and compared with what is wanted."""

import logging
import shutil
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deblur_cli import __version__
from deblur_cli.files import places, sums
from deblur_cli.files.places import Place

if TYPE_CHECKING:
    from deblur_cli.files.refusals import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """How far a download has come; the first one of each has nothing done yet."""

    weights: str
    place: Place
    done: int
    """Bytes."""
    total: int | None
    """Bytes; None where the Hub does not say."""

    def __str__(self) -> str:
        size = "of unknown size" if self.total is None else f"{self.total / 1e6:.1f} MB"
        return f"fetching {self.weights} ({size}) from {self.place.url}"


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that the user should know of the weights."""

    text: str

    def __str__(self) -> str:
        return self.text


Told = Callable[[Fetching | Noted], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file, wherever it lies."""

    name: str
    """What the user calls it."""
    places: tuple[Place, ...]
    """Where it lies, the best one first."""
    sha256: str = ""
    """Empty: not known."""
    size: int = 0
    """Bytes; 0: not known."""


def fault(path: Path, wanted: Wanted, *, trust: bool = True) -> str:
    """What is wrong with a file of the cache, as the end of a sentence; empty if nothing is known to be.

    Args:
        path: in the cache.
        wanted: what it should be.
        trust: believe what was remembered of a large file; otherwise it is read.
    """
    expected = wanted.sha256 or places.content_sum(path)
    try:
        return sums.fault(path, sha256=expected, size=wanted.size, trust=trust) if expected else ""
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def pull(place: Place, wanted: Wanted, *, anew: bool, told: Told) -> "Path | Refusal":
    """The file from one place, compared with what is wanted, or why it does not come."""
    from deblur_cli.files import refusals

    begun = False
    try:
        with quiet():
            total = _look(place, wanted)
            if not isinstance(total, int | None):
                return total
            begun = True
            told(Fetching(weights=wanted.name, place=place, done=0, total=total))
            path = _download(place, wanted, total, anew=anew, told=told)
    except refusals.EXPECTED as error:
        return replace(refusals.why(error, place), insisted=begun and refusals.is_silence(error))
    if wrong := fault(path, wanted):
        return _other(wrong)
    told(Fetching(weights=wanted.name, place=place, done=path.stat().st_size, total=path.stat().st_size))
    return path


def _look(place: Place, wanted: Wanted) -> "int | Refusal | None":
    """The size in bytes, if the Hub says that it has what is wanted and the disk has room for it."""
    import huggingface_hub
    from huggingface_hub import constants

    from deblur_cli.files.refusals import SETTINGS, Refusal

    # The library itself tries a dead host for minutes before it says so.
    try:
        found = huggingface_hub.get_hf_file_metadata(place.url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except SETTINGS as error:
        return Refusal(
            f"the network's settings cannot be used ({error})", "Look at HF_ENDPOINT, HF_TOKEN, HTTPS_PROXY, ALL_PROXY."
        )
    if wanted.size and found.size not in {None, wanted.size}:
        return _other(f"it has {found.size:,} bytes where {wanted.size:,} were expected")
    if wanted.sha256 and found.etag and len(found.etag) == 64 and found.etag != wanted.sha256:
        return _other(f"its SHA-256 is {found.etag} where {wanted.sha256} was expected")
    folder = next(each for each in (places.cache(), *places.cache().parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if found.size is not None and found.size > free:
        return Refusal(
            f"it has {found.size / 1e6:.1f} MB, and the cache '{places.cache()}' has room for {free / 1e6:.1f} MB",
            "Free some space, or set HF_HOME to a folder on another disk.",
            here=True,
        )
    return found.size


def _other(wrong: str) -> "Refusal":
    from deblur_cli.files.refusals import Refusal

    return Refusal(
        f"it is not the file that was released; {wrong}", "Say it again; if it stays so, do not use it, and tell us."
    )


def _download(place: Place, wanted: Wanted, total: int | None, *, anew: bool, told: Told) -> Path:
    import huggingface_hub

    class Bar(_Bar):
        @staticmethod
        def moved(done: int) -> None:
            told(Fetching(weights=wanted.name, place=place, done=done, total=total))

    try:
        fetch: Any = huggingface_hub.hf_hub_download  # its overloads know no bar but tqdm, its words others, too
        found: str = fetch(
            place.repository,
            place.file,
            revision=place.revision,
            cache_dir=places.cache(),
            endpoint=places.endpoint(),
            library_name="deblur-cli",
            library_version=__version__,
            force_download=anew,
            tqdm_class=Bar,
        )
    except ValueError as error:
        if isinstance(error.__cause__, Exception):  # how force_download words a network that failed
            raise error.__cause__ from None
        raise
    return Path(found)


class _Bar:
    """What the Hub's library moves while it downloads, in the manner of a tqdm bar."""

    def __init__(self, *_words: Any, total: int | None = None, initial: int = 0, **_more: Any) -> None:
        self.total = total
        self.n = initial

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_how: object) -> None:
        self.close()

    @staticmethod
    def moved(done: int) -> None:
        """Told the bytes that are done."""

    def update(self, n: float | None = 1) -> None:
        """Bytes that came."""
        self.n += int(n or 0)
        self.moved(self.n)

    def update_transfer(self, n: float | None = 1) -> None:
        """Bytes on the wire, which Xet counts apart."""

    def set_postfix_str(self, *_words: Any, **_more: Any) -> None:
        """Speeds are for the screen to tell."""

    set_transfer_postfix_str = set_description = set_description_str = refresh = set_postfix_str

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def quiet() -> Generator[None]:
    """Keep the library's warnings from the terminal: what matters is told in our words."""
    from huggingface_hub.utils import logging as theirs  # which sets a level of its own when it is first imported

    before = theirs.get_verbosity()
    theirs.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.set_verbosity(before)
