"""What nobody foresaw: a 500 that tells nothing, in the answer and in the log."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from PIL import Image
from sqlalchemy.exc import OperationalError

from running_service import RunningService
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


def test_a_damaged_database_is_told_and_the_service_is_not_ready(tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    service = RunningService(tmp_path / "data", picture, {"engine": "null"}).start()
    try:
        key = service.key
    finally:
        service.stop()
    path = tmp_path / "data" / "understudy.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        # A part that the start does not touch: the index by which a history is found.
        where = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_jobs_account'"
        (page,) = connection.execute(where).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(b"\xff" * page_size)
    service = RunningService(tmp_path / "data", picture, {"engine": "null"}).start()
    try:
        with httpx2.Client(base_url=service.url, headers={"x-api-key": key}, timeout=30) as http:
            answer = http.get("/v1/requests")
            assert answer.status_code == 503, answer.text
            assert answer.json()["code"] == "storage_unavailable"
            assert "damaged" in answer.json()["error"]
            ready = http.get("/health/ready")
        assert ready.status_code == 503
        assert "damaged" in ready.json()["checks"]["database"]
    finally:
        service.stop()
    assert any("data_folder_failed" in line and "malformed" in line for line in service.output)
