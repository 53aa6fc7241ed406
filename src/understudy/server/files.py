"""Pictures by their unguessable address, and uploads to be used in later requests."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from ..errors import InvalidRequest, NotAcceptable, NotFound
from ..pictures import InlinePicture, digest_picture, parse_picture_text
from .access import Caller, Running, authenticate, refuse_while_stopping
from .bodies import base_url
from .failures import describe_errors
from .fields import describe_form, parse_json
from .intake import check_once, forget_files, keep_decoded

router = APIRouter(tags=["Files"])

MAX_UPLOADS = 16


class UploadForm(BaseModel):
    """Pictures to keep."""

    data_urls: list[str] = Field(
        min_length=1, max_length=MAX_UPLOADS, description="Pictures as data URIs or bare base64."
    )


class UploadBody(BaseModel):
    """Where the pictures are kept; both lists are the same."""

    file_urls: list[str]
    urls: list[str]
    message: str


@router.post(
    "/upload-asset",
    summary="Upload pictures",
    response_model=UploadBody,
    responses=describe_errors(401, 406, 409, 413, 503),
    openapi_extra=describe_form(UploadForm),
    dependencies=[Depends(refuse_while_stopping)],
)
async def upload(request: Request, service: Running, key: Caller) -> Response:
    """Keep pictures and answer with their URLs, to be given as `ip_image` or `input_image`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise NotAcceptable("Send the pictures as application/json.")
    data_urls = parse_json(await request.body()).get("data_urls")
    if (
        not isinstance(data_urls, list)
        or not 1 <= len(data_urls) <= MAX_UPLOADS
        or not all(isinstance(text, str) for text in data_urls)
    ):
        raise InvalidRequest(
            f"The parameter data_urls must be a list of 1 to {MAX_UPLOADS} data URIs.",
            code="invalid_parameter",
            field="data_urls",
        )
    pictures = [_parse_inline(text) for text in data_urls]
    once = await check_once(request, service, key, [digest_picture(picture) for picture in pictures])
    files = []
    try:
        for picture in pictures:
            files.append(
                await keep_decoded(
                    service,
                    key,
                    picture,
                    field="data_urls",
                    kind="upload",
                    lives_seconds=service.settings.file_ttl_seconds,
                )
            )
        base = base_url(request, service.settings)
        urls = [f"{base}/files/{file.name}" for file in files]
        body = UploadBody(file_urls=urls, urls=urls, message="Uploaded.").model_dump()
        most_bytes = service.settings.account_kept_bytes or 0
        await service.files.add(files, once, body, most_bytes=most_bytes)
    except BaseException:
        await forget_files(service, files)
        raise
    return JSONResponse(body)


def _parse_inline(text: str) -> bytes:
    source = parse_picture_text(text, "data_urls")
    if not isinstance(source, InlinePicture):
        raise InvalidRequest(
            "Give data URIs in data_urls; a URL can be used in a request as it is.",
            code="invalid_picture",
            field="data_urls",
        )
    return source.data


_RANGE = re.compile(rb"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-0*[1-9][0-9]{0,14})")


class PictureFile(FileResponse):
    """A file, or one part of it; any other Range is ignored, as it may be (RFC 9110, 14.2)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the part that is asked for if there is one, else with the whole."""
        size = self.stat_result.st_size if self.stat_result else 0
        headers = [
            (name, value) for name, value in scope["headers"] if name != b"range" or _is_part(value, size)
        ]
        await super().__call__({**scope, "headers": headers}, receive, send)


def _is_part(text: bytes, size: int) -> bool:
    match = _RANGE.fullmatch(text)
    if match is None or match[1] is None:
        return match is not None
    first = int(match[1])
    return first < size and (not match[2] or first <= int(match[2]))


@router.head("/files/{name}", include_in_schema=False)
@router.get(
    "/files/{name}",
    summary="A picture",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The picture.",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("image/png", "image/jpeg", "image/webp")
            },
        },
        **describe_errors(401, 404),
    },
)
async def read_file(
    name: Annotated[str, Path(max_length=64)], request: Request, service: Running
) -> Response:
    """A picture; its address is its key, so that a browser can show it.

    Where pictures are judged, what was given, an upload or a character's, needs a key of its account.
    """
    file = await service.files.find(name)
    if file is not None and not service.may_show(file, None):
        key = await authenticate(request)
        file = file if service.may_show(file, key.account_id) else None
    path = service.blobs.folder / name if file is not None else None
    if file is None or path is None or not path.is_file():
        raise NotFound("There is no such file, or it has expired.", code="file_not_found")
    return PictureFile(
        path,
        stat_result=path.stat(),
        media_type=file.content_type,
        headers={
            "Cache-Control": "private, max-age=3600, immutable",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'",
        },
    )
