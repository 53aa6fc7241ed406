"""The caller's own account: its keys, its usage, its credits."""

from __future__ import annotations

import secrets
import time
from operator import attrgetter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ..accounts.credits import Entry, describe_balance, to_credits
from ..accounts.idempotency import AnsweredBefore
from ..accounts.keys import Key, NewKey, derive_secret
from ..accounts.usage import Usage
from ..errors import Forbidden
from .access import Caller, Lister, Running, read_secret
from .bodies import JsonAnswer
from .failures import describe_errors
from .fields import StrictForm, describe_form, parse_form, read_fields
from .intake import check_once
from .pages import Cursor, Limit, answer_page, read_cursor
from .service import Service

router = APIRouter(prefix="/v1", tags=["Account"])

Scope = Literal["generate", "read", "admin"]
KeyId = Annotated[str, Path(max_length=100)]
KeyCursor = Annotated[
    str | None,
    Query(
        description="The `next` of the page before.",
        max_length=36,
        json_schema_extra={"pattern": "^[0-9a-f-]{36}$"},
    ),
]
Days = Annotated[int, Query(ge=1, le=366, description="So many days, today included.")]


class KeyForm(StrictForm):
    """What a key is made with."""

    name: str = Field(default="key", min_length=1, max_length=200, description="What to know the key by.")
    scopes: list[Scope] = Field(
        default=["generate", "read"],
        min_length=1,
        max_length=3,
        description="What it may do: generate, read, admin.",
    )
    models: list[Annotated[str, Field(max_length=100)]] | None = Field(
        default=None, max_length=100, description="The models it may use, by slug; null for every model."
    )
    expires_in_seconds: float | None = Field(
        default=None, gt=0, le=1e10, description="When it stops working; null for never."
    )


class KeyBody(BaseModel):
    """A key, without what it is: that is told once, when it is made."""

    id: str
    name: str
    account: str
    prefix: str = Field(description="Its first characters.")
    created_at: float
    revoked_at: float | None
    expires_at: float | None
    scopes: list[str]
    models: list[str] | None
    submits_per_minute: int | None = Field(description="Null for the service's usual limit, 0 for none.")
    concurrent_jobs: int | None = Field(description="Null for the service's usual limit, 0 for none.")


class MadeKeyBody(KeyBody):
    """A key that was just made."""

    key: str = Field(description="The key itself; it is shown only now.")


class KeysBody(BaseModel):
    """A page of an account's keys, oldest first."""

    keys: list[KeyBody]
    next: str | None


class UsageEntry(BaseModel):
    """What a day's requests to a model came to, by the day of their end."""

    day: str = Field(description="YYYY-MM-DD, in UTC.")
    model: str
    completed: int
    failed: int
    pictures: int
    inference_seconds: float
    cost: float = Field(description="In credits.")


class UsageBody(BaseModel):
    """An account's usage, the newest day first."""

    usage: list[UsageEntry]


class CreditsBody(BaseModel):
    """What an account has left."""

    credits: float
    free_credits: float = Field(alias="free-credits", description="Always 0: there is one kind.")


class EntryBody(BaseModel):
    """One entry of an account's ledger; the balance is the sum of all of them."""

    kind: Literal["grant", "hold", "release", "charge"]
    credits: float
    request_id: str | None
    note: str | None
    created_at: float


class EntriesBody(BaseModel):
    """A page of an account's ledger, newest first."""

    entries: list[EntryBody]
    next: str | None


@router.get(
    "/keys", summary="The account's keys", response_model=KeysBody, responses=describe_errors(401, 404)
)
async def list_keys(service: Running, key: Lister, limit: Limit = 50, cursor: KeyCursor = None) -> Response:
    """The account's keys, oldest first; those that were revoked or expired as long as the history is kept."""
    return await answer_keys(service, key.account_id, limit, cursor)


@router.post(
    "/keys",
    summary="Make a key",
    status_code=201,
    response_model=MadeKeyBody,
    responses=describe_errors(401, 404, 406, 409, 413),
    openapi_extra=describe_form(KeyForm),
)
async def create_key(request: Request, service: Running, key: Caller) -> Response:
    """Make a key of the account; it can do no more than the key that asks for it, and shares its limits."""
    form = parse_form(await read_fields(request), KeyForm)
    if not set(form.scopes) <= set(key.scopes):
        raise Forbidden(f"The key may give others only the scopes that it has: {', '.join(key.scopes)}.")
    if key.models is not None and not set(form.models or [""]) <= set(key.models):
        raise Forbidden(f"The key may give others only the models that it has: {', '.join(key.models)}.")
    shared = {
        "submits_per_minute": key.submits_per_minute,
        "concurrent_jobs": key.concurrent_jobs,
        "counted_as": key.counted_as,
    }
    return await make_key(request, service, key, key.account_id, form, **shared)


