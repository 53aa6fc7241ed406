"""Credits: an append-only ledger in integer micro-credits, and balances, each the sum of its entries.

    grant     + what an operator gives
    hold      - the price, when a job is accepted
    release   + the same, when the job ends, however it ends
    charge    - the price, when it ended COMPLETED

Each is written in the transaction of what it belongs to. A job has each kind at most once, which
the table itself enforces: nothing can be billed or given back twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from ..database import Database
from ..errors import InsufficientCredits, InvalidRequest
from .idempotency import IdempotencyKey, carry_out_once
from .tables import accounts, granted, ledger

MICROCREDITS = 1_000_000
"""Micro-credits in a credit."""

MOST_MICROCREDITS = 10**18
"""The most that an account is granted, all its grants together: far from the end of a 64-bit integer.

Whatever of it is held or spent, no balance can grow beyond, so that a release never fails.
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the ledger."""

    sequence: int
    account_id: str
    kind: str
    amount_microcredits: int
    job_id: str | None
    note: str | None
    created_at: float


def parse_credits(text: str) -> int:
    """Micro-credits from credits as people write them: `12.5`.

    Raises:
        InvalidRequest: it is no number, or finer than a micro-credit (`invalid_parameter`).
    """
    try:
        amount = Decimal(text).scaleb(6)
        whole = int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        whole, amount = 0, Decimal("NaN")
    if whole != amount or abs(whole) > MOST_MICROCREDITS:
        raise InvalidRequest(
            f"{text[:40]!r} is no number of credits; give one with at most six decimals, 12.5 for example.",
            code="invalid_parameter",
            field="credits",
        )
    return whole


def to_credits(microcredits: int) -> float:
    """Credits as JSON has them."""
    return microcredits / MICROCREDITS


def format_credits(microcredits: int) -> str:
    """Credits in decimals, exactly: `12.5`."""
    return format(Decimal(microcredits).scaleb(-6).normalize(), "f")


def describe_balance(microcredits: int) -> dict[str, float]:
    """A balance as the routes answer it."""
    return {"credits": to_credits(microcredits), "free-credits": 0.0}


class CreditStore:
    """Grants credits, and tells what there is of them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def grant(
        self,
        account_id: str,
        microcredits: int,
        note: str | None = None,
        once: IdempotencyKey | None = None,
    ) -> int:
        """Give an account credits, or take some back; return its balance.

        With `once` the answer to its request, `describe_balance`, is kept.

        Raises:
            InvalidRequest: the balance would fall below nothing, or the grants grow out of bounds.
            AnsweredBefore, Conflict: the request was carried out before, or is another one.
        """

        def give(connection: Connection) -> int | InvalidRequest:
            return grant(connection, account_id, microcredits, note)

        return await self.database.write(lambda c: carry_out_once(c, once, 200, give, describe_balance))

    async def check_price(self, account_id: str, price_microcredits: int) -> None:
        """Return where an account has a price.

        Raises:
            InsufficientCredits: it has not; both amounts are named.
        """

        def check(connection: Connection) -> None:
            if read_balance(connection, account_id) < price_microcredits:
                raise refuse_price(connection, account_id, price_microcredits)

        await self.database.look(check)

    async def read_balance(self, account_id: str) -> int:
        """What an account has left, in micro-credits; what is held is not in it."""
        return await self.database.look(lambda connection: read_balance(connection, account_id))

    async def list_entries(
        self, account_id: str, *, limit: int = 100, before: int | None = None
    ) -> list[Entry]:
        """An account's entries, newest first; `before` is the `sequence` of the last one seen."""
        query = select(ledger).where(ledger.c.account_id == account_id)
        if before is not None:
            query = query.where(ledger.c.sequence < before)
        query = query.order_by(ledger.c.sequence.desc()).limit(limit)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [Entry(**row._mapping) for row in rows]

    async def find_unbalanced(self) -> dict[str, tuple[int, int]]:
        """Accounts whose balance is not the sum of their entries: name -> (balance, sum)."""
        total = func.coalesce(func.sum(ledger.c.amount_microcredits), 0)
        query = (
            select(accounts.c.name, accounts.c.balance_microcredits, total.label("total"))
            .join_from(accounts, ledger, accounts.c.id == ledger.c.account_id, isouter=True)
            .group_by(accounts.c.id, accounts.c.name, accounts.c.balance_microcredits)
            .having(accounts.c.balance_microcredits != total)
        )
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return {row.name: (row.balance_microcredits, int(row.total)) for row in rows}


