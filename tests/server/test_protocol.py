"""HTTP on the wire: limits on what comes before the application is asked, and after it has answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
import uvicorn

from understudy.server import protocol


class Application:
    """Answers with how much there was to read.

    At `/early` before it reads, at `/slow` when `gate` opens, at `/left` when its client has left.
    """

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        self.began.append(path)
        size, more = 0, path != "/early"
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        if path == "/slow":
            await self.gate.wait()
        if path == "/left":
            assert (await receive())["type"] == "http.disconnect"
        answer = str(size).encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self.ended.append(path)


class Server(uvicorn.Server):
    """Leaves signals to the test run."""

    def capture_signals(self):
        return contextlib.nullcontext()


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def port(application: Application) -> AsyncIterator[int]:
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


async def read_refusal(reader: asyncio.StreamReader) -> str:
    """The sentence of the error that a connection ends with."""
    status, body = await read_answer(reader)
    assert status == 400
    assert await reader.read() == b""
    return json.loads(body)["error"]


async def send_on(writer: asyncio.StreamWriter, piece: bytes, times: int, pause_seconds: float = 0) -> None:
    for _ in range(times):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_seconds)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


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


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"GET / HTTP/1.1\r\nX: ", b"x"),
        (get("/"), b"\r\n"),
        (get("/") + b"GET /", b"x"),
        (post("/early", "Content-Length: 100000"), b"x"),
        (post("/early", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    ],
)
async def test_what_does_not_end_is_given_up(port, monkeypatch, start, drip):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(start)
    if b"\r\n\r\n" in start:
        await read_answer(reader)
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof():
            assert time.monotonic() - begun < 30
            writer.write(drip)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.02)
    writer.close()


@pytest.mark.parametrize(
    ("start", "status"), [(post("/early", "Transfer-Encoding: chunked"), 200), (b"nonsense\r\n\r\n", 400)]
)
async def test_who_sends_without_end_is_given_up_after_the_answer(port, monkeypatch, start, status):
    monkeypatch.setattr(protocol, "MAX_SPARE_BYTES", 1_000_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(start)
    assert (await read_answer(reader))[0] == status
    with pytest.raises(ConnectionError):
        await send_on(writer, b"10000\r\n" + bytes(0x10000) + b"\r\n", 1500)
    writer.close()


async def test_who_is_refused_and_goes_on_is_let_go(port, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"nonsense\r\n\r\n")
    await read_refusal(reader)
    with pytest.raises(ConnectionError):
        await send_on(writer, b"x", 1500, pause_seconds=0.02)
    writer.close()


async def test_a_broken_body_is_told_to_both_sides(port, application):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/", "Transfer-Encoding: chunked") + b"1\r\nx\r\nnonsense")
    assert "not an HTTP/1.1 request" in await read_refusal(reader)
    async with asyncio.timeout(10):
        while not application.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    writer.close()


async def test_a_body_that_is_answered_early_may_end(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(post("/early", "Content-Length: 50000000") + bytes(50_000_000))
        await writer.drain()
        assert await read_answer(reader) == (200, b"0")
    writer.write(get("/"))
    assert await read_answer(reader) == (200, b"0")
    writer.close()


async def test_a_slow_answer_is_not_given_up(port, application, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/slow") + b"GET")
    await asyncio.sleep(0.6)
    application.gate.set()
    assert await read_answer(reader) == (200, b"0")
    writer.write(b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await read_answer(reader) == (200, b"0")
    writer.close()


async def test_a_client_may_ask_before_it_sends_its_body(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/early", "Content-Length: 5", "Expect: 100-continue"))
    assert await read_answer(reader) == (200, b"0")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/", "Content-Length: 5", "Expect: 100-continue"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    assert await read_answer(reader) == (200, b"5")
    writer.close()


async def test_a_few_requests_at_once_are_answered_in_turn(port, application):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sizes = range(1 + protocol.MAX_PIPELINED)
    for _ in range(2):
        writer.write(b"".join(post("/slow", f"Content-Length: {size}") + bytes(size) for size in sizes))
        await asyncio.sleep(0.1)
        application.gate.set()
        for size in sizes:
            assert await read_answer(reader) == (200, str(size).encode())
    writer.close()


async def test_too_many_requests_at_once_are_refused(port, application):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/slow") + get("/") * 20_000)
    await writer.drain()
    application.gate.set()
    assert await read_answer(reader) == (200, b"0")
    assert "at most 16" in await read_refusal(reader)
    assert application.began == ["/slow"]
    writer.close()


@pytest.mark.parametrize("waiting", [0, 2])
async def test_a_request_is_not_answered_for_the_one_behind_it(port, application, waiting):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/slow") + get("/") * waiting + b"nonsense\r\n\r\n" + bytes(200_000))
    await writer.drain()
    application.gate.set()
    assert await read_answer(reader) == (200, b"0")
    assert "not an HTTP/1.1 request" in await read_refusal(reader)
    assert application.began == application.ended == ["/slow"]
    writer.close()


async def test_nothing_follows_an_answer_but_its_body(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/early", "Transfer-Encoding: chunked"))
    assert await read_answer(reader) == (200, b"0")
    writer.write(b"nonsense")
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_leaves_is_noticed_whatever_it_sent_behind(port, application):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/left") + get("/") * 2)
    while not application.began:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writer.close()
    async with asyncio.timeout(30):
        while not application.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert application.began == application.ended == ["/left"]


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
