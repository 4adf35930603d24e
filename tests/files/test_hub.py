"""Weights from the Hub by the real client over a loopback connection: whole, pinned, altered, broken, refused, offline."""

import hashlib
import os
import shutil
from collections import namedtuple
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hub_server import FIRST, SECOND, TOKEN, Hub, Repository, serving
from huggingface_hub import constants

from deblur_cli.errors import WeightsError
from deblur_cli.files import hub as files_hub
from deblur_cli.files import places, sums, weights

CONTENT = bytes(range(256)) * 64
OTHER = CONTENT[:-1] + b"X"
FILE = "net.safetensors"
ADDRESS = f"hf://owner/net@{FIRST}/{FILE}"


@pytest.fixture
def here(hub: Hub) -> Hub:
    """A Hub with one file."""
    hub.repositories["owner/net"] = Repository(files={FILE: CONTENT})
    return hub


def listed(**columns: Any) -> str:
    """A list of the user's with one row, "mine"."""
    row = {
        "net": "unet",
        "hub": "owner/net",
        "file": FILE,
        "revision": FIRST,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "size": len(CONTENT),
        "licence": "MIT",
        "trained_on": "nothing",
        **columns,
    }
    lines = [f"{name} = {str(value).lower() if type(value) is bool else repr(value)}" for name, value in row.items()]
    Path("mine.toml").write_text("\n".join(["[mine]", *lines]))
    return "mine.toml"


def refused(name: str = ADDRESS, **more: Any) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        weights.locate(name, **more)
    assert caught.value.hint
    assert caught.value.exit_code == 4
    return caught.value


def test_an_address_becomes_the_file_and_its_size_is_told_before_a_byte_comes(here: Hub) -> None:
    told: list[Any] = []
    asked: list[int] = []

    def tell(event: Any) -> None:
        told.append(event)
        asked.append(len(here.requests("store")))

    path = weights.locate(ADDRESS, told=tell)
    assert path.read_bytes() == CONTENT
    assert str(told[0]) == f"fetching {ADDRESS} (0.0 MB) from {here.url}/owner/net/resolve/{FIRST}/{FILE}"
    assert (told[0].done, told[0].total, asked[0]) == (0, len(CONTENT), 0)
    assert told[-1].done == told[-1].total == len(CONTENT)
    assert here.requests("store") == [f"GET /owner/net/{FILE}?Signature=abc"]
    assert path.is_relative_to(Path(os.environ["HF_HOME"]))
    agent = here.asked[-1].headers["User-Agent"]
    assert agent.startswith("deblur-cli/")


def test_a_file_that_is_pinned_and_here_needs_no_request(here: Hub) -> None:
    first = weights.locate(ADDRESS)
    here.asked.clear()
    told: list[Any] = []
    assert weights.locate(ADDRESS, told=told.append) == first
    assert weights.locate(ADDRESS, offline=True) == first
    assert here.asked == []
    assert told == []


def test_a_branch_is_asked_for_and_followed(here: Hub) -> None:
    address = f"hf://owner/net/{FILE}"
    assert weights.locate(address).read_bytes() == CONTENT
    here.repositories["owner/net"] = Repository(files={FILE: OTHER}, commit=SECOND)
    assert weights.locate(address, offline=True).read_bytes() == CONTENT
    assert weights.locate(address).read_bytes() == OTHER
    assert weights.locate(address, offline=True).read_bytes() == OTHER


def test_a_branch_that_cannot_be_asked_is_taken_as_it_was_seen_last_and_that_is_told(here: Hub) -> None:
    address = f"hf://owner/net/{FILE}"
    first = weights.locate(address)
    here.down = 99
    told: list[Any] = []
    assert weights.locate(address, told=told.append) == first
    assert "cannot be asked: the Hub is out of order (error 503)" in str(told[0])
    assert f"as of commit {FIRST}" in str(told[0])


def test_a_repository_that_was_renamed_is_found(here: Hub) -> None:
    here.repositories["owner/old"] = Repository(moved_to="owner/net")
    assert weights.locate(f"hf://owner/old@{FIRST}/{FILE}").read_bytes() == CONTENT


def test_a_private_repository_opens_to_a_token_which_the_store_never_sees(here: Hub, monkeypatch) -> None:
    here.repositories["owner/net"].private = True
    assert "there is no repository owner/net, or it is private" in refused().message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert weights.locate(ADDRESS).read_bytes() == CONTENT
    assert all("Authorization" not in each.headers for each in here.asked if each.server == "store")


