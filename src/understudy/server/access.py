"""Who is calling: the key in a request's headers, and the service it is for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from ..accounts.keys import Key
from ..errors import NotAuthenticated, ServiceError
from .service import Service

_header = APIKeyHeader(name="x-api-key", auto_error=False, description="The API key.")
_bearer = HTTPBearer(auto_error=False, description="The API key as a bearer token.")


async def get_service(request: Request) -> Service:
    """The running service that the app was opened with.

    Asynchronous, as every dependency here, because FastAPI runs the others in a thread.
    """
    return request.app.state.service


async def authenticate(
    request: Request,
    header: Annotated[str | None, Security(_header)] = None,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
) -> Key:
    """The key that the request carries; `header` and `bearer` are there for OpenAPI's sake.

    Raises:
        NotAuthenticated: it carries none, or one that is unknown or revoked.
    """
    key = _read_key(request)
    if not key:
        raise NotAuthenticated("Send your API key in the header x-api-key.")
    row = await request.app.state.service.keys.find(key)
    if row is None:
        raise NotAuthenticated("The API key is unknown or revoked; make one with `understudy keys create`.")
    return row


async def refuse_while_stopping(request: Request) -> None:
    """Refuse new jobs while the service stops.

    Raises:
        ServiceError: it is stopping (`shutting_down`).
    """
    if request.app.state.service.stopping.is_set():
        raise ServiceError(
            "The service is stopping; send the request again in a moment.",
            code="shutting_down",
            status=503,
            retry_after_seconds=5,
        )


def _read_key(request: Request) -> str:
    """What stands in x-api-key, or else after `Bearer` in Authorization; empty when neither is there."""
    key = request.headers.get("x-api-key")
    if key:
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


Caller = Annotated[Key, Depends(authenticate)]
Running = Annotated[Service, Depends(get_service)]