@router.delete(
    "/keys/{key_id}", summary="Revoke a key", response_model=KeyBody, responses=describe_errors(401, 404)
)
async def revoke_key(key_id: KeyId, service: Running, key: Caller) -> Response:
    """Revoke a key of the account that can do no more than the one that asks: it stops within a second."""
    if not key.covers(await service.keys.read(key_id, key.account_id)):
        raise Forbidden(
            "The key to revoke can do more than the one that asks; ask with one that has as much."
        )
    return JsonAnswer(key_body(await service.keys.revoke_by_id(key_id, key.account_id)))


@router.get("/usage", summary="Usage by day", response_model=UsageBody, responses=describe_errors(401))
async def read_usage(service: Running, key: Lister, days: Days = 30) -> Response:
    """What the account's requests came to, by day and model."""
    return answer_usage(await service.usage.list(key.account_id, days))


@router.get(
    "/get-user-credits",
    summary="The account's credits",
    response_model=CreditsBody,
    responses=describe_errors(401),
)
async def read_credits(service: Running, key: Caller) -> Response:
    """What is left; what is held for requests that have not ended is not in it."""
    return JsonAnswer(describe_balance(await service.credits.read_balance(key.account_id)))


@router.get(
    "/credits", summary="The account's ledger", response_model=EntriesBody, responses=describe_errors(401)
)
async def list_entries(service: Running, key: Lister, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Every change of the account's credits, newest first."""
    return await answer_entries(service, key.account_id, limit, cursor)


async def make_key(
    request: Request, service: Running, caller: Key, account_id: str, form: KeyForm, **limits: Any
) -> Response:
    """Make a key of an account for a caller and answer with it; a repetition is answered alike.

    The key is nowhere kept: what it is derived from is the caller's own key and what is kept.

    Raises:
        NotFound: it is to have a model that is not there (`model_not_found`).
    """
    for slug in form.models or ():
        service.catalog.find_model(slug)
    asked = [caller.id, form.model_dump(mode="json")]
    nonce = secrets.token_hex(32)
    expires_at = None if form.expires_in_seconds is None else time.time() + form.expires_in_seconds
    if caller.expires_at is not None:
        expires_at = min(expires_at or caller.expires_at, caller.expires_at)
    try:
        once = await check_once(request, service, caller, asked)
        new = NewKey(
            name=form.name,
            scopes=form.scopes,
            models=form.models,
            expires_at=expires_at,
            secret=derive_secret(read_secret(request), nonce),
            **limits,
        )
        secret, made = await service.keys.create_for(account_id, new, once, {"id": new.id, "nonce": nonce})
    except AnsweredBefore as before:
        secret = derive_secret(read_secret(request), before.body["nonce"])
        made = await service.keys.read(before.body["id"])
    return JSONResponse({**key_body(made), "key": secret}, status_code=201)


async def answer_keys(service: Service, account_id: str, limit: int, after: str | None) -> Response:
    """A page of an account's keys.

    Raises:
        NotFound: the key that the cursor names is none of the account's, or was forgotten.
    """
    found = await service.keys.list(account_id, limit=limit + 1, after=after)
    return answer_page("keys", found, limit, key_body, attrgetter("id"))


def key_body(key: Key) -> dict[str, Any]:
    """A key as the routes show it."""
    return KeyBody(
        id=key.id,
        name=key.name,
        account=key.account_name,
        prefix=key.prefix,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        expires_at=key.expires_at,
        scopes=list(key.scopes),
        models=None if key.models is None else list(key.models),
        submits_per_minute=key.submits_per_minute,
        concurrent_jobs=key.concurrent_jobs,
    ).model_dump()


def answer_usage(usage: list[Usage]) -> Response:
    """Usage as the routes show it."""
    return JsonAnswer(
        {
            "usage": [
                UsageEntry(
                    day=one.day,
                    model=one.model,
                    completed=one.completed,
                    failed=one.failed,
                    pictures=one.pictures,
                    inference_seconds=round(one.inference_seconds, 3),
                    cost=to_credits(one.charged_microcredits),
                ).model_dump()
                for one in usage
            ]
        }
    )


async def answer_entries(service: Service, account_id: str, limit: int, cursor: str | None) -> Response:
    """A page of an account's ledger."""
    found = await service.credits.list_entries(account_id, limit=limit + 1, before=read_cursor(cursor))
    return answer_page("entries", found, limit, _entry_body)


def _entry_body(entry: Entry) -> dict[str, Any]:
    return EntryBody(
        kind=entry.kind,
        credits=to_credits(entry.amount_microcredits),
        request_id=entry.job_id,
        note=entry.note,
        created_at=entry.created_at,
    ).model_dump()
