"""Following a job: status, result, events, cancel, and the account's history."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from ..accounts.keys import Key
from ..errors import Conflict
from ..jobs.job import Job
from .access import Caller, Lister, Running, read_secret
from .bodies import (
    FailedBody,
    HistoryEntry,
    JsonAnswer,
    ResultBody,
    StatusBody,
    base_url,
    check_retained,
    event_body,
    failed_body,
    history_entry,
    request_not_found,
    result_body,
    status_body,
)
from .failures import describe_errors
from .pages import Cursor, Limit, answer_page, read_cursor
from .routes import DirectRoute
from .service import Service

router = APIRouter(route_class=DirectRoute, tags=["Requests"])

PLACE_SECONDS = 1.0
"""How often a waiting job's place in the queue is looked at for its listeners."""

HEARTBEAT_SECONDS = 15.0
"""A comment keeps an event stream open that has nothing to say."""

_ERRORS = describe_errors(401, 404)
_FAILED = {422: {"model": FailedBody, "description": "The job ended FAILED."}}
RequestId = Annotated[str, Path(max_length=100)]


class EventBody(BaseModel):
    """One server-sent event."""

    id: str = Field(description="The version of the job's row, for Last-Event-ID.")
    event: Literal["message"] = "message"
    data: str = Field(description="JSON: the job's status, at its end the full result.")


class EventStream(StreamingResponse):
    """Server-sent events, until their end or their listener's; then `close` is called."""

    def __init__(self, events: AsyncIterator[bytes], close: Callable[[], None]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


class HistoryBody(BaseModel):
    """A page of the account's history, newest first."""

    requests: list[HistoryEntry]
    next: str | None


class DeletedBody(BaseModel):
    """What was deleted."""

    request_id: str
    deleted: bool


@router.get(
    "/v2/requests/{request_id}/status",
    summary="Status of a request",
    response_model=StatusBody,
    responses={**_ERRORS, **_FAILED},
)
async def read_status(request_id: RequestId, request: Request, service: Running, key: Caller) -> Response:
    """Where the job stands; of several pictures each, and those that can be had already."""
    return await _answer_status(await _poll(request_id, request, service, key), request, service)


@router.get(
    "/v2/requests/{request_id}",
    summary="Result of a request",
    response_model=ResultBody | StatusBody,
    responses={**_ERRORS, **_FAILED},
)
@router.get(
    "/v1/requests/{request_id}",
    summary="Result of a request, the older address",
    response_model=ResultBody | StatusBody,
    responses={**_ERRORS, **_FAILED},
)
async def read_result(request_id: RequestId, request: Request, service: Running, key: Caller) -> Response:
    """The full result; while the job is pending, what its status route says."""
    job = await _poll(request_id, request, service, key)
    if job.status == "COMPLETED":
        return JsonAnswer(result_body(job, base_url(request, service.settings)))
    return await _answer_status(job, request, service)


@router.delete(
    "/v2/requests/{request_id}",
    summary="Cancel a request",
    response_model=StatusBody | FailedBody,
    responses={**_ERRORS, **describe_errors(409)},
)
@router.put(
    "/v2/requests/{request_id}/cancel",
    summary="Cancel a request",
    response_model=StatusBody | FailedBody,
    responses={**_ERRORS, **describe_errors(409)},
)
async def cancel(request_id: RequestId, service: Running, key: Caller) -> Response:
    """End the job now; the worker stops between two denoising steps."""
    found, ended_now = await service.store.cancel(request_id, key.account_id)
    job = check_retained(found, request_id, service.settings)
    if not ended_now:
        raise Conflict(
            f"The request has ended already ({job.status}); there is nothing to cancel.", request_id=job.id
        )
    service.meters.ended.labels("FAILED", "cancelled").inc()
    return JsonAnswer(failed_body(job))


@router.get(
    "/v2/requests/{request_id}/events",
    summary="Events of a request",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: each a snapshot of the job, the last one its result.",
            "content": {"text/event-stream": {"schema": EventBody.model_json_schema()}},
        },
        **_ERRORS,
    },
)
async def stream_events(
    request_id: RequestId,
    request: Request,
    service: Running,
    key: Caller,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The job's present state, then each change of it, until its end."""
    # Of a job with an end it is no more than a poll, and is counted as one.
    job = await _poll(request_id, request, service, key)
    known = last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal()
    seen = int(last_event_id) if known and len(last_event_id) < 10 else 0
    if seen > job.version:
        # Not an id of this stream: the listener knows nothing yet.
        seen = 0
    events = _stream(job, seen, base_url(request, service.settings), service, read_secret(request))
    return EventStream(events, service.open_stream(key))


@router.get(
    "/v1/requests",
    summary="The account's history",
    response_model=HistoryBody,
    responses=describe_errors(401),
)
async def list_history(
    request: Request,
    service: Running,
    key: Lister,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"] | None = None,
) -> Response:
    """The account's requests, newest first."""
    jobs = await service.store.list_history(
        key.account_id, limit=limit + 1, before=read_cursor(cursor), status=status
    )
    base = base_url(request, service.settings)
    return answer_page("requests", jobs, limit, lambda job: history_entry(job, base))


@router.delete(
    "/v1/requests/{request_id}",
    summary="Delete a request and its files",
    response_model=DeletedBody,
    responses=_ERRORS,
)
async def delete_request(request_id: RequestId, service: Running, key: Caller) -> Response:
    """Forget the request and its files; one that has not ended is cancelled first."""
    await service.store.cancel(request_id, key.account_id)
    if not await service.store.delete(request_id, key.account_id):
        raise request_not_found(request_id)
    return JsonAnswer(DeletedBody(request_id=request_id, deleted=True).model_dump())


async def _poll(request_id: str, request: Request, service: Service, key: Key) -> Job:
    """A job of the account, if it may still be asked for.

    Each job has a limit of its own; all that is not there shares one.
    """
    job = await service.store.get(request_id, key.account_id)
    request.state.limit_headers = service.count_poll(key.counted_as if job is None else job.id)
    return check_retained(job, request_id, service.settings)


async def _answer_status(job: Job, request: Request, service: Service) -> Response:
    body = await status_body(job, base_url(request, service.settings), service.store, service.executor.slots)
    return JsonAnswer(body, status_code=422 if job.status == "FAILED" else 200)


async def _stream(job: Job, seen: int, base: str, service: Service, secret: str) -> AsyncIterator[bytes]:
    """Snapshots of a job's row; a slow listener skips those it missed.

    A job that waits moves up without a change of its row: its place is looked at now and then. A
    key that works no more is told nothing more.
    """
    store, slots = service.store, service.executor.slots
    place: int | None = None
    spoke_at = time.monotonic()
    with store.feed.listen(job.id) as changed, service.key_watch.wake(secret, changed):
        while not service.stopping.is_set():
            changed.clear()
            now = await store.get(job.id)
            if now is None or not await service.key_watch.is_good(secret):
                return
            body = await event_body(now, base, store, slots)
            moved = body.get("queue_position") != place
            if now.version > seen or now.ended or (moved and place is not None):
                seen = max(seen, now.version)
                spoke_at = time.monotonic()
                yield _event(now.version, body)
            elif time.monotonic() - spoke_at >= HEARTBEAT_SECONDS:
                spoke_at = time.monotonic()
                yield b": still here\n\n"
            place = body.get("queue_position")
            if now.ended:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(PLACE_SECONDS if place else HEARTBEAT_SECONDS):
                    await changed.wait()


def _event(event_id: int, body: dict[str, Any]) -> bytes:
    return f"id: {event_id}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n".encode()
