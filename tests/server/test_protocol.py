"""HTTP on the wire: limits on a request's head, before any of the application is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
import uvicorn

from understudy.server import protocol


async def application(scope, receive, send):
    """Answers with how much there was to read."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    answer = str(size).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Server(uvicorn.Server):
    """Leaves signals to the test run."""

    def capture_signals(self):
        return contextlib.nullcontext()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        application, port=0, http=protocol.HttpProtocol, ws="none", lifespan="off", log_config=None
    )
    server = Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return int(head[9:12]), await reader.readexactly(int(length))


async def test_requests_follow_one_another_on_a_connection(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for size in (0, 10, 300_000):
        head = f"POST / HTTP/1.1\r\nHost: x\r\nX: {'y' * 60_000}\r\nContent-Length: {size}\r\n\r\n"
        writer.write(head.encode() + bytes(size))
        assert await read_answer(reader) == (200, str(size).encode())
    # Two at once, the second with chunks: each head has the whole limit for itself.
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX: " + b"y" * 60_000 + b"\r\n\r\n"
    writer.write((chunked + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n") * 2)
    for _ in range(2):
        assert await read_answer(reader) == (200, b"50000")
    writer.close()


async def test_a_head_that_does_not_end_is_given_up(port, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    begun = time.monotonic()
    for start in (b"", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        if start.count(b"\r\n\r\n"):
            await read_answer(reader)
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x" if start else b"")
                await asyncio.sleep(0.02)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.02)
        writer.close()
    assert time.monotonic() - begun < 30


async def test_a_slow_body_is_not_given_up(port, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    for _ in range(5):
        await asyncio.sleep(0.1)
        writer.write(b"x")
    assert await read_answer(reader) == (200, b"5")
    writer.close()


async def test_an_error_on_the_wire_has_the_shape_of_every_error(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"nonsense\r\n\r\n")
    status, body = await read_answer(reader)
    told = json.loads(body)
    assert (status, set(told)) == (400, {"error", "code", "request_id"})
    assert told["code"] == "invalid_request"
    assert await reader.read() == b""
    writer.close()
