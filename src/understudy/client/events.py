"""Listening to a job: what to ask for, what an event says, when to come back after a loss.

It reads and writes nothing itself: the blocking and the asynchronous client each hold the
line and tell the listener what came over it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx2

from ..errors import ServiceError
from .exchange import MAX_RETRY_AFTER_SECONDS, backoff_seconds, connection_failed

MAX_LOSSES = 8
"""So many losses of the line without an event between them end the listening."""

SILENCE_SECONDS = 45.0
"""A line silent for so long is lost: the service sends a comment every 15 seconds."""

LOST = (httpx2.RequestError, httpx2.InvalidURL)


class Arrivals:
    """The pictures of a job that can be had, each told once."""

    def __init__(self) -> None:
        self._told: set[int] = set()

    def take(self, snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The images of a snapshot that have a URL and were not told before, each with its `index`."""
        new = []
        for index, image in enumerate(snapshot.get("images") or ()):
            if image.get("url") and index not in self._told:
                self._told.add(index)
                new.append({"index": index, **image})
        return new


class Listener:
    """One listening to one job, over as many connections as it takes."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: httpx2.Timeout) -> None:
        self._url = url
        self._headers = dict(headers) | {"accept": "text/event-stream", "cache-control": "no-store"}
        self._timeout = timeout
        self._losses = 0
        self.ended = False

    def request(self) -> dict[str, Any]:
        """Arguments of `stream` for the next connection; it goes on behind the last event."""
        return {"method": "GET", "url": self._url, "headers": self._headers, "timeout": self._timeout}

    def receive(self, event: httpx2.ServerSentEvent) -> dict[str, Any] | None:
        """The snapshot that an event carries, None when it carries none.

        Raises:
            ServiceError: the event is not a JSON object.
        """
        if event.id:
            self._headers["last-event-id"] = event.id
        if not event.data:
            return None
        try:
            snapshot = json.loads(event.data)
        except ValueError:
            snapshot = None
        if not isinstance(snapshot, dict):
            raise ServiceError("The service sent an event that is no JSON object.")
        self._losses = 0
        self.ended = snapshot.get("status") in ("COMPLETED", "FAILED")
        return snapshot

    def pause_after_loss(self, error: Exception | None) -> float:
        """Seconds to wait before the next connection; `error` is None when the line just closed.

        Raises:
            UnderstudyError: the line was lost `MAX_LOSSES` times in a row, or the service
                asks for a longer pause than `MAX_RETRY_AFTER_SECONDS`.
        """
        self._losses += 1
        asked_seconds = getattr(error, "retry_after_seconds", None) or 0
        if self._losses >= MAX_LOSSES or asked_seconds > MAX_RETRY_AFTER_SECONDS:
            if error is None:
                raise ServiceError("The service closes the event stream without an event; use wait().")
            if isinstance(error, LOST):
                raise connection_failed(self._url, error) from error
            raise error
        return max(asked_seconds, backoff_seconds(self._losses))
