"""What a client sent -> a validated request with its pictures decoded and kept.

Pictures that are inline, uploaded or ours are read now, so that a bad one is told at once; what
must be fetched from elsewhere is fetched after the job is accepted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ..accounts.idempotency import IdempotencyKey, make_key
from ..accounts.keys import Key
from ..errors import InvalidRequest, NotAcceptable, NotFound, TooLarge
from ..jobs.files import StoredFile, delete_rowless
from ..parameters import PICTURE_FIELDS, Parameters, parse_parameters
from ..pictures import InlinePicture, PictureUrl, digest_picture, parse_picture_text
from ..pose.library import find_pose
from .bodies import base_url
from .service import Service

Form = TypeVar("Form", bound=BaseModel)

IDEMPOTENCY_KEY = "idempotency-key"

CHARACTER_PREFIX = "character:"

FORM_FIELDS = 64
"""The most fields, and the most files, that a form may have."""

MAX_JSON_VALUES = 100_000
"""The most values in a request's JSON; 24 poses of 18 keypoints are fewer than 2,000."""

MAX_JSON_DEPTH = 32
"""How deeply a request's JSON may be nested; it needs four levels."""

JSON_PARAMETERS = ("pose", "poses")
"""Parameters that a form, which knows only text, carries as JSON when they are not a name."""


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


