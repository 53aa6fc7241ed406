"""Pictures in and out: untrusted bytes -> picture, within limits; picture -> file with its provenance.

Pure and synchronous. It knows nothing of where bytes come from: `fetch.py` downloads them,
`decoder.py` runs `decode_picture` in a process of its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import io
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

# The plugins are imported by name so that Pillow never loads all of its others.
from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from .errors import InvalidRequest, TooLarge

MAX_SIDE = 2048
"""The longest side of a decoded picture, in pixels: no engine looks at more."""

FORMATS = tuple(
    plugin.format
    for plugin in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        AvifImagePlugin.AvifImageFile,
    )
)
"""The file formats that are read; whatever else Pillow knows is refused unopened."""

MAX_SCANS = 200
"""The most scans of a JPEG: encoders write about ten; each more is a pass over all its pixels."""

MAX_ESCAPES = 2_000_000
"""The most percent escapes in a data URI: base64 needs fewer even when it is escaped throughout."""

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
"""The file formats that are written, by the name that `output_format` gives them."""

# EXIF 2.32, tag 0x0112: what has to be done to the stored pixels for each orientation.
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Both alphabets of RFC 4648 are read: the URL-safe one is mapped onto the standard one.
_BASE64_ALPHABET = bytes.maketrans(b"-_", b"+/")
_WHITE_SPACE = b" \t\r\n\f\v"
# Both look at the beginning alone: the text may have many megabytes.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30}):", re.IGNORECASE)
_DATA_URI = re.compile(
    r"data:(?=[^,]{0,1000},)\s*(?:image/[^,;]+|application/octet-stream)?\s*((?:;[^,]*)?),", re.IGNORECASE
)
# ITU-T T.81, B.1.1.2: start of scan. A scan's own bytes never hold it.
_JPEG_START_OF_SCAN = b"\xff\xda"


# Neither shows its content in `repr`: a log must hold no picture and no key out of a query.
@dataclass(frozen=True, repr=False)
class PictureUrl:
    """A picture that is to be fetched."""

    url: str


@dataclass(frozen=True, repr=False)
class InlinePicture:
    """A picture whose file came with the request."""

    data: bytes


def parse_picture_text(text: str, field: str | None = None) -> PictureUrl | InlinePicture:
    """Tell what a picture parameter's text is: an http(s) URL, a data URI or bare base64.

    White space around it is stripped, and inside base64 ignored. Data URIs (RFC 2397) may be
    base64 or percent-encoded. Base64 may be standard or URL-safe, its padding may be missing.
    The bytes of an inline picture are not looked at.

    Raises:
        InvalidRequest: it is none of these (`invalid_picture`).
        TooLarge: more of it is percent-encoded than is read.
    """
    text = text.strip()
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else None
    if scheme in ("http", "https"):
        return PictureUrl(text)
    if scheme == "data":
        return InlinePicture(_read_data_uri(text, field))
    data = None if scheme else _decode_base64(text)
    if not data:
        raise _invalid(field, "must be an http(s) URL, a data URI or base64")
    return InlinePicture(data)


def decode_picture(
    data: bytes,
    *,
    max_bytes: int,
    max_pixels: int,
    max_side: int = MAX_SIDE,
    field: str | None = None,
) -> Image.Image:
    """Decode an untrusted file: PNG, JPEG, WebP, GIF or AVIF, the first frame of an animation.

    The pixels are counted from the header before anything is decoded. The picture comes back
    in RGB, upright by its EXIF orientation, with transparency laid on white, and its longest
    side at most `max_side` pixels.

    Raises:
        TooLarge: more than `max_bytes` or `max_pixels`, or more memory than there is.
        InvalidRequest: it is no such picture or is damaged (`invalid_picture`).
    """
    check_length(data, max_bytes, field)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, max_pixels, field)
            _check_scans(image, data, field)
            return _normalize(image, max_side)
    except (InvalidRequest, TooLarge):
        raise
    except UnidentifiedImageError:
        raise _invalid(field, "is not a PNG, JPEG, WebP, GIF or AVIF picture; send one of these") from None
    except Image.DecompressionBombError:
        least = _millions(2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise _too_large(
            field, f"has more than {least} megapixels; at most {_millions(max_pixels)} are read"
        ) from None
    except MemoryError:
        raise _too_large(field, "takes too much memory to decode; send a smaller one") from None
    except Exception:
        # Parsers of a hostile file raise whatever they stumble over, not OSError alone.
        raise _invalid(field, "is damaged or cut short; send the whole file") from None


def check_length(data: bytes, max_bytes: int, field: str | None = None) -> None:
    """Check that a file is neither empty nor longer than `max_bytes`.

    Raises:
        InvalidRequest: it is empty (`invalid_picture`).
        TooLarge: it is too long.
    """
    if not data:
        raise _invalid(field, "is empty; send the whole file")
    if len(data) > max_bytes:
        raise _too_large(field, f"has {_millions(len(data))} MB; at most {_millions(max_bytes)} are read")


def encode_picture(
    image: Image.Image, output_format: str, provenance: Mapping[str, Any]
) -> tuple[bytes, str]:
    """Encode an RGB picture as `png`, `jpeg` or `webp`; return the file and its content type.

    `provenance` goes into the file as canonical JSON: in the XMP packet, which also says
    that a trained model made the picture (IPTC DigitalSourceType), and in a PNG as the iTXt
    chunk `understudy` besides. The same arguments give the same bytes.

    Raises:
        ValueError: another format, or a provenance that is not JSON.
    """
    if output_format not in CONTENT_TYPES:
        raise ValueError(f"unknown output format {output_format!r}")
    text = _canonical_json(provenance)
    packet = _xmp_packet(text)
    file = io.BytesIO()
    match output_format:
        case "png":
            chunks = PngImagePlugin.PngInfo()
            chunks.add_itxt("understudy", text)
            chunks.add_itxt("XML:com.adobe.xmp", packet)
            # Runs of filtered rows alone: two thirds of the default strategy's time, and no larger.
            image.save(file, "PNG", pnginfo=chunks, compress_type=zlib.Z_RLE)
        case "jpeg":
            # Full chroma: outlines of flat colours fringe under 4:2:0.
            image.save(file, "JPEG", quality=95, subsampling=0, xmp=packet.encode())
        case "webp":
            image.save(file, "WEBP", quality=90, method=4, xmp=packet.encode())
    return file.getvalue(), CONTENT_TYPES[output_format]


def read_provenance(data: bytes) -> dict[str, Any] | None:
    """Read back what `encode_picture` wrote into a PNG, JPEG or WebP file; None where there is none."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            text = image.info.get("understudy")
            if text is None:
                text = _read_xmp_packet(image.info.get("xmp", b""))
        found = json.loads(text) if text else None
    except Exception:
        # Anything may be asked about, damaged files too: they have no provenance.
        return None
    return found if isinstance(found, dict) else None


