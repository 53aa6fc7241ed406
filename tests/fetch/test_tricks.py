"""Tricks that would lead a fetch inside, in a world where every address leads somewhere.

What a public address is, is the door; every other address leads to the trap, which must stay
untouched: so that a trick which the guard misses is seen whatever address it dials. Each trick
is tried again with its host allowed, and then the trap is reached.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field

import httpcore2
import httpx2
import pytest
from fetching import fail, open_fetcher

from listener import FILE, Listener, Serve, answer_with, redirect_to
from understudy.guard import Guard

DOOR, INSIDE = "93.184.215.14", "10.1.2.3"
NAMES = {
    "door.example": [DOOR],
    "inside.example": [INSIDE],
    "localhost": ["127.0.0.1", "::1"],
    "localhost.": ["127.0.0.1"],
    "mixed.example": [DOOR, INSIDE],
    "mixed-last.example": ["2606:2800:21f::1", DOOR, "::ffff:a01:203"],
    "metadata.example": ["169.254.169.254"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::a01:203"],
    "zone.example": ["fe80::1%1"],
    "many.example": [DOOR] * 10 + [INSIDE],
    "127.0.0.1.": ["127.0.0.1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
}
TLS = ssl.create_default_context()


@dataclass
class World:
    """Where the addresses lead, and which were dialled."""

    door: Listener
    trap: Listener
    dialled: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The names of this world; a literal address, however written, is what the system says it is."""
        if host in NAMES:
            return NAMES[host]
        if host.endswith(".example"):
            raise OSError("no such host")
        guard = Guard(ssl_context=TLS)
        try:
            return await guard._ask_system(host, port)
        finally:
            await guard.close()


@pytest.fixture
async def world(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(await serve(answer_with(b"door")), await serve(answer_with()))
    connect = httpcore2.AnyIOBackend.connect_tcp

    def connect_there(self: object, address: str, port: int, *rest: object) -> Awaitable[object]:
        world.dialled.append(address)
        there = world.door if address == DOOR else world.trap
        return connect(self, "127.0.0.1", there.port, *rest)

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect_there)
    return world


HOSTS = """
127.0.0.1 127.1 127.0.1 127.255.255.254 127.0.0.1. 0 0.0.0.0 2130706433 0x7f000001 0x7F.0.0.1 0x7f.1
017700000001 127.0.0x0.1 3232235521 0xa9fea9fe 025177524776 127。0。0。1 127．0．0．1 127｡0｡0｡1 localhost
LOCALHOST localhost. 127.0.0.1.nip.example inside.example INSIDE.EXAMPLE mixed.example mixed-last.example
metadata.example mapped.example nat64.example zone.example many.example [::1] [::] [0:0:0:0:0:0:0:1]
[0000::0001] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:0001] [::127.0.0.1]
[::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::127.0.0.1] [2002:7f00:1::]
[2002:a9fe:a9fe::1] [2001:0:7f00:1::80ff:fffe] [fe80::1] [fc00::1] [fd00:ec2::254] [ff02::1] [fec0::1]
[2001:db8::1] [100::1] 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 169.254.169.254
100.100.100.200 168.63.129.16 192.0.0.192 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255
"""


@pytest.mark.parametrize("host", HOSTS.split())
async def test_a_host_inside_is_untouched_and_reached_when_it_is_allowed(world: World, host: str) -> None:
    url = f"http://{host}/?key=secret"
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        error = await fail(fetcher, url)
    assert error.code == "picture_refused"
    assert "UNDERSTUDY_FETCH_ALLOWED_HOSTS" in error.message
    assert (world.dialled, world.trap.connections, world.door.connections) == ([], 0, 0)
    name = httpx2.URL(url).raw_host.decode().removesuffix(".")
    async with open_fetcher(name, resolve=world.resolve, ssl_context=TLS) as fetcher:
        assert await fetcher.fetch(url) in (FILE, b"door")
    assert len(world.dialled) == world.trap.connections + world.door.connections == 1


async def test_a_public_host_is_reached(world: World) -> None:
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        assert await fetcher.fetch("http://door.example/") == b"door"
        assert await fetcher.fetch(f"http://{DOOR}/") == b"door"
        assert await fetcher.fetch("http://[2606:2800:21f::1]/") == FILE
    assert world.dialled == [DOOR, DOOR, "2606:2800:21f::1"]


