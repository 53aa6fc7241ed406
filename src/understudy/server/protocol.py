"""HTTP as it comes off the wire: what is none, or has no end, is refused like everything else.

A request's head, its trailers and the framing of its chunks have no limit of their own in the
parser; what it has not yet made sense of, it keeps.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, NoReturn

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..errors import InvalidRequest, UnderstudyError

MAX_HEAD_BYTES = 65_536
"""The most bytes of a request's address and headers, its trailers included."""

HEAD_SECONDS = 30.0
"""How long a request's head may take to arrive, or the rest of a body that is answered already."""

MAX_PIPELINED = 16
"""The most requests that may wait on a connection for the one before them."""

MAX_SPARE_BYTES = 64_000_000
"""The most bytes that are read for nothing, so that a client that sends first can then read its answer."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, with limits on size, number and time before a request reaches the application.

    Time is limited while nothing is being answered; an answer itself may take hours.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request."""
        self._head_bytes = 0
        self._unread_bytes = 0
        self._spare_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._error: UnderstudyError | None = None
        self._refusal = b""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and what waits on it; what is being answered is told."""
        self._timer.cancel()
        self._drop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what goes on without meaning anything."""
        if self._refusal or (self._is_answered() and self.cycle.more_body):
            self._spare_bytes += len(data)
            if self._spare_bytes > MAX_SPARE_BYTES:
                self.transport.close()
        if self._refusal or self.transport.is_closing():
            return
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > MAX_HEAD_BYTES:
            self._refuse(_large_head())

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_bytes = 0
        self._spare_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or a trailer."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._timer.cancel()
        self._unread_bytes = 0
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self._fail(
                InvalidRequest(
                    "There are too many requests at once on one connection; "
                    f"send at most {MAX_PIPELINED} ahead of an answer."
                )
            )

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._unread_bytes = 0
        super().on_message_complete()
        # uvicorn leaves it where the answer came first.
        self.cycle.more_body = False

    def on_response_complete(self) -> None:
        """A request is answered; the next may begin, but not wait for ever."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._refusal:
            self._hang_up()
        elif self._is_answered():
            self._timer.cancel()
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and hang up; `msg` is the parser's and told to nobody."""
        unreadable = InvalidRequest("This is not an HTTP/1.1 request; check what is sent to this port.")
        self._refuse(self._error or unreadable)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _is_answered(self) -> bool:
        """Whether nothing is being answered, nor waits to be."""
        return self.cycle is not None and self.cycle.response_complete

    def _count(self, size: int) -> None:
        self._unread_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail(_large_head())

    def _fail(self, error: UnderstudyError) -> NoReturn:
        """End the parsing: it makes an error of its own of this one, and that `send_400_response`."""
        self._error = error
        raise ValueError(error.code)

    def _refuse(self, error: UnderstudyError) -> None:
        """Give a last answer and hang up, after the request that is being answered; what waits never runs."""
        if self._refusal or self.transport.is_closing():
            return
        request_id = str(uuid.uuid4())
        body = json.dumps(error.to_body(request_id)).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self._refusal = head.encode() + body
        # Whose body is broken gets no other answer; else it is the follower that is wrong.
        own_body = self.cycle is not None and self.cycle.more_body and not self.pipeline
        self._drop_waiting()
        if own_body:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if own_body or self.cycle is None or self.cycle.response_complete:
            self._hang_up(silently=own_body and self.cycle.response_started)

    def _hang_up(self, silently: bool = False) -> None:
        """End the connection in two steps: who still sends could not read his answer else (RFC 9112, 9.6)."""
        if not silently:
            self.transport.write(self._refusal)
        self.transport.write_eof()
        self.cycle = None
        self._timer.cancel()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _drop_waiting(self) -> None:
        """Forget the requests whose turn never came."""
        self.pipeline.clear()
        self.cycle = self._answering


def _large_head() -> InvalidRequest:
    return InvalidRequest(f"The headers are larger than {MAX_HEAD_BYTES // 1024} kB; send fewer.")