def test_a_row_of_a_list_of_the_user_is_fetched_by_its_name(here: Hub, monkeypatch) -> None:
    name = listed()
    found = weights.find("mine", listed=name)
    assert found.path.read_bytes() == CONTENT
    assert found.entry is not None
    assert found.entry.licence == "MIT"
    monkeypatch.setenv("DEBLUR_WEIGHTS_LIST", name)
    assert weights.find("mine") == found
    assert weights.present(found.entry) == found.path


def test_weights_that_are_not_for_commerce_say_so(here: Hub) -> None:
    told: list[Any] = []
    weights.locate("mine", listed=listed(licence="CC-BY-NC-4.0", non_commercial=True), told=told.append)
    assert str(told[0]) == "mine is not for commercial use: its licence is CC-BY-NC-4.0."


def test_a_file_that_changed_in_the_cache_is_refused_and_fetched_anew_when_asked(here: Hub) -> None:
    branch = f"hf://owner/net/{FILE}"
    for said in ({"name_or_path": "mine", "listed": listed()}, {"name_or_path": ADDRESS}, {"name_or_path": branch}):
        path = weights.locate(**said)
        path.resolve().write_bytes(OTHER)
        asked = len(here.asked)
        error = refused(said["name_or_path"], listed=said.get("listed"))
        assert f"'{path}' was changed; its SHA-256 is {hashlib.sha256(OTHER).hexdigest()}" in error.message
        assert error.hint == f"Say deblur weights pull {said['name_or_path']} to fetch them anew."
        assert len(here.asked) == asked
        assert weights.find(**said, anew=True).path.read_bytes() == CONTENT


def test_a_cache_that_shares_content_between_repositories_is_understood(here: Hub) -> None:
    path = weights.locate(ADDRESS)
    blob, shared = path.resolve(), places.cache() / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    assert weights.locate(ADDRESS, offline=True).read_bytes() == CONTENT
    shared.write_bytes(OTHER)
    assert hashlib.sha256(CONTENT).hexdigest() in refused(offline=True).message


def test_what_nobody_knows_the_sum_of_is_not_called_whole(here: Hub) -> None:
    path = weights.locate(ADDRESS)
    path.unlink()
    path.write_bytes(OTHER)  # a cache on a disk without links
    assert weights.locate(ADDRESS, offline=True) == path
    with pytest.raises(WeightsError, match="keeps no SHA-256 of it"):
        weights.audit(places.parse(ADDRESS), path)


def test_a_file_that_is_not_the_one_of_its_row_is_not_even_fetched(here: Hub) -> None:
    wrong = hashlib.sha256(OTHER).hexdigest()
    error = refused("mine", listed=listed(sha256=wrong))
    assert "it is not the file that was released" in error.message
    assert wrong in error.message
    assert here.requests("store") == []
    error = refused("mine", listed=listed(size=len(CONTENT) + 1))
    assert f"it has {len(CONTENT):,} bytes where {len(CONTENT) + 1:,} were expected" in error.message
    assert here.requests("store") == []


def test_bytes_that_were_altered_on_the_way_are_never_given_out(here: Hub) -> None:
    here.repositories["owner/net"].announced[FILE] = CONTENT
    here.repositories["owner/net"].files[FILE] = OTHER
    for name, said in (("mine", listed()), (ADDRESS, None)):
        error = refused(name, listed=said)
        assert hashlib.sha256(OTHER).hexdigest() in error.message
        assert "changed" in refused(name, listed=said, offline=True).message


def test_less_than_was_announced_is_told_and_never_taken_for_the_file(here: Hub) -> None:
    here.repositories["owner/net"].announced[FILE] = CONTENT
    here.repositories["owner/net"].files[FILE] = CONTENT[:-100]
    error = refused()
    assert f"{here.url}/owner/net/resolve/{FIRST}/{FILE}: less came than was announced" in error.message
    assert places.cached(places.parse(ADDRESS)) is None


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(here: Hub) -> None:
    here.cuts = 1
    assert weights.locate(ADDRESS).read_bytes() == CONTENT
    ranges = [each.headers.get("Range") for each in here.asked if each.server == "store"]
    assert ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_hub_that_is_down_for_a_moment_is_asked_again(here: Hub) -> None:
    here.down = 1
    assert weights.locate(ADDRESS).read_bytes() == CONTENT


def test_a_hub_that_stays_down_is_told(here: Hub) -> None:
    here.down = 99
    error = refused()
    assert f"{here.url}/owner/net/resolve/{FIRST}/{FILE}: the Hub is out of order (error 503)" in error.message
    assert "HF_ENDPOINT" in error.hint
    assert len(here.asked) == 2


