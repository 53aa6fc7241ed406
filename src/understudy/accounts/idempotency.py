"""Idempotency keys: the same request under the same key is carried out once and answered alike.

What a request was answered with is kept in the transaction of what it did, for a day, so that
neither can be there without the other. Only answers to what was done are kept: a refusal (credits,
limits, a fault of the service) leaves the key free for the next attempt.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, delete, insert, select

from ..database import Database
from ..errors import Conflict, InvalidRequest
from .tables import idempotency_keys

T = TypeVar("T")

KEPT_SECONDS = 86400.0
"""How long an answer is kept."""

LONGEST_KEY = 255
"""The most characters of an idempotency key."""

KEY_PATTERN = "^[!-~]+$"
"""What they are: visible ASCII."""


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """A key that an account sent with a request, and the request's fingerprint."""

    account_id: str
    key: str
    fingerprint: str


class AnsweredBefore(Exception):
    """The request was carried out before: its answer."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__()
        self.status = status
        self.body = body


def make_key(account_id: str, key: str, route: str, asked: Any) -> IdempotencyKey:
    """The key with the fingerprint of what is asked of a route, which must be JSON.

    Raises:
        InvalidRequest: the key is empty, longer than 255 characters or no visible ASCII.
    """
    if re.fullmatch(KEY_PATTERN, key) is None or len(key) > LONGEST_KEY:
        raise InvalidRequest(
            f"The header Idempotency-Key must have 1 to {LONGEST_KEY} visible ASCII characters, no spaces; "
            "a UUID is a good one.",
            code="invalid_parameter",
            field="Idempotency-Key",
        )
    words = json.dumps([route, asked], sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(words.encode()).hexdigest()
    return IdempotencyKey(account_id=account_id, key=key, fingerprint=fingerprint)


class IdempotencyStore:
    """Looks for answers that were given before."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def check(self, once: IdempotencyKey) -> None:
        """Return where the request is new.

        Raises:
            AnsweredBefore: it is not.
            Conflict: the key was used for another request (`idempotency_key_reused`).
        """
        known = await self.database.look(lambda connection: find_answer(connection, once))
        if known is not None:
            raise known

    async def knows(self, account_id: str, key: str) -> bool:
        """Whether an account has sent a request under a key, whichever it was."""
        values = {"of_account": account_id, "of_key": key, "now": time.time()}
        row = await self.database.look(lambda connection: connection.execute(_find, values).one_or_none())
        return row is not None

    async def forget_expired(self) -> int:
        """Forget the answers whose time is over; return how many."""
        forget = delete(idempotency_keys).where(idempotency_keys.c.expires_at <= time.time())
        return await self.database.write(lambda connection: connection.execute(forget).rowcount)


# Within a transaction.

_same = (
    idempotency_keys.c.account_id == bindparam("of_account"),
    idempotency_keys.c.key == bindparam("of_key"),
)
_find = select(idempotency_keys).where(*_same, idempotency_keys.c.expires_at > bindparam("now"))
_forget = delete(idempotency_keys).where(*_same)
_keep = insert(idempotency_keys)


def carry_out_once(
    connection: Connection,
    once: IdempotencyKey | None,
    status: int,
    change: Callable[[Connection], T | Exception],
    describe: Callable[[T], dict[str, Any]],
) -> T | Exception:
    """Carry out a change whose request is new, and keep what `describe` says of it as the answer.

    Where the request is not new, that is the result (`find_answer`), and so is a refusal that the
    change returns; neither is raised, as `Database.write` says. Without `once` every request is new.
    """
    if once is None:
        return change(connection)
    known = find_answer(connection, once)
    if known is not None:
        return known
    done = change(connection)
    if not isinstance(done, Exception):
        _keep_answer(connection, once, status, describe(done))
    return done


def find_answer(connection: Connection, once: IdempotencyKey) -> AnsweredBefore | Conflict | None:
    """What a request was answered with before; None where it is new.

    A conflict where the key was used for another request (`idempotency_key_reused`).
    """
    values = {"of_account": once.account_id, "of_key": once.key, "now": time.time()}
    row = connection.execute(_find, values).one_or_none()
    if row is None:
        return None
    if row.fingerprint != once.fingerprint:
        return Conflict(
            "The Idempotency-Key was used for another request; send each request with a key of its own.",
            code="idempotency_key_reused",
        )
    return AnsweredBefore(row.status, row.body)


def _keep_answer(connection: Connection, once: IdempotencyKey, status: int, body: dict[str, Any]) -> None:
    # What has had its time may still be there.
    connection.execute(_forget, {"of_account": once.account_id, "of_key": once.key})
    connection.execute(
        _keep,
        [
            {
                "account_id": once.account_id,
                "key": once.key,
                "fingerprint": once.fingerprint,
                "status": status,
                "body": body,
                "expires_at": time.time() + KEPT_SECONDS,
            }
        ],
    )
