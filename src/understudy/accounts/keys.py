"""API keys: made once, shown once, kept as a SHA-256 digest with a prefix to know them by.

A key carries 256 random bits, so that a plain digest of it cannot be guessed back.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, insert, select, update

from ..database import Database, Recent
from ..errors import Conflict, NotFound
from .tables import accounts, keys

PREFIX = "us_"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key's row, with its account's name."""

    id: str
    account_id: str
    account_name: str
    name: str
    prefix: str
    created_at: float
    revoked_at: float | None


def digest_key(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal: what is stored and looked up."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyStore:
    """Makes, finds, lists and revokes keys."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._recent: Recent[Key] = Recent()

    async def create(self, name: str, account: str | None = None) -> tuple[str, Key]:
        """Make a key; return it (only now can it be read) and its row.

        It belongs to the account named `account`; without one it opens an account of its own,
        so that two keys made this way see nothing of each other.

        Raises:
            NotFound: there is no account of that name.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        now = time.time()
        key_id = str(uuid.uuid4())

        def write(connection: Connection) -> None:
            if account is None:
                account_id = _open_account(connection, name, now)
            else:
                account_id = _find_account(connection, account)
                if account_id is None:
                    raise NotFound(f"No account is named {account!r}; `understudy keys list` shows them.")
            connection.execute(
                insert(keys).values(
                    id=key_id,
                    account_id=account_id,
                    name=name,
                    prefix=secret[:10],
                    digest=digest_key(secret),
                    created_at=now,
                )
            )

        await self.database.write(write)
        return secret, await self._get(key_id)

    async def find(self, key: str) -> Key | None:
        """The row of a key that may be used; None when it is unknown or revoked.

        A key that another process revokes is found for half a second more.
        """
        return await self._recent.find(digest_key(key), self._find_working)

    async def list(self) -> list[Key]:
        """Every key, oldest first, revoked ones too."""
        query = _select_keys.order_by(keys.c.created_at)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [Key(**row._mapping) for row in rows]

    async def revoke(self, prefix_or_id: str) -> Key:
        """Revoke a key by its id or by the beginning of it; it stops working within a second.

        Raises:
            NotFound: no key that works begins so.
            Conflict: several do (`ambiguous_key`).
        """
        found = [
            key
            for key in await self.list()
            if key.revoked_at is None and (key.id == prefix_or_id or key.prefix == prefix_or_id[:10])
        ]
        if not found or len(prefix_or_id) < 10:
            raise NotFound(
                f"No working key begins with {prefix_or_id[:10]!r}; `understudy keys list` shows them."
            )
        if len(found) > 1:
            raise Conflict(
                f"Several keys begin with {prefix_or_id[:10]!r}; name one by its id.", code="ambiguous_key"
            )
        revoke = update(keys).where(keys.c.id == found[0].id).values(revoked_at=time.time())
        await self.database.write(lambda connection: connection.execute(revoke).rowcount)
        self._recent.clear()
        return await self._get(found[0].id)

    async def count(self) -> int:
        """How many keys there are, revoked ones too."""
        query = select(func.count()).select_from(keys)
        return await self.database.read(lambda connection: connection.scalar(query)) or 0

    async def _find_working(self, digest: str) -> Key | None:
        values = {"digest": digest}
        row = await self.database.look(
            lambda connection: connection.execute(_find_working, values).one_or_none()
        )
        return None if row is None else Key(**row._mapping)

    async def _get(self, key_id: str) -> Key:
        query = _select_keys.where(keys.c.id == key_id)
        row = await self.database.read(lambda connection: connection.execute(query).one())
        return Key(**row._mapping)


_select_keys = select(
    keys.c.id,
    keys.c.account_id,
    accounts.c.name.label("account_name"),
    keys.c.name,
    keys.c.prefix,
    keys.c.created_at,
    keys.c.revoked_at,
).join_from(keys, accounts, keys.c.account_id == accounts.c.id)
_find_working = _select_keys.where(keys.c.digest == bindparam("digest"), keys.c.revoked_at.is_(None))


def _find_account(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(accounts.c.id).where(accounts.c.name == name))


def _open_account(connection: Connection, name: str, now: float) -> str:
    account_id = str(uuid.uuid4())
    taken = _find_account(connection, name) is not None
    connection.execute(
        insert(accounts).values(
            id=account_id, name=f"{name}-{account_id[:8]}" if taken else name, created_at=now
        )
    )
    return account_id
