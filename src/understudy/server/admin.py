"""Every account, for keys with the scope `admin`: open, disable, credits, keys, usage."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, BeforeValidator, Field

from ..accounts.accounts import Account, new_account
from ..accounts.credits import describe_balance, parse_credits, to_credits
from .access import Admin, Running
from .account import (
    CreditsBody,
    Days,
    EntriesBody,
    KeyBody,
    KeyCursor,
    KeyForm,
    KeyId,
    KeysBody,
    MadeKeyBody,
    UsageBody,
    answer_entries,
    answer_keys,
    answer_usage,
    key_body,
    make_key,
)
from .bodies import JsonAnswer
from .failures import describe_errors
from .fields import StrictForm, describe_form, parse_form, read_fields
from .intake import check_once
from .pages import Cursor, Limit

router = APIRouter(prefix="/v1/admin", tags=["Admin"])

# JSON has one kind of number: 6.0 is a whole one.
OwnLimit = Annotated[
    int,
    Field(ge=0, le=1_000_000),
    BeforeValidator(lambda n: int(n) if isinstance(n, float) and n.is_integer() else n),
]
AccountId = Annotated[str, Path(max_length=100)]


class AccountForm(StrictForm):
    """What an account is opened with."""

    name: str = Field(min_length=1, max_length=200, description="What to know the account by.")


class AccountChange(StrictForm):
    """What can be changed of an account."""

    disabled: bool = Field(description="Whether its keys may do nothing.")


class GrantForm(StrictForm):
    """Credits that are given, or taken back."""

    credits: float = Field(
        ge=-1e9, le=1e9, description="How many, with at most six decimals; less than 0 takes back."
    )
    note: str | None = Field(default=None, max_length=200, description="What for.")


class LimitedKeyForm(KeyForm):
    """What a key is made with, its limits included."""

    submits_per_minute: OwnLimit | None = Field(
        default=None, description="Null for the service's usual limit, 0 for none."
    )
    concurrent_jobs: OwnLimit | None = Field(
        default=None, description="Null for the service's usual limit, 0 for none."
    )


class AccountBody(BaseModel):
    """An account."""

    id: str
    name: str
    created_at: float
    disabled_at: float | None
    credits: float


class AccountsBody(BaseModel):
    """Every account."""

    accounts: list[AccountBody]


@router.get("/accounts", summary="Every account", response_model=AccountsBody, responses=describe_errors(401))
async def list_accounts(service: Running, key: Admin) -> Response:
    """Every account by name, with its credits."""
    return JsonAnswer({"accounts": [_account_body(one) for one in await service.accounts.list()]})


@router.post(
    "/accounts",
    summary="Open an account",
    status_code=201,
    response_model=AccountBody,
    responses=describe_errors(401, 406, 409, 413),
    openapi_extra=describe_form(AccountForm),
)
async def open_account(request: Request, service: Running, key: Admin) -> Response:
    """Open an account, which has no key and no credits yet."""
    form = parse_form(await read_fields(request), AccountForm)
    once = await check_once(request, service, key, form.model_dump())
    account = new_account(form.name)
    body = _account_body(account)
    await service.accounts.create(account, once, body)
    return JSONResponse(body, status_code=201)


@router.get(
    "/accounts/{account_id}",
    summary="One account",
    response_model=AccountBody,
    responses=describe_errors(401, 404),
)
async def read_account(account_id: AccountId, service: Running, key: Admin) -> Response:
    """An account with its credits."""
    return JsonAnswer(_account_body(await service.accounts.find(account_id)))


@router.patch(
    "/accounts/{account_id}",
    summary="Disable an account, or enable it",
    response_model=AccountBody,
    responses=describe_errors(401, 404, 406, 413),
    openapi_extra=describe_form(AccountChange),
)
async def change_account(account_id: AccountId, request: Request, service: Running, key: Admin) -> Response:
    """The keys of a disabled account may do nothing within a second; its jobs go on."""
    form = parse_form(await read_fields(request), AccountChange)
    return JsonAnswer(_account_body(await service.accounts.disable(account_id, form.disabled)))


@router.post(
    "/accounts/{account_id}/credits",
    summary="Grant credits",
    response_model=CreditsBody,
    responses=describe_errors(401, 404, 406, 409, 413),
    openapi_extra=describe_form(GrantForm),
)
async def grant_credits(account_id: AccountId, request: Request, service: Running, key: Admin) -> Response:
    """Give an account credits, or take some back; answers with what it then has."""
    form = parse_form(await read_fields(request), GrantForm)
    once = await check_once(request, service, key, form.model_dump())
    account = await service.accounts.find(account_id)
    balance = await service.credits.grant(account.id, parse_credits(repr(form.credits)), form.note, once)
    return JsonAnswer(describe_balance(balance))


@router.get(
    "/accounts/{account_id}/credits",
    summary="An account's ledger",
    response_model=EntriesBody,
    responses=describe_errors(401, 404),
)
async def list_entries(
    account_id: AccountId, service: Running, key: Admin, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Every change of an account's credits, newest first."""
    account = await service.accounts.find(account_id)
    return await answer_entries(service, account.id, limit, cursor)


@router.get(
    "/accounts/{account_id}/usage",
    summary="An account's usage by day",
    response_model=UsageBody,
    responses=describe_errors(401, 404),
)
async def read_usage(account_id: AccountId, service: Running, key: Admin, days: Days = 30) -> Response:
    """What an account's requests came to, by day and model."""
    account = await service.accounts.find(account_id)
    return answer_usage(await service.usage.list(account.id, days))


@router.get(
    "/accounts/{account_id}/keys",
    summary="An account's keys",
    response_model=KeysBody,
    responses=describe_errors(401, 404),
)
async def list_keys(
    account_id: AccountId, service: Running, key: Admin, limit: Limit = 50, cursor: KeyCursor = None
) -> Response:
    """An account's keys, oldest first; those that were revoked or expired as long as the history is kept."""
    account = await service.accounts.find(account_id)
    return await answer_keys(service, account.id, limit, cursor)


@router.post(
    "/accounts/{account_id}/keys",
    summary="Make a key of an account",
    status_code=201,
    response_model=MadeKeyBody,
    responses=describe_errors(401, 404, 406, 409, 413),
    openapi_extra=describe_form(LimitedKeyForm),
)
async def create_key(account_id: AccountId, request: Request, service: Running, key: Admin) -> Response:
    """Make a key of an account, with limits of its own if need be."""
    form = parse_form(await read_fields(request), LimitedKeyForm)
    account = await service.accounts.find(account_id)
    limits = {"submits_per_minute": form.submits_per_minute, "concurrent_jobs": form.concurrent_jobs}
    return await make_key(request, service, key, account.id, form, **limits)


@router.delete(
    "/keys/{key_id}", summary="Revoke any key", response_model=KeyBody, responses=describe_errors(401, 404)
)
async def revoke_key(key_id: KeyId, service: Running, key: Admin) -> Response:
    """Revoke a key of any account: it stops working within a second."""
    return JsonAnswer(key_body(await service.keys.revoke_by_id(key_id)))


def _account_body(account: Account) -> dict[str, Any]:
    return AccountBody(
        id=account.id,
        name=account.name,
        created_at=account.created_at,
        disabled_at=account.disabled_at,
        credits=to_credits(account.balance_microcredits),
    ).model_dump()