# Their host cannot be told, or is told in two ways: no operator can allow them.
@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file://127.0.0.1/etc/passwd",
        "ftp://127.0.0.1/a.png",
        "gopher://127.0.0.1:6379/_x",
        "dict://127.0.0.1:6379/info",
        "ldap://127.0.0.1/",
        "jar:http://127.0.0.1/a.jar!/b.png",
        "blob:http://127.0.0.1/1",
        "view-source:http://127.0.0.1/",
        "ws://127.0.0.1/",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/images",
        "unix:///var/run/docker.sock",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "//127.0.0.1/a.png",
        "/a.png",
        "",
        "http://",
        "http:///a.png",
        "http:127.0.0.1",
        "http:/127.0.0.1",
        "ht\ttp://127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:http/",
        "http://127.0.0.1:80:81/",
        "http://127.0.0.1/\r\nHost: other",
        "http://127.0.0.1\r\n.example/",
        "http://127.0.0.1\t/",
        "http://127.0.0.1 .example/",
        "http://127.0.0.1%00.example/",
        "http://127.0.0.1%2eexample/",
        "http://127.0.0.1%09/",
        "http://127%2e0%2e0%2e1/",
        "http://0177.0.0.1/",
        "http://0177.0.0.01/",
        "http://１２７.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://𝟙𝟚𝟟.0.0.1/",
        "http://ⓛocalhost/",
        "http://ｌocalhost/",
        "http://user@127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://door.example@127.0.0.1/",
        "http://door.example:80@127.0.0.1/",
        "http://127.0.0.1@door.example/",
        "http://door.example\\@127.0.0.1/",
        "http://127.0.0.1\\@door.example/",
        "http://[::1]@127.0.0.1/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[fe80::1%25lo]/",
        "http://[fe80::1%lo]/",
        "http://[127.0.0.1]/",
        "http://[v1.fe80]/",
        "http://a..example/",
        "http://" + "a" * 300 + ".example/",
        "http://door.example/" + "a" * 70_000,
    ],
    ids=lambda url: url[:40],
)
async def test_a_url_that_is_none_touches_nothing(world: World, url: str) -> None:
    async with open_fetcher("127.0.0.1", "::1", resolve=world.resolve, ssl_context=TLS) as fetcher:
        assert (await fail(fetcher, url)).code == "picture_refused"
        assert (world.dialled, world.trap.connections, world.door.connections) == ([], 0, 0)
        assert await fetcher.fetch("http://127.0.0.1/") == FILE
    assert world.trap.connections == 1


LOCATIONS = [
    f"http://{INSIDE}/?secret",
    f"http://{INSIDE}:22/?secret",
    f"//{INSIDE}/latest/meta-data/?secret",
    f"HTTP://{INSIDE}/?secret",
    f"https://{INSIDE}/?secret",
    "http://inside.example/?secret",
    "//INSIDE.example/?secret",
    "http://mixed.example/?secret",
    "http://2130706433/?secret",
    "http://0x7f.1/?secret",
    "http://[::ffff:127.0.0.1]/?secret",
    "http://[::1]/?secret",
    "http://169.254.169.254/latest/meta-data/iam/?secret",
    "http://127。0。0。1/?secret",
    f"http://{INSIDE}/%0d%0aHost:%20door.example?secret",
    f"http://{INSIDE}/" + "a" * 30_000,
]


@pytest.mark.parametrize("location", LOCATIONS, ids=lambda location: location[:40])
async def test_a_redirect_inside_is_refused_and_followed_when_it_is_allowed(
    world: World, location: str
) -> None:
    world.door.answer = redirect_to(location)
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        error = await fail(fetcher, "http://door.example/")
    assert error.code == "picture_refused"
    assert (world.dialled, world.trap.connections) == ([DOOR], 0)
    name = httpx2.URL("http://door.example/").join(location).raw_host.decode()
    async with open_fetcher(name, resolve=world.resolve, ssl_context=TLS, timeout_seconds=1.0) as fetcher:
        if location.startswith("https") or "mixed" in location:
            # The trap speaks no TLS, and a mixed host's first address is the door's: dialled is enough.
            await fail(fetcher, "http://door.example/")
        else:
            assert await fetcher.fetch("http://door.example/") == FILE
    assert len(world.dialled) > 2


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd?secret",
        "gopher://10.1.2.3:6379/_secret",
        "ftp://10.1.2.3/secret",
        "data:image/png;base64,secret",
        "javascript:secret",
        "http:10.1.2.3",
        "http://user:secret@10.1.2.3/",
        "http://door.example@10.1.2.3/secret",
        "http://[fe80::1%25lo]/secret",
        "http://[broken/secret",
        "http://ⓛocalhost/secret",
        "http://10.1.2.3:99999/secret",
        "http://door.example/" + "a" * 70_000,
    ],
    ids=lambda location: location[:40],
)
async def test_a_redirect_to_no_url_is_refused(world: World, location: str) -> None:
    world.door.answer = redirect_to(location)
    async with open_fetcher(INSIDE, resolve=world.resolve, ssl_context=TLS) as fetcher:
        error = await fail(fetcher, "http://door.example/")
    assert error.code in ("picture_refused", "picture_unreachable")
    assert world.trap.connections == 0


