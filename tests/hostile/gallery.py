"""Hostile and odd picture files, made here: each by a name that says what is wrong with it."""

from __future__ import annotations

import base64
import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial

from PIL import Image, ImageCms

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(image: Image.Image, file_format: str, **options: object) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def quarters() -> Image.Image:
    """64 x 32: red, green, blue and white, each in its corner."""
    picture = Image.new("RGB", (64, 32), WHITE)
    picture.paste(RED, (0, 0, 32, 16))
    picture.paste(GREEN, (32, 0, 64, 16))
    picture.paste(BLUE, (0, 16, 32, 32))
    return picture


def noise(side: int = 300) -> Image.Image:
    """A picture that no format makes small."""
    return Image.frombytes("RGB", (side, side), random.Random(5).randbytes(side * side * 3))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    depth: int,
    colour_type: int,
    rows: bytes,
    *extra: bytes,
    interlace: int = 0,
    stream: bytes | None = None,
) -> bytes:
    """A PNG file of given rows, or of a given compressed stream; `extra` chunks go before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace)
    pixels = zlib.compress(rows, 9) if stream is None else stream
    chunks = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """One marker segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def exif_directory(entries: int, size: int, *, tag: int | None = None) -> bytes:
    """EXIF whose entries all point at the same `size` bytes; `tag` is that of each, else they count up."""
    listed = b"".join(
        struct.pack(">HHII", tag or 0x9000 + number % 0x6000, 1, size, 8) for number in range(entries)
    )
    return b"MM\x00*" + struct.pack(">IH", 8, entries) + listed + bytes(4 + size)


def grow_webp(chunk: bytes, body: bytes) -> bytes:
    """A WebP file with one chunk more at its end."""
    data = save(quarters(), "WEBP", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00")
    grown = data[:12] + data[12:] + chunk + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(grown) - 8) + grown[8:]


def patch(data: bytes, at: int, new: bytes) -> bytes:
    """A file with some of its bytes replaced."""
    return data[:at] + new + data[at + len(new) :]


def animate(count: int, file_format: str) -> bytes:
    """An animation of `count` frames: red, then green and blue in turn."""
    frames = [Image.new("RGB", (16, 16), (GREEN, BLUE)[number % 2]) for number in range(count - 1)]
    return save(Image.new("RGB", (16, 16), RED), file_format, save_all=True, append_images=frames)


def interlaced() -> bytes:
    """A PNG of 2 x 1 in Adam7: red, then green; each pixel is a pass of its own."""
    return png(2, 1, 8, 2, b"\x00" + bytes(RED) + b"\x00" + bytes(GREEN), interlace=1)


def two_in_one() -> bytes:
    """An MPO, as phones make: a JPEG with a second one behind it."""
    return save(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 32))], quality=95)


def shifted_gif() -> bytes:
    """A GIF whose first frame covers only the right half of its canvas."""
    data = save(Image.new("RGB", (32, 32), RED), "GIF")
    data = patch(data, 6, struct.pack("<H", 64))
    return patch(data, data.index(b",", 13) + 1, struct.pack("<H", 32))


