"""Accounts: what keys, jobs, credits and characters belong to, and what sees nothing of another."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ..database import Database
from ..errors import Conflict, NotFound
from .idempotency import IdempotencyKey, carry_out_once
from .tables import accounts


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account's row; while it is disabled its keys may do nothing."""

    id: str
    name: str
    created_at: float
    disabled_at: float | None
    balance_microcredits: int


class AccountStore:
    """Opens, finds, lists and disables accounts."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(
        self, account: Account, once: IdempotencyKey | None = None, answer: dict[str, Any] | None = None
    ) -> None:
        """Open an account; with `once` the answer to its request is kept.

        Raises:
            Conflict: there is one of that name (`already_exists`), or `once` is another request's.
            AnsweredBefore: the request was carried out before.
        """

        def open_new(connection: Connection) -> Conflict | None:
            if find_account(connection, account.name) is not None:
                return Conflict(
                    f"There is an account named {account.name!r} already; choose another name.",
                    code="already_exists",
                    field="name",
                )
            connection.execute(insert(accounts), [vars(account)])
            return None

        await self.database.write(lambda c: carry_out_once(c, once, 201, open_new, lambda _: answer or {}))

    async def list(self) -> list[Account]:
        """Every account by name."""
        query = select(accounts).order_by(accounts.c.name)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [Account(**row._mapping) for row in rows]

    async def find(self, account_id: str) -> Account:
        """An account by its id.

        Raises:
            NotFound: there is none (`account_not_found`).
        """
        return await self._find(accounts.c.id == account_id, account_id)

    async def find_named(self, name: str) -> Account:
        """An account by its name.

        Raises:
            NotFound: there is none (`account_not_found`).
        """
        return await self._find(accounts.c.name == name, name)

    async def disable(self, account_id: str, disabled: bool) -> Account:
        """Let the keys of an account do nothing within a second, or again what they may.

        Raises:
            NotFound: there is none (`account_not_found`).
        """
        change = (
            update(accounts)
            .where(accounts.c.id == account_id)
            .values(disabled_at=time.time() if disabled else None)
        )
        await self.database.write(lambda connection: connection.execute(change).rowcount)
        return await self.find(account_id)

    async def _find(self, which: Any, said: str) -> Account:
        query = select(accounts).where(which)
        row = await self.database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise account_not_found(said)
        return Account(**row._mapping)


def new_account(name: str) -> Account:
    """An account that is not in the database yet."""
    return Account(
        id=str(uuid.uuid4()), name=name, created_at=time.time(), disabled_at=None, balance_microcredits=0
    )


def account_not_found(said: str) -> NotFound:
    """The error for an account that does not exist."""
    return NotFound(
        f"There is no account {said[:200]!r}; `understudy accounts list` shows them.",
        code="account_not_found",
    )


# Within a transaction.


def find_account(connection: Connection, name: str) -> str | None:
    """The id of the account of a name."""
    return connection.scalar(select(accounts.c.id).where(accounts.c.name == name))


def open_account(connection: Connection, name: str) -> str:
    """Open an account of a name, or of one like it where that is taken; return its id."""
    account = new_account(name)
    taken = find_account(connection, name) is not None
    values = {**vars(account), "name": f"{name}-{account.id[:8]}" if taken else name}
    connection.execute(insert(accounts), [values])
    return account.id
