"""Hostile pictures as a client sends them: in JSON, in a form, uploaded, as a character, and by a URL."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from running_service import RunningService

from .gallery import GALLERY, ODD, READ, quarters, save
from .raw_http import RawAnswer, post

SAMPLE = [
    "png_half",
    "jpeg_half",
    "avif_half",
    "png_400_megapixels",
    "png_largest_header",
    "webp_largest_header",
    "jpeg_largest_header",
    "png_more_rows_than_told",
    "png_ztxt_bomb",
    "png_many_texts",
    "png_exif_bomb",
    "jpeg_endless_scans",
    "gif_zero",
    "jpeg_broken_huffman",
    "html",
    "svg",
    "postscript",
    "tiff_cycle",
    "zip",
    "png_then_zip",
    "pdf_then_png",
]


def submit_json(service: RunningService, text: str, field: str = "ip_image") -> RawAnswer:
    """Submit a request whose `field` is this text, told as a dry run: nothing is drawn."""
    good = base64.b64encode(save(quarters(), "PNG")).decode()
    body = {"prompt": "x", "ip_image": good, field: text}
    return post(service, json.dumps(body).encode(), target=DRY_RUN)


def submit_form(service: RunningService, data: bytes) -> RawAnswer:
    """The same as a file in a form, under a name and a type that are not its own."""
    head = (
        '--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
        '--x\r\nContent-Disposition: form-data; name="ip_image"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + data + b"\r\n--x--\r\n"
    return post(service, body, "multipart/form-data; boundary=x", DRY_RUN)


DRY_RUN = "/v2/consistent-character-AI-neolemon-v3?dry_run=true"


def check_end(answer: RawAnswer, code: str, field: str) -> None:
    """That a picture ended so, with the field named."""
    if code == READ:
        assert answer.status in (200, 201), answer
    else:
        told = answer.check_error(413 if code == "too_large" else 400, code, field)
        assert field in told["error"]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_hostile_picture_is_told_at_once(hostile: RunningService, name: str) -> None:
    make, code = GALLERY[name]
    data = make()
    # Its type and its name are lies throughout: only its bytes count.
    data_uri = "data:image/webp;base64," + base64.b64encode(data).decode()
    check_end(submit_json(hostile, data_uri, "input_image"), code, "input_image")
    if data:
        check_end(submit_form(hostile, data), code, "ip_image")


def test_uploads_and_characters_are_told_at_once(hostile: RunningService) -> None:
    for name in ("png_half", "jpeg_largest_header", "svg"):
        make, code = GALLERY[name]
        text = base64.b64encode(make()).decode()
        uploaded = post(hostile, json.dumps({"data_urls": [text]}).encode(), target="/upload-asset")
        check_end(uploaded, code, "data_urls")
        saved = {"name": f"hostile {name}".replace("_", "-"), "ip_image": text}
        check_end(post(hostile, json.dumps(saved).encode(), target="/v1/characters"), code, "ip_image")


@pytest.mark.parametrize(
    "name", ["cmyk_jpeg", "two_pictures_in_one_jpeg", "webp_1000_frames", "line_of_65500"]
)
def test_an_odd_picture_is_taken(hostile: RunningService, name: str) -> None:
    data = ODD[name][0]()
    assert submit_json(hostile, base64.b64encode(data).decode()).status == 200
    assert submit_form(hostile, data).status == 200


PNG = save(quarters(), "PNG")
BASE64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/jpeg;base64,{BASE64}",
        f"DATA:;BASE64,{BASE64}",
        f"data:image/png;a=b;c={'d' * 300};base64,{quote(BASE64, safe='')}",
        f"data:image/png,{quote(PNG)}",
        base64.urlsafe_b64encode(PNG).decode().rstrip("="),
        "\n ".join(BASE64),
        BASE64 + "=" * 100,
    ],
    ids=lambda text: text[:30],
)
def test_every_way_to_write_a_picture_is_read(hostile: RunningService, text: str) -> None:
    assert submit_json(hostile, text).status == 200


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("data:", "invalid_picture"),
        ("data:,", "invalid_picture"),
        ("data:;base64,", "invalid_picture"),
        ("data:image/png;base64,%", "invalid_picture"),
        ("data:image/png;base64,====", "invalid_picture"),
        ("data:image/png;base64,data:image/png;base64," + BASE64, "invalid_picture"),
        ("data:image/svg+xml,<svg onload='alert(1)'/>", "invalid_picture"),
        ("data:text/html;base64," + BASE64, "invalid_picture"),
        ("data:image/png;base64," + BASE64[:-5] + "\u0000", "invalid_parameter"),
        ("data:image/png;base64,\ufeff" + BASE64, "invalid_picture"),
        ("data:" + ";" * 60_000_000 + "," + BASE64, "invalid_picture"),
        ("data:image/png," + "%41" * 10_000_000, "too_large"),
        ("a" * 30_000_000, "too_large"),
        ("A" * 5_000_000, "invalid_picture"),
        (" " * 30_000_000, "invalid_parameter"),
        ("file:///etc/passwd", "invalid_picture"),
        ("character:../../x", "character_not_found"),
        ("character:" + "x" * 1_000_000, "character_not_found"),
    ],
    ids=lambda text: text[:30],
)
def test_no_way_to_write_a_picture_is_told(hostile: RunningService, text: str, code: str) -> None:
    answer = submit_json(hostile, text)
    answer.check_error(413 if code == "too_large" else 400, code, "ip_image")
