"""Local pictures become data URIs; everything else goes through untouched."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from understudy import InvalidRequest
from understudy.client.pictures import encode_parameters, inline_picture

from .conftest import Reply, state


def file_of(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=kind)
    return file.getvalue()


RED = Image.new("RGB", (8, 8), "red")
PNG = file_of(RED, "PNG")


def decode(uri: str) -> tuple[str, bytes]:
    head, _, tail = uri.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(tail, validate=True)


@pytest.fixture
def png_path(tmp_path) -> Path:
    path = tmp_path / "hero.png"
    path.write_bytes(PNG)
    return path


@pytest.mark.parametrize(
    "give",
    [
        lambda p: p,
        str,
        Path.read_bytes,
        lambda p: bytearray(p.read_bytes()),
        lambda p: io.BytesIO(p.read_bytes()),
    ],
    ids=["Path", "text", "bytes", "bytearray", "file"],
)
def test_a_local_picture_is_sent_inline(png_path, give):
    assert decode(inline_picture("ip_image", give(png_path))) == ("image/png", PNG)


def test_a_path_in_the_home_folder_is_found(png_path, monkeypatch):
    monkeypatch.setenv("HOME", str(png_path.parent))
    assert decode(inline_picture("ip_image", "~/hero.png")) == ("image/png", PNG)
    assert decode(inline_picture("ip_image", Path("~/hero.png"))) == ("image/png", PNG)


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("AVIF", "image/avif"),
        ("BMP", "application/octet-stream"),
    ],
)
def test_the_type_is_told_by_the_bytes(kind, content_type):
    content = file_of(RED, kind)
    assert decode(inline_picture("ip_image", content)) == (content_type, content)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "F"])
def test_a_pillow_picture_is_sent_as_png(mode):
    content_type, content = decode(inline_picture("ip_image", RED.convert(mode)))
    assert content_type == "image/png"
    with Image.open(io.BytesIO(content)) as sent:
        assert sent.size == (8, 8)
        if mode in ("RGB", "RGBA", "P"):
            assert sent.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "value",
    [
        " https://host/a picture.png",
        "HTTP://host/x",
        "data:image/png;base64,AAAA",
        "character:hero",
        "character:a/b.png",
        "file:///hero.png",
        base64.b64encode(PNG).decode(),
        base64.b64encode(PNG * 500).decode(),
        base64.urlsafe_b64encode(PNG).decode(),
        "/9j/" + "4AAQSkZJRgABAQAAAQABAAD/2w" * 4,
        "hero",
        "",
        "a\0b",
        None,
        17,
    ],
)
def test_what_the_service_reads_itself_is_left_alone(value):
    assert inline_picture("ip_image", value) == value


@given(st.binary(min_size=1))
def test_bytes_arrive_as_they_were(content):
    assert decode(inline_picture("ip_image", content))[1] == content


@pytest.mark.parametrize("field", ["ip_image", "input_image"])
@pytest.mark.parametrize("name", [Path("nope.png"), "nope.png", "NOPE.JPG ", "./nope", "no such/hero", "~/x"])
async def test_a_missing_file_is_told_before_anything_is_sent(face, scripted, field, name):
    with pytest.raises(InvalidRequest, match=r"There is no file '.*'.* give a path") as caught:
        await face.submit(prompt="x", **{field: name})
    assert (caught.value.field, caught.value.code) == (field, "invalid_picture")
    assert field in caught.value.message
    assert scripted.received == []


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be read"):
        inline_picture("ip_image", tmp_path)


def test_a_text_file_object_is_no_picture(png_path):
    with png_path.open("r", encoding="latin-1") as file, pytest.raises(InvalidRequest, match="'rb'"):
        inline_picture("ip_image", file)


def test_only_picture_parameters_are_read_from_disk(png_path):
    assert str(png_path) in encode_parameters({"prompt": str(png_path)}).decode()


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), [float("inf")], object(), Path("x")])
def test_a_value_without_json_is_named(value):
    with pytest.raises(InvalidRequest) as caught:
        encode_parameters({"prompt": "x", "pose": value})
    assert caught.value.field == "pose"


async def test_both_pictures_of_a_request_are_inlined(face, scripted, png_path):
    scripted.script_job(Reply(body=state("COMPLETED")))
    await face.submit(prompt="x", ip_image=png_path, input_image=PNG)
    sent = scripted.received[0].json
    assert decode(sent["ip_image"]) == decode(sent["input_image"]) == ("image/png", PNG)


async def test_upload_gives_the_url(face, scripted, png_path):
    url = f"{scripted.url}/files/u.png"
    scripted.script("POST", "/upload-asset", Reply(body={"file_urls": [url], "urls": [url], "message": "ok"}))
    assert await face(face.client.upload(str(png_path))) == url
    assert await face(face.client.upload(PNG)) == url
    for request in scripted.received:
        (data_url,) = request.json["data_urls"]
        assert decode(data_url) == ("image/png", PNG)
    with pytest.raises(InvalidRequest, match=r"There is no file 'no-such-file\.png'"):
        await face(face.client.upload("no-such-file.png"))
    with pytest.raises(InvalidRequest, match="no such picture file"):
        await face(face.client.upload("https://host/a.png"))
    assert len(scripted.received) == 2
