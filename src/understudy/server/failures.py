"""Every failure becomes the one JSON error body; none leaks what is inside."""

from __future__ import annotations

import logging
import random
import time
import traceback
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DatabaseError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..accounts.idempotency import AnsweredBefore
from ..errors import (
    DeadlineExceeded,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    TooLarge,
    UnderstudyError,
)

log = logging.getLogger(__name__)


CLIENT_LEFT = 499
"""What the log tells as the status of a request whose client left before it was whole."""


class ErrorBody(BaseModel):
    """The body of every error."""

    error: str = Field(description="One sentence that says what to do.")
    code: str = Field(description="Stable and made for programs.")
    request_id: str | None = Field(default=None, description="The job, or else this HTTP request.")
    field: str | None = Field(default=None, description="The parameter that is wrong.")


_WORDS = {
    400: "The body cannot be read, a parameter is missing or out of range, or a picture is unreadable.",
    401: "No key, or one that is unknown, revoked or expired.",
    403: "The key may not use this model or route.",
    404: "No such model, request, character or file.",
    405: "The route exists, but not with this verb.",
    406: "The Content-Type is none that is read, or the credits are below the price.",
    409: "The state of things forbids it.",
    413: "The body or a picture is too large.",
    429: "A limit is reached, or the queue is full; try again after `Retry-After` seconds.",
    500: "The service's own fault.",
    503: "The service is stopping or not ready.",
    504: "The deadline ran out; the job goes on.",
}


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for OpenAPI: these statuses and those that any route can give.

    A route that wants a key (401) can also find it wanting (403), or too many wrong ones (429).
    """
    keyed = {403, 429} if 401 in statuses else set()
    return {
        status: {"model": ErrorBody, "description": _WORDS[status]}
        for status in sorted({*statuses, *keyed, 400, 405, 500, 503})
    }


class RequestId:
    """Gives each HTTP request an id, which its answer carries in `x-request-id`, and a log line.

    Also the last resort: what nothing else has answered is a 500 that tells nothing, here and in
    the log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Tells requests apart and guards nothing, so it need not come from the system's generator.
        request_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        scope.setdefault("state", {})["request_id"] = request_id

        answered = 0
        begun = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = message.setdefault("headers", [])
                # What is left of a limit is told by every answer of a limited route, errors too.
                own = {"x-request-id": request_id, **scope["state"].get("limit_headers", {})}
                told = {name.lower() for name, _ in headers}
                headers += [
                    (name.encode(), value.encode())
                    for name, value in own.items()
                    if name.encode() not in told
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            # Nobody is there to be answered.
            answered = CLIENT_LEFT
        except Exception as error:
            # Its own words may quote a URL or a prompt; its place in the code does not.
            places = "".join(traceback.format_tb(error.__traceback__))
            told = {"request_id": request_id, "error": type(error).__name__, "places": places}
            log.error("request_failed", extra=told)
            if answered:
                # The server must break the connection off, or half an answer looks whole.
                raise RuntimeError("an answer broke off") from None
            unexpected = ServiceError("Something went wrong inside the service; try again.")
            await _answer(Request(scope), unexpected)(scope, receive, send_with_id)
        finally:
            route = scope.get("route")
            log.info(
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": getattr(route, "path", None),
                    "status": answered,
                    "seconds": round(time.perf_counter() - begun, 4),
                    **({"job": job_id} if (job_id := scope["state"].get("job_id")) else {}),
                },
            )


class BodyLimit:
    """Refuses bodies over a limit, whether their length is announced or they just go on.

    And compressed ones: none is ever unpacked, so that nothing can grow.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        error = TooLarge(
            f"The body is larger than {self.max_bytes // 1_000_000} MB; send a smaller picture, or its URL."
        )
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            compressed = InvalidRequest("The body is compressed; send it as it is, without Content-Encoding.")
            await _answer(Request(scope), compressed)(scope, receive, send)
            return
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.max_bytes:
            await _answer(Request(scope), error)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise error
            return message

        await self.app(scope, receive_limited, send)


def install_failures(app: FastAPI) -> None:
    """Make the app answer every failure with `ErrorBody`."""

    @app.exception_handler(UnderstudyError)
    async def answer_own(request: Request, error: UnderstudyError) -> JSONResponse:
        return _answer(request, error)

    @app.exception_handler(AnsweredBefore)
    async def answer_again(request: Request, answer: AnsweredBefore) -> JSONResponse:
        return JSONResponse(answer.body, status_code=answer.status)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        field = where[-1] if where else None
        reason = str(first["msg"])
        return _answer(
            request,
            InvalidRequest(
                f"The {where[0] if where else 'request'} parameter {field} is not valid: "
                f"{reason[:1].lower()}{reason[1:]}.",
                code="invalid_parameter",
                field=field,
            ),
        )

    @app.exception_handler(HTTPException)
    async def answer_http(request: Request, error: HTTPException) -> JSONResponse:
        response = _answer(request, _translate(request, error))
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_list_methods(request))
        return response

    @app.exception_handler(OperationalError)
    @app.exception_handler(OSError)
    async def answer_storage(request: Request, error: OperationalError | OSError) -> JSONResponse:
        reason = getattr(error, "orig", None) or error.strerror
        log.error("data_folder_failed", extra={"reason": str(reason)})
        return _answer(
            request,
            ServiceError(
                "The service cannot write to its data folder now; try again in a moment.",
                code="storage_unavailable",
                status=503,
                retry_after_seconds=5,
            ),
        )

    @app.exception_handler(DatabaseError)
    async def answer_damage(request: Request, error: DatabaseError) -> JSONResponse:
        # SQLite says so itself of a damaged file; what is derived from it are faults of a statement.
        if type(error) is not DatabaseError:
            raise error
        request.app.state.service.database_is_damaged = True
        log.error("data_folder_failed", extra={"reason": str(error.orig)})
        return _answer(
            request,
            ServiceError(
                "The service's database is damaged; its operator has to restore a backup.",
                code="storage_unavailable",
                status=503,
            ),
        )


def _list_methods(request: Request) -> list[str]:
    """The verbs of the first route that the path fits, over all routes with the same path (RFC 9110)."""
    routes = request.app.state.routes
    path = next((route.path for route in routes if route.path_regex.match(request.url.path)), None)
    return sorted({method for route in routes if route.path == path for method in route.methods})


def _translate(request: Request, error: HTTPException) -> UnderstudyError:
    match error.status_code:
        case 404:
            return NotFound("There is no such route; /openapi.json lists them.", code="route_not_found")
        case 405:
            return MethodNotAllowed(f"This route does not answer to {request.method}.")
        case 413:
            return TooLarge("The body is too large; send a smaller picture, or its URL.")
        case 400:
            return InvalidRequest("The body cannot be read; send JSON or multipart/form-data.")
        case status:
            return ServiceError("Something went wrong inside the service; try again.", status=status)


def _answer(request: Request, error: UnderstudyError) -> JSONResponse:
    headers = dict(error.headers)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    # Only an id of our own making may become a header.
    if isinstance(error, DeadlineExceeded) and error.request_id is not None:
        headers["x-request-id"] = error.request_id
    body = error.to_body(request.scope.get("state", {}).get("request_id"))
    return JSONResponse(body, status_code=error.status, headers=headers)
