"""A load of HTTP requests: raw sockets, kept open, so that the client costs little beside the server.

It knows HTTP/1.1 answers with a Content-Length and nothing else; an answer that is not the
expected one ends the load with an error, so that no failure is counted as speed.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast
from urllib.parse import urlsplit

import uvloop

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class LoadFailed(Exception):
    """An answer was not the expected one, or none came."""


@dataclass(frozen=True)
class Load:
    """What a load measured: from the first request sent to the last answer read."""

    seconds: float
    latencies: list[float] = field(repr=False)
    """Seconds of each request, from sending it to having read its answer."""

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @cached_property
    def _percentiles_ms(self) -> list[float]:
        return [cut * 1000 for cut in statistics.quantiles(self.latencies, n=100, method="inclusive")]

    def percentile_ms(self, percent: int) -> float:
        """The latency in milliseconds that `percent` of 100 requests (1 to 99) do not exceed."""
        return self._percentiles_ms[percent - 1]


def build_request(method: str, url: str, headers: dict[str, str] | None = None, body: object = None) -> bytes:
    """A request as the bytes that go over the line; `body` is sent as JSON."""
    parts = urlsplit(url)
    data = b"" if body is None else json.dumps(body).encode()
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, "", ""]).encode() + data


def send_load(
    url: str,
    requests: Iterable[bytes],
    clients: int,
    *,
    status: int = 200,
    receive: Callable[[bytes], None] | None = None,
) -> Load:
    """Send requests to the server of a URL over `clients` connections and wait for all answers.

    Each connection sends its next request when it has the answer to the one before. `receive` is
    given each answer's body.

    Raises:
        LoadFailed: an answer has another status than `status`, or a connection was lost.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_load(url, requests, clients, status=status, receive=receive))


async def run_load(
    url: str,
    requests: Iterable[bytes],
    clients: int,
    *,
    status: int = 200,
    receive: Callable[[bytes], None] | None = None,
) -> Load:
    """`send_load` within an event loop."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    left = iter(requests)
    latencies: list[float] = []
    connections = [
        (
            await loop.create_connection(
                lambda: _Client(left, latencies, status, receive), parts.hostname, parts.port
            )
        )[1]
        for _ in range(clients)
    ]
    started = time.perf_counter()
    for connection in connections:
        connection.send_next()
    try:
        await asyncio.gather(*(connection.done for connection in connections))
        return Load(time.perf_counter() - started, latencies)
    finally:
        for connection in connections:
            connection.close()


class _Client(asyncio.Protocol):
    """One connection: one request at a time, taken from what is left."""

    def __init__(
        self,
        left: Iterator[bytes],
        latencies: list[float],
        status: int,
        receive: Callable[[bytes], None] | None,
    ) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = left
        self._latencies = latencies
        self._status_line = b"HTTP/1.1 %d " % status
        self._receive = receive
        self._answer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send_next(self) -> None:
        """Send the next request; done when there is none left."""
        request = next(self._left, None)
        if request is None:
            self.done.set_result(None)
            return
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head_length = self._answer.find(b"\r\n\r\n")
        if head_length < 0 or self.done.done():
            return
        length = _CONTENT_LENGTH.search(self._answer, 0, head_length)
        if length is None or not self._answer.startswith(self._status_line):
            words = self._answer[:500].decode(errors="replace")
            self.done.set_exception(LoadFailed(f"The server answered: {words}"))
            return
        end = head_length + 4 + int(length[1])
        if len(self._answer) < end:
            return
        self._latencies.append(time.perf_counter() - self._sent_at)
        if self._receive is not None:
            self._receive(self._answer[head_length + 4 : end])
        self._answer = self._answer[end:]
        self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(LoadFailed(f"The server closed a connection ({error})."))
