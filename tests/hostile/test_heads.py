"""Hostile heads: paths, queries, verbs, hosts, keys and headers, sent to a running service."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from running_service import RunningService
from service_client import SLUG

from .raw_http import exchange, make_head, post


@pytest.fixture(scope="session")
def file_name(shared_service: RunningService, picture_path: Path) -> bytes:
    """The name of a file that the service has."""
    data_url = "data:image/png;base64," + base64.b64encode(picture_path.read_bytes()).decode()
    answer = post(shared_service, json.dumps({"data_urls": [data_url]}).encode(), target="/upload-asset")
    return json.loads(answer.body)["urls"][0].rpartition("/")[2].encode()


PATHS = [
    b"/files/../understudy.sqlite3",
    b"/files/%2e%2e/understudy.sqlite3",
    b"/files/..%2funderstudy.sqlite3",
    b"/files/..%2f..%2f..%2fetc%2fpasswd",
    b"/files/..%5cunderstudy.sqlite3",
    b"/files/..\\understudy.sqlite3",
    b"/files/%252e%252e%252funderstudy.sqlite3",
    b"/files/%c0%ae%c0%ae%c0%afunderstudy.sqlite3",
    b"/files/%2fetc%2fpasswd",
    b"/files//etc/passwd",
    b"/files/.",
    b"/files/..",
    b"/files/%00",
    b"/files/NAME%00",
    b"/files/NAME%00.png",
    b"/files/NAME%20",
    b"/files/NAME.",
    b"/files/NAME::$DATA",
    b"/files/NAME.unfinished",
    b"/files/NAME;x",
    b"/files/%ff%fe",
    b"/files/%ed%a0%80",
    b"/files/" + b"a" * 64,
    b"/files/service.lock",
    b"/files/understudy.sqlite3",
    b"//files/NAME",
    b"/files//NAME",
    b"/files/./NAME",
    b"/files/NAME/",
    b"/files/NAME%2f",
    b"/v1/models/",
    b"/x/../files/NAME",
    b"/FILES/NAME",
    b"/%66iles/../NAME",
    b"/%",
    b"/%zz",
    b"/" + b"a/" * 5000,
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40].decode())
def test_nothing_but_the_files_is_served(hostile: RunningService, file_name: bytes, path: bytes) -> None:
    answer = exchange(hostile, make_head(hostile, "GET", path.replace(b"NAME", file_name)))
    answer.check_error(404)


def test_a_file_is_served_by_its_name(hostile: RunningService, file_name: bytes) -> None:
    for target in (
        b"/files/" + file_name,
        b"/%66iles/" + file_name,
        b"/files/" + file_name + b"?" + b"x" * 60_000,
    ):
        answer = exchange(hostile, make_head(hostile, "GET", target))
        assert (answer.status, answer.body[:4]) == (200, b"\x89PNG")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(name=st.binary(min_size=1, max_size=60))
def test_no_name_of_a_file_leads_elsewhere(hostile: RunningService, name: bytes) -> None:
    escaped = b"".join(b"%%%02x" % byte for byte in name)
    exchange(hostile, make_head(hostile, "GET", b"/files/" + escaped)).check_error(404)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1/requests?limit=" + b"9" * 6000, 400),
        (b"/v1/requests?limit=-1", 400),
        (b"/v1/requests?limit=1e9", 400),
        (b"/v1/requests?limit=1&limit=x", 400),
        (b"/v1/requests?cursor=%00", 400),
        (b"/v1/requests?cursor=1%20OR%201=1", 400),
        (b"/v1/requests?cursor=" + b"9" * 6000, 400),
        (b"/v1/requests?status=%ed%a0%80", 400),
        (b"/v1/requests/" + b"a" * 101, 400),
        (b"/v2/requests/" + b"%00" * 20, 404),
        (b"/v2/requests/%0d%0aSet-Cookie:%20a=b", 404),
        (b"/v2/requests/..%2f..%2fv1%2fmodels/status", 404),
        (b"/v2/requests/'%20OR%20'1'='1", 404),
        (b"/v1/models/" + b"a" * 101, 404),
        (b"/v1/models/%f0%9f%98%80", 404),
        (b"/v1/characters/%ed%a0%80", 404),
        (b"/v1/characters/%00", 404),
        (b"*", 404),
        (b"http://elsewhere.example/nothing", 404),
    ],
    ids=lambda value: str(value)[:40],
)
def test_odd_targets_are_told(hostile: RunningService, target: bytes, status: int) -> None:
    answer = exchange(hostile, make_head(hostile, "GET", target))
    assert answer.check_error(answer.status)
    assert answer.status in (status, 400)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("verb", ["TRACE", "OPTIONS", "PATCH", "PUT", "DELETE", "PROPFIND", "CONNECT"])
def test_other_verbs_are_told(hostile: RunningService, verb: str) -> None:
    answer = exchange(hostile, make_head(hostile, verb, b"/v1/models"))
    answer.check_error(405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


HOSTS = [
    b"[",
    b"[::1",
    b"[::1]:99999999",
    b"a b",
    b"a/b",
    b"user:password@b",
    b"x:99999999",
    b"x:port",
    b"\xff\xfe",
    b"",
    b'"><script>alert(1)</script>',
    b"x\\y",
    b"?a#b",
    b"a" * 5000,
]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: repr(host[:20]))
def test_odd_hosts_break_nothing(hostile: RunningService, good_body: dict[str, object], host: bytes) -> None:
    own = json.dumps({**good_body, "ip_image": "http://127.0.0.1:9/files/x.png"}).encode()
    lines = (b"content-type: application/json", b"content-length: %d" % len(own))
    submitted = exchange(hostile, make_head(hostile, "POST", f"/v2/{SLUG}".encode(), *lines, host=host), own)
    assert submitted.status in (200, 400)
    urls = json.loads(submitted.body)
    assert submitted.status == 400 or "<script>" not in urls["poll_url"]
    exchange(hostile, make_head(hostile, "DELETE", b"/v1/models", host=host)).check_error(405)


@pytest.mark.parametrize(
    "line",
    [
        b"X-Forwarded-Host: elsewhere.example",
        b"X-Forwarded-Proto: gopher",
        b"X-Forwarded-Proto: https, http",
        b"X-Forwarded-For: 1, [, 3",
        b"X-Forwarded-Prefix: /../..",
        b"Forwarded: host=elsewhere.example;proto=gopher",
        b"X-Original-URL: /v1/requests",
        b"X-HTTP-Method-Override: DELETE",
        b'X-Request-Id: "><script>',
        b"Last-Event-ID: " + b"9" * 5000,
        b"Accept: " + b"a/b," * 1000,
        b"Accept-Encoding: gzip;q=nan",
        b"Cookie: " + b"a=b; " * 1000,
        b"Connection: x-api-key, close",
        b"Expect: 200-maybe",
        b"Transfer-Encoding:",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
        b"Proxy: http://elsewhere.example",
        b"\r\n".join(b"x-%d: y" % number for number in range(1000)),
    ],
    ids=lambda line: line[:40].decode(),
)
def test_odd_headers_change_nothing(hostile: RunningService, line: bytes) -> None:
    answer = exchange(hostile, make_head(hostile, "GET", b"/v1/models", line, b"connection: close"))
    assert answer.status in (200, 400)
    assert b"elsewhere.example" not in answer.body
    assert b"script" not in json.dumps(answer.headers).encode()


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b" ",
        b"us_",
        b"\xff\xfe",
        "Ünïcode".encode(),
        b"us_" + b"a" * 50_000,
        b"' OR '1'='1",
        b"us_%00",
        b"null",
        b"*",
    ],
)
def test_odd_keys_are_none(hostile: RunningService, key: bytes) -> None:
    for name in (b"x-api-key: ", b"authorization: Bearer ", b"authorization: "):
        head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + name + key + b"\r\n\r\n"
        exchange(hostile, head).check_error(401, "not_authenticated")


def test_of_two_keys_the_first_counts(hostile: RunningService) -> None:
    good = b"x-api-key: " + hostile.key.encode()
    head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n%s\r\n%s\r\n\r\n"
    assert exchange(hostile, head % (good, b"x-api-key: us_wrong")).status == 200
    exchange(hostile, head % (b"x-api-key: us_wrong", good)).check_error(401, "not_authenticated")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/models HTTP/1.1\nHost: x\n\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"FOO / HTTP/1.1\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\na: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\na: b\rc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\na : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\na: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"\r\n" * 1000 + b"\x00",
    ],
    ids=lambda sent: repr(sent[:30]),
)
def test_what_is_no_http_is_hung_up_on(hostile: RunningService, sent: bytes) -> None:
    answer = exchange(hostile, sent)
    answer.check_error(400, "invalid_request")
    assert answer.headers["connection"] == "close"


HEADS = {
    "a_long_path": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "a_long_query": b"GET /v1/models?" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "a_long_header": b"GET /v1/models HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    "a_long_name": b"GET /v1/models HTTP/1.1\r\n" + b"x" * 70_000 + b": y\r\n\r\n",
    "a_long_cookie": b"GET /v1/models HTTP/1.1\r\nCookie: " + b"a=b; " * 14_000 + b"\r\n\r\n",
    "a_long_key": b"GET /v1/models HTTP/1.1\r\nx-api-key: us_" + b"y" * 70_000 + b"\r\n\r\n",
    "20_000_headers": b"GET /v1/models HTTP/1.1\r\n" + b"X-Y: z\r\n" * 20_000 + b"\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_over_the_limit_are_told(hostile: RunningService, name: str) -> None:
    answer = exchange(hostile, HEADS[name])
    assert "64 kB" in answer.check_error(400, "invalid_request")["error"]


@pytest.mark.parametrize("line", [b"y" * 1_000_000, b"y" * 60_000 + b"\r\nX: ", b"y\r\nX: "])
def test_200_megabytes_of_head_are_not_kept(hostile: RunningService, line: bytes) -> None:
    piece = line * (1 + 1_000_000 // len(line))
    answer = exchange(hostile, b"GET /v1/models HTTP/1.1\r\nX: ", (piece for _ in range(200)))
    # Who goes on sending may lose the answer with the connection.
    assert answer.status in (0, 400)


def test_requests_that_come_all_at_once_are_not_kept(hostile: RunningService) -> None:
    address = ("127.0.0.1", int(hostile.url.rsplit(":", 1)[1]))
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(40)]
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 14_000)
        for connection in connections:
            received = b""
            while part := connection.recv(65_536):
                received += part
            assert [received.count(b"HTTP/1.1 %d" % status) for status in (404, 400)] == [1, 1]
            assert b"at once" in received


def test_no_other_protocol_is_spoken(hostile: RunningService) -> None:
    lines = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    answer = exchange(hostile, make_head(hostile, "GET", b"/v1/models", *lines, b"Sec-WebSocket-Key: AAAA"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(
    "part",
    [
        b"bytes=-",
        b"bytes=5-1",
        b"bytes=999999999-",
        b"bytes=-0",
        b"bytes=a-b",
        b"bytes=0-" + b"9" * 5000,
        b"bytes=" + b"0-1," * 10_000 + b"0-1",
        b"bytes=" + b",".join(b"%d-%d" % (at, at) for at in range(0, 400, 2)),
        b"lines=1-2",
        b"bytes 0-1",
        b"=",
    ],
    ids=lambda part: part[:20].decode(),
)
def test_odd_ranges_are_ignored(hostile: RunningService, file_name: bytes, part: bytes) -> None:
    answer = exchange(hostile, make_head(hostile, "GET", b"/files/" + file_name, b"Range: " + part))
    assert answer.status == 200
    assert answer.body.startswith(b"\x89PNG")
    assert len(answer.body) == int(answer.headers["content-length"])
