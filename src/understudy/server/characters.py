"""The account's saved characters."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ..errors import InvalidRequest
from ..fetch import FetchFailed
from ..jobs.characters import Character, new_character
from ..parameters import name_unknown
from ..pictures import InlinePicture, digest_picture, parse_picture_text
from .access import Caller, Running, refuse_while_stopping
from .bodies import base_url
from .failures import describe_errors
from .intake import check_once, find_own_file, forget_files, keep_decoded, parse_form, read_fields

router = APIRouter(prefix="/v1/characters", tags=["Characters"])


class CharacterForm(BaseModel):
    """What a character is saved with."""

    name: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$",
        description="Letters, digits, space, dot, dash and underscore.",
    )
    ip_image: str = Field(min_length=1, description="The character reference, as in a request.")
    prompt: str = Field(default="", max_length=2000, description="The prompt that describes it.")


def _describe_form() -> dict[str, Any]:
    """The same as a form, whose picture is a file."""
    schema = CharacterForm.model_json_schema()
    schema["properties"]["ip_image"] |= {"format": "binary"}
    return schema


class CharacterBody(BaseModel):
    """A saved character; use it as `character:<name>`."""

    name: str
    prompt: str
    url: str
    created_at: float
    warnings: list[str] = []


class CharactersBody(BaseModel):
    """The account's characters."""

    characters: list[CharacterBody]


class CharacterDeletedBody(BaseModel):
    """What was deleted."""

    name: str
    deleted: bool


Name = Annotated[str, Path(max_length=64)]


@router.get("", summary="The account's characters", responses=describe_errors(401))
async def list_characters(request: Request, service: Running, key: Caller) -> CharactersBody:
    """Every saved character of the account, by name."""
    base = base_url(request, service.settings)
    return CharactersBody(
        characters=[_body(character, base) for character in await service.characters.list(key.account_id)]
    )


@router.post(
    "",
    summary="Save a character",
    status_code=201,
    response_model=CharacterBody,
    responses=describe_errors(401, 406, 409, 413, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": CharacterForm.model_json_schema()},
                "multipart/form-data": {"schema": _describe_form()},
            },
        }
    },
    dependencies=[Depends(refuse_while_stopping)],
)
async def save_character(request: Request, service: Running, key: Caller) -> Response:
    """Keep a reference picture under a name."""
    raw, attachments = await read_fields(request)
    if "ip_image" in attachments:
        raw["ip_image"] = "attachment"
    form = parse_form(raw, CharacterForm)
    asked = {**form.model_dump(), **{name: digest_picture(data) for name, data in attachments.items()}}
    once = await check_once(request, service, key, asked)
    data = attachments.get("ip_image")
    if data is None:
        data = await _get_picture(form.ip_image, request, service)
    file = await keep_decoded(service, key, data, field="ip_image", kind="character", lives_seconds=None)
    character = new_character(form.name, form.prompt, file)
    saved = _body(character, base_url(request, service.settings))
    saved.warnings = name_unknown(raw, CharacterForm.model_fields)
    body = saved.model_dump()
    try:
        await service.characters.save(character, file, once, body)
    except BaseException:
        await forget_files(service, [file])
        raise
    return JSONResponse(body, status_code=201)


@router.get("/{name}", summary="One character", responses=describe_errors(401, 404))
async def read_character(name: Name, request: Request, service: Running, key: Caller) -> CharacterBody:
    """A saved character."""
    character = await service.characters.find(key.account_id, name)
    return _body(character, base_url(request, service.settings))


@router.delete("/{name}", summary="Delete a character", responses=describe_errors(401, 404))
async def delete_character(name: Name, service: Running, key: Caller) -> CharacterDeletedBody:
    """Forget a character and its picture."""
    await service.characters.delete(key.account_id, name, service.settings.job_deadline_seconds)
    return CharacterDeletedBody(name=name, deleted=True)


async def _get_picture(text: str, request: Request, service: Running) -> bytes:
    source = parse_picture_text(text, "ip_image")
    if isinstance(source, InlinePicture):
        return source.data
    own = find_own_file(source.url, request, service)
    if own is None:
        try:
            return await service.fetcher.fetch(source.url, "ip_image")
        except FetchFailed as error:
            # No job is there to fail: here it is the request that cannot be met.
            raise InvalidRequest(error.message, code=error.code, field="ip_image") from None
    file = await service.files.find(own)
    data = await service.blobs.get(own) if file is not None else None
    if data is None:
        raise InvalidRequest(
            "The file given as ip_image does not exist here or has expired; upload it again.",
            code="invalid_picture",
            field="ip_image",
        )
    return data


def _body(character: Character, base: str) -> CharacterBody:
    return CharacterBody(
        name=character.name,
        prompt=character.prompt,
        url=f"{base}/files/{character.file_name}",
        created_at=character.created_at,
    )