# Within a transaction.

_add = (
    update(accounts)
    .where(
        accounts.c.id == bindparam("of_account"),
        accounts.c.balance_microcredits + bindparam("amount") >= 0,
    )
    .values(balance_microcredits=accounts.c.balance_microcredits + bindparam("amount"))
)
_enter = insert(ledger)
_balance = select(accounts.c.balance_microcredits).where(accounts.c.id == bindparam("of_account"))


_granted = select(func.coalesce(func.sum(ledger.c.amount_microcredits), 0)).where(
    ledger.c.account_id == bindparam("of_account"), granted
)


def read_balance(connection: Connection, account_id: str) -> int:
    """An account's balance in micro-credits."""
    return connection.scalar(_balance, {"of_account": account_id}) or 0


def grant(
    connection: Connection, account_id: str, microcredits: int, note: str | None = None
) -> int | InvalidRequest:
    """Give an account credits, or take some back; return its balance.

    Or the refusal, where the balance would fall below nothing or the grants grow out of bounds.
    """
    possible = 0 < abs(microcredits) <= MOST_MICROCREDITS and (
        microcredits + int(connection.scalar(_granted, {"of_account": account_id}) or 0) <= MOST_MICROCREDITS
    )
    if not possible or not _change_balance(connection, account_id, microcredits):
        balance = read_balance(connection, account_id)
        return InvalidRequest(
            f"The account has {format_credits(balance)} credits, which cannot be changed by "
            f"{format_credits(microcredits)}; take back no more than there is, and give no more than "
            f"{format_credits(MOST_MICROCREDITS)} in all.",
            code="invalid_parameter",
            field="credits",
        )
    connection.execute(_enter, [_entry(account_id, "grant", microcredits, note=note)])
    return read_balance(connection, account_id)


def hold(connection: Connection, account_id: str, job_id: str, price_microcredits: int) -> bool:
    """Hold the price of a job that is being accepted; False when the balance is below it."""
    if not _change_balance(connection, account_id, -price_microcredits):
        return False
    connection.execute(_enter, [_entry(account_id, "hold", -price_microcredits, job_id)])
    return True


def refuse_price(
    connection: Connection, account_id: str, price_microcredits: int, least: str = ""
) -> InsufficientCredits:
    """The refusal of what an account has too few credits for; `least` may say that it costs more still."""
    balance = read_balance(connection, account_id)
    return InsufficientCredits(
        f"This costs {least}{format_credits(price_microcredits)} credits and the account has "
        f"{format_credits(balance)}; ask the service's operator for more."
    )


def settle(
    connection: Connection, account_id: str, job_id: str, price_microcredits: int, charge: bool
) -> None:
    """Release what was held for a job that has just ended, and with `charge` bill it."""
    entries = [_entry(account_id, "release", price_microcredits, job_id)]
    if charge:
        entries.append(_entry(account_id, "charge", -price_microcredits, job_id))
    elif not _change_balance(connection, account_id, price_microcredits):
        raise RuntimeError("a hold cannot be released")
    connection.execute(_enter, entries)


def _change_balance(connection: Connection, account_id: str, microcredits: int) -> bool:
    return bool(connection.execute(_add, {"of_account": account_id, "amount": microcredits}).rowcount)


def _entry(
    account_id: str, kind: str, microcredits: int, job_id: str | None = None, *, note: str | None = None
) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "kind": kind,
        "amount_microcredits": microcredits,
        "job_id": job_id,
        "note": note,
        "created_at": time.time(),
    }