def test_a_mirror_is_asked_where_the_first_place_fails(here: Hub) -> None:
    here.repositories["other/copy"] = Repository(files={FILE: CONTENT}, commit=SECOND)
    del here.repositories["owner/net"]
    said = listed(mirror="other/copy")
    told: list[Any] = []
    path = weights.locate("mine", listed=said, told=told.append)
    assert path.read_bytes() == CONTENT
    assert str(told[0]) == (
        f"{here.url}/owner/net/resolve/{FIRST}/{FILE}: there is no repository owner/net, or it is private; asking the mirror"
    )
    here.asked.clear()
    assert weights.locate("mine", listed=said) == path
    assert here.asked == []


def test_a_mirror_with_other_bytes_is_refused_like_the_first_place(here: Hub) -> None:
    here.repositories["other/copy"] = Repository(files={FILE: OTHER})
    del here.repositories["owner/net"]
    error = refused("mine", listed=listed(mirror="other/copy@main"))
    assert "there is no repository owner/net" in error.message
    assert f"Nor from the mirror {here.url}/other/copy/resolve/main/{FILE}: it is not the file" in error.message


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"hf://owner/none@{FIRST}/{FILE}", "there is no repository owner/none, or it is private"),
        (f"hf://owner/net@{SECOND}/{FILE}", f"owner/net has no revision {SECOND}"),
        (f"hf://owner/net@{FIRST}/other.safetensors", f"owner/net has no such file at revision {FIRST}"),
        (f"hf://owner/gated@{FIRST}/{FILE}", "owner/gated is gated: its authors let in whom they know"),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_sentence_that_names_file_and_place(here: Hub, address, said) -> None:
    here.repositories["owner/gated"] = Repository(files={FILE: CONTENT}, gated=True)
    error = refused(address)
    place = places.parse(address)
    assert error.message == f"The weights '{address}' cannot be fetched from {place.url}: {said}."
    assert place.page in error.hint
    assert len(here.asked) == 1


