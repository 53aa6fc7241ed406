"""What nobody foresaw: a 500 that tells nothing, in the answer and in the log."""

from __future__ import annotations

import errno

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import OperationalError

from understudy.errors import ServiceError
from understudy.logs import JsonFormatter
from understudy.server.failures import BodyLimit, RequestId, install_failures

SECRET = "a prompt, a key and http://user:password@host"


@pytest.fixture
async def http():
    app = FastAPI()
    app.add_middleware(BodyLimit, max_bytes=1000)
    app.add_middleware(RequestId)
    install_failures(app)
    app.state.routes = []

    @app.get("/unforeseen")
    async def unforeseen():
        raise ValueError(SECRET)

    @app.get("/disk")
    async def disk():
        raise OSError(errno.ENOSPC, "No space left on device", SECRET)

    @app.get("/database")
    async def database():
        raise OperationalError(SECRET, {"prompt": SECRET}, RuntimeError("database is locked"))

    @app.get("/stopping")
    async def stopping():
        raise ServiceError("Stopping.", code="shutting_down", status=503, retry_after_seconds=5)

    @app.get("/halfway")
    async def halfway():
        async def body():
            yield b"some"
            raise ValueError(SECRET)

        return StreamingResponse(body())

    @app.post("/read")
    async def read(request: Request):
        return len(await request.body())

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_the_unforeseen_is_a_500_that_tells_nothing(http, caplog):
    answer = await http.get("/unforeseen")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in answer.text
    assert SECRET not in caplog.text
    (failure,) = [record for record in caplog.records if record.message == "request_failed"]
    assert failure.error == "ValueError"
    assert "in unforeseen" in failure.places
    assert SECRET not in JsonFormatter().format(failure)


@pytest.mark.parametrize("route", ["/disk", "/database"])
async def test_a_data_folder_that_fails_is_a_503(http, caplog, route):
    answer = await http.get(route)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert SECRET not in answer.text + caplog.text


async def test_a_stop_is_a_503_with_a_time_to_come_again(http):
    answer = await http.get("/stopping")
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
    assert answer.headers["retry-after"] == "5"


async def test_an_answer_that_breaks_off_tells_nothing_more(http, caplog):
    with pytest.raises(RuntimeError, match="broke off") as raised:
        await http.get("/halfway")
    assert raised.value.__suppress_context__
    assert SECRET not in caplog.text


@pytest.mark.parametrize("encoding", ["gzip", "GZip", "deflate", "br", "zstd", "gzip, identity"])
async def test_a_compressed_body_is_refused_unopened(http, encoding):
    answer = await http.post("/read", content=b"\x1f\x8b", headers={"content-encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "without Content-Encoding" in answer.json()["error"]
    plain = await http.post("/read", content=b"{}", headers={"content-encoding": "identity"})
    assert (plain.status_code, plain.json()) == (200, 2)


async def test_a_body_over_the_limit_is_refused(http):
    announced = await http.post("/read", content=bytes(1001))
    assert (announced.status_code, announced.json()["code"]) == (413, "too_large")

    async def go_on():
        for _ in range(11):
            yield bytes(100)

    assert (await http.post("/read", content=go_on())).status_code == 413
    assert (await http.post("/read", content=bytes(1000))).json() == 1000
