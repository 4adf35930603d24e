"""Weights to scores: what the field measures of restored images, and how long they took."""

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from deblur_cli.deblurrer import Deblurrer, devices
from deblur_cli.errors import InputError, UsageError
from deblur_cli.files import archives, disk, hub, pairs
from deblur_cli.options.benchmark import BenchmarkOptions
from deblur_cli.scorer import (
    clock,
    entrants,
    events,
    page,
    perceptual,
    pictures,
    protocols,
    record,
    reported,
    samples,
    scores,
)
from deblur_cli.trainer import crew

_SAVE_EVERY = 60.0
"""Seconds between two saves of what was scored so far."""
_PAGE, _TITLE = "index.html", "deblur benchmark: "
_INSTEAD = "fetch GoPro with --download, or score on your own sharp photographs with --dataset synthetic --data DIR"

Pixels = NDArray[np.uint8]


def run(options: BenchmarkOptions, *, fetching: hub.Told | None = None) -> Generator[events.Event]:
    """Score every image with all weights; ``fetching`` is told of downloads of weights.

    Yields:
        Started, a Scored for each image and set of weights, Measured, and what was written.

    An interrupted run leaves the scores that it had in the ``.json`` of ``--output``, for ``--resume``.

    Raises:
        DeblurError: among them, before the work, a UsageError or an InputError for a place where nothing can be written, or
            where the page of --report would replace somebody else's; and an InputError for an image that cannot be read: a
            score over fewer images is a wrong score.
    """
    if not (options.overwrite or options.resume):
        disk.check_free(*map(Path, options.output), hint="Say --resume to go on with it, or --overwrite.")
    disk.check_writable(*map(Path, options.output))
    _check_page(options)
    if options.download:
        yield from _fetch(options)
    yield from _Run(options, entrants.find(options, fetching)).tell()


@dataclass(frozen=True, slots=True)
class _Net:
    deblurrer: Deblurrer
    told: record.Weights


