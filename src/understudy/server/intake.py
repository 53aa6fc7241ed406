"""What a client sent -> a validated request with its pictures decoded and kept.

Pictures that are inline, uploaded or ours are read now, so that a bad one is told at once; what
must be fetched from elsewhere is fetched after the job is accepted.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request

from ..accounts.idempotency import KEY_PATTERN, LONGEST_KEY, IdempotencyKey, make_key
from ..accounts.keys import Key
from ..errors import InvalidRequest, NotFound
from ..guard import BadUrl, parse_url
from ..jobs.characters import Character
from ..jobs.files import StoredFile, count_bytes, delete_rowless, file_gone, too_many_pictures
from ..parameters import CHARACTER_PREFIX, PICTURE_FIELDS, Parameters, name_unknown, parse_parameters
from ..pictures import InlinePicture, PictureUrl, digest_picture, parse_picture_text
from ..pose.library import find_pose
from .bodies import base_url
from .fields import read_fields
from .service import Service

IDEMPOTENCY_KEY = "idempotency-key"

KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request under the same key is carried out once and answered alike, for a day.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": KEY_PATTERN},
}
"""The same header for OpenAPI."""


@dataclass
class Intake:
    """One request, read: what was asked, and the files that were kept for it."""

    parameters: Parameters
    warnings: list[str]
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[StoredFile] = field(default_factory=list)
    once: IdempotencyKey | None = None

    def describe(self) -> dict[str, Any]:
        """The parameters as the job's row keeps them: of pictures their address or digest only."""
        described = self.parameters.model_dump(mode="json")
        for name, source in self.inputs.items():
            described[name] = source.get("url") or source.get("name") or f"sha256:{source['sha256']}"
        return described


async def read_request(
    request: Request,
    service: Service,
    key: Key,
    *,
    keep: bool = True,
    check: Callable[[Parameters], Awaitable[None]] | None = None,
) -> Intake:
    """Read, validate and decode one request; with `keep` its pictures are in the blob store after.

    With `keep` it is also looked up whether the request was carried out before. `check` may refuse
    its parameters before a picture is decoded.

    Raises:
        AnsweredBefore, Conflict: it was, or its idempotency key was used for another one.
        InvalidRequest, TooLarge, NotAcceptable: as the wire contract says, the field named.
    """
    raw = await read_fields(request)
    attachments = _take_attachments(raw)
    parameters, warnings = parse_parameters(raw)
    # Who misspells a dry run is billed: it must not be so without a word.
    warnings += name_unknown(request.query_params, ("dry_run",), "query parameter")
    _check_pose_names(parameters)
    _check_webhook(parameters)
    intake = Intake(parameters, warnings)
    sources = _parse_pictures(parameters, attachments)
    if IDEMPOTENCY_KEY in request.headers:
        once = read_once(request, key, _describe_asked(parameters, sources))
        if keep:
            await service.idempotency.check(once)
            intake.once = once
    if check is not None and any(isinstance(source, InlinePicture) for source in sources.values()):
        await check(parameters)
    try:
        for name, source in sources.items():
            if isinstance(source, InlinePicture):
                await _keep_picture(intake, service, key, name, source.data, keep)
            else:
                await _resolve_text(intake, request, service, key, name, source)
    except BaseException:
        await forget_files(service, intake.files)
        raise
    return intake


async def check_once(request: Request, service: Service, key: Key, asked: Any) -> IdempotencyKey | None:
    """The idempotency key of a request that is new; None where it has none. `asked` is JSON.

    Raises:
        AnsweredBefore: it is not new; the app answers with what it was answered then.
        Conflict: its key was used for another request (`idempotency_key_reused`).
        InvalidRequest: its key is none.
    """
    if IDEMPOTENCY_KEY not in request.headers:
        return None
    once = read_once(request, key, asked)
    await service.idempotency.check(once)
    return once


def read_once(request: Request, key: Key, asked: Any) -> IdempotencyKey:
    """The idempotency key that a request carries, with what is asked.

    Raises:
        InvalidRequest: it is none.
    """
    route = f"{request.method} {request.url.path}"
    return make_key(key.account_id, request.headers[IDEMPOTENCY_KEY], route, asked)


async def forget_files(service: Service, files: Sequence[StoredFile]) -> None:
    """Delete files whose rows were never written."""
    await delete_rowless(service.files, service.blobs, [file.name for file in files])


async def keep_decoded(
    service: Service, key: Key, data: bytes, *, field: str, kind: str, lives_seconds: float | None
) -> StoredFile:
    """Decode untrusted bytes and keep the picture; its row is the caller's to write.

    Raises:
        InvalidRequest, TooLarge: it is not a picture within the limits.
        Conflict: the account keeps as many as it may (`too_many_pictures`).
    """
    picture = await service.decoder.decode(key.account_id, data, field)
    most_bytes = service.settings.account_kept_bytes
    if kind != "input" and most_bytes:
        kept_bytes = await service.files.sum_kept(key.account_id)
        if kept_bytes + count_bytes(len(picture)) > most_bytes:
            raise too_many_pictures(most_bytes)
    name = await service.blobs.put("image/png", picture)
    now = time.time()
    return StoredFile(
        name=name,
        account_id=key.account_id,
        kind=kind,
        content_type="image/png",
        size=len(picture),
        created_at=now,
        expires_at=None if lives_seconds is None else now + lives_seconds,
    )


