"""The account's webhooks: the secret that signs them, and the log of their deliveries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ..accounts.keys import Key
from ..accounts.webhooks import Delivery, WebhookSecret
from ..errors import Forbidden
from .access import Caller, Lister, Running, check_scope
from .bodies import JsonAnswer
from .failures import describe_errors
from .intake import check_once
from .pages import Cursor, Limit, answer_page, read_cursor

router = APIRouter(prefix="/v1/webhooks", tags=["Webhooks"])

State = Literal["pending", "delivered", "failed"]
DeliveryId = Annotated[str, Path(max_length=100)]


class SecretBody(BaseModel):
    """What the account's webhooks are signed with, by Standard Webhooks."""

    secret: str = Field(description="whsec_ and then base64: give it to a library of Standard Webhooks.")
    created_at: float
    previous_secret_until: float | None = Field(
        default=None, description="Until then the secret before signs as well."
    )


class AttemptBody(BaseModel):
    """One attempt of a delivery."""

    at: float
    status: int | None = Field(description="The HTTP status, if there was an answer.")
    error: str | None = Field(description="What went wrong, if anything did.")
    seconds: float


class DeliveryBody(BaseModel):
    """One delivery: the end of a request, to its webhook_url."""

    webhook_id: str = Field(description="The header webhook-id, the same in every attempt.")
    request_id: str
    url: str
    state: State
    created_at: float
    next_attempt_at: float | None
    attempts: list[AttemptBody] = Field(description="The last hundred.")


class DeliveriesBody(BaseModel):
    """A page of the account's deliveries, newest first."""

    deliveries: list[DeliveryBody]
    next: str | None


@router.get(
    "/secret",
    summary="The webhooks' secret",
    response_model=SecretBody,
    responses=describe_errors(401),
)
async def read_secret(service: Running, key: Caller) -> Response:
    """The secret, made when it is first asked for; only a key with both scopes and every model sees it."""
    _check_whole(key)
    return JsonAnswer(_secret_body(await service.webhooks.read_secret(key.account_id)))


@router.post(
    "/secret/rotate",
    summary="Replace the webhooks' secret",
    response_model=SecretBody,
    responses=describe_errors(401, 409),
)
async def rotate_secret(request: Request, service: Running, key: Caller) -> Response:
    """Make a new secret; the one before signs beside it for a day, so that nothing is missed."""
    _check_whole(key)
    once = await check_once(request, service, key, None)
    return JsonAnswer(_secret_body(await service.webhooks.rotate_secret(key.account_id, once, _secret_body)))


@router.get(
    "/deliveries",
    summary="The log of deliveries",
    response_model=DeliveriesBody,
    responses=describe_errors(401),
)
async def list_deliveries(
    service: Running,
    key: Lister,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: State | None = None,
) -> Response:
    """The account's deliveries with their attempts, newest first."""
    found = await service.webhooks.list(
        key.account_id, limit=limit + 1, before=read_cursor(cursor), state=state
    )
    return answer_page("deliveries", found, limit, _delivery_body)


@router.get(
    "/deliveries/{webhook_id}",
    summary="One delivery",
    response_model=DeliveryBody,
    responses=describe_errors(401, 404),
)
async def read_delivery(webhook_id: DeliveryId, service: Running, key: Caller) -> Response:
    """A delivery and its attempts."""
    return JsonAnswer(_delivery_body(await service.webhooks.find(key.account_id, webhook_id)))


@router.post(
    "/deliveries/{webhook_id}/replay",
    summary="Deliver once more",
    response_model=DeliveryBody,
    responses=describe_errors(401, 404, 409),
)
async def replay_delivery(
    webhook_id: DeliveryId, request: Request, service: Running, key: Caller
) -> Response:
    """Deliver it now, under the same webhook id, and if need be for a day again."""
    # It is answered with the delivery.
    check_scope(key, "read")
    once = await check_once(request, service, key, None)
    delivery = await service.webhooks.replay(key.account_id, webhook_id, once, _delivery_body)
    service.store.feed.wake_deliverer()
    return JsonAnswer(_delivery_body(delivery))


def _check_whole(key: Key) -> None:
    """Return where a key may do all that its account may: the secret signs for all of it.

    Raises:
        Forbidden: it has not both scopes, or not every model.
    """
    for scope in ("read", "generate"):
        check_scope(key, scope)
    if key.models is not None:
        raise Forbidden("The secret is for requests to every model; use a key that is not kept to some.")


def _secret_body(secret: WebhookSecret) -> dict[str, Any]:
    return SecretBody(
        secret=secret.secret, created_at=secret.created_at, previous_secret_until=secret.previous_until
    ).model_dump()


def _delivery_body(delivery: Delivery) -> dict[str, Any]:
    return DeliveryBody(
        webhook_id=delivery.id,
        request_id=delivery.job_id,
        url=delivery.url,
        state=delivery.state,
        created_at=delivery.created_at,
        next_attempt_at=delivery.next_attempt_at,
        attempts=[AttemptBody(**attempt) for attempt in delivery.attempts],
    ).model_dump()
