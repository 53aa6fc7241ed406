"""Saved characters: a name of an account for a reference picture and its prompt."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..accounts.idempotency import IdempotencyKey, check_new, keep_answer
from ..database import Database
from ..errors import Conflict, NotFound
from .files import StoredFile, insert_files
from .tables import characters, files


@dataclass(frozen=True, kw_only=True)
class Character:
    """A character's row."""

    account_id: str
    name: str
    prompt: str
    file_name: str
    created_at: float


class CharacterStore:
    """Keeps the characters of each account."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def save(
        self,
        character: Character,
        picture: StoredFile,
        once: IdempotencyKey | None = None,
        answer: dict[str, Any] | None = None,
    ) -> None:
        """Keep a character, whose picture is in the blob store already.

        With `once` the `answer` to its request is kept.

        Raises:
            Conflict: the account has one of that name (`already_exists`), or `once` is another
                request's.
            AnsweredBefore: the request was carried out before.
        """

        def write(connection: Connection) -> None:
            if once is not None:
                check_new(connection, once)
                keep_answer(connection, once, 201, answer or {})
            insert_files(connection, [picture])
            connection.execute(insert(characters), [vars(character)])

        try:
            await self.database.write(write)
        except IntegrityError:
            raise Conflict(
                f"There is a character named {character.name!r} already; "
                "delete it first or choose another name.",
                code="already_exists",
                field="name",
            ) from None

    async def list(self, account_id: str) -> list[Character]:
        """An account's characters by name."""
        query = select(characters).where(characters.c.account_id == account_id).order_by(characters.c.name)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [Character(**row._mapping) for row in rows]

    async def find(self, account_id: str, name: str) -> Character:
        """One of an account's characters.

        Raises:
            NotFound: the account has none of that name (`character_not_found`).
        """
        query = select(characters).where(_named(account_id, name))
        row = await self.database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise _not_found(name)
        return Character(**row._mapping)

    async def delete(self, account_id: str, name: str, held_seconds: float) -> None:
        """Forget a character; its picture goes when no job that was accepted can need it any more.

        Raises:
            NotFound: the account has none of that name (`character_not_found`).
        """

        def write(connection: Connection) -> None:
            deleted = connection.execute(
                delete(characters).where(_named(account_id, name)).returning(characters.c.file_name)
            )
            file_name = deleted.scalar_one_or_none()
            if file_name is None:
                raise _not_found(name)
            connection.execute(
                update(files)
                .where(files.c.name == file_name)
                .values(kind="deleted", expires_at=time.time() + held_seconds)
            )

        await self.database.write(write)


def new_character(name: str, prompt: str, picture: StoredFile) -> Character:
    """A character that is not in the database yet."""
    return Character(
        account_id=picture.account_id,
        name=name,
        prompt=prompt,
        file_name=picture.name,
        created_at=time.time(),
    )


def _named(account_id: str, name: str):
    return and_(characters.c.account_id == account_id, characters.c.name == name)


def _not_found(name: str) -> NotFound:
    return NotFound(f"There is no character named {name[:64]!r}.", code="character_not_found")
