"""Guarded download of a URL that a client gave.

Where it may go is the guard's to say (`guard.py`). It knows nothing of pictures; what it brings is
decoded in `decoder.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import httpcore2
import httpx2

from .errors import InferenceFailed
from .guard import BadUrl, Guard, GuardError, PrivateHost, Resolve, parse_url
from .pictures import name_picture

if TYPE_CHECKING:
    from .settings import Settings

MAX_REDIRECTS = 5

FETCHES = 64
"""Requests whose pictures are fetched at the same time."""

FETCHES_PER_ACCOUNT = 4
"""The same of one account: until one of them is there, its others wait, and only its own."""

LOOKUPS = 4 * FETCHES
"""Names that are looked up at the same time: a request may have two, and one that is given up stalls on."""

_PAGES = ("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml")
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchFailed(InferenceFailed):
    """A picture's URL brought no file.

    Codes: `picture_refused` (the URL may not be fetched), `picture_unreachable`,
    `invalid_picture` (there is something else), `too_large`. Neither the message nor
    anything else in it holds the URL's path, query or user.
    """

    default_code = "picture_unreachable"


class FetchPlaces:
    """Counts who fetches: so many at the same time, and of each account, whatever fetches for it."""

    def __init__(self, on_free: Callable[[], None]) -> None:
        """`on_free` is called when a place becomes free."""
        self._on_free = on_free
        self._taken: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @property
    def are_taken(self) -> bool:
        """Whether there is none left for anybody."""
        return self._taken.total() >= FETCHES

    def list_full(self) -> list[str]:
        """The accounts that have all of theirs."""
        return [account_id for account_id, count in self._taken.items() if count >= FETCHES_PER_ACCOUNT]

    def take(self, account_id: str) -> None:
        """Take a place, which may be one more than there are."""
        self._taken[account_id] += 1

    def free(self, account_id: str) -> None:
        """Give a place back."""
        self._taken[account_id] -= 1
        self._taken += Counter()
        self._freed.set()
        self._on_free()

    @asynccontextmanager
    async def wait_for_one(self, account_id: str) -> AsyncIterator[None]:
        """A place for the time of the block, as soon as there is one."""
        while self.are_taken or self._taken[account_id] >= FETCHES_PER_ACCOUNT:
            self._freed.clear()
            await self._freed.wait()
        self.take(account_id)
        try:
            yield
        finally:
            self.free(account_id)


class PictureFetcher:
    """Downloads files of at most `max_bytes` through a guard, whose arguments are the others."""

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout_seconds: float,
        allowed_hosts: Collection[str] = (),
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._guard = Guard(
            allowed_hosts=allowed_hosts, resolve=resolve, ssl_context=ssl_context, lookups=LOOKUPS
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The fetcher that the settings describe."""
        return cls(
            max_bytes=settings.max_picture_bytes,
            timeout_seconds=settings.fetch_timeout_seconds,
            allowed_hosts=settings.allowed_hosts,
        )

    async def fetch(self, url: str, field: str | None = None) -> bytes:
        """Download the file at `url`, through at most five redirects.

        Raises:
            FetchFailed: it cannot or may not be had; `code` and `message` say why.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._follow(url.strip())
        except TimeoutError:
            raise FetchFailed(
                f"{name_picture(field)} did not arrive within {self._timeout_seconds:g} seconds; "
                "give a URL of a faster server or send the file itself.",
                field=field,
            ) from None
        except GuardError as error:
            raise _explain(error, field) from None
        except _Failure as failure:
            raise FetchFailed(
                f"{name_picture(field)} {failure.reason}.", code=failure.code, field=field
            ) from None

    async def close(self) -> None:
        """No fetch may follow."""
        await self._guard.close()

    async def _follow(self, text: str) -> bytes:
        url = parse_url(text)
        for _ in range(1 + MAX_REDIRECTS):
            found = await self._get(url)
            if isinstance(found, bytes):
                return found
            url = found
        raise _Failure(f"is behind more than {MAX_REDIRECTS} redirects; give the URL that they end at")

    async def _get(self, url: httpx2.URL) -> bytes | httpx2.URL:
        """One hop: the file, or where the answer points on to."""
        headers = {
            "Accept": "image/avif,image/webp,image/png,image/jpeg,image/gif",
            # Nothing is ever decompressed here, so that nothing can grow.
            "Accept-Encoding": "identity",
        }
        async with self._guard.send("GET", url, headers) as response:
            answer = {name.lower(): value.decode("utf-8", "replace") for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in answer:
                return parse_url(answer[b"location"], base=url)
            self._check_answer(url.raw_host.decode("ascii"), response.status, answer)
            return await self._read_body(response)

    def _check_answer(self, host: str, status: int, headers: dict[bytes, str]) -> None:
        if status != 200:
            raise _Failure(
                f"cannot be fetched: {host} answers HTTP {status}; "
                "give a URL that opens without signing in, or send the file itself"
            )
        content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if content_type in _PAGES:
            raise _Failure(
                f"is not at its URL: {host} answers with {content_type}; give the URL of the picture file",
                code="invalid_picture",
            )
        if headers.get(b"content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise _Failure(
                f"comes compressed from {host} though that was not asked for; send the file itself",
                code="invalid_picture",
            )
        if int(headers.get(b"content-length", 0)) > self._max_bytes:
            raise self._too_large()

    async def _read_body(self, response: httpcore2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> _Failure:
        return _Failure(f"is larger than {self._max_bytes / 1e6:g} MB; send a smaller file", code="too_large")


class _Failure(Exception):
    """Why a fetch fails, before the parameter's name is put to it."""

    def __init__(self, reason: str, code: str = FetchFailed.default_code) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


def _explain(error: GuardError, field: str | None) -> FetchFailed:
    """What the guard says of a URL, as the failure of a fetch."""
    match error:
        case BadUrl():
            words, code = f"may not be fetched: {error.reason}; check it", "picture_refused"
        case PrivateHost():
            words = (
                f"may not be fetched: {error.reason}; send the file itself, or have the operator name the "
                "host in UNDERSTUDY_FETCH_ALLOWED_HOSTS"
            )
            code = "picture_refused"
        case _:
            words, code = f"cannot be fetched: {error.reason}; check the URL or send the file itself", None
    return FetchFailed(f"{name_picture(field)} {words}.", code=code, field=field)
