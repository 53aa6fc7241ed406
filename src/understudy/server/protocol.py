"""HTTP as it comes off the wire: what is none, or has no end, is refused like everything else.

A request's head, its trailers and the framing of its chunks have no limit of their own in the
parser; what it has not yet made sense of, it keeps.
"""

from __future__ import annotations

import asyncio
import json
import uuid

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import InvalidRequest, UnderstudyError

MAX_HEAD_BYTES = 65_536
"""The most bytes of a request's address and headers, its trailers included."""

HEAD_SECONDS = 30.0
"""How long a request's head may take to arrive."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, with limits on size and time before a request reaches the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request."""
        self._head_bytes = 0
        self._unread_bytes = 0
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what goes on without meaning anything."""
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_bytes = 0
        self._timer.cancel()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)
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

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._unread_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and hang up; `msg` is the parser's and told to nobody."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        else:
            self._refuse(InvalidRequest("This is not an HTTP/1.1 request; check what is sent to this port."))

    def _count(self, size: int) -> None:
        self._unread_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            # The parser makes an error of its own of it, which ends at `send_400_response`.
            raise ValueError("the head is too large")

    def _refuse_head(self) -> None:
        self._refuse(InvalidRequest(f"The headers are larger than {MAX_HEAD_BYTES // 1024} kB; send fewer."))

    def _refuse(self, error: UnderstudyError) -> None:
        request_id = str(uuid.uuid4())
        body = json.dumps(error.to_body(request_id)).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(head.encode() + body)
        self.transport.close()
