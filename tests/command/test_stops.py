"""The order in which the command reads, restores and writes, and what a stop or a kill in the middle leaves."""

import os
import signal
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from small_command import DEADLINE, ENVIRONMENT, code_of, draw, names_in, size_of, until

from deblur_cli.commands import deblur
from deblur_cli.files import photo
from deblur_cli.options.deblur import DeblurOptions


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_the_next_photo_is_read_and_the_last_one_written_while_the_net_works(weights):
    options = DeblurOptions(inputs=("1.png", "2.png", "3.png"), output="out/", weights=weights)
    content = draw("1.png").read_bytes()
    os.mkfifo("2.png")
    os.mkfifo("3.png")
    seen: list[str] = []

    def fill(name: str) -> bool:
        """Give a pipe its content, if somebody reads there."""
        try:
            pipe = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        os.write(pipe, content)
        os.close(pipe)
        return True

    def watch(done: int, total: int) -> None:
        """Called while the net works on one photo after another."""
        if not seen:
            assert until(lambda: fill("2.png"))
            assert not fill("3.png")
        elif len(seen) == 1:
            assert until(Path("out/1.png").exists)
            assert until(lambda: fill("3.png"))
        seen.append(f"{done} of {total}")

    events = list(deblur.run(options, deblur.Streams(input=BytesIO(), output=BytesIO()), tiles=watch))
    assert [each.output for each in events if isinstance(each, deblur.Outcome)] == [
        "out/1.png",
        "out/2.png",
        "out/3.png",
    ]
    assert [each.status for each in events if isinstance(each, deblur.Outcome)] == ["restored"] * 3
    assert len(seen) == 3


def test_a_stop_while_the_net_works_is_passed_on_after_the_outcome_of_the_photo_before(weights):
    draw("1.png"), draw("2.png"), draw("3.png")
    options = DeblurOptions(inputs=("1.png", "2.png", "3.png"), output="out/", weights=weights)
    calls: list[int] = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 2:
            raise KeyboardInterrupt

    told: list[str] = []
    events = deblur.run(options, deblur.Streams(input=BytesIO(), output=BytesIO()), tiles=stop)
    with pytest.raises(KeyboardInterrupt):
        told.extend(map(str, events))
    assert told[-1].startswith("1.png -> out/1.png")
    assert names_in("out") == ["1.png"]
    assert size_of("out/1.png") == (40, 24)


def test_a_stop_between_two_events_tells_no_outcome_twice(weights):
    draw("1.png"), draw("2.png"), draw("3.png")
    options = DeblurOptions(inputs=("1.png", "2.png", "3.png"), output="out/", weights=weights)
    events = deblur.run(options, deblur.Streams(input=BytesIO(), output=BytesIO()))
    assert next(event for event in events if isinstance(event, deblur.Outcome)).input == "1.png"
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt())
    assert names_in("out") == ["1.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("where", ["encode", "read"])
def test_a_stop_of_the_only_photo_says_whether_it_is_done(where, weights, monkeypatch, capfd):
    draw("a.png")
    work = getattr(photo, where)

    def stopped(*given, **words):
        assert until(main_waits)
        os.kill(os.getpid(), signal.SIGINT)
        if where == "read":
            raise KeyboardInterrupt
        return work(*given, **words)

    def main_waits() -> bool:
        """Whether the thread that the signal interrupts waits for the photo to be read, or written."""
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident])
        return [each.name for each in stack][-2:] == [{"read": "wait", "encode": "result"}[where], "wait"]

    monkeypatch.setattr(photo, where, stopped)
    assert code_of("a.png", "--weights", weights) == 130
    said = capfd.readouterr().err
    if where == "read":
        assert said == "deblur: stopped; nothing was written.\n"
    else:
        assert size_of("a-sharp.png") == (40, 24)
        assert said.endswith("deblur: stopped; the photo is done.\n")


def batch() -> list[str]:
    names = [f"{index:02}.png" for index in range(12)]
    for name in names:
        draw(f"in/{name}", (200, 160))
    return names


def two_are_written() -> bool:
    return Path("out").is_dir() and len(list(Path("out").glob("*.png"))) >= 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_batch_that_is_stopped_leaves_whole_files_only_and_says_how_far_it_came(number, code, weights, capfd):
    names = batch()
    with ThreadPoolExecutor(1) as hand:
        hand.submit(lambda: until(two_are_written) and os.kill(os.getpid(), number))
        assert code_of("in", "-o", "out", "--tta", "--weights", weights) == code
    written = names_in("out")
    assert 2 <= len(written) < len(names)
    assert all(size_of(Path("out", each)) == (200, 160) for each in written)
    said = capfd.readouterr().err
    assert f"deblur: stopped; {len(written)} of 12 photos are done.\nSay --skip-existing to go on from here.\n" in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_batch_that_is_killed_leaves_whole_files_only_and_can_be_gone_on_with(weights):
    names = batch()
    words = ("in", "-o", "out", "--weights", weights)
    command = [sys.executable, "-m", "deblur_cli", *words, "--tta"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert until(two_are_written)
    process.kill()
    assert process.wait(DEADLINE) == -signal.SIGKILL
    written = [each for each in names_in("out") if not each.startswith(".")]
    assert 2 <= len(written) < len(names)
    assert all(size_of(Path("out", each)) == (200, 160) for each in written)
    assert code_of(*words, "--skip-existing", "-q") == 0
    assert [each for each in names_in("out") if not each.startswith(".")] == names
