"""Pictures on their way in and out of the SDK: local picture -> data URI, answer -> file.

Whether the bytes are a picture at all is the service's to say; Pillow is only used when the
caller already holds one of its pictures.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from ..parameters import PICTURE_FIELDS

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")

_LEAST_BASE64_LENGTH = 32
"""No picture is so small that its base64 is shorter; what is shorter and has a slash is a path."""


@dataclass(frozen=True)
class PictureAnswer:
    """The answer of the synchronous route: one picture file and its accounting headers."""

    content: bytes
    headers: Mapping[str, str]
    status_code: int = 200

    @property
    def request_id(self) -> str | None:
        """The id under which the service keeps this request."""
        return self.headers.get("x-request-id")

    @property
    def seed(self) -> int | None:
        """The seed that was used."""
        value = self.headers.get("x-seed-value", "")
        return int(value) if value.isdecimal() else None

    def json(self) -> Any:
        """The content as JSON.

        Raises:
            ValueError: the content is a picture.
        """
        return json.loads(self.content)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file (folders on the way are made); return its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        return path


def encode_parameters(parameters: Mapping[str, Any]) -> bytes:
    """The JSON body of a request, its local pictures turned into data URIs.

    Raises:
        InvalidRequest: a picture file cannot be read, or a value has no JSON form
            (`field` names the parameter).
    """
    ready = {
        name: inline_pictures(name, value) if name in PICTURE_FIELDS else value
        for name, value in parameters.items()
    }
    try:
        return json.dumps(ready, allow_nan=False).encode()
    except (TypeError, ValueError):
        for name, value in ready.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise InvalidRequest(
                    f"The parameter {name} cannot be sent as JSON ({type(value).__name__}); "
                    "give plain numbers, text or lists.",
                    code="invalid_parameter",
                    field=name,
                ) from None
        raise


def inline_pictures(field: str, value: Any) -> Any:
    """A picture, or each of a list of them, as `inline_picture` has it."""
    if isinstance(value, list | tuple):
        return [inline_picture(field, one) for one in value]
    return inline_picture(field, value)


def inline_picture(field: str, value: Any) -> Any:
    """A local picture as a data URI; whatever the service reads itself goes through untouched.

    Local are: a path, text that names a file or can be meant for nothing else, bytes, a binary
    file object and a Pillow picture.

    Raises:
        InvalidRequest: the file is not there or cannot be read (`invalid_picture`; `field` is named).
    """
    if isinstance(value, str):
        path = _existing_file(value) or _meant_file(value)
        return value if path is None else _data_uri(_read_file(field, path))
    if isinstance(value, os.PathLike):
        return _data_uri(_read_file(field, Path(value).expanduser()))
    if isinstance(value, bytes | bytearray | memoryview):
        return _data_uri(bytes(value))
    if _is_pillow_picture(value):
        return _data_uri(_png_of(value))
    if hasattr(value, "read"):
        content = value.read()
        if not isinstance(content, bytes):
            raise _invalid(field, "was given as a file in text mode; open it with mode 'rb'")
        return _data_uri(content)
    return value


def picture_names(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """A file name for each image: by the pose asked for where there is one (`01-wave.png`)."""
    names = []
    for place, image in enumerate(images):
        number = image.get("index", place) + 1
        name = image.get("file_name") or Path(image["url"]).name
        pose = re.sub(r"[^\w-]+", "-", image.get("asked_pose") or "").strip("-")
        names.append(f"{number:02}-{pose}{Path(name).suffix}" if pose else name)
    return names


def picture_paths(path: str | os.PathLike[str], names: list[str]) -> list[Path]:
    """Where to save pictures of these names: in a folder, or one picture in that very file.

    Raises:
        InvalidRequest: there are several pictures and `path` is a file.
    """
    folder = Path(path)
    as_folder = folder.is_dir() or str(path).endswith(("/", os.sep))
    if len(names) == 1 and not as_folder:
        return [folder]
    if not as_folder and (folder.suffix or folder.exists()):
        raise InvalidRequest(
            f"There are {len(names)} pictures to save; give a folder, not a file.", field="path"
        )
    # The name is the service's word: no part of it may lead out of the folder.
    plain = [Path(name).name for name in names]
    return [
        folder / (name if name not in ("", "..") else f"{number}.png") for number, name in enumerate(plain, 1)
    ]


def _existing_file(text: str) -> Path | None:
    if text.lstrip()[:8].lower().startswith(("http://", "https://", "data:")):
        return None
    path = Path(text)
    try:
        path = path.expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None  # no possible path: bare base64 is too long for one


def _meant_file(text: str) -> Path | None:
    """What is written like a path: it has no scheme, is no base64, and ends or is divided like one."""
    if re.match(r"\s*[a-z][a-z0-9+.-]+:", text, re.IGNORECASE) or "\0" in text:
        return None
    if text.lower().rstrip().endswith(_PICTURE_SUFFIXES):
        return Path(text)
    base64_like = len(text) >= _LEAST_BASE64_LENGTH and re.fullmatch(r"[A-Za-z0-9+/_=\s-]+", text)
    return Path(text) if ("/" in text or os.sep in text) and not base64_like else None


def _read_file(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidRequest(
            f"There is no file {str(path)!r} for the parameter {field}; "
            "give a path that exists, an http(s) URL, a data URI, bytes or a Pillow picture.",
            code="invalid_picture",
            field=field,
        ) from None
    except OSError as error:
        raise _invalid(field, f"names a file that cannot be read: {str(path)!r} ({error.strerror})") from None


def _invalid(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"The parameter {field} {reason}.", code="invalid_picture", field=field)


def _is_pillow_picture(value: Any) -> bool:
    # Who holds a Pillow picture has imported Pillow; nobody else needs it.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def _png_of(picture: Any) -> bytes:
    if picture.mode not in _PNG_MODES:
        picture = picture.convert("RGB")
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _data_uri(content: bytes) -> str:
    return f"data:{_content_type(content)};base64,{base64.b64encode(content).decode('ascii')}"


def _content_type(content: bytes) -> str:
    """The type that the first bytes tell."""
    for signature, content_type in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
    ):
        if content.startswith(signature):
            return content_type
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return "application/octet-stream"
