"""What hosts answer with: files, pages, nothing, too much, too slowly, or no HTTP at all."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from fetching import MAX_BYTES, fail, open_fetcher, resolve_by

from listener import FILE, Answer, Serve, answer_with


@pytest.mark.parametrize(
    "status", ["404 Not Found", "403 Forbidden", "500 Oops", "204 No Content", "304 Same"]
)
async def test_the_status_is_told(serve: Serve, status: str) -> None:
    listener = await serve(answer_with(b"", status))
    async with open_fetcher("127.0.0.1") as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/path?key=secret")
    assert error.code == "picture_unreachable"
    assert f"127.0.0.1 answers HTTP {status[:3]}" in error.message


async def test_pages_are_no_pictures(serve: Serve) -> None:
    listener = await serve(answer_with(b"<html>", Content_Type="Text/HTML; charset=utf-8"))
    async with open_fetcher("127.0.0.1") as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/")
    assert error.code == "invalid_picture"
    assert "text/html" in error.message


async def test_a_declared_length_over_the_limit_is_not_read(serve: Serve) -> None:
    async def answer(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BYTES + 1}\r\n\r\n".encode())
        await asyncio.sleep(3600)

    listener = await serve(answer)
    async with open_fetcher("127.0.0.1") as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/")
    assert error.code == "too_large"


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_endless_body_is_cut_off(serve: Serve, chunked: bool) -> None:
    sent = 0

    async def answer(writer: asyncio.StreamWriter, _: bytes) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"Transfer-Encoding: chunked\r\n" * chunked + b"\r\n")
        while not writer.is_closing():
            writer.write((b"1000\r\n" + bytes(4096) + b"\r\n") if chunked else bytes(4096))
            sent += 4096
            await writer.drain()
            await asyncio.sleep(0)

    listener = await serve(answer)
    async with open_fetcher("127.0.0.1") as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/")
    assert error.code == "too_large"
    # What the kernel buffers on the way is sent too.
    assert sent < 30_000_000


async def test_the_whole_limit_may_be_used(serve: Serve) -> None:
    listener = await serve(answer_with(bytes(MAX_BYTES)))
    async with open_fetcher("127.0.0.1") as fetcher:
        assert len(await fetcher.fetch(f"http://127.0.0.1:{listener.port}/")) == MAX_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_compressed_bodies_are_refused_unopened(serve: Serve, encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    listener = await serve(answer_with(bomb, Content_Encoding=encoding))
    async with open_fetcher("127.0.0.1") as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/")
    assert error.code == "invalid_picture"


async def trickle_body(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def trickle_head(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def say_continue_for_ever(writer: asyncio.StreamWriter, _: bytes) -> None:
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.02)


async def stay_silent(writer: asyncio.StreamWriter, _: bytes) -> None:
    await asyncio.sleep(3600)


async def redirect_slowly(writer: asyncio.StreamWriter, _: bytes) -> None:
    await asyncio.sleep(0.15)
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "answer", [trickle_body, trickle_head, say_continue_for_ever, stay_silent, redirect_slowly]
)
async def test_slow_servers_meet_the_deadline(serve: Serve, answer: Answer) -> None:
    listener = await serve(answer)
    async with open_fetcher("127.0.0.1", timeout_seconds=0.4) as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/?key=secret")
    assert error.code == "picture_unreachable"
    assert "within 0.4 seconds" in error.message


async def test_a_slow_resolver_meets_the_deadline() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    async with open_fetcher(timeout_seconds=0.1, resolve=resolve) as fetcher:
        assert "within 0.1 seconds" in (await fail(fetcher, "http://slow.example/")).message


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"-ERR unknown command\r\n" * 3,
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\ncut short",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told(serve: Serve, reply: bytes) -> None:
    async def answer(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(reply)

    listener = await serve(answer)
    async with open_fetcher("127.0.0.1") as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/?key=secret")
    assert error.code == "picture_unreachable"


async def test_a_closed_port_and_an_unknown_host_are_told(serve: Serve) -> None:
    async with open_fetcher("127.0.0.1", resolve=resolve_by({"127.0.0.1": ["127.0.0.1"]})) as fetcher:
        assert (await fail(fetcher, "http://127.0.0.1:1/?secret")).code == "picture_unreachable"
        assert "no host nowhere.example" in (await fail(fetcher, "http://nowhere.example/?secret")).message


async def test_names_reach_the_resolver_in_ascii() -> None:
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return []

    async with open_fetcher(resolve=resolve) as fetcher:
        await fail(fetcher, "http://bücher.example/")
        await fail(fetcher, "http://pictures。example/")
    assert asked == ["xn--bcher-kva.example", "pictures.example"]


async def test_many_at_once(serve: Serve) -> None:
    listener = await serve(answer_with())
    async with open_fetcher("127.0.0.1") as fetcher:
        urls = [f"http://127.0.0.1:{listener.port}/{number}" for number in range(50)]
        assert await asyncio.gather(*map(fetcher.fetch, urls)) == [FILE] * 50
