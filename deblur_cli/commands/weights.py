"""Weights looked after: what there is, what is known of it, fetched, and compared with what was released."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deblur_cli.errors import DeblurError, WeightsError
from deblur_cli.files import hub, sums, weights
from deblur_cli.options.weights import InfoOptions, ListOptions, PullOptions, VerifyOptions

_CONVERT = "Give a file that deblur made; deblur weights convert makes one of what others published."


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of weights, from their row or from the label in the file."""

    name: str
    aliases: tuple[str, ...] = ()
    net: str
    prior: bool
    size: int
    """Bytes."""
    sha256: str
    licence: str
    non_commercial: bool = False
    trained_on: str
    scores: Mapping[str, float]
    protocol: str = ""
    """How the scores were measured, and by whom."""
    precision: str = "fp32"
    """What it computes with, unless it is told otherwise; an exported net knows no other."""
    precisions: Mapping[str, float]
    """Precision to its change of PSNR in dB against fp32, where it was measured."""
    source: str
    """``bundled``, an address on the Hub, or ``file``."""
    mirror: str | None = None
    path: str | None
    """Where it lies on this disk; None: nowhere."""

    @property
    def score(self) -> str:
        """The first PSNR, or the one over all."""
        names = [name for name in self.scores if name.startswith("psnr ")]
        name = "psnr all" if "psnr all" in names else next(iter(names), "")
        return f"{self.scores[name]:.2f} dB {name.removeprefix('psnr ')}" if name else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one set of weights; exactly one for each."""

    name: str
    status: Literal["fetched", "present", "whole", "absent", "failed"]
    path: str | None = None
    error: str | None = None
    hint: str | None = None
    exit_code: int = 0
    cause: DeblurError | None = field(default=None, repr=False)
    """What was raised, with its traceback."""

    def __str__(self) -> str:
        match self.status:
            case "fetched":
                return f"{self.name} is here now: {self.path}"
            case "present":
                return f"{self.name} was here already: {self.path}"
            case "whole":
                return f"{self.name} is whole: {self.path}"
            case _:
                return self.error or ""


def listing(options: ListOptions) -> Iterator[Known]:
    """All weights of the lists, in their order."""
    named = weights.aliases(options.weights_list)
    for entry in weights.entries(options.weights_list).values():
        yield _of_entry(entry, tuple(alias for alias, name in named.items() if name == entry.name))


def info(options: InfoOptions) -> Known:
    """What is known of one set of weights.

    Raises:
        WeightsError: there are none of that name, or the file has no label.
    """
    meant = weights.known(options.name, listed=options.weights_list)
    if isinstance(meant, weights.Entry):
        named = weights.aliases(options.weights_list)
        return _of_entry(meant, tuple(alias for alias, name in named.items() if name == meant.name))
    path = meant if isinstance(meant, Path) else weights.present(meant)
    if path is None:
        raise WeightsError(
            f"'{options.name}' is not here, and only the file itself tells what it is.",
            f"Say deblur weights pull {options.name} first.",
        )
    return _of_file(options.name, path, "file" if isinstance(meant, Path) else str(meant))


def pull(options: PullOptions, *, told: hub.Told) -> Iterator[Outcome]:
    """Fetch what is not here, and what was changed; one that fails does not stop the rest."""
    for name in options.names:
        fetched: list[hub.Fetching] = []

        def tell(event: hub.Fetching | hub.Noted, fetched: list[hub.Fetching] = fetched) -> None:
            if isinstance(event, hub.Fetching):
                fetched.append(event)
            told(event)

        try:
            found = weights.find(name, listed=options.weights_list, anew=True, told=tell)
        except DeblurError as error:
            yield _failed(name, error)
            continue
        yield Outcome(name=name, status="fetched" if fetched else "present", path=str(found.path))


def verify(options: VerifyOptions) -> Iterator[Outcome]:
    """Read the files from end to end and compare them with what was released; a failure does not stop the rest."""
    for name in options.names or tuple(weights.entries(options.weights_list)):
        try:
            yield from _verified(name, options)
        except DeblurError as error:
            yield _failed(name, error)


def _verified(name: str, options: VerifyOptions) -> Iterator[Outcome]:
    meant = weights.known(name, listed=options.weights_list)
    if isinstance(meant, Path):
        raise WeightsError(
            f"'{name}' is a file of yours: no list says what is to be in it.", "Name weights of deblur weights list."
        )
    path = weights.present(meant)
    if path is None:
        if options.names:
            raise WeightsError(f"The weights '{name}' are not here.", f"Say deblur weights pull {name}.")
        yield Outcome(name=name, status="absent", error=f"{name} is not here")
    elif wrong := weights.audit(meant, path):
        bundled = isinstance(meant, weights.Entry) and meant.bundled
        raise WeightsError(
            f"The weights '{name}' are not those that were released: '{path}' was changed; {wrong}.",
            "Install deblur-cli anew." if bundled else f"Say deblur weights pull {name} to fetch them anew.",
        )
    else:
        yield Outcome(name=name, status="whole", path=str(path))


def _failed(name: str, error: DeblurError) -> Outcome:
    return Outcome(
        name=name,
        status="failed",
        error=error.message,
        hint=error.hint or None,
        exit_code=error.exit_code,
        cause=error,
    )


def _of_entry(entry: weights.Entry, aliases: tuple[str, ...]) -> Known:
    path = weights.present(entry)
    addresses = [str(place) for place in entry.places]
    return Known(
        name=entry.name,
        aliases=aliases,
        net=entry.net,
        prior=entry.prior,
        size=entry.size,
        sha256=entry.sha256,
        licence=entry.licence,
        non_commercial=entry.non_commercial,
        trained_on=entry.trained_on,
        scores=dict(entry.scores),
        protocol=entry.protocol,
        precisions=dict(entry.precisions),
        source=addresses[0] if addresses else "bundled",
        mirror=addresses[1] if len(addresses) > 1 else None,
        path=str(path) if path else None,
    )


def _of_file(name: str, path: Path, source: str) -> Known:
    from deblur_cli.files import label

    if path.is_dir():
        raise WeightsError(f"'{path}' is a folder, and has no label.", _CONVERT)
    metadata = _metadata(path)
    if not {"net", "config", "format"} <= metadata.keys():
        raise WeightsError(f"'{path}' has no label of this program.", _CONVERT)
    found = label.from_metadata(path, metadata)
    frozen = path.suffix.lower() in {".onnx", ".pt2"}
    try:
        size, digest = path.stat().st_size, sums.of(path)
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    return Known(
        name=name,
        net=found.net,
        prior=bool(found.config.get("prior")),
        size=size,
        sha256=digest,
        licence=found.licence,
        trained_on=found.trained_on,
        scores=dict(found.scores),
        precision=metadata.get("precision", "fp32") if frozen else "fp32",
        precisions={} if frozen else dict(found.precisions),
        source=source,
        path=str(path),
    )


def _metadata(path: Path) -> Mapping[str, str]:
    """What a checkpoint or an exported net says of itself."""
    if path.suffix.lower() == ".onnx":
        from deblur_cli.files import graph

        return graph.load(path).metadata
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix.lower() == ".pt2":
            from deblur_cli.files import exported

            return exported.of_program(path)
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"'{path}' has no label that could be read: {reason}.", _CONVERT) from error
