"""HTTP as no library would send it: bytes to a service's socket, and what it answers."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from running_service import RunningService
from service_client import SLUG


@dataclass(frozen=True)
class RawAnswer:
    """One answer; status 0 when the connection ended without any."""

    status: int
    headers: dict[str, str]
    body: bytes

    def check_error(self, status: int, code: str | None = None, field: str | None = None) -> dict[str, Any]:
        """The body of an error, its shape checked, and that nothing leaks."""
        assert self.status == status, self
        assert self.headers["content-type"] == "application/json"
        told = json.loads(self.body)
        assert set(told) - {"field"} == {"error", "code", "request_id"}
        assert code is None or told["code"] == code, told
        assert field is None or told["field"] == field, told
        assert len(told["error"]) > 10
        assert told["error"].endswith(".") or told["code"] == "not_found"
        assert self.headers["x-request-id"]
        for leak in (b"Traceback", b"site-packages", b'File "', b"sqlite"):
            assert leak not in self.body
        return told


def exchange(service: RunningService, *pieces: bytes | Iterable[bytes], seconds: float = 30) -> RawAnswer:
    """Send bytes, then read one answer; a service that hangs up in the middle has answered too."""
    received = b""
    port = int(service.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                for part in [piece] if isinstance(piece, bytes) else piece:
                    connection.sendall(part)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while not _is_whole(received):
                part = connection.recv(65_536)
                if not part:
                    break
                received += part
    return _parse(received)


def make_head(
    service: RunningService,
    method: str = "GET",
    target: bytes = b"/v1/models",
    *lines: bytes,
    host: bytes = b"service.example",
) -> bytes:
    """The head of a request with a good key; `lines` are headers, or what stands in their place."""
    first = method.encode() + b" " + target + b" HTTP/1.1"
    key = b"x-api-key: " + service.key.encode()
    return b"\r\n".join([first, b"Host: " + host, key, *lines]) + b"\r\n\r\n"


def post(
    service: RunningService,
    body: bytes,
    content_type: str = "application/json",
    target: str = f"/v2/{SLUG}",
    *lines: bytes,
) -> RawAnswer:
    """Post a body of any bytes."""
    kind, length = f"content-type: {content_type}".encode(), f"content-length: {len(body)}".encode()
    return exchange(service, make_head(service, "POST", target.encode(), kind, length, *lines), body)


def _split(received: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
    return {name.lower(): value.strip() for name, _, value in lines}, body


def _is_whole(received: bytes) -> bool:
    if b"\r\n\r\n" not in received:
        return False
    headers, body = _split(received)
    return len(body) >= int(headers.get("content-length", 10**9))


def _parse(received: bytes) -> RawAnswer:
    # An interim answer stands before the real one.
    if received.startswith(b"HTTP/1.1 100"):
        received = received.partition(b"\r\n\r\n")[2]
    if not received.startswith(b"HTTP/1.1 "):
        return RawAnswer(0, {}, received)
    headers, body = _split(received)
    return RawAnswer(int(received[9:12]), headers, body)
