"""A receiver of webhooks on the loopback: it keeps what came, and answers as it is told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request: its path, its headers with small names, its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The webhook id."""
        return self.headers["webhook-id"]


Answer = Callable[[Received, int], int | tuple[int, dict[str, str]] | None]
"""(request, how many of its id came before) -> status, perhaps with headers; None hangs until the end."""


class Receiver:
    """Listens on a port of its own until it is closed; `answer` may be replaced meanwhile."""

    def __init__(self, answer: Answer, port: int) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self._seen: Counter[str] = Counter()
        self._arrived = threading.Condition()
        self._closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    # Whoever sends it has died on it.
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver._take(Received(self.path, headers, body))
                if status is None:
                    receiver._closing.wait()
                    return
                status, extra = status if isinstance(status, tuple) else (status, {})
                self.send_response(status)
                for name, value in {**extra, "content-length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def wait_for(self, count: int, path: str = "", seconds: float = 60) -> list[Received]:
        """What came for paths that begin so, as soon as it is so many."""
        deadline = time.monotonic() + seconds
        with self._arrived:
            while len(found := [one for one in self.received if one.path.startswith(path)]) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} of {count} webhooks arrived"
                self._arrived.wait(left)
        return found

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, request: Received) -> int | tuple[int, dict[str, str]] | None:
        with self._arrived:
            before = self._seen[request.id]
            self._seen[request.id] += 1
            self.received.append(request)
            self._arrived.notify_all()
        return self.answer(request, before)


@contextmanager
def receive(answer: Answer = lambda request, before: 200, port: int = 0) -> Iterator[Receiver]:
    """A receiver for the time of the block."""
    receiver = Receiver(answer, port)
    try:
        yield receiver
    finally:
        receiver.close()