@dataclass(slots=True)
class _Run:
    """A benchmark under way."""

    options: BenchmarkOptions
    paths: Mapping[str, Path]
    title: str = ""
    known: int = 0
    """Images of the whole set, whether they are here or not."""
    nets: list[_Net] = field(default_factory=list[_Net])
    done: dict[tuple[str, str], scores.Score] = field(default_factory=dict[tuple[str, str], scores.Score])
    """By weights and name of the image."""
    distance: perceptual.Distance | None = None

    def tell(self) -> Iterator[events.Event]:
        self.title, everything, self.known = _samples(self.options)
        chosen = pairs.spread(everything, self.options.limit or len(everything))
        with crew.gathered(devices.choose(self.options.device)) as us:
            self.nets = [_open(name, path, self.options, us.device) for name, path in self.paths.items()]
            said = self._load_distance()
            plan = self._record(chosen)
            self._take_earlier(plan, chosen)
            mine = [each for each in chosen if self._missing(each)][us.rank :: us.size]
            if us.writes:
                yield self._started(plan, sum(len(self._missing(each)) for each in mine))
                yield from said
            try:
                saved = time.monotonic()
                # Closed here, not whenever Python drops them: a second Ctrl-C would then be reported and forgotten.
                with closing(self._score_all(mine)) as under_way:
                    for scored in under_way:
                        if us.writes:
                            yield scored
                            if time.monotonic() - saved >= _SAVE_EVERY:
                                self._save(self._record(chosen))
                                saved = time.monotonic()
                self._gather(us.size)
            finally:
                if us.writes:
                    self._save(self._record(chosen))
        if us.writes:
            yield from self._conclude(chosen)

    def _started(self, plan: record.Record, work: int) -> events.Started:
        return events.Started(
            title=self.title,
            protocol=self._protocol.title,
            images=plan.images,
            known=plan.known,
            earlier=len(self.done),
            work=work,
            weights=plan.weights,
        )

    def _load_distance(self) -> list[events.Noted]:
        if self.options.lpips == "none":
            return []
        self.distance, said = perceptual.load(self.options.lpips, self.nets[0].deblurrer.device)
        return [events.Noted(text=said)]

    def _gather(self, size: int) -> None:
        """Make the scores of all processes known to each."""
        if size > 1:
            all_done: list[Any] = [None] * size
            distributed.all_gather_object(all_done, self.done)
            self.done = {key: score for done in all_done for key, score in done.items()}

    @property
    def _protocol(self) -> protocols.Protocol:
        return protocols.PROTOCOLS[self.options.measured_by]

    def _record(self, chosen: Sequence[samples.Sample]) -> record.Record:
        keys = [(net.told.name, each.name) for net in self.nets for each in chosen]
        return record.Record(
            settings=_settings(self.options, self.title, lpips=self.distance is not None),
            images=len(chosen),
            known=self.known,
            weights=[net.told for net in self.nets],
            scores=[self.done[key] for key in keys if key in self.done],
        )

    def _take_earlier(self, plan: record.Record, chosen: Sequence[samples.Sample]) -> None:
        """The scores of the run that is gone on with, but for those of images that have changed since."""
        if self.options.resume and self.options.record:
            found = record.read(Path(self.options.record), plan)
            names = {score.name for score in found}
            now = {each.name: each.source() for each in chosen if each.name in names}
            self.done = {(each.weights, each.name): each for each in found if now.get(each.name) == each.source}

    def _missing(self, sample: samples.Sample) -> list[_Net]:
        return [net for net in self.nets if (net.told.name, sample.name) not in self.done]

    def _score_all(self, waiting: Sequence[samples.Sample]) -> Generator[events.Scored]:
        warm: set[str] = set()
        with closing(samples.ahead(waiting)) as images:
            for sample, blurred, sharp in images:
                # The blurred image itself is the result of a net that does nothing: before and after are measured alike.
                before: Mapping[str, float] | None = None
                source = sample.source()
                for net in self._missing(sample):
                    before = before or self._compare(blurred, sharp, net)
                    if net.told.name not in warm:
                        self._restore(net, blurred)
                        warm.add(net.told.name)
                    score, restored = self._score(sample, blurred, sharp, before, net)
                    score = replace(score, source=source)
                    if self.options.save_images:
                        pictures.save(Path(self.options.save_images), score.weights, score.name, restored)
                    self.done[score.weights, score.name] = score
                    yield events.Scored(score=score)

    def _score(
        self, sample: samples.Sample, blurred: Pixels, sharp: Pixels | None, before: Mapping[str, float], net: _Net
    ) -> tuple[scores.Score, NDArray[Any]]:
        timed = clock.time_of(lambda: self._restore(net, blurred), net.deblurrer.device)
        plan = net.deblurrer.plan_for(*blurred.shape[:2])
        score = scores.Score(
            name=sample.name,
            kind=sample.kind,
            weights=net.told.name,
            width=blurred.shape[1],
            height=blurred.shape[0],
            before=before,
            after=self._compare(timed.result, sharp, net),
            seconds=round(timed.seconds, 6),
            tile=(plan.tile_width, plan.tile_height),
            memory=timed.memory,
        )
        return score, timed.result

    def _restore(self, net: _Net, blurred: Pixels) -> NDArray[Any]:
        if self._protocol.rounds:
            return net.deblurrer.restore(blurred)
        return net.deblurrer.restore(blurred.astype(np.float32) / 255)

    def _compare(self, restored: NDArray[Any], sharp: Pixels | None, net: _Net) -> Mapping[str, float]:
        device = net.deblurrer.device
        found = protocols.score(self._protocol, restored, sharp, device)
        if self.distance is not None and sharp is not None:
            both = (protocols.tensor(restored, device), protocols.tensor(sharp, device))
            found[f"lpips {self.options.lpips}"] = self.distance(*both)
        return found

    def _save(self, made: record.Record) -> None:
        """Write the files of --output; of an unfinished run only the one to go on from."""
        for name in self.options.output:
            if name.endswith(".json") and made.scores:
                table = [asdict(each) for each in self._reported()]
                record.write_json(Path(name), made, scores.rows(made.scores), {"reported": table} if table else None)
            elif made.complete:
                record.write_csv(Path(name), made)

    def _reported(self) -> list[reported.Reported]:
        return reported.rows(self.options.reported) if self.options.reported else []

    def _conclude(self, chosen: Sequence[samples.Sample]) -> Iterator[events.Event]:
        made = self._record(chosen)
        rows = scores.rows(made.scores)
        yield events.Measured(
            title=f"{made.part} images of {self.title}",
            protocol=self._protocol.title,
            lpips=self.options.lpips,
            rows=rows,
            reported=self._reported(),
        )
        for name in self.options.output:
            yield events.Written(path=name)
        if self.options.report:
            yield self._write_page(Path(self.options.report), chosen, made, rows)

    def _write_page(
        self, folder: Path, chosen: Sequence[samples.Sample], made: record.Record, rows: Sequence[scores.Row]
    ) -> events.Written:
        """The page; its pictures are restored once more, for all of them would not fit into the memory."""
        by_name = {sample.name: sample for sample in chosen}
        nets = {net.told.name: net.deblurrer for net in self.nets}
        shown: list[page.Picture] = []
        for place, score in page.choose(made.scores):
            blurred, sharp = by_name[score.name].read()
            restored = nets[score.weights].restore(blurred)
            shown.append(page.Picture(place=place, score=score, blurred=blurred, restored=restored, sharp=sharp))
        title, facts = f"{_TITLE}{self.title}", record.facts(made)
        text = page.html(title, facts, rows, self._reported(), made.scores, shown, lpips=self.options.lpips)
        pictures.make(folder)
        disk.write(folder / _PAGE, text.encode())
        return events.Written(path=str(folder / _PAGE))


