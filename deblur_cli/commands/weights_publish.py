"""A checkpoint to the Hub, with a model card and config.json, and the row by which others find it."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.deblurrer import Deblurrer
from deblur_cli.errors import WeightsError
from deblur_cli.files import card, checkpoint, disk, publishing, rows, sums
from deblur_cli.options.weights import PublishOptions

_COMMIT_TO_COME = "0" * 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """It is there."""

    entry: rows.Entry
    row: str
    """The row as TOML, for a list of weights."""
    url: str
    """The page of the repository."""

    def __str__(self) -> str:
        return f"published {self.entry.name} at {self.url}, commit {self.entry.revision}"


def run(options: PublishOptions, *, told: Callable[[str], None]) -> Published:
    """Publish a checkpoint that loads and whose label says what the Hub must know.

    Args:
        options: what was said.
        told: called with what is being done.

    Raises:
        WeightsError: it does not load, says too little of itself, or the Hub does not take it.
    """
    path = disk.at_home(options.file)
    found = checkpoint.load(path)
    if found.label.kind == "net":
        Deblurrer.open(path, device="cpu", precision="fp32")  # what does not load here loads nowhere
    label = replace(found.label, licence=_licence(options, path, found.label))
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        if label != found.label:
            # What is published must say itself what its row says.
            path = Path(folder) / path.name
            checkpoint.save(checkpoint.Checkpoint(label=label, tensors=found.tensors), path)
        entry = _entry(options, path, label)
        files: dict[str, Path | bytes] = {
            entry.file: path,
            "config.json": card.config(entry, label).encode(),
            "README.md": card.write(entry, label).encode(),
        }
        if entry.scores and not entry.protocol:
            told("nothing tells how the scores were measured, and by whom; --protocol TEXT does")
        told(f"publishing {entry.name} ({entry.size / 1e6:.1f} MB, {entry.licence})")
        commit = publishing.upload(options.repo, files, public=options.public, told=told)
    entry = replace(entry, revision=commit)
    return Published(entry=entry, row=rows.text(entry), url=entry.places[0].page)


def _licence(options: PublishOptions, path: Path, label: checkpoint.Label) -> str:
    """What was said, or what the label says if the Hub knows it."""
    if options.licence or card.knows(label.licence):
        return options.licence or label.licence
    raise WeightsError(
        f"The label of '{path}' gives as licence '{label.licence}', which the Hub does not know.",
        "Say under which one you publish, such as --licence Apache-2.0.",
    )


def _entry(options: PublishOptions, path: Path, label: checkpoint.Label) -> rows.Entry:
    try:
        return rows.Entry(
            name=options.called,
            net=label.net,
            prior=label.kind == "prior" or bool(label.config.get("prior")),
            hub=options.repo,
            file=f"{options.called}.safetensors",
            revision=_COMMIT_TO_COME,
            sha256=sums.of(path),
            size=path.stat().st_size,
            licence=label.licence,
            non_commercial=card.is_non_commercial(label.licence),
            trained_on=label.trained_on,
            scores=dict(label.scores),
            protocol=options.protocol,
            precisions=dict(label.precisions),
        )
    except ValueError as error:
        raise WeightsError(f"The label of '{path}' says too little: {error}.", "Train it with this version.") from error
