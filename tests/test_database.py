"""The schema's revisions and the transactions."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from understudy.accounts import tables as _accounts  # noqa: F401
from understudy.database import Database, metadata, migrate_database
from understudy.jobs import tables as _jobs  # noqa: F401


def test_the_revisions_make_exactly_the_tables_of_the_code(tmp_path):
    migrate_database(tmp_path)
    engine = create_engine(f"sqlite:///{tmp_path / 'understudy.sqlite3'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_migrating_again_changes_nothing(tmp_path):
    migrate_database(tmp_path)
    path = tmp_path / "understudy.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO accounts VALUES ('a', 'first', 1.0)")
    connection.close()
    migrate_database(tmp_path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT id FROM accounts").fetchall() == [("a",)]
    connection.close()
    assert path.stat().st_mode & 0o077 == 0, "the database is its owner's alone"


async def test_commits_are_on_disk_and_in_wal(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    async with database.read() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar() == 2
        assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1
    await database.close()


async def test_a_failed_block_writes_nothing(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)

    async def write_and_fail() -> None:
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO accounts VALUES ('a', 'first', 1.0)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM accounts"))).scalar() == 0
    await database.close()


async def test_writers_from_two_processes_wait_for_each_other(tmp_path):
    migrate_database(tmp_path)
    first, second = Database.open(tmp_path), Database.open(tmp_path)

    async def add(database: Database, name: str) -> None:
        async with database.write() as connection:
            count = (await connection.execute(text("SELECT count(*) FROM accounts"))).scalar()
            await asyncio.sleep(0.005)
            await connection.execute(
                text("INSERT INTO accounts VALUES (:id, :id, :at)"), {"id": name, "at": float(count)}
            )

    await asyncio.gather(
        *(add(database, f"{database is first}{n}") for n in range(8) for database in (first, second))
    )
    async with first.read() as connection:
        seen = (await connection.execute(text("SELECT created_at FROM accounts"))).scalars().all()
    assert sorted(seen) == [float(n) for n in range(16)], "each writer saw all that was written before it"
    await first.close()
    await second.close()


def test_no_error_carries_a_statement_s_values(tmp_path):
    migrate_database(tmp_path)

    async def fail() -> str:
        database = Database.open(tmp_path)
        try:
            async with database.write() as connection:
                await connection.execute(
                    text("INSERT INTO accounts VALUES (:a, :a, :b)"), {"a": "my secret prompt", "b": None}
                )
        except Exception as error:
            return str(error)
        finally:
            await database.close()
        return ""

    message = asyncio.run(fail())
    assert "accounts" in message
    assert "secret" not in message
