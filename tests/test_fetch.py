"""The guarded fetcher, against real servers on loopback: what it brings and where it never goes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import httpcore2
import pytest

from understudy.fetch import FetchFailed, PictureFetcher, PinnedNetwork, is_public_address

FILE = b"\x89PNG not really, but the fetcher does not look" * 10
MAX_BYTES = 100_000

Answer = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]


class Listener:
    """An HTTP server of one answer that keeps the requests it saw and counts connections."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._handlers: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._handlers.add(asyncio.current_task())
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.answer(writer, self.requests[-1])
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def end(self) -> None:
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


Serve = Callable[..., Awaitable[Listener]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            answer: Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
        ) -> Listener:
            listener = Listener(answer)
            server = await asyncio.start_server(listener.handle, host, port, ssl=tls)
            stack.push_async_callback(listener.end)
            stack.callback(server.close)
            listener.port = server.sockets[0].getsockname()[1]
            return listener

        yield start


def answer_with(body: bytes = FILE, status: str = "200 OK", **headers: str) -> Answer:
    lines = {"Content-Type": "image/png", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    async def answer(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(head.encode() + b"\r\n" + body)

    return answer


def redirect_to(location: str, status: str = "302 Found") -> Answer:
    return answer_with(b"", status, Location=location)


def resolve_by(names: dict[str, Sequence[str]]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if host not in names:
            raise OSError("no such host")
        return names[host]

    return resolve


@contextlib.asynccontextmanager
async def open_fetcher(*allowed: str, **options: object) -> AsyncIterator[PictureFetcher]:
    settings = {"max_bytes": MAX_BYTES, "timeout_seconds": 20.0, "allowed_hosts": set(allowed)}
    fetcher = PictureFetcher(**{**settings, **options})
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def fail(fetcher: PictureFetcher, url: str) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetcher.fetch(url, "ip_image")
    error = caught.value
    assert error.field == "ip_image"
    assert error.message.startswith("The picture in ip_image ")
    assert error.to_body()["code"] == error.code
    assert "secret" not in error.message
    return error


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


FORBIDDEN_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.255.255.254",
    "0",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "１２７.0.0.1",
    "①②⑦.0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ⓛocalhost",
    "127.0.0.1%00.example",
    "127.0.0.1%2eexample",
    "127.0.0.1%09",
    "user@127.0.0.1",
    "user:secret@127.0.0.1",
    "pictures.example@127.0.0.1",
    "pictures.example\\@127.0.0.1",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::80ff:fffe]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[::1]@127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "2852039166",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
]


async def test_forbidden_hosts_are_never_touched(serve: Serve) -> None:
    listener = await serve(answer_with())
    async with open_fetcher() as fetcher:
        for host in FORBIDDEN_HOSTS:
            url = f"http://{host}:{listener.port}/?key=secret"
            error = await fail(fetcher, url)
            assert error.code in ("picture_refused", "picture_unreachable"), url
            assert error.status == 422
    assert listener.connections == 0
    async with open_fetcher("127.0.0.1") as fetcher:
        assert await fetcher.fetch(f"http://127.0.0.1:{listener.port}/") == FILE
    assert listener.connections == 1


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.png",
        "gopher://127.0.0.1:6379/_x",
        "dict://127.0.0.1:6379/info",
        "ldap://127.0.0.1/",
        "unix:///var/run/docker.sock",
        "data:image/png;base64,AAAA",
        "//127.0.0.1/a.png",
        "/a.png",
        "",
        "http://",
        "http:///a.png",
        "http:127.0.0.1",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:http/",
        "http://127.0.0.1/\r\nHost: other",
        "http://[::1/",
        "http://" + "a" * 300 + ".example/",
        "http://a..example/",
        "http://pictures.example/" + "a" * 70_000,
    ],
)
async def test_malformed_urls_are_refused(url: str) -> None:
    async with open_fetcher("127.0.0.1", resolve=resolve_by({})) as fetcher:
        assert (await fail(fetcher, url)).code == "picture_refused"


async def test_an_allowed_port_allows_no_other(serve: Serve) -> None:
    allowed, other = await serve(answer_with()), await serve(answer_with())
    async with open_fetcher(f"127.0.0.1:{allowed.port}") as fetcher:
        assert await fetcher.fetch(f"http://127.0.0.1:{allowed.port}/") == FILE
        assert (await fail(fetcher, f"http://127.0.0.1:{other.port}/")).code == "picture_refused"
        assert (await fail(fetcher, f"http://localhost:{allowed.port}/")).code == "picture_refused"
        assert (await fail(fetcher, f"http://2130706433:{allowed.port}/")).code == "picture_refused"
    assert (allowed.connections, other.connections) == (1, 0)


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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own authority for `pictures.example`, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=pictures.example -addext subjectAltName=DNS:pictures.example "
        f"-keyout {folder}/key.pem -out {folder}/certificate.pem"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return folder


async def test_tls_verifies_the_name_not_the_address(serve: Serve, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    asked = []
    tls.sni_callback = lambda socket, name, context: asked.append(name)
    listener = await serve(answer_with(), tls=tls)
    trusting = ssl.create_default_context(cafile=certificate / "certificate.pem")
    names = {"pictures.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    async with open_fetcher(*names, resolve=resolve_by(names), ssl_context=trusting) as fetcher:
        assert await fetcher.fetch(f"https://pictures.example:{listener.port}/") == FILE
        assert asked == ["pictures.example"]
        assert f"Host: pictures.example:{listener.port}".encode() in listener.requests[0]
        await fail(fetcher, f"https://other.example:{listener.port}/")
    async with open_fetcher(*names, resolve=resolve_by(names)) as fetcher:
        assert (
            await fail(fetcher, f"https://pictures.example:{listener.port}/")
        ).code == "picture_unreachable"
    assert len(listener.requests) == 1


async def test_many_at_once(serve: Serve) -> None:
    listener = await serve(answer_with())
    async with open_fetcher("127.0.0.1") as fetcher:
        urls = [f"http://127.0.0.1:{listener.port}/{number}" for number in range(50)]
        assert await asyncio.gather(*map(fetcher.fetch, urls)) == [FILE] * 50


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
