"""Data sets fetched over a loopback connection: whole, resumed, broken, false, and hostile."""

import hashlib
import io
import stat
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deblur_cli.commands import benchmark
from deblur_cli.errors import InputError
from deblur_cli.files import archives
from deblur_cli.options.benchmark import BenchmarkOptions

NAMES = ("train/S1/blur/000001.png", "test/S2/sharp/000002.png")


def packed(*members: str | zipfile.ZipInfo) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for number, member in enumerate(members):
            file.writestr(member, bytes([number]) * 5000)
    return data.getvalue()


@dataclass
class Hub:
    """What the server has, how it behaves, and what it was asked."""

    data: bytes
    breaks: int = 0
    """Answers that end in the middle."""
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    state = Hub(packed(*NAMES))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            if not self.path.endswith(".zip"):
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.data):
                self.send_error(416)
                return
            rest = state.data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if state.breaks:
                state.breaks -= 1
                rest = rest[: len(rest) // 2]
            self.wfile.write(rest)

        def log_message(self, *words) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(archives, "_PAUSE", 0.0)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def asked_for(hub: Hub) -> archives.Archive:
    return replace(archives.ARCHIVES["gopro"], sha256=hashlib.sha256(hub.data).hexdigest())


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_archive_becomes_a_folder_and_nothing_else_stays(hub: Hub, tmp_path: Path) -> None:
    told = list(archives.fetch(asked_for(hub), tmp_path / "data"))
    assert tree(tmp_path) == sorted(f"data/GOPRO_Large/{name}" for name in NAMES)
    assert [told[0].step, told[-1].step] == ["downloading", "unpacking"]
    assert all(each.done <= each.total for each in told)
    known = archives.ARCHIVES["gopro"]
    assert hub.asked == [(f"/datasets/snah/GOPRO_Large/resolve/{known.revision}/GOPRO_Large.zip", None)]


def test_the_command_fetches_a_set_that_is_absent_and_only_then(hub: Hub, tmp_path: Path, monkeypatch) -> None:
    hub.data = packed("test/S1/blur/000001.png", "test/S1/sharp/000001.png")
    monkeypatch.setattr(archives, "ARCHIVES", {"gopro": asked_for(hub)})
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    options = BenchmarkOptions(data=str(tmp_path / "data"), download=True)
    told = list(benchmark._fetch(options))
    assert str(told[-1]) == "unpacking 0.00 of 0.00 GB"
    assert len(tree(tmp_path / "data" / "GOPRO_Large" / "test")) == 2
    assert list(benchmark._fetch(options)) == []
    assert len(hub.asked) == 1


def test_two_do_not_fetch_the_same_at_once(hub: Hub, tmp_path: Path) -> None:
    first = archives.fetch(asked_for(hub), tmp_path)
    next(first)
    with pytest.raises(InputError, match=r"Another process is fetching GOPRO_Large\.zip"):
        list(archives.fetch(asked_for(hub), tmp_path))
    assert len(hub.asked) == 1
    list(first)
    assert tree(tmp_path) == sorted(f"GOPRO_Large/{name}" for name in NAMES)


def test_a_broken_connection_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = 2
    list(archives.fetch(asked_for(hub), tmp_path))
    half = len(hub.data) // 2
    assert [wanted for _, wanted in hub.asked] == [
        None,
        f"bytes={half}-",
        f"bytes={half + (len(hub.data) - half) // 2}-",
    ]
    assert len(tree(tmp_path)) == 2


def test_a_later_run_goes_on_with_what_an_earlier_one_left(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / ".GOPRO_Large.zip.part").write_bytes(hub.data[:1000])
    list(archives.fetch(asked_for(hub), tmp_path))
    assert [wanted for _, wanted in hub.asked] == ["bytes=1000-"]
    assert len(tree(tmp_path)) == 2


def test_a_download_that_is_whole_already_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / ".GOPRO_Large.zip.part").write_bytes(hub.data)
    list(archives.fetch(asked_for(hub), tmp_path))
    assert len(tree(tmp_path)) == 2


def test_a_server_without_ranges_sends_it_all_again(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    (tmp_path / ".GOPRO_Large.zip.part").write_bytes(b"x" * 1000)
    list(archives.fetch(asked_for(hub), tmp_path))
    assert len(tree(tmp_path)) == 2


def test_other_bytes_than_were_published_are_thrown_away(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the one that was published"):
        list(archives.fetch(archives.ARCHIVES["gopro"], tmp_path))
    assert tree(tmp_path) == []


def test_what_the_hub_does_not_have_is_asked_for_once(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="404"):
        list(archives.fetch(replace(asked_for(hub), file="other"), tmp_path))
    assert len(hub.asked) == 1


def test_no_network_at_all_is_told(tmp_path: Path, hub: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(InputError, match="cannot be fetched"):
        list(archives.fetch(asked_for(hub), tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        list(archives.fetch(asked_for(hub), tmp_path))


def test_a_disk_without_room_is_told_before_anything_is_written(hub: Hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 100})())
    with pytest.raises(InputError, match="GB free"):
        list(archives.fetch(asked_for(hub), tmp_path))
    assert tree(tmp_path) == []


def link(name: str) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = (stat.S_IFLNK | 0o777) << 16
    return made


@pytest.mark.parametrize(
    "hostile", ["../out.png", "a/../../out.png", "/etc/out.png", "..\\out.png", "C:out.png", link("a/link")], ids=str
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, hostile) -> None:
    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    path.write_bytes(packed("good.png", hostile))
    with pytest.raises(InputError, match="leads out of its folder"):
        list(archives.unpack(path, tmp_path / "in" / "set"))
    assert tree(tmp_path) == ["in/a.zip"]


def test_a_torn_archive_leaves_no_folder(tmp_path: Path) -> None:
    whole = bytearray(packed(*NAMES))
    whole[100] ^= 255  # inside the first file: its checksum tells
    (tmp_path / "a.zip").write_bytes(whole)
    (tmp_path / "b.zip").write_bytes(whole[:-30])
    for name in ("a.zip", "b.zip"):
        with pytest.raises(InputError, match="no whole zip file"):
            list(archives.unpack(tmp_path / name, tmp_path / "set"))
    assert tree(tmp_path) == ["a.zip", "b.zip"]


def test_what_is_stopped_while_unpacking_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(packed(*NAMES))
    going = archives.unpack(tmp_path / "a.zip", tmp_path / "set")
    next(going)
    going.close()
    assert tree(tmp_path) == ["a.zip"]
