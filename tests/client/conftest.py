"""A service that answers by a script, and both clients through one face.

The script is for what a healthy service does not do on demand: hang up, be full, go away.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import understudy
from understudy.client import exchange

ID = "0b0e7b8a-5b0f-4d3c-9a51-2f3f6f5c8f11"


@dataclass
class Reply:
    """One answer. `lost`: the line is cut, after what `content` there is."""

    status: int = 200
    body: Any = None
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedService:
    """Answers each route by its list of replies; the last one stays."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[Received] = []
        self._script: dict[tuple[str, str], list[Reply]] = defaultdict(list)
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body leave together

            def log_message(self, *_: Any) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.received.append(Received(self.command, self.path, headers, body))
                replies = service._script[self.command, self.path]
                reply = Reply(404, {"error": "Not in the script.", "code": "not_found"})
                if replies:
                    reply = replies.pop(0) if len(replies) > 1 else replies[0]
                self.answer(reply)

            def answer(self, reply: Reply) -> None:
                if reply.lost and not reply.content:
                    self.close_connection = True
                    return
                content = reply.content or json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                # A body that promises one byte more than comes is a line that was cut.
                self.send_header("content-length", str(len(content) + reply.lost))
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = self.close_connection or reply.lost

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_any

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def script(self, method: str, path: str, *replies: Reply) -> None:
        self._script[method, path] = list(replies)

    def script_job(self, *statuses: Reply, result: Reply | None = None) -> None:
        """A submit route for the model `m`, these answers to polls, and the result."""
        self.script("POST", "/v2/m", Reply(body=self.submitted))
        self.script("GET", f"/v2/requests/{ID}/status", *statuses)
        self.script("GET", f"/v2/requests/{ID}", result or Reply(body=completed()))

    @property
    def submitted(self) -> dict[str, Any]:
        at = f"{self.url}/v2/requests/{ID}"
        return {
            "request_id": ID,
            "status": "QUEUED",
            "poll_url": f"{self.url}/v1/requests/{ID}",
            "status_url": f"{at}/status",
            "response_url": at,
        }

    def count(self, method: str, path: str) -> int:
        return sum((request.method, request.path) == (method, path) for request in self.received)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def state(status: str, **more: Any) -> dict[str, Any]:
    """A status body."""
    return {"status": status, "request_id": ID, "metrics": {}, **more}


def completed(**more: Any) -> dict[str, Any]:
    """A full result."""
    return state("COMPLETED", output="http://127.0.0.1/files/1.png", **more)


@pytest.fixture
def scripted() -> Iterator[ScriptedService]:
    service = ScriptedService()
    yield service
    service.close()


@pytest.fixture
def start_scripted() -> Iterator[Callable[[int], ScriptedService]]:
    """Starts a scripted service on a given port."""
    started: list[ScriptedService] = []

    def start(port: int) -> ScriptedService:
        started.append(ScriptedService(port))
        return started[-1]

    yield start
    for service in started:
        service.close()


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts that tests can afford."""
    monkeypatch.setattr(exchange, "FIRST_BACKOFF_SECONDS", 0.01)


class Face:
    """A blocking or an asynchronous client, called in one way: every outcome is awaited."""

    def __init__(self, client: understudy.Client | understudy.AsyncClient) -> None:
        self.client = client

    async def __call__(self, outcome: Any) -> Any:
        return await outcome if inspect.isawaitable(outcome) else outcome

    async def collect(self, events: Any) -> list[dict[str, Any]]:
        return [event async for event in events] if hasattr(events, "__aiter__") else list(events)

    async def submit(self, **parameters: Any) -> Any:
        return await self(self.client.submit_async("m", **parameters))


@pytest.fixture(params=["blocking", "awaitable"])
async def make_face(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Face]]:
    """Makes a face of a client for an address; each test runs with both clients."""
    faces: list[Face] = []

    def make(base_url: str, api_key: str = "key", **kwargs: Any) -> Face:
        kind = understudy.Client if request.param == "blocking" else understudy.AsyncClient
        faces.append(Face(kind(api_key, base_url, **kwargs)))
        return faces[-1]

    yield make
    for face in faces:
        await face(face.client.close())


@pytest.fixture
def face(make_face: Callable[..., Face], scripted: ScriptedService) -> Face:
    """A client of the scripted service."""
    return make_face(f"{scripted.url}/v1")