async def read_fields(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields of a JSON or multipart body, and the files in it by field.

    Raises:
        InvalidRequest: it is neither, or broken (`invalid_request`).
        NotAcceptable: the Content-Type is another (`unsupported_content_type`).
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json" or (content_type == "" and await request.body()):
        return parse_json(await request.body()), {}
    if content_type == "multipart/form-data":
        return await _read_form(request)
    raise NotAcceptable("Send the parameters as application/json or multipart/form-data.")


async def read_request(request: Request, service: Service, key: Key, *, keep: bool = True) -> Intake:
    """Read, validate and decode one request; with `keep` its pictures are in the blob store after.

    With `keep` it is also looked up whether the request was carried out before.

    Raises:
        AnsweredBefore, Conflict: it was, or its idempotency key was used for another one.
        InvalidRequest, TooLarge, NotAcceptable: as the wire contract says, the field named.
    """
    raw, attachments = await read_fields(request)
    for name in attachments:
        raw[name] = "attachment"
    parameters, warnings = parse_parameters(raw)
    _check_pose_names(parameters)
    intake = Intake(parameters, warnings)
    sources = _parse_pictures(parameters, attachments)
    if IDEMPOTENCY_KEY in request.headers:
        once = read_once(request, key, _describe_asked(parameters, sources))
        if keep:
            await service.idempotency.check(once)
            intake.once = once
    try:
        for name, source in sources.items():
            if isinstance(source, InlinePicture):
                await _keep_picture(intake, service, key, name, source.data, keep)
            else:
                await _resolve_text(intake, request, service, key, name, source, keep)
    except BaseException:
        await forget_files(service, intake.files)
        raise
    return intake


def parse_form(raw: dict[str, Any], form: type[Form]) -> Form:
    """A form's fields, validated; what it does not know is left out.

    Raises:
        InvalidRequest: a field is missing or wrong; it is named.
    """
    try:
        known = {name: value for name, value in raw.items() if name in form.model_fields}
        return form.model_validate(known, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "missing":
            raise InvalidRequest(
                f"The parameter {name} is required.", code="missing_parameter", field=name
            ) from None
        words = form.model_fields[name].description
        raise InvalidRequest(
            f"The parameter {name} is not valid. {words}", code="invalid_parameter", field=name
        ) from None


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
    """
    picture = await service.decoder.decode(data, field)
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


def _check_pose_names(parameters: Parameters) -> None:
    for pose in parameters.asked_poses:
        if isinstance(pose, str):
            try:
                find_pose(pose)
            except InvalidRequest as error:
                error.field = "pose" if parameters.poses is None else "poses"
                raise


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
    keep: bool,
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
        intake.inputs[name] = {"file": character.file_name, "decoded": True, "name": source}
        return
    own = find_own_file(source.url, request, service)
    if own is None:
        intake.inputs[name] = {"url": source.url}
        return
    file = await service.files.find_recent(own)
    if file is None:
        raise InvalidRequest(
            f"The file given as {name} does not exist here or has expired; upload it again.",
            code="invalid_picture",
            field=name,
        )
    until = time.time() + service.settings.job_deadline_seconds
    if keep and file.expires_at is not None and file.expires_at < until:
        await service.files.hold(own, until)
    # Everything but an output was decoded when it came in, and is a PNG of our own making.
    intake.inputs[name] = {"file": own, "decoded": file.kind != "output", "name": f"/files/{own}"}


async def _keep_picture(
    intake: Intake, service: Service, key: Key, name: str, data: bytes, keep: bool
) -> None:
    digest = digest_picture(data)
    if not keep:
        await service.decoder.decode(data, name)
        return
    file = await keep_decoded(
        service, key, data, field=name, kind="input", lives_seconds=service.settings.history_ttl_seconds
    )
    intake.files.append(file)
    intake.inputs[name] = {"file": file.name, "decoded": True, "sha256": digest}


def parse_json(body: bytes) -> dict[str, Any]:
    """The object in a JSON body, in UTF-8 (RFC 8259).

    Raises:
        InvalidRequest: there is none, or it has too many values or levels (`invalid_request`).
    """
    try:
        value = _load_json(body.decode("utf-8-sig"))
        # A lone surrogate is JSON but not text: no database or file takes it.
        if b"\\ud" in body.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        raise InvalidRequest("The body is not valid JSON; send a JSON object of parameters.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object of parameters.")
    return value


def _load_json(text: str, field: str | None = None) -> Any:
    """The value of a JSON text.

    Its values are counted before anything is built of them, for each would take many times its
    own size. A picture's base64 has none of what is counted.

    Raises:
        InvalidRequest: it has too many values or levels.
        ValueError: it is not JSON.
    """
    if sum(map(text.count, ",[{")) > MAX_JSON_VALUES:
        raise _too_much_json(field, f"more than {MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_much_json(field, f"more than {MAX_JSON_DEPTH} levels") from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [inner for outer in level for inner in _list_inner(outer)]
        if not level:
            return value
    raise _too_much_json(field, f"more than {MAX_JSON_DEPTH} levels")


def _list_inner(value: Any) -> list[Any]:
    """What is directly inside an array or an object."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_much_json(field: str | None, what: str) -> InvalidRequest:
    if field is None:
        return InvalidRequest(f"The body has {what}; send the parameters alone.")
    return InvalidRequest(
        f"The parameter {field} is not valid: it has {what}.", code="invalid_parameter", field=field
    )


class _FormParser(MultiPartParser):
    """Starlette's, that also knows whether the form's last boundary came."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _read_form(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    limit = request.app.state.service.settings.max_picture_bytes
    raw: dict[str, Any] = {}
    attachments: dict[str, bytes] = {}
    # What a whole body may be is limited before; a part may fill it.
    max_part_size = request.app.state.service.settings.max_body_bytes
    parser = _FormParser(
        request.headers,
        request.stream(),
        max_files=FORM_FIELDS,
        max_fields=FORM_FIELDS,
        max_part_size=max_part_size,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, LookupError, ValueError) as error:
        if isinstance(error, MultiPartException) and "Too many" in error.message:
            raise InvalidRequest(f"The form has more than {FORM_FIELDS} fields; send fewer.") from None
        raise InvalidRequest(
            "The form cannot be read; send multipart/form-data with a boundary, in UTF-8."
        ) from None
    try:
        if not parser.ended:
            raise InvalidRequest("The form is cut off: its last boundary is missing; send all of it.")
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if value.size is not None and value.size > limit:
                    raise TooLarge(
                        f"The picture in {name} is larger than {limit // 1_000_000} MB; send a smaller one.",
                        field=name,
                    )
                data = await value.read()
                if name in PICTURE_FIELDS and data:
                    attachments[name] = data
                elif name not in PICTURE_FIELDS:
                    raw[name] = value.filename or ""
            elif name == "poses" and value and not value.lstrip().startswith("["):
                # Names, one to a field or with commas between them: what people try first.
                raw["poses"] = [
                    *raw.get("poses", []),
                    *filter(None, map(str.strip, value.split(",", FORM_FIELDS))),
                ]
            elif value != "" or name == "prompt":
                raw[name] = _parse_form_value(name, value)
    finally:
        await form.close()
    return raw, attachments


def _parse_form_value(name: str, value: str) -> Any:
    if name in JSON_PARAMETERS and value.lstrip().startswith("["):
        try:
            return _load_json(value, name)
        except ValueError:
            raise InvalidRequest(
                f"The parameter {name} is not valid JSON.", code="invalid_parameter", field=name
            ) from None
    return value
