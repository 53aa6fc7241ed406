"""Who is calling, and what it may do: the key in a request's headers, and the service it is for."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from ..accounts.keys import Key
from ..accounts.limits import refuse
from ..errors import Forbidden, NotAuthenticated, ServiceError
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
    """The key that the request carries, which may read, or else change, what its account has.

    `header` and `bearer` are there for OpenAPI's sake.

    Raises:
        NotAuthenticated: it carries none, or one that is unknown, revoked or expired.
        RateLimited: as many wrong ones came from its address.
        RateLimited: as many requests to be read came with the key, or those made with it.
        Forbidden: the account is disabled, or the key has not the scope.
    """
    key = await _find_key(request)
    check_scope(key, "read" if request.method in ("GET", "HEAD") else "generate")
    if request.method in ("POST", "PATCH"):
        request.app.state.service.count_post(key)
    return key


async def authenticate_admin(
    request: Request,
    header: Annotated[str | None, Security(_header)] = None,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
) -> Key:
    """The key that the request carries, which may see and change every account.

    Raises:
        NotAuthenticated, RateLimited, Forbidden: as `authenticate`.
    """
    key = await _find_key(request)
    check_scope(key, "admin")
    return key


async def authenticate_list(request: Request, key: Annotated[Key, Depends(authenticate)]) -> Key:
    """The key that the request carries, which may read a page of a list.

    Raises:
        NotAuthenticated, Forbidden: as `authenticate`.
        RateLimited: it has read as many as it may.
    """
    request.app.state.service.count_list(key)
    return key


async def check_key(request: Request) -> Key:
    """The key that the request carries.

    Raises:
        NotAuthenticated: it is unknown, revoked or expired.
        Forbidden: its account is disabled (`account_disabled`).
    """
    key = await request.app.state.service.keys.find(read_secret(request))
    if key is None:
        raise NotAuthenticated(
            "The API key is unknown, revoked or expired; make one with `understudy keys create`."
        )
    if key.account_disabled:
        raise Forbidden(
            "The account is disabled; ask the service's operator about it.", code="account_disabled"
        )
    return key


def check_scope(key: Key, scope: str) -> None:
    """Return where a key has a scope.

    Raises:
        Forbidden: it has not.
    """
    if scope not in key.scopes:
        raise Forbidden(f"The key has not the scope {scope}, which this route needs; use one that has it.")


def check_model(key: Key, slug: str) -> None:
    """Return where a key may use a model.

    Raises:
        Forbidden: it may not.
    """
    if key.models is not None and slug not in key.models:
        raise Forbidden(f"The key may not use the model {slug}; it has {', '.join(key.models) or 'none'}.")


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


async def _find_key(request: Request) -> Key:
    if not read_secret(request):
        raise NotAuthenticated("Send your API key in the header x-api-key.")
    try:
        return await check_key(request)
    except NotAuthenticated:
        _count_bad_key(request, request.app.state.service)
        raise


def _count_bad_key(request: Request, service: Service) -> None:
    """Count a wrong key for its network, which has nothing to do with good ones from there."""
    if service.bad_keys is None:
        return
    network = name_network(request.client.host if request.client else "")
    if wait_seconds := service.bad_keys.take(network):
        raise refuse("Too many wrong API keys came from this address", wait_seconds)


def name_network(address: str) -> str:
    """What one client has for itself: an IPv4 address, or the 64 bits of a network of IPv6 (RFC 6177).

    An IPv4 address inside IPv6 (mapped) is that one; what is no address stands for itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)


def read_secret(request: Request) -> str:
    """What stands in x-api-key, or else after `Bearer` in Authorization; empty when neither is there."""
    key = request.headers.get("x-api-key")
    if key:
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


Caller = Annotated[Key, Depends(authenticate)]
Lister = Annotated[Key, Depends(authenticate_list)]
Admin = Annotated[Key, Depends(authenticate_admin)]
Running = Annotated[Service, Depends(get_service)]
