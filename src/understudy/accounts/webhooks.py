"""Webhooks: each account's signing secret, and the deliveries that its jobs' ends give rise to.

A delivery's row is written in the transaction that ends its job, and has one webhook id for all of
its attempts. Whoever attempts it holds a lease; one that runs out lets another try, so that a
delivery is made at least once whatever is killed in between. Times are seconds since the epoch.
"""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update

from ..database import Database
from ..errors import NotFound
from .idempotency import IdempotencyKey, carry_out_once
from .tables import webhook_deliveries, webhook_secrets

SECRET_OVERLAP_SECONDS = 86_400.0
"""How long an old secret still signs beside the new one."""

GIVE_UP_SECONDS = 86_400.0
"""How long a delivery is attempted."""

MOST_ATTEMPTS = 100
"""The last attempts that a delivery's log keeps; a day has a quarter of them."""


@dataclass(frozen=True, kw_only=True)
class WebhookSecret:
    """What an account's webhooks are signed with; `previous_secret` signs too until `previous_until`."""

    account_id: str
    secret: str
    created_at: float
    previous_secret: str | None
    previous_until: float | None

    def list_signing(self, now: float) -> list[str]:
        """The secrets that sign now, the newest first."""
        old = self.previous_secret
        return [self.secret] if old is None or now >= (self.previous_until or 0) else [self.secret, old]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt: when, the HTTP status if there was an answer, and what went wrong if anything did."""

    at: float
    status: int | None
    error: str | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A delivery's row; `state` is pending, delivered or failed."""

    sequence: int
    id: str
    account_id: str
    job_id: str
    url: str
    target: str
    base: str
    state: str
    next_attempt_at: float | None
    give_up_at: float
    lease_expires_at: float | None
    tries: int
    attempts: list[dict[str, Any]]
    created_at: float


@dataclass(frozen=True)
class DueDelivery:
    """A delivery that may be attempted now."""

    sequence: int
    account_id: str
    target: str


