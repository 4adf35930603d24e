"""A Hugging Face Hub on this machine, for the real client: what it has, how it misbehaves, and what it was asked.

Two servers, as the real one: the Hub itself, and the store that it sends large files to and from. Answers are those of
huggingface.co: redirects with X-Linked-Size and X-Linked-ETag, X-Repo-Commit, X-Error-Code, the LFS batch and the commit API.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "t" * 34
FIRST = "1" * 40
SECOND = "2" * 40
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(preupload|commit|revision)/([^/]+))?")


@dataclass
class Repository:
    """One commit of it; its branch main is that commit."""

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = FIRST
    private: bool = False
    gated: bool = False
    moved_to: str = ""
    plain: bool = False
    """Its files are small, and lie in Git itself: no store, no SHA-256."""
    announced: dict[str, bytes] = field(default_factory=dict)
    """Files whose size and sum are told as those of other bytes."""


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: Message
    """Names in whatever letters."""
    server: str
    """``hub`` or ``store``."""


@dataclass
class Hub:
    """Its state; tests change it at will."""

    url: str = ""
    store: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    down: int = 0
    """Answers of the Hub that will be 503."""
    status: int = 0
    """What all questions to the Hub are answered with, if not 0."""
    pause: float = 0
    """Seconds that the store waits after every eighth of a file."""
    cuts: int = 0
    """Answers of the store that will end in the middle."""
    silent: str = ""
    """``hub`` or ``store``: it takes the question and says nothing more; the store after half of the file."""
    portal: bool = False
    """A page of somebody else answers in the Hub's stead."""
    release: threading.Event = field(default_factory=threading.Event)
    """Ends all silence."""
    refused: str = ""
    """Why the Hub takes no commit; empty: it takes them."""
    may_write: str = "owner"
    """The only namespace in which repositories may be made."""
    received: dict[str, bytes] = field(default_factory=dict)
    """By SHA-256: what was put into the store."""

    def requests(self, server: str) -> list[str]:
        """Methods and paths that one of the two was asked for."""
        return [f"{each.method} {each.path}" for each in self.asked if each.server == server]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    server_name = ""

    def log_message(self, *_words: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # the client went away, as some tests want
            super().handle()

    def answer(self, status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> None:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def note(self) -> None:
        self.hub.asked.append(Asked(self.command, self.path, self.headers, self.server_name))


class _Front(_Handler):
    """The Hub itself."""

    server_name = "hub"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.note()
        if self._trouble():
            return
        path = urlsplit(self.path).path
        if match := _RESOLVE.fullmatch(path):
            self._resolve(match[1], unquote(match[2]), unquote(match[3]))
        elif (match := _API.fullmatch(path)) and (repository := self._repository(match[1])):
            told = {"id": match[1], "private": repository.private, "sha": repository.commit, "siblings": [], "tags": []}
            self.answer(200, told, Content_Type="application/json")
        elif not match:
            self.answer(404)

    def do_POST(self) -> None:
        self.note()
        data = self.body()
        if self._trouble():
            return
        if self._token() != TOKEN:
            self._refuse(401, "", "Invalid username or password.")
            return
        path = urlsplit(self.path).path
        match = _API.fullmatch(path)
        if match and match[2] == "preupload":
            self.answer(200, {"files": [_mode(each) for each in json.loads(data)["files"]]})
        elif match and match[2] == "commit" and self.hub.refused:
            self._refuse(400, "", self.hub.refused)
        elif match and match[2] == "commit":
            self._commit(match[1], [json.loads(line) for line in data.splitlines()])
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(data))
        elif path == "/api/repos/create":
            self._create(json.loads(data))
        else:  # /api/validate-yaml, and /verify after an upload
            self.answer(200, {"errors": [], "warnings": [{"message": "a warning that nobody needs to see"}]})

    def _trouble(self) -> bool:
        if self.hub.silent == "hub":
            self.hub.release.wait(30)
            self.close_connection = True
            return True
        if self.hub.down or self.hub.status:
            self.hub.down = max(0, self.hub.down - 1)
            self.answer(self.hub.status or 503)
            return True
        if self.hub.portal:
            self.answer(200, b"<html>Please log in to the hotel's network.</html>")
            return True
        return False

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X_Error_Code": code} if code else {}
        self.answer(status, {"error": message}, X_Error_Message=message, **headers)

    def _repository(self, name: str) -> Repository | None:
        """It, if whoever asks may see it; otherwise the answer is given."""
        token, found = self._token(), self.hub.repositories.get(name)
        if token and token != TOKEN:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif found is None or (found.private and not token):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        else:
            return found
        return None

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        if repository.moved_to:
            self.answer(307, Location=self.path.replace(f"/{name}/", f"/{repository.moved_to}/"))
        elif repository.gated:
            self._refuse(
                403, "GatedRepo", f"Access to model {name} is restricted and you are not in the authorized list."
            )
        elif revision not in {"main", repository.commit}:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif file not in repository.files:
            self.answer(
                404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found", X_Repo_Commit=repository.commit
            )
        elif repository.plain:
            content = repository.files[file]
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            self.answer(200, content, X_Repo_Commit=repository.commit, ETag=f'"{blob}"', Accept_Ranges="bytes")
        else:
            told = repository.announced.get(file, repository.files[file])
            digest = hashlib.sha256(told).hexdigest()
            self.answer(
                302,
                Location=f"{self.hub.store}/{name}/{file}?Signature=abc",
                X_Repo_Commit=repository.commit,
                X_Linked_Size=str(len(told)),
                X_Linked_ETag=f'"{digest}"',
                ETag=f'"{digest}"',
            )

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != self.hub.may_write:
            self._refuse(403, "", "You don't have the rights to create a model under this namespace")
        elif name in self.hub.repositories:
            self._refuse(409, "", "You already created this model repo")
        else:
            # Versions of the client say it in one of two ways.
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.hub.repositories[name] = Repository(private=private)
            self.answer(200, {"url": f"{self.hub.url}/{name}"})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects: list[dict[str, Any]] = []
        for each in wanted["objects"]:
            upload = {"href": f"{self.hub.store}/upload/{each['oid']}", "header": {}}
            verify = {"href": f"{self.hub.url}/verify", "header": {}}
            objects.append({**each, "actions": {"upload": upload, "verify": verify}})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.received[value["oid"]]
        repository.commit = SECOND
        self.answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{SECOND}", "commitOid": SECOND, "hookOutput": ""})


class _Store(_Handler):
    """Where large files lie; it knows no users, only signed addresses."""

    server_name = "store"

    def do_GET(self) -> None:
        self.note()
        name, _, file = urlsplit(self.path).path.removeprefix("/").partition("/")
        owner, _, file = file.partition("/")
        content = self.hub.repositories[f"{name}/{owner}"].files[unquote(file)]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.hub.cuts or self.hub.silent == "store":
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.hub.cuts = max(0, self.hub.cuts - 1)
            if self.hub.silent == "store":
                self.hub.release.wait(30)
            return
        for start in range(0, len(rest), part := len(rest) // 8 if self.hub.pause else len(rest)):
            self.wfile.write(rest[start : start + part])
            self.wfile.flush()
            self.hub.release.wait(self.hub.pause)

    def do_PUT(self) -> None:
        self.note()
        data = self.body()
        oid = self.path.rpartition("/")[2]
        if hashlib.sha256(data).hexdigest() != oid:
            self.answer(400)
            return
        self.hub.received[oid] = data
        self.answer(200)


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    """What the Hub wants to be done with a file: large files are those of .gitattributes, by name."""
    large = file["path"].endswith(".safetensors")
    return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": None}


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str]:
    """A server on a free port, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running() -> Generator[Hub]:
    """A Hub that answers until the end of the block."""
    hub = Hub()
    front, store = (type(each.__name__, (each,), {"hub": hub}) for each in (_Front, _Store))
    with serving(front) as hub.url, serving(store) as hub.store:
        try:
            yield hub
        finally:
            hub.release.set()
