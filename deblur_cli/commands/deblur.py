"""Photos to restored photos: which ones, where to, what is done already; and the workers that do the rest."""

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.batch.events import Begun, Opened, Outcome, Started, failed, last_words, outcome
from deblur_cli.batch.pipeline import Pipeline, Task
from deblur_cli.batch.streams import Streams, source
from deblur_cli.errors import DeblurError, WeightsError
from deblur_cli.files import disk, manifest, routes
from deblur_cli.options.deblur import DeblurOptions

if TYPE_CHECKING:
    from deblur_cli.files.hub import Told

__all__ = ["Begun", "Opened", "Outcome", "Started", "Streams", "last_words", "run"]

_Tiles = Callable[[int, int], None] | None
_SHAPING = ("quality", "strip_metadata", "strength", "tta", "compare", "precision", "tile", "overlap")
"""Options that the picture hangs on; with another word for one of them a photo is not done."""


def run(
    options: DeblurOptions, streams: Streams, *, tiles: _Tiles = None, fetching: "Told | None" = None
) -> Generator[Started | Opened | Begun | Outcome]:
    """Restore all photos; one that fails does not stop the rest.

    Args:
        options: what was said.
        streams: where ``-`` reads and writes.
        tiles: told (tiles done, tiles in all) of the photo at hand, from within the net's work, where no event can be yielded.
            Several workers tell nothing of tiles.
        fetching: told how far a download of the weights has come, from within it.

    Yields:
        One Started, one Opened before the first photo is restored, and for each photo an Outcome, in the order of the photos.
        The Outcome comes when the result lies whole in its place. A KeyboardInterrupt is raised on after the Outcome of
        the photo that was being written.
    """
    told = _once(fetching)
    pen = _pen(options, told)
    found = routes.plan(
        options.inputs,
        routes.Naming(
            output=options.output,
            suffix=options.suffix,
            format=options.format,
            compare=options.compare,
            overwrite=options.overwrite,
            skip_existing=options.skip_existing,
        ),
        recursive=options.recursive,
        shard=options.share,
        pen=pen,
    )
    yield Started(photos=len(found.routes), others=found.others, earlier=found.earlier, elsewhere=found.elsewhere)
    for each in found.routes:
        if each.finished:
            yield outcome(each, "skipped")
    waiting = [each for each in found.routes if not each.finished]
    if options.dry_run:
        yield from _probe_all(waiting, options, streams)
        return
    for folder in {each.target.parent for each in found.routes if each.target is not None}:
        disk.sweep(folder)
    if waiting:
        if pen is not None:
            pen.open()
        yield from _restore_all(waiting, Task(options=options, pen=pen), streams, tiles, told)


def _restore_all(
    waiting: list[routes.Route], task: Task, streams: Streams, tiles: _Tiles, fetching: "Told | None"
) -> Iterator[Opened | Begun | Outcome]:
    """Restore photo after photo, by as many workers as are wanted."""
    if task.options.engine == "ray":
        from deblur_cli.batch.cluster import Cluster

        yield from Cluster(task, task.options.workers, fetching=fetching).run(waiting)
        return
    if task.options.workers is None and task.options.device != "cuda:all":
        yield from Pipeline(task, streams, tiles=tiles, fetching=fetching).run(waiting)
        return
    from deblur_cli.batch import crew

    places = crew.places(task.options.device, task.options.workers)
    if len(places) > 1 and len(waiting) > 1:
        _locate(task.options, fetching)  # once: not every worker by itself
        task = task.divided(min(len(places), len(waiting)))
        yield from crew.Crew(task, places, fetching=fetching).run(waiting)
        return
    task = replace(task, options=replace(task.options, device=places[0]))
    yield from Pipeline(task, streams, tiles=tiles, fetching=fetching).run(waiting)


def _probe_all(waiting: list[routes.Route], options: DeblurOptions, streams: Streams) -> Iterator[Outcome]:
    """What would be done, from the headers of the photos alone."""
    from deblur_cli.files import photo, weights

    weights.known(options.weights, listed=options.weights_list)
    for route in waiting:
        try:
            facts = photo.probe(source(route, streams))
        except DeblurError as error:
            yield failed(route, error)
            continue
        yield replace(outcome(route, "planned"), width=facts.width, height=facts.height, weights=options.weights)


def _pen(options: DeblurOptions, fetching: "Told | None") -> manifest.Pen | None:
    if options.manifest is None:
        return None
    said = asdict(options)
    return manifest.Pen(
        path=Path(options.manifest),
        folder=options.manifest.endswith(("/", os.sep)) or routes.is_folder(options.manifest),
        weights=_sum(options, fetching),
        options={name: said[name] for name in _SHAPING},
    )


def _sum(options: DeblurOptions, fetching: "Told | None") -> str:
    """What tells the weights from all others: their SHA-256, without a look into the file where a list has it."""
    from deblur_cli.files import sums, weights

    meant = weights.known(options.weights, listed=options.weights_list)
    if isinstance(meant, weights.Entry):
        return meant.sha256
    if isinstance(meant, Path):
        path = meant
    elif options.dry_run:  # which fetches nothing
        path = weights.present(meant)
    else:
        path = _locate(options, fetching)
    if path is None or not path.exists():
        return str(meant)
    try:
        return sums.of_folder(path) if path.is_dir() else sums.of(path)
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error.strerror or error}.") from error


def _locate(options: DeblurOptions, fetching: "Told | None") -> Path:
    from deblur_cli.files import weights

    return weights.locate(options.weights, listed=options.weights_list, offline=options.offline, told=fetching)


def _once(fetching: "Told | None") -> "Told | None":
    """``fetching`` that is told no sentence twice: the weights are looked for more than once."""
    if fetching is None:
        return None
    said: set[str] = set()

    def tell(event: object) -> None:
        sentence = str(event)
        if hasattr(event, "done") or sentence not in said:
            said.add(sentence)
            fetching(event)  # pyright: ignore[reportArgumentType] - whatever it was given

    return tell
