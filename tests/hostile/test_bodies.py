"""Hostile bodies: JSON, lengths and chunks, sent to a running service."""

from __future__ import annotations

import gzip
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from running_service import RunningService
from service_client import SLUG

from .raw_http import exchange, make_head, post

JSON_TYPE = b"content-type: application/json"
CHUNKED = b"transfer-encoding: chunked"


def submit(service: RunningService, *lines: bytes) -> bytes:
    """The head of a submit of JSON."""
    return make_head(service, "POST", f"/v2/{SLUG}".encode(), JSON_TYPE, *lines)


UNREADABLE = {
    "nothing": b"",
    "a_number": b"1",
    "half": b'{"prompt": "x',
    "two": b"{}{}",
    "a_comment": b'{"prompt": "x" /* y */}',
    "single_quotes": b"{'prompt': 'x'}",
    "a_trailing_comma": b'{"prompt": "x",}',
    "nul": b'{"prompt": "x"}\x00',
    "latin_1": b'{"prompt": "\xe9"}',
    "overlong_utf_8": b'{"prompt": "\xc0\xaf"}',
    "control_characters": b'{"prompt": "a\x01b"}',
    "an_escaped_surrogate": b'{"prompt": "\\ud800"}',
    "surrogates_the_wrong_way_round": b'{"prompt": "\\udc00\\ud800"}',
    "an_integer_of_100_000_digits": b'{"seed": ' + b"9" * 100_000 + b"}",
    "100_000_lists": b"[" * 100_000,
    "100_000_objects": b'{"a":' * 100_000,
    "nested_poses": b'{"prompt": "x", "ip_image": "y", "poses": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "utf_16": '{"prompt": "x"}'.encode("utf-16"),
    "utf_32": '{"prompt": "x"}'.encode("utf-32-be"),
    "a_raw_surrogate": b'{"prompt": "\xed\xa0\x80"}',
    "an_escaped_surrogate_in_utf_16": '{"prompt": "\\ud800"}'.encode("utf-16-le"),
    "20_million_lists": b'{"x": [' + b"[]," * 20_000_000 + b"1]}",
    "12_million_objects": b'{"x": [' + b'{"":1},' * 8_000_000 + b"1]}",
    "30_million_numbers": b'{"x": [' + b"1," * 30_000_000 + b"1]}",
    "33_levels": b'{"x": ' + b"[" * 33 + b"]" * 33 + b"}",
    "xml": b"<?xml version='1.0'?><!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
    "a_form": b"prompt=x&ip_image=y",
    "a_pickle": b"cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_json_that_cannot_be_read(hostile: RunningService, name: str) -> None:
    post(hostile, UNREADABLE[name]).check_error(400, "invalid_request")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pose", "[" * 900 + "]" * 900),
        ("pose", '{"a":' * 900 + "1" + "}" * 900),
        ("pose", "[" + ",".join(["[0.5, 1e400]"] * 18) + "]"),
        ("pose", "[" + ",".join(["[0.5, NaN]"] * 18) + "]"),
        ("pose", '"' + "x" * 1_000_000 + '"'),
        ("poses", "[" + ",".join(['"wave"'] * 20_000) + "]"),
        ("poses", "[" + ",".join(["[]"] * 20_000) + "]"),
        ("seed", "1e400"),
        ("seed", "-1e400"),
        ("seed", "NaN"),
        ("seed", "1e308"),
        ("seed", "9" * 4000),
        ("seed", "0.5"),
        ("width", "Infinity"),
        ("width", "-0.0"),
        ("steps", '"0x10"'),
        ("steps", "[10]"),
        ("steps", "true"),
        ("guidance_scale", "1e-400"),
        ("guidance_scale", "-Infinity"),
        ("prompt", '"' + "\\u0000" * 5 + '"'),
        ("prompt", "{}"),
        ("prompt", '"' + "x" * 5_000_000 + '"'),
        ("negative_prompt", '["x"]'),
        ("output_format", '"../../png"'),
    ],
)
def test_values_that_are_none(
    hostile: RunningService, good_body: dict[str, object], field: str, value: str
) -> None:
    rest = {name: given for name, given in good_body.items() if name != field}
    body = json.dumps(rest)[:-1] + f', "{field}": {value}}}'
    answer = post(hostile, body.encode())
    told = answer.check_error(400)
    assert told["code"] in ("invalid_parameter", "invalid_request")
    assert told.get("field", field) == field
    assert len(answer.body) < 1000


