"""Saved characters: a name of an account for reference pictures and the prompts that go with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..accounts.idempotency import IdempotencyKey, carry_out_once
from ..database import Database
from ..errors import Conflict, InvalidRequest, NotFound
from .files import StoredFile, find_excess, insert_files
from .tables import character_pictures, characters, files

MOST_PICTURES = 8
"""The most pictures of one character."""

MOST_CHARACTERS = 1000
"""The most characters of an account; they are listed on one page."""

Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Character:
    """A character; `file_names` are its pictures, in their order."""

    account_id: str
    name: str
    prompt: str
    negative_prompt: str
    file_names: tuple[str, ...]
    created_at: float


@dataclass(frozen=True, kw_only=True)
class CharacterChange:
    """What is to be changed of a character; None stays as it is.

    `file_names` are the pictures that it has from then on: its own, and `new_files`, whose bytes are
    in the blob store already.
    """

    name: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    file_names: tuple[str, ...] | None = None
    new_files: Sequence[StoredFile] = field(default=())

    def apply(self, character: Character) -> Character:
        """The character after the change."""
        names = ("name", "prompt", "negative_prompt", "file_names")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(character, **given)


class CharacterStore:
    """Keeps the characters of each account."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def save(
        self,
        character: Character,
        pictures: Sequence[StoredFile],
        once: IdempotencyKey | None = None,
        answer: Answer | None = None,
        *,
        most_bytes: int = 0,
    ) -> None:
        """Keep a character, whose pictures are in the blob store already.

        With `once` the `answer` to its request is kept. `most_bytes` is what the account may keep,
        these pictures included; 0 is no limit.

        Raises:
            Conflict: the account has one of that name (`already_exists`), it would keep more, or more
                than `MOST_CHARACTERS` (`too_many_pictures`), or `once` is another request's.
            AnsweredBefore: the request was carried out before.
        """

        def insert_character(connection: Connection) -> Conflict | None:
            if (connection.scalar(_count, {"account_id": character.account_id}) or 0) >= MOST_CHARACTERS:
                return Conflict(
                    f"The account has {MOST_CHARACTERS} saved characters, as many as it may have; "
                    "delete one first.",
                    code="too_many_pictures",
                )
            if refusal := find_excess(connection, pictures, most_bytes):
                return refusal
            insert_files(connection, pictures)
            values = {name: value for name, value in vars(character).items() if name != "file_names"}
            connection.execute(insert(characters), [values])
            _insert_pictures(connection, character)
            return None

        try:
            await self.database.write(
                lambda c: carry_out_once(c, once, 201, insert_character, lambda _: answer or {})
            )
        except IntegrityError:
            raise _name_taken(character.name) from None

    async def list(self, account_id: str) -> list[Character]:
        """An account's characters by name."""
        values = {"account_id": account_id}
        rows = await self.database.read(lambda connection: connection.execute(_find_all, values).all())
        return [_read(of_name) for _, of_name in groupby(rows, key=lambda row: row.name)]

    async def find(self, account_id: str, name: str) -> Character:
        """One of an account's characters.

        Raises:
            NotFound: the account has none of that name (`character_not_found`).
        """
        return await self.database.look(lambda connection: _find(connection, account_id, name))

    async def update(
        self,
        account_id: str,
        name: str,
        change: CharacterChange,
        *,
        held_seconds: float,
        describe: Callable[[Character], Answer],
        once: IdempotencyKey | None = None,
        most_bytes: int = 0,
    ) -> Answer:
        """Change a character; return what `describe` says of it after, which is kept with `once`.

        A picture that it has no more goes when no job that was accepted can need it.

        Raises:
            NotFound: the account has none of that name (`character_not_found`).
            Conflict: it has one of the new name (`already_exists`), would keep more than `most_bytes`
                (`too_many_pictures`), or `once` is another request's.
            InvalidRequest: a picture to be kept is its own no more (`invalid_picture`).
            AnsweredBefore: the request was carried out before.
        """

        def apply(connection: Connection) -> Answer | Conflict:
            before = _find_locked(connection, account_id, name)
            if refusal := find_excess(connection, change.new_files, most_bytes):
                return refusal
            after = change.apply(before)
            connection.execute(
                update(characters).where(*_named(account_id, name)),
                {"name": after.name, "prompt": after.prompt, "negative_prompt": after.negative_prompt},
            )
            if after.file_names != before.file_names:
                _check_own(after.file_names, [*before.file_names, *(file.name for file in change.new_files)])
                insert_files(connection, change.new_files)
                # They have its new name already.
                _delete_pictures(connection, account_id, after.name)
                _insert_pictures(connection, after)
                _let_go(connection, set(before.file_names) - set(after.file_names), held_seconds)
            return describe(after)

        try:
            return await self.database.write(lambda c: carry_out_once(c, once, 200, apply, dict))
        except IntegrityError:
            raise _name_taken(change.name or name) from None

    async def delete(self, account_id: str, name: str, held_seconds: float) -> None:
        """Forget a character; its pictures go when no job that was accepted can need them any more.

        Raises:
            NotFound: the account has none of that name (`character_not_found`).
        """

        def write(connection: Connection) -> None:
            character = _find_locked(connection, account_id, name)
            _delete_pictures(connection, account_id, name)
            connection.execute(delete(characters).where(*_named(account_id, name)))
            _let_go(connection, character.file_names, held_seconds)

        await self.database.write(write)