def _check_page(options: BenchmarkOptions) -> None:
    """Refuse to replace a page that is not of a benchmark: ``--report`` may name the folder of a whole site."""
    path = Path(options.report or "") / _PAGE
    if options.report and not options.overwrite and path.is_file() and _TITLE.encode() not in disk.read(path):
        disk.check_free(path, hint="Say another --report DIR, or --overwrite.")


def _fetch(options: BenchmarkOptions) -> Iterator[events.Fetching]:
    """The data set, where its folder is not there yet."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--download is work for one process.", "Say it once without torchrun.")
    archive = archives.ARCHIVES[options.dataset]
    folder = _folder(options) or pairs.places()[0]
    try:
        pairs.find(options.dataset, _folder(options), split=options.split, blur_key=options.blur, subset=True)
    except InputError:
        if (folder / archive.folder).exists():
            raise
        for each in archives.fetch(archive, folder):
            yield events.Fetching(step=each.step, done=each.done, total=each.total)


def _folder(options: BenchmarkOptions) -> Path | None:
    return disk.at_home(options.data) if options.data else None


def _samples(options: BenchmarkOptions) -> tuple[str, list[samples.Sample], int]:
    """What a table calls the set, all its images that are here, and how many it has."""
    folder = _folder(options)
    if options.dataset == "synthetic" and folder:
        found = samples.of_photographs(folder, longest=options.reduced, seed=options.seed)
        return f"'{folder.resolve().name}', blurred by synthesis", found, len(found)
    if options.dataset == "blurred" and folder:
        found = samples.of_blurred(folder, longest=options.reduced)
        return f"'{folder.resolve().name}', blurred photographs", found, len(found)
    subset = options.subset or options.limit is not None
    listed = pairs.find(
        options.dataset, folder, split=options.split, blur_key=options.blur, subset=subset, instead=_INSTEAD
    )
    return listed.title, samples.of_pairs(listed.pairs), listed.known or len(listed.pairs)


def _open(name: str, path: Path, options: BenchmarkOptions, device: torch.device) -> _Net:
    deblurrer = Deblurrer.open(
        path,
        device=str(device),
        precision=options.precision,
        tile=options.tile,
        overlap=options.overlap,
        tta=options.tta,
        compile=options.compile,
    )
    made = record.weights(name, path, net=deblurrer.label.net, device=deblurrer.device, precision=deblurrer.precision)
    return _Net(deblurrer, made)


def _settings(options: BenchmarkOptions, title: str, *, lpips: bool) -> dict[str, Any]:
    synthetic = options.dataset == "synthetic"
    return {
        "dataset": options.dataset,
        "protocol": options.measured_by,
        "title": title,
        "comparison": protocols.PROTOCOLS[options.measured_by].title,
        "lpips": options.lpips if lpips else "none",
        "tile": options.tile,
        "overlap": options.overlap,
        "tta": options.tta,
        "longest": options.reduced if synthetic or options.dataset == "blurred" else None,
        "seed": options.seed if synthetic else None,
    }
