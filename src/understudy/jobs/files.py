"""The rows of files: whose they are, what for, and until when.

The bytes are the blob store's. They are written before their row and deleted before it, so that
no row that can still be found is without its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Double, bindparam, case, delete, func, insert, or_, select, update

from ..accounts.idempotency import IdempotencyKey, carry_out_once
from ..blobs import BlobStore
from ..database import Database, Recent
from ..errors import Conflict, InvalidRequest
from .job import list_files
from .tables import files, jobs, kept, unended

LEAST_BYTES = 65_536
"""What a file that an account keeps counts for at least: a small one costs its row and its place too."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file's row.

    `kind` is output, preview (of an output, until its job's end), input, upload, character, deleted
    (kept for jobs only) or refused (by the content policy: shown to nobody).
    """

    name: str
    account_id: str
    kind: str
    content_type: str
    size: int
    created_at: float
    job_id: str | None = None
    expires_at: float | None = None

    @property
    def was_drawn(self) -> bool:
        """Whether the service made it, so that the content policy has judged it."""
        return self.kind in ("output", "preview")


class FileStore:
    """Keeps the rows of files."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._recent: Recent[StoredFile] = Recent()

    async def add(
        self,
        rows: Sequence[StoredFile],
        once: IdempotencyKey | None = None,
        answer: dict[str, Any] | None = None,
        *,
        most_bytes: int = 0,
    ) -> None:
        """Record files of an account whose bytes are in the blob store already.

        With `once` the `answer` to its request is kept. `most_bytes` is what the account may keep
        without having paid for it, these files included; 0 is no limit.

        Raises:
            AnsweredBefore, Conflict: the request was carried out before, or is another one.
            Conflict: the account would keep more (`too_many_pictures`).
        """

        def insert_rows(connection: Connection) -> Conflict | None:
            refusal = find_excess(connection, rows, most_bytes)
            if refusal is None:
                insert_files(connection, rows)
            return refusal

        await self.database.write(lambda c: carry_out_once(c, once, 200, insert_rows, lambda _: answer or {}))

    async def find(self, name: str) -> StoredFile | None:
        """A file's row; None when there is none or its time is over."""
        values = {"name": name, "now": time.time()}
        row = await self.database.look(lambda connection: connection.execute(_find, values).one_or_none())
        return None if row is None else StoredFile(**row._mapping)

    async def find_recent(self, name: str) -> StoredFile | None:
        """A file's row as it is or was half a second ago, for a file that is used again and again."""
        return await self._recent.find(name, self.find)

    async def sum_kept(self, account_id: str) -> int:
        """The bytes of an account's uploads and characters, as they are counted (`count_bytes`)."""
        return await self.database.look(lambda connection: _sum_kept(connection, account_id))

    async def list_expired(self, limit: int = 500) -> list[str]:
        """Names of files whose time is over and that no job without an end needs."""
        now = time.time()
        # Behind every submit that may still have found such a file: later ones find it no more.
        await self.database.write(lambda connection: None)
        query = select(files.c.name).where(files.c.expires_at <= now).execution_options(yield_per=limit)

        def ask(connection: Connection) -> list[str]:
            needed = {
                name
                for inputs in connection.scalars(_inputs_of_unended)
                for source in inputs.values()
                for name in list_files(source)
            }
            with closing(connection.scalars(query)) as names:
                return list(islice((name for name in names if name not in needed), limit))

        return await self.database.read(ask)

    async def list_names(self) -> set[str]:
        """Names of every file that has a row."""
        query = select(files.c.name)
        return set(await self.database.read(lambda connection: connection.scalars(query).all()))

    async def forget(self, names: Sequence[str]) -> None:
        """Delete the rows of files whose bytes are gone."""
        forget = delete(files).where(files.c.name.in_(names))
        await self.database.write(lambda connection: connection.execute(forget).rowcount)


_find = select(files).where(
    files.c.name == bindparam("name"),
    files.c.kind.not_in(("deleted", "refused")),
    or_(files.c.expires_at.is_(None), files.c.expires_at > bindparam("now")),
)
_sum_of_account = select(
    func.coalesce(func.sum(case((files.c.size < LEAST_BYTES, LEAST_BYTES), else_=files.c.size)), 0)
).where(kept, files.c.account_id == bindparam("of_account"))
_insert = insert(files)
_inputs_of_unended = select(jobs.c.inputs).where(unended)
_of_job = update(files).where(files.c.job_id == bindparam("of_job"))
_expire = _of_job.values(expires_at=bindparam("now"))
_keep_outputs = _of_job.values(
    expires_at=case(
        (files.c.kind == "output", bindparam("until", type_=Double)), else_=bindparam("now", type_=Double)
    )
)


# A character has its pictures until it is changed or deleted.
_refuse = (
    update(files)
    .where(files.c.name.in_(bindparam("names", expanding=True)))
    .values(
        expires_at=case(
            (files.c.kind == "character", files.c.expires_at), else_=bindparam("now", type_=Double)
        ),
        kind="refused",
    )
)


def too_many_pictures(most_bytes: int) -> Conflict:
    """The error for an account that keeps as much as it may."""
    return Conflict(
        f"The account may keep {most_bytes / 1e6:,.1f} MB of uploads and saved characters; "
        "delete characters, or wait until uploads expire.",
        code="too_many_pictures",
    )


def find_excess(connection: Connection, rows: Sequence[StoredFile], most_bytes: int) -> Conflict | None:
    """The refusal of files that an account would keep past `most_bytes`, within their transaction.

    None where they fit, or `most_bytes` is 0.
    """
    if not most_bytes or not rows:
        return None
    kept_bytes = _sum_kept(connection, rows[0].account_id) + sum(count_bytes(row.size) for row in rows)
    return too_many_pictures(most_bytes) if kept_bytes > most_bytes else None


def count_bytes(size: int) -> int:
    """What a file of so many bytes counts for, of what an account may keep."""
    return max(size, LEAST_BYTES)


def _sum_kept(connection: Connection, account_id: str) -> int:
    return int(connection.scalar(_sum_of_account, {"of_account": account_id}))


def insert_files(connection: Connection, rows: Sequence[StoredFile]) -> None:
    """Record files within a transaction."""
    if rows:
        connection.execute(_insert, [vars(row) for row in rows])


def expire_files(connection: Connection, job_id: str, now: float) -> None:
    """Let go every file that a job has so far, within the transaction that ends it."""
    connection.execute(_expire, {"of_job": job_id, "now": now})


def keep_outputs(connection: Connection, job_id: str, now: float, until: float | None) -> None:
    """Keep the pictures that a job has so far and let go everything else, within the transaction that
    completes it."""
    connection.execute(_keep_outputs, {"of_job": job_id, "now": now, "until": until})


def refuse_gone_files(
    connection: Connection, inputs: Mapping[str, Mapping[str, Any]], now: float
) -> InvalidRequest | None:
    """The refusal of a job that names a file that is not to be had any more, within its submit.

    Files that are kept for the job itself have a digest and come with it.
    """
    for field, source in inputs.items():
        for name in () if "sha256" in source else list_files(source):
            if connection.execute(_find, {"name": name, "now": now}).one_or_none() is None:
                return file_gone(field)
    return None


def file_gone(field: str) -> InvalidRequest:
    """The error for a file of the service that is not there, or not there any more."""
    return InvalidRequest(
        f"The file given as {field} does not exist here or has expired; upload it again.",
        code="invalid_picture",
        field=field,
    )


def refuse_files(connection: Connection, names: Sequence[str], now: float) -> None:
    """Show files to nobody any more and let them go, within a transaction; a character keeps its own."""
    if names:
        connection.execute(_refuse, {"names": list(names), "now": now})


async def delete_rowless(files: FileStore, blobs: BlobStore, names: Sequence[str]) -> None:
    """Delete bytes whose row was not written: also a cancelled write may have been carried out."""
    for name in names:
        if await files.find(name) is None:
            await blobs.delete(name)