def find_own_file(url: str, request: Request, service: Service) -> str | None:
    """The name of the file that a URL of this very service points to; None for any other URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # The fetcher says what is wrong with it.
        return None
    for base in (base_url(request, service.settings), str(request.base_url).rstrip("/")):
        own = urlsplit(base)
        folder = f"{own.path}/files/"
        if parts.netloc.lower() == own.netloc.lower() and parts.path.startswith(folder):
            return parts.path.removeprefix(folder)
    return None


def _take_attachments(raw: dict[str, Any]) -> dict[str, bytes]:
    """The pictures that came as files, a word in the place of each.

    Raises:
        InvalidRequest: a field has several pictures (`invalid_parameter`).
    """
    for name in PICTURE_FIELDS:
        if isinstance(raw.get(name), list):
            raise InvalidRequest(
                f"The parameter {name} takes one picture; several make a saved character "
                f"(POST /v1/characters), which is given as {CHARACTER_PREFIX}<name>.",
                code="invalid_parameter",
                field=name,
            )
    attachments = {name: raw[name] for name in PICTURE_FIELDS if isinstance(raw.get(name), bytes)}
    raw |= dict.fromkeys(attachments, "attachment")
    return attachments


def _check_pose_names(parameters: Parameters) -> None:
    for pose in parameters.asked_poses:
        if isinstance(pose, str):
            try:
                find_pose(pose)
            except InvalidRequest as error:
                error.field = "pose" if parameters.poses is None else "poses"
                raise


def _check_webhook(parameters: Parameters) -> None:
    """Refuse a webhook's URL that could never be asked: its job would have nobody to tell."""
    if parameters.webhook_url is None:
        return
    try:
        parse_url(parameters.webhook_url)
    except BadUrl as error:
        raise InvalidRequest(
            f"The parameter webhook_url is not valid: {error.reason}.",
            code="invalid_parameter",
            field="webhook_url",
        ) from None


def _parse_pictures(
    parameters: Parameters, attachments: dict[str, bytes]
) -> dict[str, InlinePicture | PictureUrl | str]:
    """Each picture that was given: its bytes, its address, or the text that names a character."""
    sources: dict[str, InlinePicture | PictureUrl | str] = {}
    for name in PICTURE_FIELDS:
        text = getattr(parameters, name)
        if name in attachments:
            sources[name] = InlinePicture(attachments[name])
        elif text is not None:
            named = text.startswith(CHARACTER_PREFIX)
            sources[name] = text if named else parse_picture_text(text, name)
    return sources


def _describe_asked(
    parameters: Parameters, sources: dict[str, InlinePicture | PictureUrl | str]
) -> dict[str, Any]:
    """What makes two requests the same: their parameters, of inline pictures the digest."""
    asked = parameters.model_dump(mode="json")
    if parameters.character is not None and "negative_prompt" not in parameters.model_fields_set:
        # The character's own, which may have changed since: an empty one is another request.
        asked["negative_prompt"] = None
    for name, source in sources.items():
        match source:
            case InlinePicture(data):
                asked[name] = f"sha256:{digest_picture(data)}"
            case PictureUrl(url):
                asked[name] = url
    return asked


async def _resolve_text(
    intake: Intake,
    request: Request,
    service: Service,
    key: Key,
    name: str,
    source: PictureUrl | str,
) -> None:
    if isinstance(source, str):
        try:
            character = await service.characters.find(key.account_id, source.removeprefix(CHARACTER_PREFIX))
        except NotFound as error:
            raise InvalidRequest(
                f"{error.message} Save it first, or give a picture as {name}.",
                code="character_not_found",
                field=name,
            ) from None
        # A pose is one picture's.
        files = character.file_names if name == "ip_image" else character.file_names[:1]
        intake.inputs[name] = {"files": list(files), "decoded": True, "name": source}
        if name == "ip_image":
            intake.parameters = _take_prompts(intake.parameters, character)
        return
    own = find_own_file(source.url, request, service)
    if own is None:
        intake.inputs[name] = {"url": source.url}
        return
    file = await service.files.find_recent(own)
    if file is None or not service.may_show(file, key.account_id):
        raise file_gone(name)
    # Everything but an output was decoded when it came in, and is a PNG of our own making.
    intake.inputs[name] = {"file": own, "decoded": file.kind != "output", "name": f"/files/{own}"}


def _take_prompts(parameters: Parameters, character: Character) -> Parameters:
    """The parameters with a character's own prompts in the place of those that were left out.

    Raises:
        InvalidRequest: neither has a prompt (`missing_parameter`).
    """
    prompts: dict[str, str] = {}
    if not parameters.prompt:
        if not character.prompt:
            raise InvalidRequest(
                f"The parameter prompt is required: the character {character.name!r} has none of its own.",
                code="missing_parameter",
                field="prompt",
            )
        prompts["prompt"] = character.prompt
    if "negative_prompt" not in parameters.model_fields_set:
        prompts["negative_prompt"] = character.negative_prompt
    return parameters.model_copy(update=prompts)


async def _keep_picture(
    intake: Intake, service: Service, key: Key, name: str, data: bytes, keep: bool
) -> None:
    digest = digest_picture(data)
    if not keep:
        await service.decoder.decode(key.account_id, data, name)
        return
    file = await keep_decoded(
        service, key, data, field=name, kind="input", lives_seconds=service.settings.history_ttl_seconds
    )
    intake.files.append(file)
    intake.inputs[name] = {"file": file.name, "decoded": True, "sha256": digest}
