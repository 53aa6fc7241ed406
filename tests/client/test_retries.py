"""When a request is sent again, and when it must not be."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from understudy import (
    ConnectionFailed,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    RateLimited,
    ServiceError,
    UnderstudyError,
)
from understudy.client import exchange
from understudy.errors import Conflict, Forbidden, MethodNotAllowed, NotAcceptable, TooLarge

from .conftest import ID, Reply, state

MODELS = Reply(body={"models": [{"slug": "m"}]})
BUSY = {"error": "The queue is full; try again in a second.", "code": "queue_full"}

pytestmark = pytest.mark.usefixtures("quick_backoff")


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(lost=True),
        Reply(content=b'{"models": [', lost=True),
        Reply(429, BUSY),
        Reply(429, BUSY, headers={"retry-after": "0"}),
        Reply(502, {"error": "No worker.", "code": "worker_unavailable"}),
        Reply(503, content=b"<html>bad gateway</html>"),
        Reply(504, None),
    ],
    ids=["hung up", "cut", "429", "429 with Retry-After", "502", "503 html", "504 null"],
)
async def test_a_get_is_sent_again_after_a_passing_trouble(face, scripted, trouble):
    scripted.script("GET", "/v1/models", trouble, trouble, MODELS)
    assert await face(face.client.models()) == [{"slug": "m"}]
    assert scripted.count("GET", "/v1/models") == 3


async def test_a_get_is_given_up_after_four_attempts(face, scripted):
    scripted.script("GET", "/v1/models", Reply(502, {"error": "No worker.", "code": "worker_unavailable"}))
    with pytest.raises(ServiceError) as caught:
        await face(face.client.models())
    assert (caught.value.status, caught.value.code) == (502, "worker_unavailable")
    assert scripted.count("GET", "/v1/models") == exchange.ATTEMPTS == 4


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, InvalidRequest),
        (401, NotAuthenticated),
        (403, Forbidden),
        (404, NotFound),
        (405, MethodNotAllowed),
        (406, NotAcceptable),
        (409, Conflict),
        (413, TooLarge),
        (418, UnderstudyError),
        (500, ServiceError),
    ],
)
async def test_every_other_error_is_raised_at_once_as_its_class(face, scripted, status, error_class):
    body = {"error": "Do this.", "code": "some_code", "field": "steps", "request_id": "r"}
    scripted.script("GET", "/v1/models", Reply(status, body))
    with pytest.raises(UnderstudyError) as caught:
        await face(face.client.models())
    error = caught.value
    assert type(error) is error_class
    assert (error.status, error.code, error.field, error.request_id) == (status, "some_code", "steps", "r")
    assert error.detail == str(error) == "Do this."
    assert len(scripted.received) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(lost=True),
        Reply(429, BUSY),
        Reply(502, {"error": "Down."}),
        Reply(503, {"error": "Down."}),
        Reply(504, None),
    ],
    ids=["hung up", "429", "502", "503", "504 of a proxy"],
)
async def test_a_post_is_sent_again_under_its_idempotency_key(face, scripted, trouble):
    scripted.script("POST", "/v2/m", trouble, trouble, Reply(body=scripted.submitted))
    assert (await face.submit(prompt="x")).request_id == ID
    keys = [request.headers["idempotency-key"] for request in scripted.received]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    await face.submit(prompt="x")
    assert scripted.received[-1].headers["idempotency-key"] != keys[0]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, {"error": "Down."}),
        Reply(504, {"error": "Down.", "code": "deadline_exceeded", "request_id": ID}),
    ],
    ids=["500", "the service's deadline"],
)
async def test_a_post_is_not_sent_again_where_that_would_not_help(face, scripted, reply):
    scripted.script("POST", "/v2/m", reply, Reply(body=scripted.submitted))
    with pytest.raises(ServiceError, match="Down"):
        await face.submit(prompt="x")
    assert scripted.count("POST", "/v2/m") == 1


async def test_a_refused_post_is_sent_again_when_the_service_says_when(face, scripted):
    again = Reply(429, BUSY, headers={"retry-after": "0"})
    scripted.script("POST", "/v2/m", again, again, Reply(body=scripted.submitted))
    assert (await face.submit(prompt="x")).request_id == ID
    assert scripted.count("POST", "/v2/m") == 3


async def test_a_long_retry_after_is_told_not_slept(face, scripted):
    scripted.script("GET", "/v1/models", Reply(429, BUSY, headers={"retry-after": "3600"}), MODELS)
    with pytest.raises(RateLimited) as caught:
        await face(face.client.models())
    assert caught.value.retry_after_seconds == 3600
    assert len(scripted.received) == 1


async def test_retry_after_may_be_a_date(face, scripted):
    at = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    scripted.script("GET", "/v1/models", Reply(429, BUSY, headers={"retry-after": at}))
    with pytest.raises(RateLimited) as caught:
        await face(face.client.models())
    assert 3500 < caught.value.retry_after_seconds <= 3600


async def test_a_post_waits_for_a_service_that_is_just_starting(make_face, start_scripted, monkeypatch):
    monkeypatch.setattr(exchange, "FIRST_BACKOFF_SECONDS", 0.4)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    refused = threading.Event()
    backoff_seconds = exchange.backoff_seconds

    def start_after_the_refusal(attempt: int) -> float:
        if not refused.is_set():
            refused.set()
            service = start_scripted(port)
            service.script("POST", "/v2/m", Reply(body=service.submitted))
        return backoff_seconds(attempt)

    monkeypatch.setattr(exchange, "backoff_seconds", start_after_the_refusal)
    job = await make_face(f"http://127.0.0.1:{port}").submit(prompt="x")
    assert refused.is_set()
    assert job.request_id == ID


async def test_a_service_that_is_not_there_is_named_and_the_key_is_not(make_face):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        face = make_face(f"http://{address}/v1", api_key="us_secret")
        with pytest.raises(ConnectionFailed) as caught:
            await face(face.client.models())
    assert address in str(caught.value)
    assert "us_secret" not in repr(caught.value)
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


async def test_a_silent_service_is_a_timeout(make_face, monkeypatch):
    monkeypatch.setattr(exchange, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        face = make_face(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        with pytest.raises(ConnectionFailed, match="did not answer in time"):
            await face(face.client.models())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(content=b"<html>It works!</html>", headers={"content-type": "text/html"}),
        Reply(body=["a", "list"]),
        Reply(body={"request_id": ID}),
    ],
    ids=["html", "list", "no urls"],
)
async def test_another_kind_of_service_is_recognised(face, scripted, reply):
    scripted.script("POST", "/v2/m", reply)
    with pytest.raises(ServiceError, match="check base_url") as caught:
        await face.submit(prompt="x")
    assert caught.value.code == "unexpected_answer"


async def test_cancel_is_not_repeated_when_it_may_have_worked(face, scripted):
    scripted.script_job(Reply(body=state("PROCESSING")))
    scripted.script("DELETE", f"/v2/requests/{ID}", Reply(502, {"error": "No worker."}))
    job = await face.submit(prompt="x")
    with pytest.raises(ServiceError):
        await face(job.cancel())
    assert scripted.count("DELETE", f"/v2/requests/{ID}") == 1


def test_backoff_grows_to_its_limit_and_is_never_in_step():
    pauses = [[exchange.backoff_seconds(attempt) for _ in range(50)] for attempt in range(1, 12)]
    for attempt, drawn in enumerate(pauses, 1):
        ceiling = min(exchange.FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1), exchange.MAX_BACKOFF_SECONDS)
        assert all(ceiling / 2 <= pause <= ceiling for pause in drawn)
        assert len(set(drawn)) > 1
