"""Which hosts are fetched from: public ones, and those that the operator names."""

from __future__ import annotations

import httpcore2
import pytest
from fetching import fail, open_fetcher, resolve_by

from listener import FILE, Serve, answer_with
from understudy.guard import PinnedNetwork, is_public_address


async def test_an_allowed_host_is_fetched(serve: Serve) -> None:
    listener = await serve(answer_with())
    for allowed in ("127.0.0.1", f"127.0.0.1:{listener.port}"):
        async with open_fetcher(allowed) as fetcher:
            assert (
                await fetcher.fetch(f"http://127.0.0.1:{listener.port}/a%20b.png?key=1", "ip_image") == FILE
            )
    head, *lines = listener.requests[-1].decode().splitlines()
    assert head == "GET /a%20b.png?key=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{listener.port}" in lines
    assert "Accept-Encoding: identity" in lines


async def test_an_allowed_name_is_fetched(serve: Serve) -> None:
    listener = await serve(answer_with())
    async with open_fetcher("localhost") as fetcher:
        assert await fetcher.fetch(f"http://LOCALHOST:{listener.port}/") == FILE
    names = {"pictures.example": ["127.0.0.1"], "pictures.example.": ["127.0.0.1"]}
    async with open_fetcher("pictures.example", resolve=resolve_by(names)) as fetcher:
        assert await fetcher.fetch(f" http://Pictures.example.:{listener.port}/ ") == FILE


async def test_ipv6_can_be_allowed(serve: Serve) -> None:
    try:
        listener = await serve(answer_with(), "::1")
    except OSError:
        listener = await serve(answer_with())
        resolve = resolve_by({"::1": ["127.0.0.1"]})
    else:
        resolve = None
    for allowed in ("::1", "[::1]", f"[::1]:{listener.port}"):
        async with open_fetcher(allowed, resolve=resolve) as fetcher:
            assert await fetcher.fetch(f"http://[::1]:{listener.port}/") == FILE
    assert f"Host: [::1]:{listener.port}".encode() in listener.requests[-1]


async def test_an_allowed_port_allows_no_other(serve: Serve) -> None:
    allowed, other = await serve(answer_with()), await serve(answer_with())
    async with open_fetcher(f"127.0.0.1:{allowed.port}") as fetcher:
        assert await fetcher.fetch(f"http://127.0.0.1:{allowed.port}/") == FILE
        assert (await fail(fetcher, f"http://127.0.0.1:{other.port}/")).code == "picture_refused"
        assert (await fail(fetcher, f"http://localhost:{allowed.port}/")).code == "picture_refused"
        assert (await fail(fetcher, f"http://2130706433:{allowed.port}/")).code == "picture_refused"
    assert (allowed.connections, other.connections) == (1, 0)


async def test_a_host_with_one_forbidden_address_is_refused(serve: Serve) -> None:
    listener = await serve(answer_with())
    for addresses in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["::ffff:7f00:1"]):
        async with open_fetcher(resolve=resolve_by({"mixed.example": addresses})) as fetcher:
            error = await fail(fetcher, f"http://mixed.example:{listener.port}/")
        assert error.code == "picture_refused"
    assert listener.connections == 0


async def test_a_name_is_resolved_once_and_its_checked_address_is_connected_to(serve: Serve) -> None:
    checked = await serve(answer_with())
    rebound = await serve(answer_with(b"stolen"), "127.0.0.2", port=checked.port)
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async with open_fetcher("rebinding.example", resolve=resolve) as fetcher:
        assert await fetcher.fetch(f"http://rebinding.example:{checked.port}/") == FILE
    assert asked == ["rebinding.example"]
    assert rebound.connections == 0


async def test_public_addresses_are_passed_on_to_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    # The one place where a public address would be dialled: only the dialling is replaced.
    dialled = []

    async def connect_tcp(self: object, host: str, port: int, *rest: object) -> None:
        dialled.append((host, port))
        raise httpcore2.ConnectError("not from a test")

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect_tcp)
    answers = iter([["93.184.215.14", "2606:2800:21f::1"], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    async with open_fetcher(resolve=resolve) as fetcher:
        assert (await fail(fetcher, "https://rebinding.example/")).code == "picture_unreachable"
        assert dialled == [("93.184.215.14", 443), ("2606:2800:21f::1", 443)]
        assert (await fail(fetcher, "https://rebinding.example/")).code == "picture_refused"
        assert len(dialled) == 2


async def test_the_next_address_is_tried(serve: Serve) -> None:
    listener = await serve(answer_with())
    names = {"two.example": ["127.0.0.2", "127.0.0.1"]}
    async with open_fetcher("two.example", resolve=resolve_by(names)) as fetcher:
        assert await fetcher.fetch(f"http://two.example:{listener.port}/") == FILE


async def test_the_pinned_network_looks_nothing_up() -> None:
    with pytest.raises(httpcore2.ConnectError):
        await PinnedNetwork([]).connect_tcp("localhost", 80)


async def test_proxies_of_the_environment_are_ignored(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, listener = await serve(answer_with(b"proxied")), await serve(answer_with())
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with open_fetcher("127.0.0.1") as fetcher:
        assert await fetcher.fetch(f"http://127.0.0.1:{listener.port}/") == FILE
    assert proxy.connections == 0


PUBLIC_ADDRESSES = """
8.8.8.8 1.1.1.1 172.32.0.1 100.128.0.1 192.0.1.1 223.255.255.255
2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""

OTHER_ADDRESSES = """
0.0.0.0 0.1.2.3 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 168.63.129.16 169.254.169.254
172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.19.0.1 198.51.100.1 203.0.113.1
224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1
2001:db8::1 2002:808:808::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%1 fec0::1 ff02::1
"""


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES.split())
def test_public_addresses(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize("address", OTHER_ADDRESSES.split())
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)