def encode_preview(image: Image.Image, side: int = 128) -> bytes:
    """Encode a small JPEG of an RGB picture, its longest side `side` pixels: a few kB."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=75)
    return file.getvalue()


def digest_picture(data: bytes) -> str:
    """SHA-256 of a picture's file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def name_picture(field: str | None) -> str:
    """The picture as a message calls it: by the parameter that it came in."""
    return f"The picture in {field}" if field else "The picture"


def _invalid(field: str | None, what: str) -> InvalidRequest:
    return InvalidRequest(f"{name_picture(field)} {what}.", code="invalid_picture", field=field)


def _too_large(field: str | None, what: str) -> TooLarge:
    return TooLarge(f"{name_picture(field)} {what}.", field=field)


def _millions(count: int) -> str:
    return f"{count / 1e6:.4g}"


def _read_data_uri(text: str, field: str | None) -> bytes:
    match = _DATA_URI.match(text)
    if match is None:
        raise _invalid(field, "must be a data URI of a picture: data:image/png;base64,...")
    body = text[match.end() :]
    if body.count("%") > MAX_ESCAPES:
        raise _too_large(field, "is percent-encoded and too large for that; encode it in base64")
    if "base64" in (attribute.strip().lower() for attribute in match[1].split(";")):
        data = _decode_base64(unquote_to_bytes(body) if "%" in body else body)
    else:
        data = unquote_to_bytes(body)
    if not data:
        raise _invalid(field, "is a data URI without a readable picture; encode the whole file in base64")
    return data


def _decode_base64(text: str | bytes) -> bytes | None:
    try:
        digits = text.encode("ascii") if isinstance(text, str) else text
        digits = digits.translate(_BASE64_ALPHABET, delete=_WHITE_SPACE).rstrip(b"=")
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None


def _check_size(image: Image.Image, max_pixels: int, field: str | None) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise _invalid(field, "has no pixels; send another")
    if pixels > max_pixels:
        raise _too_large(
            field, f"has {_millions(pixels)} megapixels; at most {_millions(max_pixels)} are read"
        )


def _check_scans(image: Image.Image, data: bytes, field: str | None) -> None:
    if isinstance(image, JpegImagePlugin.JpegImageFile) and data.count(_JPEG_START_OF_SCAN) > MAX_SCANS:
        raise _invalid(field, f"is a JPEG of more than {MAX_SCANS} scans; save it anew as a plain one")


def _normalize(image: Image.Image, max_side: int) -> Image.Image:
    # A JPEG decoder can shrink by 2, 4 or 8 while it decodes; other formats ignore this.
    image.draft(None, (max_side, max_side))
    image.load()
    turn = _TURNS.get(_read_orientation(image))
    picture = _to_rgb(image)
    if turn is not None:
        picture = picture.transpose(turn)
    scale = max_side / max(picture.size)
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return picture


def _read_orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        # Damaged EXIF is common in sound pictures: it is read as upright.
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey. Pillow's own conversion would clip at 255, not scale.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        image.info.pop("transparency", None)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    picture = Image.new("RGB", image.size, "white")
    picture.paste(layer, mask=layer.getchannel("A"))
    return picture


_XMP_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:understudy="urn:understudy:">\
<Iptc4xmpExt:DigitalSourceType>\
http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\
</Iptc4xmpExt:DigitalSourceType>\
<understudy:provenance>{provenance}</understudy:provenance>\
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>"""
"""XMP (ISO 16684-1); the term is of the IPTC NewsCodes vocabulary `digitalsourcetype`."""

_XMP_PROVENANCE = re.compile(rb"<understudy:provenance>(.*?)</understudy:provenance>", re.DOTALL)


def _xmp_packet(text: str) -> str:
    return _XMP_PACKET.format(provenance=html.escape(text, quote=False))


def _read_xmp_packet(packet: bytes) -> str | None:
    match = _XMP_PROVENANCE.search(packet)
    return html.unescape(match[1].decode()) if match else None


def _canonical_json(provenance: Mapping[str, Any]) -> str:
    """JSON with sorted keys, in UTF-8 but for what neither UTF-8 nor XML can carry.

    Lone surrogates and the two non-characters are written as JSON escapes.
    """
    text = json.dumps(provenance, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.translate({0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"})
    return text.encode("utf-8", "backslashreplace").decode()