def progressive_scans(count: int) -> bytes:
    """A JPEG of 2048 x 2048 whose last scan comes `count` times."""
    data = save(Image.new("L", (2048, 2048), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def endless_gif_comment(size: int) -> bytes:
    """A GIF with a comment of `size` bytes in blocks of 255."""
    data = save(quarters().quantize(4), "GIF")
    at = data.index(b",", 13)
    comment = b"!\xfe" + (b"\xff" + b"c" * 255) * (size // 256) + b"\x00"
    return data[:at] + comment + data[at:]


def zip_of(name: str, body: bytes) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, body)
    return file.getvalue()


def tiff_cycle() -> bytes:
    """A TIFF whose only directory names itself as the next."""
    return b"II*\x00" + struct.pack("<IHHHIII", 8, 1, 256, 4, 1, 1, 8)


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def lab() -> Image.Image:
    """Lab, which only TIFF and PSD hold."""
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    return ImageCms.applyTransform(quarters(), transform)


@cache
def _png() -> bytes:
    return save(quarters(), "PNG")


@cache
def _jpeg() -> bytes:
    return save(noise(), "JPEG", quality=95)


@cache
def _zeros(size: int) -> bytes:
    """So many zero bytes, deflated to a thousandth."""
    return zlib.compress(bytes(size), 9)


def _png_with(*chunks: bytes) -> bytes:
    return png(8, 8, 8, 2, bytes(25 * 8), *chunks)


def _jpeg_with(*segments: bytes) -> bytes:
    data = save(quarters(), "JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def _jpeg_frame(offset: int, value: bytes) -> bytes:
    """A JPEG with a byte of its frame header replaced."""
    data = save(quarters(), "JPEG")
    return patch(data, data.index(b"\xff\xc0") + offset, value)


def _jpeg_without_tables() -> bytes:
    data = _jpeg()
    return data[: data.index(b"\xff\xc4")] + data[data.index(b"\xff\xda") :]


def _jpeg_broken_huffman() -> bytes:
    data = _jpeg()
    return patch(data, data.index(b"\xff\xc4") + 5, b"\xff" * 16)


def _gif_code_size() -> bytes:
    data = save(quarters().quantize(4), "GIF")
    return patch(data, data.index(b",", 13) + 10, b"\xff")


def _cut(part: float, file_format: str) -> bytes:
    data = save(noise(), file_format)
    return data[: int(len(data) * part)]


def _gif_of_size(width: int, height: int) -> bytes:
    data = patch(save(quarters().quantize(4), "GIF"), 6, struct.pack("<HH", width, height))
    return patch(data, data.index(b",", 13) + 5, struct.pack("<HH", width, height))


def _webp_of_size(side: int) -> bytes:
    data = animate(2, "WEBP")
    return patch(data, data.index(b"VP8X") + 12, (side - 1).to_bytes(3, "little") * 2)


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = save(quarters(), "JPEG")
    return patch(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def _avif_of_size(side: int) -> bytes:
    data = save(quarters(), "AVIF")
    return patch(data, data.index(b"ispe") + 8, struct.pack(">II", side, side))


UNREADABLE, LARGE, READ = "invalid_picture", "too_large", "read"

GALLERY: dict[str, tuple[Callable[[], bytes], str]] = {
    # Cut short.
    "png_signature_alone": (lambda: _png()[:8], UNREADABLE),
    "png_half_a_header": (lambda: _png()[:20], UNREADABLE),
    "png_no_pixels": (lambda: _png()[:33], UNREADABLE),
    **{
        f"{name.lower()}_half": (partial(_cut, 0.5, name), UNREADABLE)
        for name in ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
    },
    "jpeg_header_alone": (lambda: _jpeg()[: _jpeg().index(b"\xff\xda")], UNREADABLE),
    # More than they look.
    "png_400_megapixels": (lambda: png(20_000, 20_000, 1, 0, bytes(2501 * 20_000)), LARGE),
    "png_largest_header": (lambda: png(2**31 - 1, 2**31 - 1, 8, 6, b""), LARGE),
    "gif_largest_header": (lambda: _gif_of_size(65_535, 65_535), LARGE),
    "webp_largest_header": (lambda: _webp_of_size(16_383), LARGE),
    "jpeg_largest_header": (lambda: _jpeg_of_size(65_500, 65_500), LARGE),
    "avif_larger_header": (lambda: _avif_of_size(16_000), LARGE),
    "png_more_rows_than_told": (lambda: png(8, 8, 8, 2, b"", stream=_zeros(100_000_000)), READ),
    "png_ztxt_bomb": (lambda: _png_with(png_chunk(b"zTXt", b"a\0\0" + _zeros(100_000_000))), UNREADABLE),
    "png_itxt_bomb": (
        lambda: _png_with(png_chunk(b"iTXt", b"a\0\1\0\0\0" + _zeros(100_000_000))),
        UNREADABLE,
    ),
    "png_iccp_bomb": (lambda: _png_with(png_chunk(b"iCCP", b"a\0\0" + _zeros(100_000_000))), UNREADABLE),
    "png_many_texts": (
        lambda: _png_with(png_chunk(b"zTXt", b"a\0\0" + _zeros(1_000_000)) * 400),
        UNREADABLE,
    ),
    "png_many_chunks": (lambda: _png_with(png_chunk(b"prIv", b"") * 200_000), READ),
    "png_exif_bomb": (lambda: _png_with(png_chunk(b"eXIf", exif_directory(65_535, 15_000_000))), READ),
    "png_exif_of_one_tag": (
        lambda: _png_with(png_chunk(b"eXIf", exif_directory(65_535, 15_000_000, tag=0x9C9B))),
        READ,
    ),
    "webp_exif_bomb": (lambda: grow_webp(b"EXIF", exif_directory(65_535, 15_000_000)), READ),
    "jpeg_exif_in_many_segments": (
        lambda: _jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + exif_directory(3000, 20_000)) * 250),
        READ,
    ),
    "jpeg_many_segments": (lambda: _jpeg_with(jpeg_segment(0xFE, b"") * 500_000), READ),
    "jpeg_endless_scans": (lambda: progressive_scans(100_000), UNREADABLE),
    "gif_endless_comment": (lambda: endless_gif_comment(19_000_000), READ),
    "gif_5000_frames": (lambda: animate(5000, "GIF"), READ),
    "apng_1000_frames": (lambda: animate(1000, "PNG"), READ),
    "webp_1000_frames": (lambda: animate(1000, "WEBP"), READ),
    "avif_100_frames": (lambda: animate(100, "AVIF"), READ),
    # Nothing in them.
    "png_zero_wide": (lambda: png(0, 5, 8, 2, b""), UNREADABLE),
    "png_zero_high": (lambda: png(5, 0, 8, 2, b""), UNREADABLE),
    "gif_zero": (lambda: _gif_of_size(0, 0), UNREADABLE),
    "jpeg_zero_high": (lambda: _jpeg_of_size(64, 0), UNREADABLE),
    "jpeg_zero_wide": (lambda: _jpeg_of_size(0, 32), UNREADABLE),
    # Broken inside.
    "png_wrong_checksum": (lambda: patch(_png(), 29, b"\0\0\0\0"), UNREADABLE),
    "png_no_deflate": (lambda: png(64, 32, 8, 2, b"", stream=b"\xff" * 500), UNREADABLE),
    "png_unknown_filter": (lambda: png(8, 8, 8, 2, (b"\x09" + bytes(24)) * 8), UNREADABLE),
    "png_unknown_depth": (lambda: png(8, 8, 7, 2, bytes(25 * 8)), UNREADABLE),
    "png_palette_missing": (lambda: png(8, 8, 8, 3, (b"\0" + b"\xff" * 8) * 8), UNREADABLE),
    "jpeg_broken_huffman": (_jpeg_broken_huffman, UNREADABLE),
    "jpeg_without_tables": (_jpeg_without_tables, READ),
    "jpeg_255_components": (lambda: _jpeg_frame(9, b"\xff"), UNREADABLE),
    "jpeg_huge_sampling": (lambda: _jpeg_frame(11, b"\xff"), UNREADABLE),
    "gif_code_size_255": (_gif_code_size, UNREADABLE),
    "webp_lying_length": (lambda: patch(save(quarters(), "WEBP"), 4, b"\xff\xff\xff\x7f"), UNREADABLE),
    "webp_empty": (lambda: b"RIFF\x0c\0\0\0WEBPVP8 \0\0\0\0", UNREADABLE),
    # Something else, whatever its name says.
    "empty": (lambda: b"", UNREADABLE),
    "nul": (lambda: bytes(100_000), UNREADABLE),
    "html": (lambda: b"<!doctype html><img src=x onerror=alert(1)>", UNREADABLE),
    "svg": (
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        UNREADABLE,
    ),
    "svg_entities": (
        lambda: b"<!DOCTYPE a [<!ENTITY b 'ha'><!ENTITY c '&b;&b;'>]><svg>&c;</svg>",
        UNREADABLE,
    ),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", UNREADABLE),
    "pdf": (lambda: save(quarters(), "PDF"), UNREADABLE),
    "ico": (lambda: save(quarters(), "ICO"), UNREADABLE),
    "icns": (lambda: save(quarters().resize((64, 64)), "ICNS"), UNREADABLE),
    "psd": (lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(12), UNREADABLE),
    "bmp_huge_offset": (lambda: patch(save(quarters(), "BMP"), 10, b"\xff\xff\xff\x7f"), UNREADABLE),
    "tiff": (lambda: save(quarters(), "TIFF"), UNREADABLE),
    "tiff_lab": (lambda: save(lab(), "TIFF"), UNREADABLE),
    "tiff_cycle": (tiff_cycle, UNREADABLE),
    "tiff_bomb": (
        lambda: save(Image.new("1", (20_000, 20_000)), "TIFF", compression="tiff_deflate"),
        UNREADABLE,
    ),
    "jpeg_2000": (lambda: save(quarters(), "JPEG2000"), UNREADABLE),
    "zip": (lambda: zip_of("a.png", _png()), UNREADABLE),
    "gzip_of_a_png": (lambda: gzip.compress(_png()), UNREADABLE),
    "base64_of_a_png": (lambda: base64.b64encode(_png()), UNREADABLE),
    "pickle": (lambda: b"cos\nsystem\n(S'true'\ntR.", UNREADABLE),
    "elf": (lambda: b"\x7fELF\2\1\1" + bytes(200), UNREADABLE),
    "heic": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), UNREADABLE),
    "pdf_then_png": (lambda: b"%PDF-1.7\n" + _png(), UNREADABLE),
    # Two things at once: read as the picture that they begin as.
    "png_then_zip": (lambda: _png() + zip_of("evil.sh", b"rm -rf /"), READ),
    "gif_then_script": (lambda: save(quarters(), "GIF") + b"*/=1;alert(1)//", READ),
    "jpeg_with_pdf_inside": (lambda: _jpeg_with(jpeg_segment(0xFE, b"%PDF-1.7 1 0 obj endobj")), READ),
}
"""Every hostile file by its name: what makes it, and how it ends (a code, or `read`)."""

