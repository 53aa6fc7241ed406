"""Fetchers under test: who resolves for them, and what their errors always have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from understudy.fetch import FetchFailed, PictureFetcher

MAX_BYTES = 100_000


def resolve_by(names: dict[str, Sequence[str]]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver of these names and no others."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host not in names:
            raise OSError("no such host")
        return names[host]

    return resolve


@contextlib.asynccontextmanager
async def open_fetcher(*allowed: str, **options: object) -> AsyncIterator[PictureFetcher]:
    """A fetcher that may go to the `allowed` hosts though they are private."""
    settings = {"max_bytes": MAX_BYTES, "timeout_seconds": 20.0, "allowed_hosts": set(allowed)}
    fetcher = PictureFetcher(**{**settings, **options})
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def fail(fetcher: PictureFetcher, url: str) -> FetchFailed:
    """The error that a fetch ends with, its shape checked and that it tells nothing of the URL's secrets."""
    with pytest.raises(FetchFailed) as caught:
        await fetcher.fetch(url, "ip_image")
    error = caught.value
    assert error.field == "ip_image"
    assert error.message.startswith("The picture in ip_image ")
    assert error.to_body()["code"] == error.code
    assert "secret" not in error.message
    return error
