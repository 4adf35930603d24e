"""A folder on its way: reading and writing do not keep the net waiting where it is as quick as they are."""

import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur_cli.batch import cluster, machine, worker
from deblur_cli.batch.events import Outcome
from deblur_cli.batch.pipeline import Pipeline, Task
from deblur_cli.batch.streams import Streams
from deblur_cli.files import photo, routes
from deblur_cli.files.label import Label
from deblur_cli.options.deblur import DeblurOptions
from deblur_cli.pixels import tiles

DEADLINE = 30  # seconds after which a test gives up waiting
COUNT = 16


class Log:
    """How many have begun and ended each step."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.begun: dict[str, list[Event]] = {
            step: [Event() for _ in range(COUNT)] for step in ("read", "net", "write")
        }
        self.under_way = {"read": 0, "write": 0}
        self.most = {"read": 0, "write": 0}

    def begin(self, step: str, index: int) -> None:
        self.begun[step][index].set()
        with self._lock:
            if step in self.most:
                self.under_way[step] += 1
                self.most[step] = max(self.most[step], self.under_way[step])

    def end(self, step: str) -> None:
        with self._lock:
            self.under_way[step] -= 1


class Net:
    """Restores nothing, and tells when."""

    device, precision = "cuda", "bf16"
    label = Label(net="unet", config={}, made_with="tests", licence="", trained_on="")

    def __init__(self, log: Log, ahead: int) -> None:
        self.photos_ahead = ahead
        self.log = log
        self.next = 0
        self.late: list[str] = []

    def restore(self, pixels: np.ndarray, **_more: Any) -> np.ndarray:
        index = self.next
        self.next += 1
        self.log.begin("net", index)
        # From the second on, as many as are said are being read at this moment: the first one is read before the net is there.
        last = min(COUNT, index + 1 + self.photos_ahead) if index else 2
        self._expect("read", range(index + 1, last))
        # Whoever writes the last photos has to wait for the net: see ``slow_write``.
        return pixels

    def plan_for(self, height: int, width: int) -> tiles.TilePlan:
        return tiles.plan(height, width, tile=0, overlap=0, multiple_of=1)

    def _expect(self, step: str, places: range) -> None:
        self.late += [f"{step} {place}" for place in places if not self.log.begun[step][place].wait(DEADLINE)]


@pytest.fixture
def folder(tmp_path: Path) -> list[routes.Route]:
    for index in range(COUNT):
        Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(tmp_path / f"{index:02}.png")
    said = routes.Naming(output=str(tmp_path / "out"))
    return list(routes.plan((str(tmp_path / "*.png"),), said, recursive=False).routes)


def _run(
    found: list[routes.Route], log: Log, ahead: int, monkeypatch: pytest.MonkeyPatch, *, behind: int
) -> tuple[Net, list[Outcome]]:
    """All photos through stages of which each is slow: a photo is written only when the net has begun ``behind`` others."""
    net = Net(log, ahead)
    whole, encoded = photo.read, photo.encode

    def read(source: Any, **words: Any) -> photo.Photo:
        log.begin("read", int(Path(source).stem))
        made = whole(source, **words)
        log.end("read")
        return made

    def encode(picture: photo.Photo, **words: Any) -> bytes:
        index = int(picture.pixels[0, 0, 0])
        log.begin("write", index)
        later = index + behind
        if later < COUNT and not log.begun["net"][later].wait(DEADLINE):
            net.late.append(f"net {later}")
        log.end("write")
        return encoded(picture, **words)

    monkeypatch.setattr(photo, "read", read)
    monkeypatch.setattr(photo, "encode", encode)
    monkeypatch.setattr(machine, "opened", lambda *_said: net)
    options = DeblurOptions(inputs=("x",))
    events = Pipeline(Task(options=options), Streams(input=BytesIO(), output=BytesIO())).run(_asked(found))
    return net, [each for each in events if isinstance(each, Outcome)]


def _asked(found: list[routes.Route]) -> Iterator[routes.Route]:
    yield from found


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_the_net_never_waits_for_stages_that_are_as_quick_together(
    ahead: int, folder: list[routes.Route], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    net, outcomes = _run(folder, log, ahead, monkeypatch, behind=ahead)
    assert not net.late
    assert [Path(each.input).stem for each in outcomes] == [f"{index:02}" for index in range(COUNT)]
    assert [each.status for each in outcomes] == ["restored"] * COUNT
    assert log.most["read"] <= ahead
    assert log.most["write"] <= ahead


def test_photos_are_not_held_without_end(folder: list[routes.Route], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the net stands still, no more are read than were said."""
    log = Log()
    seen: list[int] = []
    restore = Net.restore

    def watched(net: Net, pixels: np.ndarray, **more: Any) -> np.ndarray:
        made = restore(net, pixels, **more)
        seen.append(sum(each.is_set() for each in log.begun["read"]) - net.next)
        return made

    monkeypatch.setattr(Net, "restore", watched)
    _run(folder, log, 3, monkeypatch, behind=0)
    assert max(seen) == 3


class Spoken:
    """A worker's connection, on which everything that was said is kept."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def send(self, message: Any) -> None:
        self.said.append(message)


def _stopped(found: list[routes.Route], monkeypatch: pytest.MonkeyPatch, stop: Any) -> Pipeline:
    """A pipeline of a GPU whose net is stopped at the fourth photo, while three results are being written."""
    net, encoded, go_on = Net(Log(), 4), photo.encode, Event()
    net.restore = lambda pixels, **_more: stop(pixels, go_on)

    def encode(picture: photo.Photo, **words: Any) -> bytes:
        assert go_on.wait(DEADLINE)
        return encoded(picture, **words)

    monkeypatch.setattr(photo, "encode", encode)
    monkeypatch.setattr(machine, "opened", lambda *_said: net)
    return Pipeline(Task(options=DeblurOptions(inputs=("x",))))


def test_a_worker_that_is_stopped_tells_of_all_that_it_was_writing(
    folder: list[routes.Route], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, said = worker._Stop(), Spoken()

    def stop(pixels: np.ndarray, go_on: Event) -> np.ndarray:
        if pixels[0, 0, 0] == 3:
            go_on.set()
            asked(signal.SIGTERM, None)
        return pixels

    pipeline = _stopped(folder, monkeypatch, stop)
    monkeypatch.setattr(worker, "_incoming", lambda _connection: iter(folder))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            worker._serve(pipeline, said, asked)
    finally:
        signal.signal(signal.SIGTERM, before)
    told = [Path(each.output).name for each in said.said if isinstance(each, Outcome)]
    assert told == ["00.png", "01.png", "02.png"]


def test_a_stop_between_two_events_leaves_no_result_untold(
    folder: list[routes.Route], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an actor, of a worker, and of the command itself."""

    def stop(pixels: np.ndarray, go_on: Event) -> np.ndarray:
        if pixels[0, 0, 0] == 2:
            hand.stop()
            go_on.set()
        return pixels

    hand = cluster.Hand(Task(options=DeblurOptions(inputs=("x",))), ".")
    hand._pipeline = _stopped(folder, monkeypatch, stop)
    told = [Path(each.output).name for each in hand.restore(folder)]
    assert told == sorted(each.name for each in folder[0].target.parent.iterdir())
    assert len(told) == 3
