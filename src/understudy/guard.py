"""Where a client may send the service: the public internet, and hosts that the operator names.

A client may name any URL, of a picture or to be called back at, so the service must not be led into
networks that only it can reach. Each request's host is resolved once, every address it has is
checked, and the connection goes to a checked address and to no other: a name that answers
differently the next time changes nothing. A redirect is a request like the first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpcore2
import httpx2

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


class GuardError(Exception):
    """A URL is not asked, or does not answer; the reason holds neither its path, query nor user."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadUrl(GuardError):
    """It is no URL that may be asked."""


class PrivateHost(GuardError):
    """Its host is not of the public internet, and not named by the operator."""


class NoAnswer(GuardError):
    """There is no such host, or it does not answer as a web server does."""


class Guard:
    """Sends requests by http and https to the public internet.

    `allowed_hosts` (lower-case `host` or `host:port`) names hosts that may be asked though their
    addresses are private. `resolve` finds addresses in place of the system's resolver.
    """

    def __init__(
        self,
        *,
        allowed_hosts: Collection[str] = (),
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        lookups: int = 8,
    ) -> None:
        """`lookups` names are looked up at the same time; one that is given up counts on for a while."""
        self._allowed_hosts = frozenset(allowed_hosts)
        self._resolve = resolve or self._ask_system
        # SSL_CERT_FILE and SSL_CERT_DIR name the operator's own authorities; no proxy is read from
        # the environment anywhere here.
        self._ssl_context = ssl_context or httpx2.create_ssl_context()
        # Threads of its own: a host whose name servers stall must not hold up the event
        # loop's other thread work.
        self._threads = ThreadPoolExecutor(lookups, thread_name_prefix="resolve")

    @asynccontextmanager
    async def send(
        self, method: str, url: httpx2.URL, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpcore2.Response]:
        """The answer to one request, its body not yet read; redirects are the caller's to follow.

        Raises:
            PrivateHost, NoAnswer: it may not be sent, or brings none.
        """
        # The name in ASCII throughout: the resolver must not read a unicode one its own way.
        host = url.raw_host.decode("ascii")
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        addresses = await self._find_addresses(host, port)
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context, network_backend=PinnedNetwork(addresses)
        )
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=url.raw_path)
        sent = {"Host": url.netloc, **headers, "Connection": "close", "User-Agent": "understudy"}
        timeouts = {"timeout": {"connect": CONNECT_TIMEOUT_SECONDS}}
        try:
            async with (
                pool,
                pool.stream(method, target, headers=sent, content=content, extensions=timeouts) as answer,
            ):
                yield answer
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
            raise NoAnswer(f"{host} does not answer as a web server does") from None

    async def close(self) -> None:
        """Give up the threads; no request may follow."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _find_addresses(self, host: str, port: int) -> list[str]:
        """A host's addresses, all of them checked."""
        try:
            addresses = list(await self._resolve(host, port))
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise NoAnswer(f"there is no host {host}")
        if not self._is_allowed(host, port) and not all(map(is_public_address, addresses)):
            raise PrivateHost(f"{host} is not a host of the public internet")
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


def parse_url(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """A URL that may be asked, its host in ASCII (IDNA, which also turns unicode dots into dots).

    Raises:
        BadUrl: it is none; the reason says why.
    """
    try:
        url = base.join(text) if base is not None else httpx2.URL(text)
        host = url.raw_host.decode("ascii")
    except (httpx2.InvalidURL, UnicodeError, ValueError):
        raise BadUrl("its URL is malformed") from None
    if url.scheme not in ("http", "https"):
        raise BadUrl("its URL is neither http nor https")
    if url.userinfo:
        raise BadUrl("its URL holds a user name or a password")
    if not _is_host(host) or not _is_port(url.port):
        raise BadUrl("its URL has no proper host")
    return url


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


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 65536


def _is_host(text: str) -> bool:
    if ":" not in text:
        return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None
    # The scope of an IPv6 address (after %) names an interface of this machine.
    return "%" not in text
