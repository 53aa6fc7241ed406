"""A request's body -> its fields: a JSON object or a form, within limits of size and depth."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ..errors import InvalidRequest, NotAcceptable, TooLarge
from ..parameters import PICTURE_FIELDS

Form = TypeVar("Form", bound=BaseModel)

FORM_FIELDS = 64
"""The most fields, and the most files, that a form may have."""

MAX_JSON_VALUES = 100_000
"""The most values in a request's JSON; 24 poses of 18 keypoints are fewer than 2,000."""

MAX_JSON_DEPTH = 32
"""How deeply a request's JSON may be nested; it needs four levels."""

TEXTS = ("name", "prompt", "negative_prompt")
"""Fields of a form whose empty text is what was given; of others it is that nothing was."""

JSON_PARAMETERS = ("pose", "poses")
"""Parameters that a form, which knows only text, carries as JSON when they are not a name."""


class StrictForm(BaseModel):
    """A form that refuses a field that it does not know.

    A key whose end was misspelt would never end, and nobody would look again.
    """

    model_config = ConfigDict(extra="forbid")


async def read_fields(request: Request) -> dict[str, Any]:
    """The fields of a JSON or multipart body.

    Of a form, a picture that was sent as a file is bytes, and one field's several pictures a list.

    Raises:
        InvalidRequest: it is neither, or broken (`invalid_request`).
        NotAcceptable: the Content-Type is another (`unsupported_content_type`).
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json" or (content_type == "" and await request.body()):
        return parse_json(await request.body())
    if content_type == "multipart/form-data":
        return await _read_form(request)
    raise NotAcceptable("Send the parameters as application/json or multipart/form-data.")


def describe_form(form: type[BaseModel]) -> dict[str, Any]:
    """The request body of a route for OpenAPI: a form's fields as JSON."""
    schema = {"application/json": {"schema": form.model_json_schema()}}
    return {"requestBody": {"required": True, "content": schema}}


def parse_form(raw: dict[str, Any], form: type[Form]) -> Form:
    """A form's fields, validated; what it does not know is left out, unless it is a `StrictForm`.

    Raises:
        InvalidRequest: a field is missing, wrong or, of a `StrictForm`, unknown; it is named.
    """
    try:
        return form.model_validate(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "missing":
            raise InvalidRequest(
                f"The parameter {name} is required.", code="missing_parameter", field=name
            ) from None
        if first["type"] == "extra_forbidden":
            raise InvalidRequest(
                f"There is no parameter {name[:100]!r} here; there are {', '.join(form.model_fields)}.",
                code="invalid_parameter",
                field=name[:100],
            ) from None
        words = form.model_fields[name].description
        raise InvalidRequest(
            f"The parameter {name} is not valid. {words}", code="invalid_parameter", field=name
        ) from None


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


async def _read_form(request: Request) -> dict[str, Any]:
    limit = request.app.state.service.settings.max_picture_bytes
    raw: dict[str, Any] = {}
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
                    _add_picture(raw, name, data)
                elif name not in PICTURE_FIELDS:
                    raw[name] = value.filename or ""
            elif name in PICTURE_FIELDS:
                if value:
                    _add_picture(raw, name, value)
            elif name == "poses" and value and not value.lstrip().startswith("["):
                # Names, one to a field or with commas between them: what people try first.
                raw["poses"] = [
                    *raw.get("poses", []),
                    *filter(None, map(str.strip, value.split(",", FORM_FIELDS))),
                ]
            elif value != "" or name in TEXTS:
                raw[name] = _parse_form_value(name, value)
    finally:
        await form.close()
    return raw


def _add_picture(raw: dict[str, Any], name: str, picture: bytes | str) -> None:
    """Add a picture to a form's field; several of one field are a list."""
    known = raw.get(name, [])
    several = [*(known if isinstance(known, list) else [known]), picture]
    raw[name] = several if len(several) > 1 else picture


def _parse_form_value(name: str, value: str) -> Any:
    if name in JSON_PARAMETERS and value.lstrip().startswith("["):
        try:
            return _load_json(value, name)
        except ValueError:
            raise InvalidRequest(
                f"The parameter {name} is not valid JSON.", code="invalid_parameter", field=name
            ) from None
    return value
