"""Hostile URLs and hostile hosts through a running service: jobs whose picture must be fetched.

The service may fetch from 127.0.0.1 and from nowhere else inside. Each trick is another way to
the same machine; the trap that listens there must stay untouched.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from listener import Answer, Serve, answer_with, open_listeners, redirect_to
from running_service import RunningService
from service_client import SLUG

from .conftest import FETCH_SECONDS


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with open_listeners() as start:
        yield start


@pytest.fixture
async def http(hostile: RunningService) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=hostile.url, headers={"x-api-key": hostile.key}, timeout=60, trust_env=False
    ) as client:
        yield client


@pytest.fixture
def picture(picture_path: Path) -> bytes:
    return picture_path.read_bytes()


async def generate(http: httpx2.AsyncClient, url: str) -> httpx2.Response:
    """A whole job, from submit to its end, whose reference is at a URL."""
    body = {"prompt": "x", "ip_image": url, "width": 256, "height": 256, "seed": 7}
    return await http.post(f"/v1/{SLUG}", json=body)


def check_failed(answer: httpx2.Response, *codes: str) -> None:
    """That the job ended FAILED for its picture, and nothing leaks."""
    assert answer.status_code == 422, answer.text
    told = answer.json()
    assert told["status"] == "FAILED"
    assert told["code"] in codes, told
    assert told["error"].startswith("The picture in ip_image ")
    assert "secret" not in answer.text
    assert told["metrics"]["retry_count"] <= 1


TRICKS = [
    "http://localhost:PORT/?secret",
    "http://LOCALHOST.:PORT/?secret",
    "http://127.1:PORT/?secret",
    "http://127.0.0.2:PORT/?secret",
    "http://0:PORT/?secret",
    "http://0.0.0.0:PORT/?secret",
    "http://2130706433:PORT/?secret",
    "http://0x7f000001:PORT/?secret",
    "http://0x7f.1:PORT/?secret",
    "http://017700000001:PORT/?secret",
    "http://0177.0.0.1:PORT/?secret",
    "http://１２７.0.0.1:PORT/?secret",
    "http://user:secret@127.0.0.1:PORT/",
    "http://door.example\\@127.0.0.1:PORT/secret",
    "http://127.0.0.1%00.example:PORT/secret",
    "http://[::1]:PORT/?secret",
    "http://[::ffff:127.0.0.1]:PORT/?secret",
    "http://[::ffff:7f00:1]:PORT/?secret",
    "http://[64:ff9b::7f00:1]:PORT/?secret",
    "http://[fe80::1%25lo]:PORT/?secret",
    "http://169.254.169.254/latest/meta-data/?secret",
    "http://10.0.0.1:PORT/?secret",
    "http://127.0.0.1:0/?secret",
    "http://[::1:PORT/?secret",
]


async def test_no_way_to_this_machine_but_the_allowed_one(
    http: httpx2.AsyncClient, serve: Serve, picture: bytes
) -> None:
    trap = await serve(answer_with(picture))
    urls = [trick.replace("PORT", str(trap.port)) for trick in TRICKS]
    for answer in await asyncio.gather(*(generate(http, url) for url in urls)):
        check_failed(answer, "picture_refused", "picture_unreachable")
    assert trap.connections == 0
    reached = await generate(http, f"http://127.0.0.1:{trap.port}/")
    assert (reached.status_code, reached.headers["content-type"]) == (200, "image/png")
    assert trap.connections == 1


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/_x",
        "ftp://127.0.0.1:PORT/a.png",
        "jar:http://127.0.0.1:PORT/",
    ],
)
async def test_other_schemes_are_refused_at_submit(http: httpx2.AsyncClient, serve: Serve, url: str) -> None:
    trap = await serve(answer_with())
    answer = await generate(http, url.replace("PORT", str(trap.port)))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_picture")
    assert trap.connections == 0


async def test_redirects_lead_to_no_other_way(http: httpx2.AsyncClient, serve: Serve, picture: bytes) -> None:
    trap = await serve(answer_with(picture))
    door = await serve(answer_with())
    for location in (
        f"http://localhost:{trap.port}/?secret",
        f"//127.1:{trap.port}/?secret",
        f"http://[::ffff:127.0.0.1]:{trap.port}/?secret",
        f"http://user:secret@127.0.0.1:{trap.port}/",
        "http://169.254.169.254/?secret",
        "file:///etc/passwd?secret",
        f"gopher://127.0.0.1:{trap.port}/_secret",
    ):
        door.answer = redirect_to(location)
        check_failed(await generate(http, f"http://127.0.0.1:{door.port}/"), "picture_refused")
    assert (door.connections, trap.connections) == (7, 0)
    door.answer = redirect_to("/again")
    check_failed(await generate(http, f"http://127.0.0.1:{door.port}/"), "picture_unreachable")
    door.answer = redirect_to(f"//127.0.0.1:{trap.port}/")
    assert (await generate(http, f"http://127.0.0.1:{door.port}/")).status_code == 200
    assert trap.connections == 1


async def test_a_character_is_fetched_as_guardedly(
    http: httpx2.AsyncClient, serve: Serve, picture: bytes
) -> None:
    trap = await serve(answer_with(picture))
    refused = await http.post(
        "/v1/characters", json={"name": "trick", "ip_image": f"http://localhost:{trap.port}/"}
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "picture_refused")
    assert refused.json()["field"] == "ip_image"
    assert trap.connections == 0
    saved = await http.post(
        "/v1/characters", json={"name": "allowed", "ip_image": f"http://127.0.0.1:{trap.port}/"}
    )
    assert (saved.status_code, trap.connections) == (201, 1)


def send_for_ever(head: bytes, piece: bytes, pause_seconds: float = 0) -> Answer:
    """An answer that never ends."""

    async def answer(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return answer


UNREACHABLE, UNREADABLE, LARGE = "picture_unreachable", "invalid_picture", "too_large"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

BOMB = gzip.compress(bytes(50_000_000))

HOSTILE_HOSTS: dict[str, tuple[Answer, str]] = {
    "head_byte_by_byte": (send_for_ever(OK + b"X: ", b"x", 0.05), UNREACHABLE),
    "head_line_by_line": (send_for_ever(OK, b"X: y\r\n", 0.05), UNREACHABLE),
    "body_byte_by_byte": (
        send_for_ever(OK + b"Content-Length: 9999\r\n\r\n", b"x", 0.05),
        UNREACHABLE,
    ),
    "chunk_by_chunk": (send_for_ever(CHUNKED, b"1\r\nx\r\n", 0.05), UNREACHABLE),
    "interim_answers": (send_for_ever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.05), UNREACHABLE),
    "silence": (send_for_ever(b"", b"", 0.1), UNREACHABLE),
    "endless_head": (send_for_ever(OK, b"X: " + b"y" * 65_000 + b"\r\n"), UNREACHABLE),
    "endless_header": (send_for_ever(OK + b"X: ", b"y" * 65_000), UNREACHABLE),
    "endless_status": (send_for_ever(b"HTTP/1.1 200 ", b"O" * 65_000), UNREACHABLE),
    "endless_body": (send_for_ever(OK + b"\r\n", bytes(65_000)), LARGE),
    "endless_chunks": (send_for_ever(CHUNKED, b"10000\r\n" + bytes(65_536) + b"\r\n"), LARGE),
    "endless_chunk_extension": (send_for_ever(CHUNKED + b"1;", b"x" * 65_000), UNREACHABLE),
    "endless_trailers": (send_for_ever(CHUNKED + b"0\r\n", b"X: y\r\n" * 9000), UNREACHABLE),
    "a_length_that_is_too_large": (answer_with(b"", Content_Length="99999999999"), LARGE),
    "a_length_of_5000_digits": (answer_with(b"", Content_Length="9" * 5000), UNREACHABLE),
    "a_length_below_zero": (answer_with(b"", Content_Length="-1"), UNREACHABLE),
    "a_length_that_lies": (answer_with(b"short", Content_Length="5000"), UNREACHABLE),
    "a_gzip_bomb": (
        answer_with(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"),
        UNREADABLE,
    ),
    "a_brotli_bomb": (answer_with(b"x" * 1000, Content_Encoding="br"), UNREADABLE),
    "a_zstd_bomb": (answer_with(b"x" * 1000, Content_Encoding="zstd"), UNREADABLE),
    "a_gzip_file": (answer_with(BOMB), UNREADABLE),
    "a_page": (answer_with(b"<html>", Content_Type="text/html"), UNREADABLE),
    "an_empty_file": (answer_with(b""), UNREADABLE),
    "another_protocol": (send_for_ever(b"SSH-2.0-OpenSSH_9.9\r\n", b"", 0.1), UNREACHABLE),
}


async def test_hostile_hosts_end_in_time(http: httpx2.AsyncClient, serve: Serve) -> None:
    hosts = [await serve(answer) for answer, _ in HOSTILE_HOSTS.values()]
    begun = asyncio.get_running_loop().time()
    answers = await asyncio.gather(
        *(generate(http, f"http://127.0.0.1:{host.port}/?secret") for host in hosts)
    )
    for name, answer in zip(HOSTILE_HOSTS, answers, strict=True):
        check_failed(answer, HOSTILE_HOSTS[name][1])
    assert asyncio.get_running_loop().time() - begun < 20 * FETCH_SECONDS
    assert [host.connections for host in hosts] == [1] * len(hosts)


async def test_tls_to_a_host_that_has_none_ends(http: httpx2.AsyncClient, serve: Serve) -> None:
    trap = await serve(answer_with())
    check_failed(await generate(http, f"https://127.0.0.1:{trap.port}/"), "picture_unreachable")
    assert trap.requests == []


async def test_a_file_counts_by_its_bytes(http: httpx2.AsyncClient, serve: Serve, picture: bytes) -> None:
    for content_type in ("image/jpeg", "application/octet-stream", "text/plain", ""):
        host = await serve(answer_with(picture, Content_Type=content_type))
        assert (await generate(http, f"http://127.0.0.1:{host.port}/a.exe")).status_code == 200
    host = await serve(answer_with(json.dumps({}).encode(), Content_Type="image/png"))
    check_failed(await generate(http, f"http://127.0.0.1:{host.port}/a.png"), "invalid_picture")
