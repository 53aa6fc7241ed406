"""Following a job over a line that breaks."""

from __future__ import annotations

import itertools
import json

import pytest

from understudy import ConnectionFailed, NotFound, ServiceError
from understudy.client import events as listening

from .conftest import ID, Reply, completed, state

EVENTS = f"/v2/requests/{ID}/events"
STREAM = {"content-type": "text/event-stream"}

pytestmark = pytest.mark.usefixtures("quick_backoff")


def event(version: int, snapshot: dict) -> bytes:
    return f"id: {version}\nevent: state\ndata: {json.dumps(snapshot)}\n\n".encode()


QUEUED = state("QUEUED", progress=0.0)
HALF = state("PROCESSING", progress=0.5)
FAILED = state("FAILED", error="It was cancelled.", code="cancelled")


async def test_events_end_with_the_full_result(face, scripted):
    stream = b": hello\n\n" + event(1, QUEUED) + b": alive\n\n" + event(2, HALF) + event(3, completed())
    scripted.script("GET", EVENTS, Reply(content=stream + event(4, HALF), headers=STREAM))
    seen = await face.collect(face.client.job(ID).events())
    assert seen == [QUEUED, HALF, completed()]
    (request,) = scripted.received
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["x-api-key"] == "key"
    assert "last-event-id" not in request.headers


async def test_a_failed_end_is_an_event(face, scripted):
    scripted.script("GET", EVENTS, Reply(content=event(2, FAILED), headers=STREAM))
    assert await face.collect(face.client.job(ID).events()) == [FAILED]


async def test_a_lost_line_is_taken_up_behind_the_last_event(face, scripted):
    scripted.script(
        "GET",
        EVENTS,
        Reply(lost=True),
        Reply(content=event(1, QUEUED), headers=STREAM, lost=True),
        Reply(503, {"error": "Restarting."}),
        Reply(429, {"error": "Too many listeners."}),
        Reply(content=event(7, HALF) + b"id: 8\ndata: {", headers=STREAM),
        Reply(content=event(9, completed()), headers=STREAM),
    )
    seen = await face.collect(face.client.job(ID).events())
    assert [snapshot["status"] for snapshot in seen] == ["QUEUED", "PROCESSING", "COMPLETED"]
    resumed = [request.headers.get("last-event-id") for request in scripted.received]
    assert resumed == [None, None, "1", "1", "1", "7"]


@pytest.mark.parametrize(
    ("reply", "error_class"),
    [
        (Reply(lost=True), ConnectionFailed),
        (Reply(502, {"error": "No worker."}), ServiceError),
        (Reply(content=b": nothing\n\n", headers=STREAM), ServiceError),
        (Reply(content=b"data: nonsense\n\n", headers=STREAM), ServiceError),
        (Reply(content=b"<html>", headers={"content-type": "text/html"}), ConnectionFailed),
    ],
    ids=["lost", "502", "empty", "nonsense", "html"],
)
async def test_a_line_that_never_brings_an_event_is_given_up(face, scripted, reply, error_class, monkeypatch):
    monkeypatch.setattr(listening, "MAX_LOSSES", 3)
    scripted.script("GET", EVENTS, reply)
    with pytest.raises(error_class):
        await face.collect(face.client.job(ID).events())
    assert len(scripted.received) == 3


async def test_a_line_that_brings_events_is_never_given_up(face, scripted, monkeypatch):
    monkeypatch.setattr(listening, "MAX_LOSSES", 2)
    cut = [Reply(content=event(n, HALF), headers=STREAM, lost=True) for n in range(5)]
    scripted.script("GET", EVENTS, *cut, Reply(content=event(9, completed()), headers=STREAM))
    assert len(await face.collect(face.client.job(ID).events())) == 6


async def test_an_unknown_request_is_an_error_at_once(face, scripted):
    scripted.script("GET", EVENTS, Reply(404, {"error": f"Request {ID} not found", "code": "not_found"}))
    with pytest.raises(NotFound, match=ID):
        await face.collect(face.client.job(ID).events())
    assert len(scripted.received) == 1


async def test_a_listener_may_leave_early(face, scripted):
    scripted.script("GET", EVENTS, Reply(content=event(1, QUEUED) + event(2, HALF), headers=STREAM))
    events = face.client.job(ID).events()
    if hasattr(events, "__aiter__"):
        first = await anext(events)
        await events.aclose()
    else:
        (first,) = itertools.islice(events, 1)
        events.close()
    assert first == QUEUED
    scripted.script("GET", "/v1/models", Reply(body={"models": []}))
    assert await face(face.client.models()) == []