class WebhookStore:
    """Every question and change that touches webhooks."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # Secrets.

    async def read_secret(self, account_id: str) -> WebhookSecret:
        """An account's secret, made when it is first asked for."""
        row = await self.database.look(lambda connection: _find_secret(connection, account_id))
        if row is not None:
            return row
        return await self.database.write(
            lambda connection: _find_secret(connection, account_id) or _make_secret(connection, account_id)
        )

    async def rotate_secret(
        self,
        account_id: str,
        once: IdempotencyKey | None = None,
        describe: Callable[[WebhookSecret], dict[str, Any]] = vars,
    ) -> WebhookSecret:
        """Give an account a new secret; the one before signs too for a day more.

        With `once` what `describe` says of it is kept as the answer to its request.

        Raises:
            AnsweredBefore, Conflict: by `once` it was rotated already, or something else was done.
        """

        def rotate(connection: Connection) -> WebhookSecret:
            return _rotate_secret(connection, account_id)

        return await self.database.write(lambda c: carry_out_once(c, once, 200, rotate, describe))

    # Deliveries, as their account sees them.

    async def list(
        self, account_id: str, *, limit: int, before: int | None = None, state: str | None = None
    ) -> list[Delivery]:
        """An account's deliveries, newest first; `before` is the `sequence` of the last one seen."""
        query = select(webhook_deliveries).where(webhook_deliveries.c.account_id == account_id)
        if before is not None:
            query = query.where(webhook_deliveries.c.sequence < before)
        if state is not None:
            query = query.where(webhook_deliveries.c.state == state)
        query = query.order_by(webhook_deliveries.c.sequence.desc()).limit(limit)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [_delivery(row) for row in rows]

    async def find(self, account_id: str, delivery_id: str) -> Delivery:
        """One of an account's deliveries.

        Raises:
            NotFound: the account has none of that id (`delivery_not_found`).
        """
        query = select(webhook_deliveries).where(_owned(account_id, delivery_id))
        row = await self.database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise _not_found(delivery_id)
        return _delivery(row)

    async def replay(
        self,
        account_id: str,
        delivery_id: str,
        once: IdempotencyKey | None = None,
        describe: Callable[[Delivery], dict[str, Any]] = vars,
    ) -> Delivery:
        """Deliver once more, now, under the same webhook id; a pending delivery is tried now.

        With `once` what `describe` says of it is kept as the answer to its request.

        Raises:
            NotFound: the account has none of that id (`delivery_not_found`).
            AnsweredBefore, Conflict: by `once` it was replayed already, or something else was done.
        """
        now = time.time()
        again = (
            update(webhook_deliveries)
            .where(_owned(account_id, delivery_id))
            .values(state="pending", tries=0, next_attempt_at=now, give_up_at=now + GIVE_UP_SECONDS)
            .returning(*webhook_deliveries.c)
        )

        def deliver_again(connection: Connection) -> Delivery | NotFound:
            row = connection.execute(again).one_or_none()
            return _not_found(delivery_id) if row is None else _delivery(row)

        return await self.database.write(lambda c: carry_out_once(c, once, 200, deliver_again, describe))

    # Deliveries, as they are attempted.

    async def next_due_at(self) -> float | None:
        """When the next delivery is to be attempted that nobody holds; None when none is."""
        values = {"now": time.time()}
        return await self.database.look(lambda connection: connection.scalar(_next_due_at, values))

    async def list_due(self, *, most_of_account: int, most_to_target: int) -> list[DueDelivery]:
        """Deliveries that are due and that nobody holds, the longest due first.

        Of each account at most so many, of as many targets as there are, and at most so many of it to
        each target: all that may be attempted next, however much else is due.
        """
        values = {"now": time.time(), "of_account": most_of_account, "to_target": most_to_target}
        rows = await self.database.read(lambda connection: connection.execute(_list_due, values).all())
        return [DueDelivery(*row) for row in rows]

    async def claim(self, sequences: Sequence[int], lease_seconds: float) -> list[Delivery]:
        """Lease these deliveries, as far as they are still due and nobody holds them."""
        now = time.time()
        values = {"sequences": list(sequences), "now": now, "until": now + lease_seconds}
        rows = await self.database.write(lambda connection: connection.execute(_claim, values).all())
        return [_delivery(row) for row in rows]

    async def record(
        self, delivery: Delivery, attempt: Attempt, *, delivered: bool, next_attempt_at: float | None
    ) -> bool:
        """Say what came of an attempt, and end its lease; False when the lease was lost.

        Without a next attempt a delivery that is not made has failed. One that was replayed
        meanwhile is due all the same.
        """
        values = {
            "of_sequence": delivery.sequence,
            "held_until": delivery.lease_expires_at,
            "claimed_at": delivery.next_attempt_at,
            "new_state": "delivered" if delivered else "failed" if next_attempt_at is None else "pending",
            "new_tries": delivery.tries + 1,
            "new_next": next_attempt_at,
            "new_attempts": [*delivery.attempts, vars(attempt)][-MOST_ATTEMPTS:],
        }

        def write(connection: Connection) -> bool:
            if connection.execute(_record, values).rowcount:
                return True
            return bool(connection.execute(_record_beside_replay, values).rowcount)

        return await self.database.write(write)

    async def free_leases(self) -> None:
        """Let every delivery be attempted that an earlier run was at: its service is gone."""
        free = (
            update(webhook_deliveries)
            .where(webhook_deliveries.c.lease_expires_at.is_not(None))
            .values(lease_expires_at=None)
        )
        await self.database.write(lambda connection: connection.execute(free).rowcount)


# Within a transaction.


def add_delivery(
    connection: Connection, account_id: str, job_id: str, webhook: Mapping[str, str], now: float
) -> None:
    """Have the end of a job delivered: to the `url` of its webhook, in words of its `base`."""
    connection.execute(
        _insert,
        {
            "id": f"msg_{uuid.uuid4().hex}",
            "account_id": account_id,
            "job_id": job_id,
            "url": webhook["url"],
            "target": name_target(webhook["url"]),
            "base": webhook["base"],
            "state": "pending",
            "next_attempt_at": now,
            "give_up_at": now + GIVE_UP_SECONDS,
            "tries": 0,
            "attempts": [],
            "created_at": now,
        },
    )