def test_what_is_odd_but_sound_is_read(hostile: RunningService, good_body: dict[str, object]) -> None:
    whole = json.dumps(good_body).encode()
    # RFC 8259: the last of two names counts with most readers, a byte order mark may be ignored.
    assert post(hostile, b'{"prompt": "", ' + whole[1:]).status == 200
    assert post(hostile, b"\xef\xbb\xbf" + whole).status == 200
    assert post(hostile, b" \n" * 100_000 + whole).status == 200
    unknown = post(hostile, whole[:-1] + b', "x": Infinity, "\\u0000": ' + b"[" * 30 + b"]" * 30 + b"}")
    assert len(json.loads(unknown.body)["warnings"]) == 2


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_damage_anywhere_is_answered(
    hostile: RunningService, good_body: dict[str, object], data: st.DataObject
) -> None:
    whole = json.dumps(good_body).encode()
    at = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=30))
    answer = post(hostile, whole[:at] + noise + whole[at + data.draw(st.integers(0, 30)) :])
    if answer.status != 200:
        answer.check_error(answer.status)
        assert answer.status in (400, 413)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd"])
def test_a_compressed_body_is_not_unpacked(hostile: RunningService, encoding: bytes) -> None:
    bomb = gzip.compress(bytes(100_000_000), 9)
    answer = post(hostile, bomb, "application/json", f"/v2/{SLUG}", b"content-encoding: " + encoding)
    assert "compressed" in answer.check_error(400, "invalid_request")["error"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(hostile: RunningService) -> None:
    head = submit(hostile, b"content-length: 64000001")
    exchange(hostile, head).check_error(413, "too_large")
    huge = submit(hostile, b"content-length: 18446744073709551615")
    exchange(hostile, huge).check_error(413, "too_large")


def test_chunks_without_end_are_refused_at_the_limit(hostile: RunningService) -> None:
    sent = 0

    def go_on():
        nonlocal sent
        piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        while sent < 200_000_000:
            yield piece
            sent += len(piece)
        yield b"0\r\n\r\n"

    exchange(hostile, submit(hostile, CHUNKED), go_on()).check_error(413, "too_large")


def test_a_body_without_end_is_not_read_for_who_has_no_key(hostile: RunningService) -> None:
    sent = 0

    def go_on():
        nonlocal sent
        piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        while sent < 1_000_000_000:
            yield piece
            sent += len(piece)

    head = b"\r\n".join([f"POST /v2/{SLUG} HTTP/1.1".encode(), b"Host: x", JSON_TYPE, CHUNKED, b"", b""])
    exchange(hostile, head, go_on()).check_error(401, "not_authenticated")
    assert sent < 200_000_000


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ((b"content-length: 5", CHUNKED), b"0\r\n\r\n"),
        ((b"content-length: 5", b"content-length: 6"), b"hello"),
        ((b"content-length: -5",), b"hello"),
        ((b"content-length: +5",), b"hello"),
        ((b"content-length: 5, 5",), b"hello"),
        ((b"content-length: 0x5",), b"hello"),
        ((b"content-length: " + b"9" * 5000,), b"hello"),
        ((b"content-length:",), b"hello"),
        ((b"transfer-encoding: identity, chunked, identity",), b"0\r\n\r\n"),
        ((CHUNKED,), b"zz\r\n"),
        ((CHUNKED,), b"-1\r\n"),
        ((CHUNKED,), b"ffffffffffffffffff\r\n"),
        ((CHUNKED,), b"1\r\nab\r\n0\r\n\r\n"),
    ],
)
def test_lengths_that_disagree_are_refused(
    hostile: RunningService, lines: tuple[bytes, ...], body: bytes
) -> None:
    # Whether the second half would be a request of somebody else's must never be in question.
    stolen = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nx-api-key: " + hostile.key.encode() + b"\r\n\r\n"
    answer = exchange(hostile, submit(hostile, *lines), body, stolen)
    assert "not an HTTP/1.1 request" in answer.check_error(400, "invalid_request")["error"]


@pytest.mark.parametrize(
    "endless", [b"1;" + b"x" * 1_000_000, b"0\r\n" + b"X: y\r\n" * 200_000, b"0\r\nX: " + b"y" * 1_000_000]
)
def test_chunks_that_say_nothing_are_refused(hostile: RunningService, endless: bytes) -> None:
    answer = exchange(hostile, submit(hostile, CHUNKED), (endless for _ in range(200)))
    assert "64 kB" in answer.check_error(400, "invalid_request")["error"]


def test_a_client_that_leaves_within_its_body_is_no_failure(hostile: RunningService) -> None:
    logged = len(hostile.output)
    exchange(hostile, submit(hostile, b"content-length: 100"), b"{", seconds=0.2)
    deadline = time.monotonic() + 30
    while not any(json.loads(line)["status"] == 499 for line in hostile.output[logged:]):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_body_that_comes_byte_by_byte_holds_up_nobody(hostile: RunningService) -> None:
    def trickle():
        for _ in range(10):
            time.sleep(0.03)
            yield b" "
            assert exchange(hostile, make_head(hostile)).status == 200
        yield b"{}"

    exchange(hostile, submit(hostile, b"content-length: 12"), trickle()).check_error(400, "missing_parameter")
