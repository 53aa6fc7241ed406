"""API keys: made once, shown once, kept as a SHA-256 digest with a prefix to know them by.

A key carries 256 random bits, so that a plain digest of it cannot be guessed back. It may do what
its scopes say: `read` what its account has, `generate` (and cancel, upload, save, delete), `admin`
every account.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, true, tuple_, update

from ..database import Database, Recent
from ..errors import Conflict, InvalidRequest, NotFound, RateLimited
from .accounts import account_not_found, find_account, open_account
from .idempotency import IdempotencyKey, carry_out_once
from .limits import Limits, refuse
from .tables import accounts, keys

PREFIX = "us_"

PREFIX_LENGTH = 10
"""The characters of a key that are kept, to know it by."""

KEYS_PER_ACCOUNT = 100
"""Keys that work which an account may have at once."""

KEYS_PER_DAY = 500
"""Keys that an account may make by itself in a day: revoked ones are rows still."""

DAY = 86_400.0

SCOPES = ("generate", "read", "admin")
USUAL_SCOPES = ("generate", "read")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key's row, with its account's name. `models` are slugs, None for every model.

    `submits_per_minute` and `concurrent_jobs` are None where the settings say, 0 for no limit; they
    count for all keys together that have the same `counted_as`, which is the id of one of them.
    """

    id: str
    account_id: str
    account_name: str
    account_disabled: bool
    name: str
    prefix: str
    counted_as: str
    created_at: float
    revoked_at: float | None
    expires_at: float | None
    scopes: tuple[str, ...]
    models: tuple[str, ...] | None
    submits_per_minute: int | None
    concurrent_jobs: int | None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= time.time()

    def covers(self, other: Key) -> bool:
        """Whether it may do whatever another key may do."""
        if self.models is not None and (other.models is None or not set(other.models) <= set(self.models)):
            return False
        return set(other.scopes) <= set(self.scopes)

    def limits(self, usual: Limits) -> Limits:
        """Its limits: its own, or the usual ones."""
        own = {"submits_per_minute": self.submits_per_minute, "concurrent_jobs": self.concurrent_jobs}
        return replace(usual, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """What a key is made with; `secret` is the key itself, drawn when it is not given.

    `counted_as` is the key whose limits it shares, None for limits of its own.
    """

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    name: str
    scopes: Sequence[str] = USUAL_SCOPES
    models: Sequence[str] | None = None
    expires_at: float | None = None
    submits_per_minute: int | None = None
    concurrent_jobs: int | None = None
    counted_as: str | None = None
    secret: str | None = None


def draw_secret() -> str:
    """A new key."""
    return PREFIX + secrets.token_urlsafe(32)


def derive_secret(parent: str, nonce: str) -> str:
    """The key that is made of another key and a nonce (HMAC-SHA256): the same as often as it is asked for.

    Without the other key, of which only the digest is kept, the nonce tells nothing.
    """
    derived = hmac.digest(parent.encode(), nonce.encode(), "sha256")
    return PREFIX + base64.urlsafe_b64encode(derived).rstrip(b"=").decode()


def parse_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Scopes in their one order, each once.

    Raises:
        InvalidRequest: there is none, or one that is no scope (`invalid_parameter`).
    """
    if not scopes or not set(scopes) <= set(SCOPES):
        raise InvalidRequest(
            f"The scopes must be some of {', '.join(SCOPES)}.", code="invalid_parameter", field="scopes"
        )
    return tuple(scope for scope in SCOPES if scope in scopes)


def digest_key(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal: what is stored and compared."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyStore:
    """Makes, finds, lists and revokes keys."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._recent: Recent[Key] = Recent()

    async def create(
        self, name: str, account: str | None = None, *, scopes: Sequence[str] = USUAL_SCOPES, **options: Any
    ) -> tuple[str, Key]:
        """Make a key; return it (only now can it be read) and its row.

        It belongs to the account named `account`; without one it opens an account of its own,
        so that two keys made this way see nothing of each other. `options` are those of `NewKey`.

        Raises:
            NotFound: there is no account of that name (`account_not_found`).
        """
        secret, row = _make_row(NewKey(name=name, scopes=scopes, **options))

        def insert_key(connection: Connection) -> Key | NotFound:
            if account is None:
                return _insert(connection, open_account(connection, name), row)
            account_id = find_account(connection, account)
            return account_not_found(account) if account_id is None else _insert(connection, account_id, row)

        return secret, await self.database.write(insert_key)

    async def create_for(
        self,
        account_id: str,
        new: NewKey,
        once: IdempotencyKey | None = None,
        answer: dict[str, Any] | None = None,
    ) -> tuple[str, Key]:
        """Make a key of an account by its id; with `once` the answer to its request is kept.

        Raises:
            AnsweredBefore, Conflict: the request was carried out before, or is another one.
            Conflict: the account has as many keys as it may have (`too_many_keys`).
            RateLimited: it is another key's, and the account has made as many as it may in a day.
        """
        secret, row = _make_row(new)

        def insert_key(connection: Connection) -> Key | Conflict | RateLimited:
            values = {"of_account": account_id, "now": time.time()}
            if (connection.scalar(_count_working, values) or 0) >= KEYS_PER_ACCOUNT:
                return Conflict(
                    f"The account has {KEYS_PER_ACCOUNT} keys, as many as it may have; revoke one first.",
                    code="too_many_keys",
                )
            if new.counted_as is not None and (refusal := _check_made_today(connection, account_id)):
                return refusal
            return _insert(connection, account_id, row)

        return secret, await self.database.write(
            lambda c: carry_out_once(c, once, 201, insert_key, lambda _: answer or {})
        )

    async def find(self, key: str) -> Key | None:
        """The row of a key that may be used; None when it is unknown, revoked or expired.

        A key that another process revokes is found for half a second more.
        """
        found = await self._recent.find(digest_key(key), self._find_working)
        return None if found is None or found.expired else found

    async def list(
        self, account_id: str | None = None, *, limit: int | None = None, after: str | None = None
    ) -> list[Key]:
        """Every key, or those of an account, oldest first, revoked ones too.

        `after` is the id of the last one seen.

        Raises:
            NotFound: there is no such key any more (`key_not_found`).
        """
        query = _select_keys.order_by(keys.c.created_at, keys.c.id).limit(limit)
        if account_id is not None:
            query = query.where(keys.c.account_id == account_id)
        if after is not None:
            last = await self.read(after, account_id)
            query = query.where(tuple_(keys.c.created_at, keys.c.id) > (last.created_at, last.id))
        return [_key(row) for row in await self.database.read(lambda c: c.execute(query).all())]

    async def revoke(self, prefix_or_id: str) -> Key:
        """Revoke a key by its id or by the beginning of it; it stops working within a second.

        Raises:
            NotFound: no key that works begins so (`key_not_found`).
            Conflict: several do (`ambiguous_key`).
        """
        prefix = prefix_or_id[:PREFIX_LENGTH]
        query = select(keys.c.id).where(
            or_(keys.c.id == prefix_or_id, keys.c.prefix == prefix), keys.c.revoked_at.is_(None)
        )
        found = await self.database.read(lambda connection: connection.scalars(query).all())
        if not found or len(prefix_or_id) < PREFIX_LENGTH:
            raise NotFound(
                f"No working key begins with {prefix!r}; `understudy keys list` shows them.",
                code="key_not_found",
            )
        if len(found) > 1:
            raise Conflict(f"Several keys begin with {prefix!r}; name one by its id.", code="ambiguous_key")
        return await self.revoke_by_id(found[0])

    async def revoke_by_id(self, key_id: str, account_id: str | None = None) -> Key:
        """Revoke a key, of an account when one is given; once revoked it stays so.

        Raises:
            NotFound: there is no such key, or it is another account's (`key_not_found`).
        """
        mine = _named(key_id, account_id)
        revoke = update(keys).where(mine, keys.c.revoked_at.is_(None)).values(revoked_at=time.time())

        def write(connection: Connection) -> Key | NotFound:
            connection.execute(revoke)
            row = connection.execute(_select_keys.where(mine)).one_or_none()
            return _key_not_found() if row is None else _key(row)

        return await self.database.write(write, lambda _: self._recent.clear())

    async def read(self, key_id: str, account_id: str | None = None) -> Key:
        """A key by its id, of an account when one is given.

        Raises:
            NotFound: there is none, or it is another account's (`key_not_found`).
        """
        query = _select_keys.where(_named(key_id, account_id))
        row = await self.database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise _key_not_found()
        return _key(row)

    async def count(self) -> int:
        """How many keys there are, revoked ones too."""
        query = select(func.count()).select_from(keys)
        return await self.database.read(lambda connection: connection.scalar(query)) or 0

    async def _find_working(self, digest: str) -> Key | None:
        """The key of a digest that may be used.

        Who guesses at keys does not choose their digests: neither the index nor the comparison, which
        takes constant time, tells how near a guess is to a key.
        """
        row = await self.database.look(lambda c: c.execute(_find, {"of_digest": digest}).one_or_none())
        return _key(row) if row is not None and hmac.compare_digest(row.digest, digest) else None


_select_keys = select(
    keys.c.id,
    keys.c.account_id,
    accounts.c.name.label("account_name"),
    accounts.c.disabled_at.is_not(None).label("account_disabled"),
    keys.c.name,
    keys.c.prefix,
    keys.c.digest,
    func.coalesce(keys.c.counted_as, keys.c.id).label("counted_as"),
    keys.c.created_at,
    keys.c.revoked_at,
    keys.c.expires_at,
    keys.c.scopes,
    keys.c.models,
    keys.c.submits_per_minute,
    keys.c.concurrent_jobs,
).join_from(keys, accounts, keys.c.account_id == accounts.c.id)
_find = _select_keys.where(keys.c.digest == bindparam("of_digest"), keys.c.revoked_at.is_(None))

_count_working = (
    select(func.count())
    .select_from(keys)
    .where(
        keys.c.account_id == bindparam("of_account"),
        keys.c.revoked_at.is_(None),
        or_(keys.c.expires_at.is_(None), keys.c.expires_at > bindparam("now")),
    )
)

_count_made = (
    select(func.count(), func.min(keys.c.created_at))
    .select_from(keys)
    .where(
        keys.c.account_id == bindparam("of_account"),
        keys.c.counted_as.is_not(None),
        keys.c.created_at > bindparam("since"),
    )
)


def _check_made_today(connection: Connection, account_id: str) -> RateLimited | None:
    now = time.time()
    count, first_at = connection.execute(_count_made, {"of_account": account_id, "since": now - DAY}).one()
    if count < KEYS_PER_DAY:
        return None
    return refuse(f"The account has made {KEYS_PER_DAY} keys in a day", first_at + DAY - now)


def _make_row(new: NewKey) -> tuple[str, dict[str, Any]]:
    """A new key, and the columns of its row but for its account."""
    secret = new.secret or draw_secret()
    return secret, {
        "id": new.id,
        "name": new.name,
        "prefix": secret[:PREFIX_LENGTH],
        "digest": digest_key(secret),
        "created_at": time.time(),
        "scopes": " ".join(parse_scopes(new.scopes)),
        "models": None if new.models is None else list(new.models),
        "expires_at": new.expires_at,
        "submits_per_minute": new.submits_per_minute,
        "concurrent_jobs": new.concurrent_jobs,
        "counted_as": new.counted_as,
    }


def _insert(connection: Connection, account_id: str, row: dict[str, Any]) -> Key:
    connection.execute(insert(keys), [{**row, "account_id": account_id}])
    return _key(connection.execute(_select_keys.where(keys.c.id == row["id"])).one())


_COLUMNS = [one.name for one in fields(Key)]


def _named(key_id: str, account_id: str | None) -> Any:
    return and_(keys.c.id == key_id, true() if account_id is None else keys.c.account_id == account_id)


def _key_not_found() -> NotFound:
    return NotFound("There is no such key; GET /v1/keys lists them.", code="key_not_found")


def _key(row: Any) -> Key:
    values = {name: getattr(row, name) for name in _COLUMNS}
    values["scopes"] = tuple(row.scopes.split())
    values["models"] = None if row.models is None else tuple(row.models)
    return Key(**values)