def name_target(url: str) -> str:
    """The host and port of a URL, written as every other URL of the same writes them.

    What is no URL stands for itself: a job ends whatever it names, and an attempt tells what is wrong.
    """
    try:
        parts = httpx2.URL(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return f"{parts.raw_host.decode('ascii').removesuffix('.')}:{port}"[:300]
    except (httpx2.InvalidURL, ValueError, KeyError):
        return url[:300]


def forget_deliveries(connection: Connection, job_ids: Sequence[str]) -> None:
    """Forget the deliveries of jobs that are being forgotten."""
    connection.execute(_forget, {"of_jobs": list(job_ids)})


_insert = insert(webhook_deliveries)
_forget = delete(webhook_deliveries).where(
    webhook_deliveries.c.job_id.in_(bindparam("of_jobs", expanding=True))
)
_select_secret = select(webhook_secrets).where(webhook_secrets.c.account_id == bindparam("of_account"))
_nobody_s = or_(
    webhook_deliveries.c.lease_expires_at.is_(None), webhook_deliveries.c.lease_expires_at < bindparam("now")
)
_next_due_at = select(func.min(webhook_deliveries.c.next_attempt_at)).where(
    webhook_deliveries.c.next_attempt_at.is_not(None), _nobody_s
)
_due = and_(webhook_deliveries.c.next_attempt_at <= bindparam("now"), _nobody_s)
_of_target = (
    select(
        webhook_deliveries.c.sequence,
        webhook_deliveries.c.account_id,
        webhook_deliveries.c.target,
        webhook_deliveries.c.next_attempt_at,
        func.row_number()
        .over(
            partition_by=(webhook_deliveries.c.account_id, webhook_deliveries.c.target),
            order_by=webhook_deliveries.c.next_attempt_at,
        )
        .label("place"),
    )
    .where(_due)
    .subquery()
)
_of_account = (
    select(
        _of_target,
        func.row_number()
        .over(
            partition_by=_of_target.c.account_id, order_by=(_of_target.c.place, _of_target.c.next_attempt_at)
        )
        .label("place_of_account"),
    )
    .where(_of_target.c.place <= bindparam("to_target"))
    .subquery()
)
_list_due = (
    select(_of_account.c.sequence, _of_account.c.account_id, _of_account.c.target)
    .where(_of_account.c.place_of_account <= bindparam("of_account"))
    .order_by(_of_account.c.next_attempt_at)
)
_claim = (
    update(webhook_deliveries)
    .where(webhook_deliveries.c.sequence.in_(bindparam("sequences", expanding=True)), _due)
    .values(lease_expires_at=bindparam("until"))
    .returning(*webhook_deliveries.c)
)
_held = update(webhook_deliveries).where(
    webhook_deliveries.c.sequence == bindparam("of_sequence"),
    webhook_deliveries.c.lease_expires_at == bindparam("held_until"),
)
_told = {
    "attempts": bindparam("new_attempts", type_=webhook_deliveries.c.attempts.type),
    "lease_expires_at": None,
}
_record = _held.where(webhook_deliveries.c.next_attempt_at == bindparam("claimed_at")).values(
    state=bindparam("new_state"), tries=bindparam("new_tries"), next_attempt_at=bindparam("new_next"), **_told
)
_record_beside_replay = _held.values(**_told)


def _find_secret(connection: Connection, account_id: str) -> WebhookSecret | None:
    row = connection.execute(_select_secret, {"of_account": account_id}).one_or_none()
    return None if row is None else WebhookSecret(**row._mapping)


def _make_secret(connection: Connection, account_id: str) -> WebhookSecret:
    made = WebhookSecret(
        account_id=account_id,
        secret=_draw_secret(),
        created_at=time.time(),
        previous_secret=None,
        previous_until=None,
    )
    connection.execute(insert(webhook_secrets).values(**vars(made)))
    return made


def _rotate_secret(connection: Connection, account_id: str) -> WebhookSecret:
    old = _find_secret(connection, account_id)
    if old is None:
        return _make_secret(connection, account_id)
    now = time.time()
    new = WebhookSecret(
        account_id=account_id,
        secret=_draw_secret(),
        created_at=now,
        previous_secret=old.secret,
        previous_until=now + SECRET_OVERLAP_SECONDS,
    )
    connection.execute(
        update(webhook_secrets).where(webhook_secrets.c.account_id == account_id).values(**vars(new))
    )
    return new


def _draw_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _owned(account_id: str, delivery_id: str) -> Any:
    return and_(webhook_deliveries.c.account_id == account_id, webhook_deliveries.c.id == delivery_id)


def _not_found(delivery_id: str) -> NotFound:
    return NotFound(
        f"There is no webhook delivery {delivery_id[:64]!r}; GET /v1/webhooks/deliveries lists them.",
        code="delivery_not_found",
    )


def _delivery(row: Any) -> Delivery:
    return Delivery(**row._mapping)