# Within a transaction.

_with_pictures = select(characters, character_pictures.c.file_name).join(character_pictures)
_of_account = characters.c.account_id == bindparam("account_id")
_of_name = and_(_of_account, characters.c.name == bindparam("name"))
_find_all = _with_pictures.where(_of_account).order_by(characters.c.name, character_pictures.c.number)
_find_one = _with_pictures.where(_of_name).order_by(character_pictures.c.number)
_count = select(func.count()).select_from(characters).where(_of_account)
_lock_one = select(characters.c.name).where(_of_name).with_for_update()


def _find(connection: Connection, account_id: str, name: str) -> Character:
    rows = connection.execute(_find_one, {"account_id": account_id, "name": name}).all()
    if not rows:
        raise NotFound(f"There is no character named {name[:64]!r}.", code="character_not_found")
    return _read(rows)


def _find_locked(connection: Connection, account_id: str, name: str) -> Character:
    """A character that nobody else changes before this transaction ends.

    Locked by a statement of its own, since one that waits for a lock sees other rows as before.
    """
    connection.execute(_lock_one, {"account_id": account_id, "name": name})
    return _find(connection, account_id, name)


def _read(rows: Iterable[Row[Any]]) -> Character:
    """A character from its rows, one for each picture."""
    rows = list(rows)
    values = {**rows[0]._mapping}
    del values["file_name"]
    return Character(**values, file_names=tuple(row.file_name for row in rows))


def _named(account_id: str, name: str):
    return characters.c.account_id == account_id, characters.c.name == name


def _insert_pictures(connection: Connection, character: Character) -> None:
    connection.execute(
        insert(character_pictures),
        [
            {
                "account_id": character.account_id,
                "character_name": character.name,
                "number": number,
                "file_name": file_name,
            }
            for number, file_name in enumerate(character.file_names)
        ],
    )


def _delete_pictures(connection: Connection, account_id: str, name: str) -> None:
    connection.execute(
        delete(character_pictures).where(
            character_pictures.c.account_id == account_id, character_pictures.c.character_name == name
        )
    )


def _let_go(connection: Connection, file_names: Iterable[str], held_seconds: float) -> None:
    """Keep pictures for the jobs that were accepted with them, and for nobody else."""
    connection.execute(
        update(files)
        .where(files.c.name.in_(list(file_names)))
        .values(kind="deleted", expires_at=time.time() + held_seconds)
    )


def _check_own(file_names: Iterable[str], own: Sequence[str]) -> None:
    if not set(file_names) <= set(own):
        raise InvalidRequest(
            "A picture given as ip_image is the character's no more; read the character and try again.",
            code="invalid_picture",
            field="ip_image",
        )


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"There is a character named {name!r} already; delete it first or choose another name.",
        code="already_exists",
        field="name",
    )
