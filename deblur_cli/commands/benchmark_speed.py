"""Weights to their speed: how fast our path is, beside other ways to run the same net and what the arithmetic allows."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from deblur_cli import exporter
from deblur_cli.deblurrer import Deblurrer, devices, load
from deblur_cli.errors import DeblurError
from deblur_cli.files import disk, hub
from deblur_cli.files.label import Label
from deblur_cli.onnxrunner import OnnxDeblurrer
from deblur_cli.options.benchmark import BenchmarkOptions
from deblur_cli.scorer import clock, entrants, events, limit, record, rivals

_WARM = 2
"""Calls before the speed is measured: the first ones load libraries and choose algorithms."""
_VIEWS = 8
"""Images that the net sees for each with --tta."""

Pixels = NDArray[Any]


def run(options: BenchmarkOptions, *, fetching: hub.Told | None = None) -> Generator[events.Event]:
    """Measure the speed of all weights and, if wanted, of rivals; ``fetching`` is told of downloads of weights.

    Yields:
        Noted for each rival that is left out, a Pace for each row of the table, and what was written.

    Raises:
        DeblurError: among them a UsageError for an output that is there already.
    """
    if not options.overwrite:
        disk.check_free(*map(Path, options.output), hint="Say --overwrite to replace it.")
    disk.check_writable(*map(Path, options.output))
    paths = entrants.find(options, fetching)
    race = _Race(options, devices.choose(options.device))
    # On the CPU memory is the peak of the process, which never falls: ours is measured before rivals could raise it.
    ours = {name: race.ours(name, path) for name, path in paths.items()}
    yield from race.others(paths, ours)
    paces = rivals.compared(race.paces)
    yield from paces
    if options.output:
        record.write_paces([Path(name) for name in options.output], [asdict(pace) for pace in paces])
    for name in options.output:
        yield events.Written(path=name)


@dataclass(slots=True)
class _Race:
    """What was measured so far."""

    options: BenchmarkOptions
    device: torch.device
    paces: list[events.Pace] = field(default_factory=list[events.Pace])
    _rates: dict[str, float] = field(default_factory=dict[str, float])
    """Precision to what the device can do, in Gflop/s."""

    def ours(self, name: str, path: Path) -> record.Weights:
        """Measure the deblurrer; what ran."""
        options = self.options
        deblurrer = Deblurrer.open(
            path,
            device=str(self.device),
            precision=options.precision,
            tile=options.tile,
            overlap=options.overlap,
            tta=options.tta,
            compile=options.compile,
        )
        told = record.weights(name, path, net=deblurrer.label.net, device=self.device, precision=deblurrer.precision)
        self._measure(rivals.OURS, told, deblurrer.restore, lambda: _tile(deblurrer, options))
        return told

    def others(self, paths: Mapping[str, Path], ours: Mapping[str, record.Weights]) -> Iterator[events.Noted]:
        """Measure the rest, and tell what cannot be."""
        notes: list[str] = []
        work: dict[str, float | None] = {}
        self._try_rates(ours)
        for name, path in paths.items():
            label, net = load(path)
            work[name] = self._work(net)
            if self.options.peers and not self.options.tta:
                told = replace(ours[name], precision="fp32")
                notes += self._plain(told, net)
                notes += self._onnx(told, label, net)
        self._try_rates(ours)
        self.paces = [self._limited(pace, work[pace.weights.name]) for pace in self.paces]
        if self.options.peers and self.options.tta:
            notes = ["Rivals are left out: they restore without --tta."]
        yield from (events.Noted(text=text) for text in dict.fromkeys(notes))

    def _plain(self, told: record.Weights, net: torch.nn.Module) -> Iterator[str]:
        width, height = self.options.sides
        tall, wide = rivals.size(net, height, width)
        plain = rivals.Plain(net, self.device)
        # A system that lends more memory than it has would end the process, not refuse.
        short = plain.needed(height, width) > devices.free_bytes(self.device)
        try:
            if not short:
                self._measure(rivals.PLAIN, told, plain.restore, lambda: (wide, tall))
        except (MemoryError, RuntimeError) as error:
            if not devices.is_shortage(error):
                raise
            short = True
        if short:
            yield f"{rivals.PLAIN} is left out of {told.name}: the memory does not suffice for the whole image at once."

    def _onnx(self, told: record.Weights, label: Label, net: torch.nn.Module) -> Iterator[str]:
        options = self.options
        lacking = rivals.missing()
        if self.device.type != "cpu":
            yield f"{rivals.ONNX} is left out: it is measured on the CPU only."
        elif lacking:
            yield f"{rivals.ONNX} is left out: {', '.join(lacking)} not installed. Say pip install 'deblur-cli[onnx]'."
        else:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "net.onnx"
                    for _ in exporter.export(net, label, path, sort="onnx", precision="fp32", tile=0, photo=None):
                        pass
                    runner = OnnxDeblurrer.open(path, tile=options.tile, overlap=options.overlap)
                    self._measure(rivals.ONNX, told, runner.restore, lambda: _tile(runner, options))
            except DeblurError as error:
                yield f"{rivals.ONNX} is left out of {told.name}: {error.message}"

    def _measure(
        self, by: str, told: record.Weights, restore: Callable[[Pixels], Pixels], tile: Callable[[], tuple[int, int]]
    ) -> None:
        """One row; its tile is known only after the image was restored."""
        width, height = self.options.sides
        image = rivals.noise(width, height)
        found = clock.pace_of(lambda: restore(image), self.device, warm=_WARM, repeats=self.options.repeats)
        known = by == rivals.OURS or self.device.type != "cpu"  # else it is the peak of all that ran before, too
        self.paces.append(
            events.Pace(
                weights=told,
                by=by,
                width=width,
                height=height,
                tile=tile(),
                seconds=found.seconds,
                times=found.result,
                memory=found.memory if known else None,
            )
        )

    def _try_rates(self, ours: Mapping[str, record.Weights]) -> None:
        """What the device can do; tried before and after the rivals, for other programs may disturb one of them."""
        for precision in {"fp32", *(told.precision for told in ours.values())}:
            rate = limit.rate(self.device, devices.DTYPES[precision])
            self._rates[precision] = max(rate, self._rates.get(precision, 0.0))

    def _limited(self, pace: events.Pace, work: float | None) -> events.Pace:
        """A row with what the device can do in its precision, and the share of it that ``work`` in its time is."""
        rate = self._rates[pace.weights.precision]
        return replace(pace, limit=rate, share=None if work is None else work / pace.seconds / rate)

    def _work(self, net: torch.nn.Module) -> float | None:
        """Gflop for the pixels of the image, without what it is padded by and what tiles share."""
        width, height = self.options.sides
        tall, wide = rivals.size(net, height, width)
        work = limit.work(net, tall, wide)
        views = _VIEWS if self.options.tta else 1
        return None if work is None else views * work * (width * height) / (wide * tall)


def _tile(runner: Deblurrer | OnnxDeblurrer, options: BenchmarkOptions) -> tuple[int, int]:
    """Width and height in pixels of the tiles that the image was restored in."""
    plan = runner.plan_for(*reversed(options.sides))
    return plan.tile_width, plan.tile_height
