"""A hub on the loopback: what Hugging Face's answers of its repositories, as far as a download asks.

The routes and headers are those that huggingface_hub's client uses (huggingface.co/docs/hub/api).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = 10_000
"""Bytes from which on a file is kept as a large one."""


@dataclass
class Repository:
    """A repository's files by commit; its newest is what `main` names."""

    commits: dict[str, dict[str, bytes]]
    gated: bool = False

    @property
    def main(self) -> str:
        return list(self.commits)[-1]


@dataclass
class Hub:
    """Repositories by id. `requests` are those that came: method, path, `Range` header or None.

    A file whose path is in `stalls` is sent up to that many bytes, and no further; one in `sizes` is told to
    have so many, one in `digests` to have that one, and of one in `empty` nothing is sent. Large files are
    sent to `elsewhere`, where it is set. `tokens` are those that came with requests for files.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    stalls: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    elsewhere: str = ""
    tokens: list[str | None] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def ranges_of(self, path: str) -> list[str | None]:
        """The ranges in which a file was asked for; None is all of it."""
        return [wanted for method, asked, wanted in self.requests if (method, asked) == ("GET", path)]


@contextmanager
def open_hub() -> Iterator[Hub]:
    """A hub for the time of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.closed.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *words: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if listed := re.fullmatch(r"/api/models/(\w+/[\w.-]+)(?:/(revision|tree)/(\w+))?", path):
            self._tell(*listed.groups())
        elif asked := re.fullmatch(r"/(\w+/[\w.-]+)/resolve/(\w+)/(.+)", path):
            self._give(*asked.groups())
        else:
            self._refuse(404, "EntryNotFound")

    def _find(self, repository: str, revision: str | None) -> tuple[Repository, str] | None:
        known = self.hub.repositories.get(repository)
        if known is None:
            self._refuse(404, "RepoNotFound")
            return None
        commit = known.main if revision in (None, "main") else revision
        if commit not in known.commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return known, commit

    def _tell(self, repository: str, what: str | None, revision: str | None) -> None:
        if (found := self._find(repository, revision)) is None:
            return
        known, commit = found
        if what != "tree":
            self._send(json.dumps({"id": repository, "sha": commit, "siblings": []}).encode())
            return
        entries = []
        for path, content in known.commits[commit].items():
            size = self.hub.sizes.get(path, len(content))
            entry = {"type": "file", "path": path, "size": size, "oid": _name(content)}
            if size >= LARGE:
                digest = self.hub.digests.get(path, _digest(content))
                entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 130}
            entries.append(entry)
        self._send(json.dumps(entries).encode())

    def _give(self, repository: str, revision: str, path: str) -> None:
        if (found := self._find(repository, revision)) is None:
            return
        known, commit = found
        self.hub.requests.append((self.command, path, self.headers.get("range")))
        self.hub.tokens.append(self.headers.get("authorization"))
        if known.gated:
            self._refuse(403, "GatedRepo")
        elif path not in known.commits[commit]:
            self._refuse(404, "EntryNotFound")
        else:
            self._send_file(commit, path, known.commits[commit][path])

    def _send_file(self, commit: str, path: str, content: bytes) -> None:
        large = len(content) >= LARGE
        if large and self.hub.elsewhere and self.command == "GET":
            self._send(b"", 302, {"Location": self.hub.elsewhere + self.path})
            return
        if path in self.hub.empty:
            content = b""
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_digest(content) if large else _name(content)}"'}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range") or "")
        begin = int(wanted[1]) if wanted else 0
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._send(content[begin:], 206 if begin else 200, headers, self.hub.stalls.get(path))

    def _send(
        self,
        body: bytes,
        status: int = 200,
        headers: dict[str, str] | None = None,
        stall: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:stall])
        if stall is not None:
            self.hub.closed.wait()

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"{}", status, {"X-Error-Code": code})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _name(content: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
