"""A server on the loopback that counts who comes: what a guarded fetch must leave untouched, or reach."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

FILE = b"\x89PNG not really, but the fetcher does not look" * 10
"""What a listener answers with."""

Answer = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]


class Listener:
    """A server of one answer that keeps the requests it saw.

    `connections` counts them where they are accepted: before a word, or a TLS handshake.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._handlers: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.StreamReaderProtocol:
        """Count a connection; return what handles it."""
        self.connections += 1
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self.handle)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handlers.add(asyncio.current_task())
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.answer(writer, self.requests[-1])
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def end(self) -> None:
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


Serve = Callable[..., Awaitable[Listener]]
"""`serve(answer, host="127.0.0.1", tls=None, port=0)` starts a listener."""


@contextlib.asynccontextmanager
async def open_listeners() -> AsyncIterator[Serve]:
    """Listeners for the time of the block."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(
            answer: Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
        ) -> Listener:
            listener = Listener(answer)
            loop = asyncio.get_running_loop()
            server = await loop.create_server(listener.accept, host, port, ssl=tls)
            stack.push_async_callback(listener.end)
            stack.callback(server.close)
            listener.port = server.sockets[0].getsockname()[1]
            return listener

        yield serve


def answer_with(body: bytes = FILE, status: str = "200 OK", **headers: str) -> Answer:
    lines = {"Content-Type": "image/png", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    async def answer(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(head.encode() + b"\r\n" + body)

    return answer


def redirect_to(location: str, status: str = "302 Found") -> Answer:
    return answer_with(b"", status, Location=location)
