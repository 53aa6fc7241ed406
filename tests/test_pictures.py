"""Pictures in (every format, every way to break one) and pictures out (provenance)."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import struct
import zlib
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from understudy.errors import InvalidRequest, TooLarge
from understudy.pictures import (
    CONTENT_TYPES,
    InlinePicture,
    PictureUrl,
    decode_picture,
    digest_picture,
    encode_picture,
    encode_preview,
    parse_picture_text,
    read_provenance,
)

LIMITS = {"max_bytes": 20_000_000, "max_pixels": 40_000_000}
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def decode(data: bytes, **limits: int) -> Image.Image:
    return decode_picture(data, field="ip_image", **{**LIMITS, **limits})


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    content = b"".join([*extra, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + header + content


def is_near(colour: tuple[int, ...], other: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, other, strict=True))


def quarters() -> Image.Image:
    """64 x 32, all four corners different, so that a turn or a flip shows."""
    picture = Image.new("RGB", (64, 32), WHITE)
    picture.paste(RED, (0, 0, 32, 16))
    picture.paste(GREEN, (32, 0, 64, 16))
    picture.paste(BLUE, (0, 16, 32, 32))
    return picture


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    right, bottom = picture.width - 4, picture.height - 4
    return [picture.getpixel(at) for at in ((3, 3), (right, 3), (3, bottom), (right, bottom))]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
def test_each_format_is_read(file_format: str) -> None:
    picture = decode(save(quarters(), file_format))
    assert picture.mode == "RGB"
    assert picture.size == (64, 32)
    for found, expected in zip(corners(picture), (RED, GREEN, BLUE, WHITE), strict=True):
        assert is_near(found, expected)


@pytest.mark.parametrize("file_format", ["BMP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000", "PDF"])
def test_other_formats_are_refused_though_pillow_knows_them(file_format: str) -> None:
    with pytest.raises(InvalidRequest, match="ip_image is not a PNG, JPEG, WebP, GIF or AVIF") as caught:
        decode(save(quarters(), file_format))
    assert caught.value.code == "invalid_picture"
    assert caught.value.field == "ip_image"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(file_format: str, orientation: int) -> None:
    # What a camera held that way would have stored, for the upright picture of `quarters`.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    picture = quarters() if stored is None else quarters().transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(save(picture, file_format, exif=exif.tobytes()))
    assert upright.size == (64, 32)
    for found, expected in zip(corners(upright), (RED, GREEN, BLUE, WHITE), strict=True):
        assert is_near(found, expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_and_huge_exif_do_no_harm() -> None:
    garbage = b"Exif\x00\x00MM\x00*" + b"\xff" * 500
    assert decode(save(quarters(), "JPEG", exif=garbage)).size == (64, 32)
    jpeg = save(quarters(), "JPEG")
    segment = b"\xff\xe1\xff\xff" + b"Exif\x00\x00" + b"II*\x00" + b"\xfe" * (0xFFFF - 2 - 10)
    assert decode(jpeg[:2] + segment * 100 + jpeg[2:]).size == (64, 32)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "AVIF"])
def test_transparency_is_laid_on_white(file_format: str) -> None:
    picture = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 16, 32))
    picture.paste((0, 0, 0, 128), (16, 0, 32, 16))
    flat = decode(save(picture, file_format, lossless=True, quality=100))
    assert is_near(flat.getpixel((4, 4)), BLUE)
    assert is_near(flat.getpixel((28, 28)), WHITE)
    assert is_near(flat.getpixel((28, 4)), (127, 127, 127))


def test_other_kinds_of_transparency_are_laid_on_white() -> None:
    palette = quarters().quantize(8)
    clear = palette.getpixel((3, 3))
    assert is_near(decode(save(palette, "PNG", transparency=clear)).getpixel((3, 3)), WHITE)
    assert is_near(decode(save(palette, "GIF", transparency=clear)).getpixel((3, 3)), WHITE)
    keyed = decode(save(quarters(), "PNG", transparency=RED))
    assert keyed.getpixel((3, 3)) == WHITE
    assert keyed.getpixel((60, 3)) == GREEN
    grey = Image.new("LA", (8, 8), (0, 0))
    assert decode(save(grey, "PNG")).getpixel((4, 4)) == WHITE
    bilevel = Image.new("1", (8, 8), 1)
    assert decode(save(bilevel, "PNG")).getpixel((4, 4)) == WHITE


def test_16_bit_pictures_are_scaled_not_clipped() -> None:
    grey = decode(save(Image.new("I;16", (8, 8), 0x8080), "PNG"))
    assert grey.getpixel((4, 4)) == (0x80, 0x80, 0x80)
    row = b"\x00" + struct.pack(">HHH", 0x4040, 0x8080, 0xFFFF) * 8
    colour = decode(png(8, 8, 16, 2, row * 8))
    assert is_near(colour.getpixel((4, 4)), (0x40, 0x80, 0xFF), 1)
    row = b"\x00" + struct.pack(">HHHH", 0, 0, 0, 0) * 8
    assert decode(png(8, 8, 16, 6, row * 8)).getpixel((4, 4)) == WHITE


def test_16_bit_grey_with_a_transparent_key_is_read() -> None:
    row = b"\x00" + struct.pack(">H", 0x8080) * 8
    data = png(8, 8, 16, 0, row * 8, png_chunk(b"tRNS", struct.pack(">H", 7)))
    assert decode(data).getpixel((4, 4)) == (0x80, 0x80, 0x80)


def test_cmyk_jpeg_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    assert is_near(decode(save(cmyk, "JPEG", quality=95)).getpixel((16, 16)), RED)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation_is_read(file_format: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    data = save(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert is_near(decode(data).getpixel((16, 16)), RED)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_large_pictures_are_shrunk(file_format: str) -> None:
    picture = decode(save(quarters().resize((5000, 2500)), file_format))
    assert picture.size == (2048, 1024)
    assert is_near(picture.getpixel((10, 10)), RED)


def test_a_line_keeps_one_pixel() -> None:
    assert decode(save(Image.new("RGB", (9000, 1)), "PNG")).size == (2048, 1)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(file_format: str, part: float) -> None:
    data = save(Image.effect_noise((300, 300), 60).convert("RGB"), file_format)
    with pytest.raises(InvalidRequest) as caught:
        decode(data[: int(len(data) * part)])
    assert caught.value.code == "invalid_picture"
    assert caught.value.message.startswith("The picture in ip_image is ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, this is text",
        b"<html><body>no</body></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0\n/quit",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\x00\x00\x00\x00WEBP",
        b"\xff\xd8\xff\xe0" + b"\x00" * 100,
        b"\x00" * 1000,
        bytes(range(256)) * 16,
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(data)
    assert caught.value.code == "invalid_picture"
    assert "ip_image" in caught.value.message


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_zero_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest):
        decode(png(*size, 8, 2, b"\x00"))
    gif = bytearray(save(Image.new("P", (5, 5)), "GIF"))
    gif[6:10] = struct.pack("<HH", *size)
    at = gif.index(b",", 13)
    gif[at + 5 : at + 9] = struct.pack("<HH", *size)
    with pytest.raises(InvalidRequest):
        decode(bytes(gif))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_by_their_header() -> None:
    with pytest.raises(TooLarge, match="has 169 megapixels; at most 40 are read") as caught:
        decode(png(13_000, 13_000, 8, 2, b""))
    assert caught.value.code == "too_large"
    with pytest.raises(TooLarge, match="megapixels; at most 40"):
        decode(png(2**31 - 1, 2**31 - 1, 1, 0, b""))
    gif = bytearray(save(Image.new("P", (5, 5)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    with pytest.raises(TooLarge, match="megapixels; at most 40"):
        decode(bytes(gif))
    webp = bytearray(save(quarters(), "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 32))]))
    at = webp.index(b"VP8X") + 12
    webp[at : at + 6] = (16_000).to_bytes(3, "little") * 2
    with pytest.raises(TooLarge, match="megapixels; at most 40"):
        decode(bytes(webp))


def test_more_pixel_data_than_the_header_tells_is_not_unpacked() -> None:
    # 100 MB of rows behind a header of 8 x 8: only the rows of the header are decoded.
    assert decode(png(8, 8, 8, 2, bytes(100_000_000))).size == (8, 8)


def test_a_text_chunk_that_unpacks_to_much_is_refused() -> None:
    bomb = png_chunk(b"zTXt", b"comment\x00\x00" + zlib.compress(bytes(200_000_000), 9))
    with pytest.raises(InvalidRequest):
        decode(png(1, 1, 8, 2, bytes(4), bomb))


def test_files_over_the_limit_are_refused() -> None:
    data = save(quarters(), "PNG")
    with pytest.raises(TooLarge, match="MB; at most"):
        decode(data, max_bytes=len(data) - 1)
    assert decode(data, max_bytes=len(data)).size == (64, 32)
    with pytest.raises(TooLarge, match="megapixels"):
        decode(data, max_pixels=64 * 32 - 1)
    assert decode(data, max_pixels=64 * 32).size == (64, 32)


def test_a_polyglot_is_read_as_the_picture_that_it_begins_as() -> None:
    for file_format in ("PNG", "JPEG", "GIF", "WEBP"):
        data = save(quarters(), file_format) + b"PK\x03\x04<script>alert(1)</script>"
        assert decode(data).size == (64, 32)
    with pytest.raises(InvalidRequest):
        decode(b"%PDF-1.7\n" + save(quarters(), "PNG"))


def test_messages_without_a_field() -> None:
    with pytest.raises(InvalidRequest, match=r"^The picture is not a PNG"):
        decode_picture(b"text", **LIMITS)


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "AVIF"]), st.data())
def test_damage_anywhere_is_read_or_refused(noise: bytes, file_format: str, data: st.DataObject) -> None:
    whole = save(quarters(), file_format)
    at = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(InvalidRequest, TooLarge):
        assert decode(whole[:at] + noise + whole[at + len(noise) :]).mode == "RGB"


PNG_FILE = save(quarters(), "PNG")
PNG_BASE64 = base64.b64encode(PNG_FILE).decode()


@pytest.mark.parametrize(
    "text",
    [
        PNG_BASE64,
        f"  {PNG_BASE64}\n",
        PNG_BASE64.rstrip("="),
        base64.urlsafe_b64encode(PNG_FILE).decode(),
        "\r\n".join(PNG_BASE64[i : i + 76] for i in range(0, len(PNG_BASE64), 76)),
        f"data:image/png;base64,{PNG_BASE64}",
        f" DATA:image/png;BASE64,{PNG_BASE64}",
        f"data:image/x-unheard-of;charset=utf-8;name=a.png;base64,{PNG_BASE64}",
        f"data:image/png;base64,{quote(PNG_BASE64, safe='')}",
        f"data:application/octet-stream;base64,{PNG_BASE64}",
        f"data:;base64,{PNG_BASE64}",
        f"data:image/png,{quote(PNG_FILE)}",
    ],
)
def test_inline_pictures_are_read(text: str) -> None:
    assert parse_picture_text(text, "ip_image") == InlinePicture(PNG_FILE)


def test_urls_are_told_apart() -> None:
    url = "https://pictures.example/a.png?key=secret"
    found = parse_picture_text(f" {url} ", "ip_image")
    assert found == PictureUrl(url)
    assert "secret" not in repr(found)
    assert parse_picture_text("HTTP://pictures.example/a.png") == PictureUrl("HTTP://pictures.example/a.png")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "file:///etc/passwd",
        "ftp://pictures.example/a.png",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "javascript:alert(1)",
        "blob:https://pictures.example/1",
        "//pictures.example/a.png",
        "hero.png",
        "a",
        "Ünïcode",
        "data:image/png;base64,",
        "data:image/png;base64,!!!!",
        "data:image/png",
        "data:text/html,<b>no</b>",
        "data:text/plain;base64,aGVsbG8=",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_picture_text(text, "input_image")
    assert caught.value.code == "invalid_picture"
    assert caught.value.field == "input_image"
    assert caught.value.message.startswith("The picture in input_image ")


@given(st.binary(min_size=1))
def test_base64_round_trip(data: bytes) -> None:
    for text in (base64.b64encode(data), base64.urlsafe_b64encode(data).rstrip(b"=")):
        assert parse_picture_text(text.decode()) == InlinePicture(data)


PROVENANCE = {
    "seed": 4898558797,
    "prompt": 'a <knight> & "friends" &amp; ünï ☃ 😀 \u0000 \ufffe \ud800 ]]> </understudy:provenance>',
    "parameters": {"steps": 10, "guidance_scale": 3.0, "pose": None, "poses": [[0.5, 0.25]]},
    "engine": "toon",
}


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_provenance_round_trip(output_format: str) -> None:
    data, content_type = encode_picture(quarters(), output_format, PROVENANCE)
    assert content_type == CONTENT_TYPES[output_format]
    assert read_provenance(data) == PROVENANCE
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in data
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.get_format_mimetype() == content_type
        assert picture.size == (64, 32)
    again, _ = encode_picture(quarters(), output_format, dict(reversed(PROVENANCE.items())))
    assert again == data


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_the_xmp_packet_is_well_formed(output_format: str) -> None:
    data, _ = encode_picture(quarters(), output_format, PROVENANCE)
    with Image.open(io.BytesIO(data)) as picture:
        packet = ElementTree.fromstring(picture.info["xmp"])
    source = packet.find(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert source.text == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert json.loads(packet.find(".//{urn:understudy:}provenance").text) == PROVENANCE


def test_a_png_also_has_the_itxt_chunk() -> None:
    data, _ = encode_picture(quarters(), "png", {"b": "ü", "a": 1})
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.text["understudy"] == '{"a":1,"b":"ü"}'


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_the_longest_prompts_fit(output_format: str) -> None:
    provenance = {"prompt": "&😀" * 1000, "negative_prompt": '<"' * 1000, "keypoints": [[0.1 / 3] * 3] * 18}
    data, _ = encode_picture(quarters(), output_format, provenance)
    assert read_provenance(data) == provenance


def test_a_png_keeps_every_pixel() -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    data, _ = encode_picture(noise, "png", {})
    assert decode(data).tobytes() == noise.tobytes()


def test_files_without_provenance() -> None:
    for file_format in ("PNG", "JPEG", "WEBP", "GIF"):
        assert read_provenance(save(quarters(), file_format)) is None
    assert read_provenance(b"") is None
    assert read_provenance(b"text") is None


def test_unknown_output_format() -> None:
    with pytest.raises(ValueError, match="bmp"):
        encode_picture(quarters(), "bmp", {})


def test_previews_are_small() -> None:
    noise = Image.effect_noise((1024, 768), 40).convert("RGB")
    data = encode_preview(noise)
    assert len(data) < 12_000
    assert decode(data).size == (128, 96)
    assert noise.size == (1024, 768)


def test_digest_is_sha256() -> None:
    assert digest_picture(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
