"""Hostile forms, sent to a running service."""

from __future__ import annotations

from pathlib import Path

import pytest

from running_service import RunningService
from service_client import SLUG

from .raw_http import RawAnswer, post

KIND = "multipart/form-data; boundary=x"


def part(name: str, value: bytes, more: str = "") -> bytes:
    """One part of a form; `more` stands behind its name."""
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


END = b"--x--\r\n"


@pytest.fixture
def picture(picture_path: Path) -> bytes:
    return part("ip_image", picture_path.read_bytes(), '; filename="a.png"')


def send(service: RunningService, body: bytes, kind: str = KIND) -> RawAnswer:
    """Submit a form."""
    return post(service, body, kind)


@pytest.mark.parametrize(
    "body",
    [
        part("a", b"x") * 100_000 + END,
        part("a", b"x", '; filename="b"') * 100_000 + END,
        b"--x\r\n" + b"a" * 5_000_000 + b": b\r\n\r\nx\r\n" + END,
        part("a" * 5_000_000, b"x") + END,
        part("prompt", b"x", '; filename="' + "a" * 5_000_000 + '"') + END,
        b"--x\r\n" + b"a: b\r\n" * 500_000 + b"\r\nx\r\n" + END,
        b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END,
        b'--x\r\nContent-Disposition: attachment; filename="a"\r\n\r\nx\r\n' + END,
        b"--x\r\nno colon\r\n\r\nx\r\n" + END,
        b"--x\r\n: nameless\r\n\r\nx\r\n" + END,
        b"--y\r\n\r\n--y--\r\n",
    ],
    ids=lambda body: repr(body[:50]),
)
def test_forms_that_cannot_be_read(hostile: RunningService, body: bytes) -> None:
    send(hostile, body).check_error(400, "invalid_request")


@pytest.mark.parametrize(
    "boundary",
    [
        "",
        "; boundary=",
        "; boundary=" + "x" * 5000,
        '; boundary="x',
        "; boundary=é",
        "; boundary=x; boundary=y",
    ],
)
def test_boundaries_that_are_none(hostile: RunningService, boundary: str) -> None:
    answer = send(hostile, b"--q\r\n\r\n--q--\r\n", "multipart/form-data" + boundary)
    assert answer.check_error(400)["code"] in ("invalid_request", "missing_parameter")


def test_a_form_that_is_cut_off_is_told(hostile: RunningService, picture: bytes) -> None:
    whole = picture + part("prompt", b"x") + END
    assert send(hostile, whole).status == 200
    for length in (0, 3, 20, 200, len(whole) - 30, len(whole) - 9):
        told = send(hostile, whole[:length]).check_error(400, "invalid_request")
        assert "cut off" in told["error"]
    # What stands behind the last boundary is nothing (RFC 2046, 5.1.1).
    assert send(hostile, whole + b"more").status == 200


def test_a_form_in_a_form_is_text(hostile: RunningService, picture: bytes) -> None:
    inner = b'--y\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--y--'
    nested = part("a", inner, "\r\nContent-Type: multipart/mixed; boundary=y")
    send(hostile, picture + nested + END).check_error(400, "missing_parameter", "prompt")


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "/etc/passwd",
        "C:\\\\windows\\\\a.png",
        "a.png\x00.sh",
        "a.php",
        "%2e%2e%2fa.png",
        "a" * 3000,
        "<script>alert(1)</script>.png",
        "; rm -rf /",
        "",
    ],
    ids=lambda name: repr(name[:20]),
)
def test_the_name_of_a_file_is_nothing(hostile: RunningService, picture_path: Path, name: str) -> None:
    file = part("ip_image", picture_path.read_bytes(), f'; filename="{name}"')
    before = {path for path in hostile.data_dir.rglob("*") if path.parent.name != "files"}
    answer = send(hostile, file + part("prompt", b"x") + END)
    assert answer.status in (200, 400)
    assert {path for path in hostile.data_dir.rglob("*") if path.parent.name != "files"} == before
    for path in (hostile.data_dir / "files").iterdir():
        assert path.name.partition(".")[0].isalnum()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pose", b"[" * 100_000),
        ("pose", b"[" * 900 + b"]" * 900),
        ("poses", b"[" + b"[]," * 20_000 + b"1]"),
        ("poses", b"wave," * 20_000),
        ("poses", b"," * 30_000_000),
        ("pose", b"[" + b"[]," * 20_000_000 + b"1]"),
        ("steps", b"9" * 100_000),
        ("steps", "١٠".encode() + b"x"),
        ("guidance_scale", b"1e400"),
        ("prompt", b"a\x00b"),
        ("prompt", b"x" * 5_000_000),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_values_that_are_none(hostile: RunningService, picture: bytes, name: str, value: bytes) -> None:
    rest = b"" if name == "prompt" else part("prompt", b"x")
    told = send(hostile, picture + rest + part(name, value) + END).check_error(400)
    assert told["code"] in ("invalid_parameter", "invalid_request")
    assert told.get("field", name) == name


def test_a_form_within_json_and_json_within_a_form(hostile: RunningService) -> None:
    send(hostile, b'{"prompt": "x"}').check_error(400)
    post(hostile, part("prompt", b"x") + END).check_error(400, "invalid_request")
    answer = post(hostile, part("prompt", b"x") + END, "multipart/mixed; boundary=x", f"/v1/{SLUG}")
    answer.check_error(406, "unsupported_content_type")