@pytest.mark.parametrize(
    "head",
    [
        # Each names two places: the fetcher may go to none of them, or to what it has checked.
        f"Location: /a\r\nLocation: http://{INSIDE}/",
        f"Location: http://door.example/\r\n http://{INSIDE}/",
        f"Location: http://door.example/\rLocation: http://{INSIDE}/",
        f"Location: http://door.example/\x00http://{INSIDE}/",
        f"Refresh: 0; url=http://{INSIDE}/",
        f"Content-Location: http://{INSIDE}/",
        f"Link: <http://{INSIDE}/>; rel=preload",
        f'Alt-Svc: h2="{INSIDE}:80"',
    ],
)
async def test_headers_that_point_inside_are_not_followed(world: World, head: str) -> None:
    async def answer(writer, _: bytes) -> None:
        writer.write(f"HTTP/1.1 302 Found\r\n{head}\r\nContent-Length: 0\r\n\r\n".encode())

    world.door.answer = answer
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        error = await fail(fetcher, "http://door.example/")
    assert error.code in ("picture_refused", "picture_unreachable")
    assert set(world.dialled) == {DOOR}
    assert world.trap.connections == 0


@pytest.mark.parametrize("hops", range(1, 6))
async def test_the_last_of_many_hops_is_checked_as_the_first(world: World, hops: int) -> None:
    async def answer(writer, request: bytes) -> None:
        hop = int(request.split(b"/")[1].split(b" ")[0] or b"0") + 1
        location = f"http://door.example/{hop}" if hop < hops else "http://inside.example/"
        await redirect_to(location)(writer, request)

    world.door.answer = answer
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        assert (await fail(fetcher, "http://door.example/0")).code == "picture_refused"
    assert (world.dialled, world.trap.connections) == ([DOOR] * hops, 0)
    async with open_fetcher("inside.example", resolve=world.resolve, ssl_context=TLS) as fetcher:
        assert await fetcher.fetch("http://door.example/0") == FILE
    assert world.trap.connections == 1


async def test_redirects_that_go_round_end(world: World) -> None:
    async def answer(writer, request: bytes) -> None:
        await redirect_to("/b" if request.startswith(b"GET /a") else "http://DOOR.example/a")(writer, request)

    world.door.answer = answer
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        error = await fail(fetcher, "http://door.example/a")
    assert error.code == "picture_unreachable"
    assert "more than 5 redirects" in error.message
    assert len(world.dialled) == 6


@pytest.mark.parametrize("first", [[DOOR], [DOOR, "2606:2800:21f::1"]])
async def test_a_name_that_changes_between_two_hops_is_checked_again(world: World, first: list[str]) -> None:
    world.door.answer = redirect_to("/again")
    asked = []

    async def rebind(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return first if len(asked) == 1 else [INSIDE]

    async with open_fetcher(resolve=rebind, ssl_context=TLS) as fetcher:
        assert (await fail(fetcher, "http://rebinding.example/")).code == "picture_refused"
    assert (asked, world.dialled, world.trap.connections) == (["rebinding.example"] * 2, [DOOR], 0)


async def test_a_name_that_changes_after_the_check_is_not_asked_again(world: World) -> None:
    answers = iter([[DOOR], [INSIDE]])

    async def rebind(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async with open_fetcher(resolve=rebind, ssl_context=TLS) as fetcher:
        assert await fetcher.fetch("http://rebinding.example/") == b"door"
    assert (world.dialled, world.trap.connections) == ([DOOR], 0)


async def test_a_second_answer_on_one_connection_answers_nothing(world: World) -> None:
    async def answer(writer, _: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")

    world.door.answer = answer
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        for _ in range(2):
            assert await fetcher.fetch("http://door.example/") == b"first"
    assert world.door.connections == 2


@pytest.mark.parametrize("no_proxy", [None, "", "door.example", "*"])
async def test_a_proxy_of_the_environment_is_never_dialled(
    world: World, monkeypatch: pytest.MonkeyPatch, no_proxy: str | None
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"):
        for spelled in (name, name.lower()):
            monkeypatch.setenv(spelled, f"http://{INSIDE}:3128")
    for spelled in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(spelled, raising=False)
        if no_proxy is not None:
            monkeypatch.setenv(spelled, no_proxy)
    async with open_fetcher(resolve=world.resolve, ssl_context=TLS) as fetcher:
        assert await fetcher.fetch("http://door.example/") == b"door"
    assert (world.dialled, world.trap.connections) == ([DOOR], 0)