def test_a_token_that_is_not_taken_is_told(here: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    error = refused()
    assert "the Hub does not take the token that it was given" in error.message
    assert "hf auth login" in error.hint
    assert "hf_wrong" not in str(error)


def test_a_token_that_can_be_none_is_told(here: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ü")
    assert "HF_TOKEN" in refused().hint


def test_silence_is_not_waited_for_long(here: Hub) -> None:
    here.silent = "hub"
    error = refused()
    assert "it fell silent on the way" in error.message
    here.silent = "store"
    told: list[Any] = []
    error = refused(told=told.append)
    assert "it fell silent on the way" in error.message
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in error.hint
    assert sum(not each.done for each in told) == 1  # the library has tried six times by now: there is no second round
    assert places.cached(places.parse(ADDRESS)) is None


def test_a_slow_connection_is_waited_for_while_something_comes(here: Hub) -> None:
    here.pause = 0.1  # all of it takes four times as long as any silence may
    assert weights.locate(ADDRESS).read_bytes() == CONTENT
    assert len(here.requests("store")) == 1


@pytest.mark.parametrize(
    ("status", "said"), [(429, "asked too often from here"), (403, "forbids it"), (418, "answers with error 418")]
)
def test_other_answers_are_told(here: Hub, status, said) -> None:
    here.status = status
    assert said in refused().message


def test_a_file_that_lies_in_git_itself_is_compared_with_its_row_alone(here: Hub) -> None:
    here.repositories["owner/net"].plain = True
    assert weights.locate("mine", listed=listed()).read_bytes() == CONTENT
    assert here.requests("store") == []
    shutil.rmtree(os.environ["HF_HOME"])
    here.repositories["owner/net"].files[FILE] = OTHER
    assert hashlib.sha256(OTHER).hexdigest() in refused("mine", listed=listed()).message


def test_nobody_there_is_told(hub: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = refused()
    assert "http://127.0.0.1:9/owner/net/resolve/" in error.message
    assert "nothing answers there" in error.message


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://127.0.0.1", "http://[::"])
def test_an_endpoint_that_is_no_address_is_told(hub: Hub, monkeypatch, endpoint) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "HF_ENDPOINT" in refused().hint


def test_another_server_than_the_hub_is_told(here: Hub) -> None:
    here.portal = True
    assert "what answers there is not the Hub" in refused().message
    assert places.cached(places.parse(ADDRESS)) is None


def test_a_proxy_that_refuses_is_told(hub: Hub, monkeypatch) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(407)

        def log_message(self, *_words: Any) -> None:
            pass

    with serving(Proxy) as proxy:
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
        monkeypatch.setenv("https_proxy", proxy)
        error = refused()
    assert "https://hub.invalid/owner/net/resolve/" in error.message
    assert "the proxy refuses (407" in error.message
    assert "HTTPS_PROXY" in error.hint


def test_a_proxy_that_is_no_address_is_told(hub: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv("https_proxy", "nonsense://x")
    assert "HTTPS_PROXY" in refused().hint


def test_a_disk_without_room_is_told_before_a_byte_comes(here: Hub, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    error = refused("mine", listed=listed(mirror="other/copy"))
    assert f"the cache '{places.cache()}' has room for 0.0 MB" in error.message
    assert "HF_HOME" in error.hint
    assert "other/copy" not in error.message
    assert here.requests("store") == []


def test_a_disk_that_fills_up_meanwhile_is_told_in_our_words_alone(here: Hub, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    told: list[Any] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000 if told else 10**9))
    assert (
        weights.locate(ADDRESS, told=told.append).read_bytes() == CONTENT
    )  # the library warns, and a warning is an error


def test_a_cache_that_cannot_be_written_is_told(here: Hub, monkeypatch) -> None:
    Path("home").write_text("a file, not a folder")
    monkeypatch.setenv("HF_HOME", "home")
    error = refused()
    assert "the cache 'home/hub' cannot be written" in error.message
    assert "HF_HOME" in error.hint


def test_offline_is_obeyed_and_told(here: Hub, monkeypatch) -> None:
    error = refused("mine", listed=listed(mirror="other/copy"), offline=True)
    assert f"({ADDRESS} or hf://other/copy@main/{FILE}) are not in the cache '{places.cache()}'" in error.message
    assert "--offline forbids" in error.message
    assert error.hint == "Say deblur weights pull mine where there is a network, or leave out --offline."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refused()
    assert "HF_HUB_OFFLINE forbids" in error.message
    assert here.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "hf://owner/file.safetensors",
        "hf://owner/net/readme.txt",
        "hf://owner/net/../x.safetensors",
        "hf://owner/net//x.safetensors",
        "hf://ow--ner/net/x.safetensors",
        "hf://owner/net@/x.safetensors",
        "hf://",
    ],
)
def test_an_address_that_names_no_file_of_weights_is_told(hub: Hub, address) -> None:
    assert "names no file of weights on the Hub" in refused(address).message
    assert hub.asked == []


def test_addresses_are_read_as_they_are_written() -> None:
    for said, revision in (("", "main"), ("@v1.0", "v1.0"), ("@refs/pr/4", "refs/pr/4"), (f"@{FIRST}", FIRST)):
        place = places.parse(f"hf://owner/net{said}/deep/x.pth")
        assert (place.repository, place.file, place.revision) == ("owner/net", "deep/x.pth", revision)
        assert place.pinned == (revision == FIRST)
        assert places.parse(str(place)) == place


def test_the_cache_is_where_the_library_has_it(monkeypatch) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert places.cache() == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert places.cache() == Path("/x/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "~/y")
    assert places.cache() == Path.home() / "y" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", "/z")
    assert places.cache() == Path("/z")


def test_a_large_file_is_read_once_and_again_only_when_it_was_touched(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sums, "_LARGE", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "large"
    path.write_bytes(CONTENT)
    right = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
    assert sums.fault(path, **right) == ""
    before = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sums.fault(path, **right) == ""  # by size and time it is the same
    assert "SHA-256" in sums.fault(path, **right, trust=False)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert "SHA-256" in sums.fault(path, **right)
    path.write_bytes(CONTENT + b"more")
    assert "bytes where" in sums.fault(path, **right)


@pytest.mark.skipif(os.name == "nt", reason="users without a home are those of containers")
def test_a_user_without_a_home_gets_no_folder_named_tilde(tmp_path, monkeypatch) -> None:
    import pwd

    def nobody(_: int) -> None:
        raise KeyError

    for name in ("HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(sums, "_LARGE", 1000)
    monkeypatch.chdir(tmp_path)
    Path("large").write_bytes(CONTENT)
    assert sums.fault(Path("large"), sha256=hashlib.sha256(CONTENT).hexdigest()) == ""
    assert places.cached(places.parse(ADDRESS)) is None
    assert [each.name for each in tmp_path.iterdir()] == ["large"]


def test_a_memory_that_cannot_be_written_is_no_reason_to_fail(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sums, "_LARGE", 1000)
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "large").write_bytes(CONTENT)
    assert sums.fault(tmp_path / "large", sha256=hashlib.sha256(CONTENT).hexdigest()) == ""


def test_the_library_keeps_its_warnings_to_itself(here: Hub, capfd) -> None:
    here.cuts = 1
    weights.locate(ADDRESS)
    assert capfd.readouterr() == ("", "")
    assert files_hub.Wanted(name="x", places=()).size == 0
    assert constants.HF_HUB_OFFLINE is False
