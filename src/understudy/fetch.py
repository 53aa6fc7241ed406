"""Guarded download of a URL that a client gave.

A client may name any URL, so the service must not be led into networks that only it can
reach. Each hop's host is resolved once, every address it has is checked, and the connection
goes to a checked address and to no other: a name that answers differently the next time
changes nothing. It knows nothing of pictures; what it brings is decoded in `decoder.py`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import httpcore2
import httpx2

from .errors import InferenceFailed
from .pictures import name_picture

if TYPE_CHECKING:
    from .settings import Settings

MAX_REDIRECTS = 5
MAX_ADDRESSES = 4
"""How many of a host's addresses are tried, one after another."""

CONNECT_TIMEOUT_SECONDS = 5.0

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host and port; raises OSError when there are none."""

# Not globally reachable by IANA's IPv4 special-purpose address registry, and multicast,
# and 168.63.129.16: a public address that inside Azure is the host's own service.
_FORBIDDEN_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)

# IPv6 is the other way round: only global unicast, less IANA's protocol assignments (Teredo
# among them), documentation and 6to4, which can carry any IPv4 address.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_FORBIDDEN_IPV6 = tuple(
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# RFC 6052: how a network with IPv6 alone reaches IPv4.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_PAGES = ("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml")
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchFailed(InferenceFailed):
    """A picture's URL brought no file.

    Codes: `picture_refused` (the URL may not be fetched), `picture_unreachable`,
    `invalid_picture` (there is something else), `too_large`. Neither the message nor
    anything else in it holds the URL's path, query or user.
    """

    default_code = "picture_unreachable"


class PictureFetcher:
    """Downloads files of at most `max_bytes` by http and https, from the public internet.

    `allowed_hosts` (lower-case `host` or `host:port`) names hosts that may be fetched though
    their addresses are private. `resolve` finds addresses in place of the system's resolver.
    """

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
        self._allowed_hosts = frozenset(allowed_hosts)
        self._resolve = resolve or self._ask_system
        # SSL_CERT_FILE and SSL_CERT_DIR name the operator's own authorities; no proxy is read from
        # the environment anywhere here.
        self._ssl_context = ssl_context or httpx2.create_ssl_context()
        # Threads of its own: a host whose name servers stall must not hold up the event
        # loop's other thread work.
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")

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
        except _Failure as failure:
            raise FetchFailed(
                f"{name_picture(field)} {failure.reason}.", code=failure.code, field=field
            ) from None

    async def close(self) -> None:
        """Give up the threads; no fetch may follow."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, text: str) -> bytes:
        url = _parse_url(text)
        for _ in range(1 + MAX_REDIRECTS):
            found = await self._get(url)
            if isinstance(found, bytes):
                return found
            url = found
        raise _Failure(f"is behind more than {MAX_REDIRECTS} redirects; give the URL that they end at")

    async def _get(self, url: httpx2.URL) -> bytes | httpx2.URL:
        """One hop: the file, or where the answer points on to."""
        # The name in ASCII throughout: the resolver must not read a unicode one its own way.
        host = url.raw_host.decode("ascii")
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        addresses = await self._find_addresses(host, port)
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context, network_backend=PinnedNetwork(addresses)
        )
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=url.raw_path)
        headers = {
            "Host": url.netloc,
            "Accept": "image/avif,image/webp,image/png,image/jpeg,image/gif",
            # Nothing is ever decompressed here, so that nothing can grow.
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": "understudy",
        }
        timeouts = {"timeout": {"connect": CONNECT_TIMEOUT_SECONDS}}
        try:
            async with pool, pool.stream("GET", target, headers=headers, extensions=timeouts) as response:
                answer = {name.lower(): value.decode("utf-8", "replace") for name, value in response.headers}
                if response.status in _REDIRECTS and b"location" in answer:
                    return _parse_url(answer[b"location"], base=url)
                self._check_answer(host, response.status, answer)
                return await self._read_body(response)
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
            raise _Failure(
                f"cannot be fetched: {host} does not answer as a web server does; "
                "check the URL or send the file itself"
            ) from None

    async def _find_addresses(self, host: str, port: int) -> list[str]:
        """A host's addresses, all of them checked."""
        try:
            addresses = list(await self._resolve(host, port))
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise _Failure(f"cannot be fetched: there is no host {host}; check the URL")
        if not self._is_allowed(host, port) and not all(map(is_public_address, addresses)):
            raise _Failure(
                f"may not be fetched: {host} is not a host of the public internet; "
                "send the file itself, or have the operator name the host in UNDERSTUDY_FETCH_ALLOWED_HOSTS",
                code="picture_refused",
            )
        return addresses[:MAX_ADDRESSES]

    def _is_allowed(self, host: str, port: int) -> bool:
        name = f"[{host}]" if ":" in host else host.removesuffix(".")
        return not self._allowed_hosts.isdisjoint({host, name, f"{name}:{port}"})

    async def _ask_system(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(sockaddr[0]) for *_, sockaddr in found]

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


def is_public_address(address: str) -> bool:
    """Whether an IP address is one of the public internet.

    False for private, loopback, link-local, carrier-grade NAT, multicast, reserved and unspecified
    addresses and for cloud metadata services. An IPv4 address inside IPv6 (mapped, or NAT64) is
    judged by itself; 6to4 and Teredo are never public.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None or parsed in _NAT64:
            parsed = ipaddress.IPv4Address(parsed.packed[-4:])
        else:
            return parsed in _GLOBAL_IPV6 and not any(parsed in network for network in _FORBIDDEN_IPV6)
    return not any(parsed in network for network in _FORBIDDEN_IPV4)


class PinnedNetwork(httpcore2.AsyncNetworkBackend):
    """A network on which every host has the given addresses, and nothing is looked up."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers; `host` is what TLS will verify, no more."""
        failure: Exception = httpcore2.ConnectError("the host has no address")
        for address in self._addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class _Failure(Exception):
    """Why a fetch fails, before the parameter's name is put to it."""

    def __init__(self, reason: str, code: str = FetchFailed.default_code) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


def _parse_url(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """A URL that may be asked for, its host in ASCII (IDNA, which also turns unicode dots into dots)."""
    try:
        url = base.join(text) if base is not None else httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeError, ValueError):
        raise _Failure("is named by a malformed URL; check it", code="picture_refused") from None
    if url.scheme not in ("http", "https"):
        raise _Failure("may not be fetched: its URL is neither http nor https", code="picture_refused")
    if url.userinfo:
        raise _Failure(
            "may not be fetched: its URL holds a user name or a password; remove it",
            code="picture_refused",
        )
    if not _is_host(url.raw_host.decode("ascii")) or not _is_port(url.port):
        raise _Failure("is named by a URL without a proper host; check it", code="picture_refused")
    return url


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 65536


def _is_host(text: str) -> bool:
    if ":" not in text:
        return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None
    # The scope of an IPv6 address (after %) names an interface of this machine.
    return "%" not in text
