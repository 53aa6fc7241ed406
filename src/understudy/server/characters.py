"""The account's saved characters."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ..accounts.keys import Key
from ..errors import InvalidRequest
from ..fetch import FetchFailed
from ..jobs.characters import MOST_PICTURES, Character, CharacterChange
from ..jobs.files import StoredFile, file_gone
from ..parameters import LONGEST_PROMPT, Text, name_unknown
from ..pictures import InlinePicture, digest_picture, parse_picture_text
from .access import Caller, Lister, Running, check_scope, refuse_while_stopping
from .bodies import base_url
from .failures import describe_errors
from .fields import Form, parse_form, read_fields
from .intake import KEY_PARAMETER, check_once, find_own_file, forget_files, keep_decoded

router = APIRouter(prefix="/v1/characters", tags=["Characters"])

NAME_WORDS = "Letters, digits, space, dot, dash and underscore."
PROMPT_WORDS = f"What a request that has none of its own is drawn with, at most {LONGEST_PROMPT} characters."

Picture = Annotated[str, Field(min_length=1)]
Pictures = Picture | Annotated[list[Picture], Field(min_length=1, max_length=MOST_PICTURES)]
NewName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")]
Prompt = Annotated[Text, Field(max_length=LONGEST_PROMPT)]


class CharacterForm(BaseModel):
    """What a character is saved with."""

    name: NewName = Field(description=NAME_WORDS)
    ip_image: Pictures = Field(
        description="The character reference, as in a request: one picture, or a list of "
        f"1 to {MOST_PICTURES}, which are used together."
    )
    prompt: Prompt = Field(default="", description=PROMPT_WORDS)
    negative_prompt: Prompt = Field(default="", description=PROMPT_WORDS)


class CharacterChangeForm(BaseModel):
    """What is to be changed of a character; what is not given stays as it is."""

    name: NewName | None = Field(default=None, description=f"The new name. {NAME_WORDS}")
    ip_image: Pictures | None = Field(
        default=None,
        description="All pictures that it has from then on: one, or a list of "
        f"1 to {MOST_PICTURES}. Those of its own that are to stay are given by their URLs.",
    )
    prompt: Prompt | None = Field(default=None, description=PROMPT_WORDS)
    negative_prompt: Prompt | None = Field(default=None, description=PROMPT_WORDS)


def _describe_body(form: type[BaseModel]) -> dict[str, Any]:
    """The request body of a route for OpenAPI: as JSON, or as a form, whose pictures are files."""
    schema = form.model_json_schema()
    # A form has no null: what is not given is left out.
    fields = {
        name: {"description": value["description"], **value.get("anyOf", [value])[0]}
        for name, value in schema["properties"].items()
    }
    fields["ip_image"] = {
        "description": fields["ip_image"]["description"],
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": MOST_PICTURES,
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                "multipart/form-data": {"schema": {**schema, "properties": fields}},
            },
        }
    }


class CharacterBody(BaseModel):
    """A saved character; use it as `character:<name>`."""

    name: str
    prompt: str
    negative_prompt: str
    url: str = Field(description="The first picture's URL.")
    urls: list[str] = Field(description="The URLs of all its pictures, in their order.")
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
async def list_characters(request: Request, service: Running, key: Lister) -> CharactersBody:
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
    openapi_extra=_describe_body(CharacterForm),
    dependencies=[Depends(refuse_while_stopping)],
)
async def save_character(request: Request, service: Running, key: Caller) -> Response:
    """Keep reference pictures under a name, and the prompts that go with them."""
    asked = await _read_asked(request, CharacterForm)
    once = await check_once(request, service, key, asked.describe())
    async with _keep_pictures(asked.pictures, request, service, key) as kept:
        character = Character(
            account_id=key.account_id,
            name=asked.form.name,
            prompt=asked.form.prompt,
            negative_prompt=asked.form.negative_prompt,
            file_names=tuple(kept.names),
            created_at=time.time(),
        )
        body = _body(character, base_url(request, service.settings), asked.warnings).model_dump()
        most_bytes = service.settings.account_kept_bytes or 0
        await service.characters.save(character, kept.files, once, body, most_bytes=most_bytes)
    return JSONResponse(body, status_code=201)


@router.get("/{name}", summary="One character", responses=describe_errors(401, 404))
async def read_character(name: Name, request: Request, service: Running, key: Caller) -> CharacterBody:
    """A saved character."""
    character = await service.characters.find(key.account_id, name)
    return _body(character, base_url(request, service.settings))


@router.patch(
    "/{name}",
    summary="Change a character",
    response_model=CharacterBody,
    responses=describe_errors(401, 404, 406, 409, 413, 503),
    openapi_extra={**_describe_body(CharacterChangeForm), "parameters": [KEY_PARAMETER]},
    dependencies=[Depends(refuse_while_stopping)],
)
async def update_character(name: Name, request: Request, service: Running, key: Caller) -> Response:
    """Rename a character, or change its prompts or its pictures; jobs that are there keep what they had."""
    # It is answered with the whole character.
    check_scope(key, "read")
    asked = await _read_asked(request, CharacterChangeForm)
    once = await check_once(request, service, key, asked.describe())
    own = (await service.characters.find(key.account_id, name)).file_names
    base = base_url(request, service.settings)
    async with _keep_pictures(asked.pictures, request, service, key, own) as kept:
        body = await service.characters.update(
            key.account_id,
            name,
            CharacterChange(
                name=asked.form.name,
                prompt=asked.form.prompt,
                negative_prompt=asked.form.negative_prompt,
                file_names=tuple(kept.names) or None,
                new_files=kept.files,
            ),
            held_seconds=service.settings.job_deadline_seconds,
            describe=lambda character: _body(character, base, asked.warnings).model_dump(),
            once=once,
            most_bytes=service.settings.account_kept_bytes or 0,
        )
    return JSONResponse(body)


@router.delete("/{name}", summary="Delete a character", responses=describe_errors(401, 404))
async def delete_character(name: Name, service: Running, key: Caller) -> CharacterDeletedBody:
    """Forget a character and its pictures."""
    await service.characters.delete(key.account_id, name, service.settings.job_deadline_seconds)
    return CharacterDeletedBody(name=name, deleted=True)


@dataclass(frozen=True)
class _Asked(Generic[Form]):
    """What a request asks: a form, and its pictures apart, as text or as the bytes of a file."""

    form: Form
    pictures: list[str | bytes]
    warnings: list[str]

    def describe(self) -> dict[str, Any]:
        """The same as JSON; of pictures that came with it the digests, however they were written."""
        return {**self.form.model_dump(), "ip_image": [_describe_picture(one) for one in self.pictures]}


def _describe_picture(picture: str | bytes) -> str:
    source = parse_picture_text(picture, "ip_image") if isinstance(picture, str) else InlinePicture(picture)
    return f"sha256:{digest_picture(source.data)}" if isinstance(source, InlinePicture) else source.url


async def _read_asked(request: Request, form: type[Form]) -> _Asked[Form]:
    raw = await read_fields(request)
    warnings = name_unknown(raw, form.model_fields)
    given = raw.get("ip_image")
    if given is None:
        return _Asked(parse_form(raw, form), [], warnings)
    pictures = given if isinstance(given, list) else [given]
    # To the form a file is some text.
    texts = ["attachment" if isinstance(picture, bytes) else picture for picture in pictures]
    return _Asked(parse_form({**raw, "ip_image": texts}, form), pictures, warnings)


@dataclass(frozen=True)
class _Kept:
    """Pictures that a request gave: the names of their files, and those files that are new."""

    names: list[str] = field(default_factory=list)
    files: list[StoredFile] = field(default_factory=list)


@asynccontextmanager
async def _keep_pictures(
    pictures: list[str | bytes], request: Request, service: Running, key: Key, own: Collection[str] = ()
) -> AsyncIterator[_Kept]:
    """Decode pictures and keep them, but for those that are the character's `own`.

    To write the rows of the new ones is the caller's, within; where that fails, they are deleted.

    Raises:
        InvalidRequest, TooLarge: one is not a picture within the limits, or cannot be had.
    """
    kept = _Kept()
    try:
        for picture in pictures:
            name = await _keep_picture(kept, picture, request, service, key, own)
            if name not in kept.names:
                kept.names.append(name)
        yield kept
    except BaseException:
        await forget_files(service, kept.files)
        raise


async def _keep_picture(
    kept: _Kept, picture: str | bytes, request: Request, service: Running, key: Key, own: Collection[str]
) -> str:
    """The name of a picture's file, which is decoded and kept if it is not the character's `own`."""
    if isinstance(picture, str):
        source = parse_picture_text(picture, "ip_image")
        if isinstance(source, InlinePicture):
            picture = source.data
        else:
            name = find_own_file(source.url, request, service)
            if name in own:
                return name
            picture = await (_fetch(source.url, service, key) if name is None else _read(name, service, key))
    file = await keep_decoded(service, key, picture, field="ip_image", kind="character", lives_seconds=None)
    kept.files.append(file)
    return file.name


async def _fetch(url: str, service: Running, key: Key) -> bytes:
    try:
        async with service.fetch_places.wait_for_one(key.account_id):
            return await service.fetcher.fetch(url, "ip_image")
    except FetchFailed as error:
        # No job is there to fail: here it is the request that cannot be met.
        raise InvalidRequest(error.message, code=error.code, field="ip_image") from None


async def _read(name: str, service: Running, key: Key) -> bytes:
    file = await service.files.find(name)
    shown = file is not None and service.may_show(file, key.account_id)
    data = await service.blobs.get(name) if shown else None
    if data is None:
        raise file_gone("ip_image")
    return data


def _body(character: Character, base: str, warnings: Sequence[str] = ()) -> CharacterBody:
    urls = [f"{base}/files/{name}" for name in character.file_names]
    return CharacterBody(
        name=character.name,
        prompt=character.prompt,
        negative_prompt=character.negative_prompt,
        url=urls[0],
        urls=urls,
        created_at=character.created_at,
        warnings=list(warnings),
    )