QUARTERS = {(3, 3): RED, (60, 3): GREEN, (3, 28): BLUE, (60, 28): WHITE}

ODD: dict[str, tuple[Callable[[], bytes], tuple[int, int], dict[tuple[int, int], tuple[int, int, int]]]] = {
    "progressive_jpeg": (lambda: save(quarters(), "JPEG", progressive=True, quality=95), (64, 32), QUARTERS),
    "cmyk_jpeg": (
        lambda: save(Image.new("CMYK", (64, 32), (0, 255, 255, 0)), "JPEG", quality=95),
        (64, 32),
        {(9, 9): RED},
    ),
    "two_pictures_in_one_jpeg": (two_in_one, (64, 32), QUARTERS),
    "interlaced_png": (interlaced, (2, 1), {(0, 0): RED, (1, 0): GREEN}),
    "bilevel_png": (lambda: save(Image.new("1", (9, 9), 1), "PNG"), (9, 9), {(4, 4): WHITE}),
    "16_bit_grey_png": (lambda: save(Image.new("I;16", (9, 9), 0x8080), "PNG"), (9, 9), {(4, 4): (128,) * 3}),
    "16_bit_rgba_png": (
        lambda: png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 65_535, 0, 0, 65_535)),
        (1, 1),
        {(0, 0): RED},
    ),
    "palette_png": (lambda: save(quarters().quantize(8), "PNG"), (64, 32), QUARTERS),
    "transparent_png": (
        lambda: save(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), "PNG"),
        (9, 9),
        {(4, 4): WHITE},
    ),
    "turned_jpeg": (
        lambda: save(quarters().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=_exif(6)),
        (64, 32),
        QUARTERS,
    ),
    "shifted_gif": (shifted_gif, (64, 32), {(50, 9): RED}),
    "line_of_65500": (lambda: save(Image.new("RGB", (65_500, 1), RED), "PNG"), (2048, 1), {(9, 0): RED}),
    "column_of_65500": (lambda: save(Image.new("RGB", (1, 65_500), RED), "JPEG"), (1, 2048), {(0, 9): RED}),
    "one_pixel": (lambda: save(Image.new("RGB", (1, 1), RED), "WEBP", lossless=True), (1, 1), {(0, 0): RED}),
    "gif_5000_frames": (lambda: animate(5000, "GIF"), (16, 16), {(8, 8): RED}),
    "apng_1000_frames": (lambda: animate(1000, "PNG"), (16, 16), {(8, 8): RED}),
    "webp_1000_frames": (lambda: animate(1000, "WEBP"), (16, 16), {(8, 8): RED}),
}
"""Odd files that are sound: what makes each, its size when it is read, and some of its pixels."""
