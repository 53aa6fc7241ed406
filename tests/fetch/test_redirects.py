"""Redirects: followed where they may go, from door to door."""

from __future__ import annotations

import pytest
from fetching import fail, open_fetcher, resolve_by

from listener import FILE, Serve, answer_with, redirect_to


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_followed(serve: Serve, status: str) -> None:
    end = await serve(answer_with())
    middle = await serve(redirect_to(f"//127.0.0.1:{end.port}/b.png?x=1#top", status))
    start = await serve(redirect_to(f"http://127.0.0.1:{middle.port}/a", status))
    async with open_fetcher("127.0.0.1") as fetcher:
        assert await fetcher.fetch(f"http://127.0.0.1:{start.port}/") == FILE
    assert end.requests[0].startswith(b"GET /b.png?x=1 HTTP/1.1\r\n")
    assert b"Referer" not in end.requests[0]


async def test_redirects_into_forbidden_places_are_refused(serve: Serve) -> None:
    forbidden = await serve(answer_with(), "127.0.0.2")
    names = {"public.example": ["127.0.0.1"], "inside.example": ["127.0.0.2"], "127.0.0.2": ["127.0.0.2"]}
    for location in (
        f"http://127.0.0.2:{forbidden.port}/?key=secret",
        f"http://inside.example:{forbidden.port}/?key=secret",
        f"//inside.example:{forbidden.port}/?key=secret",
        f"http://public.example@127.0.0.2:{forbidden.port}/?key=secret",
        f"http://user:secret@public.example:{forbidden.port}/",
        "file:///etc/passwd?secret",
        "gopher://127.0.0.2/secret",
        "http://[fe80::1%25lo]/secret",
        "http://[broken/secret",
    ):
        last = await serve(redirect_to(location))
        first = await serve(redirect_to(f"http://public.example:{last.port}/"))
        async with open_fetcher("public.example", resolve=resolve_by(names)) as fetcher:
            error = await fail(fetcher, f"http://public.example:{first.port}/")
        assert error.code == "picture_refused", location
        assert last.connections == 1
    assert forbidden.connections == 0


async def test_redirects_end(serve: Serve) -> None:
    listener = await serve(redirect_to("/again"))
    async with open_fetcher("127.0.0.1") as fetcher:
        error = await fail(fetcher, f"http://127.0.0.1:{listener.port}/")
    assert (error.code, listener.connections) == ("picture_unreachable", 6)
    assert "redirects" in error.message
