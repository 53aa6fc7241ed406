"""The schema's revisions and the transactions."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from understudy.accounts import tables as _accounts  # noqa: F401
from understudy.accounts.accounts import AccountStore, new_account
from understudy.accounts.idempotency import AnsweredBefore, IdempotencyKey, carry_out_once
from understudy.database import Database, Recent, metadata, migrate_database
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
        connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', 'first', 1.0)")
    connection.close()
    migrate_database(tmp_path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT id FROM accounts").fetchall() == [("a",)]
    connection.close()
    assert path.stat().st_mode & 0o077 == 0, "the database is its owner's alone"


async def test_commits_are_on_disk_and_in_wal(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    for name, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        query = text(f"PRAGMA {name}")
        for ask in (database.read, database.write):
            assert await ask(lambda connection, query=query: connection.scalar(query)) == value
    await database.close()


def add(name: str, *, fail: bool = False):
    """A change that adds an account, whose time is how many there were before."""

    def change(connection) -> int:
        count = connection.scalar(text("SELECT count(*) FROM accounts"))
        connection.execute(
            text("INSERT INTO accounts (id, name, created_at) VALUES (:id, :id, :at)"),
            {"id": name, "at": count},
        )
        if fail:
            raise ZeroDivisionError
        return count

    return change


async def count(database: Database) -> int:
    return await database.read(lambda connection: connection.scalar(text("SELECT count(*) FROM accounts")))


async def test_a_failed_change_writes_nothing_and_spares_those_beside_it(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    changes = [database.write(add(f"{n}", fail=n % 3 == 0)) for n in range(30)]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert [isinstance(result, ZeroDivisionError) for result in results] == [n % 3 == 0 for n in range(30)]
    assert sorted(result for result in results if isinstance(result, int)) == list(range(20))
    assert await count(database) == 20
    await database.close()


async def write_together(database: Database, changes) -> tuple[list, int]:
    """Changes that wait at the same time: their results or errors, and in how many commits they were."""
    commits = []
    event.listen(database._engine, "commit", lambda connection: commits.append(1))
    # The first change holds the writer up until the others wait.
    blocker = asyncio.create_task(database.write(lambda connection: time.sleep(0.1)))
    await asyncio.sleep(0.02)
    results = await asyncio.gather(*map(database.write, changes), return_exceptions=True)
    await blocker
    return results, len(commits) - 1


async def test_changes_that_wait_together_share_a_transaction(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    results, commits = await write_together(database, [add(f"{n}") for n in range(100)])
    assert results == list(range(100))
    assert commits <= 3
    await database.close()


async def test_an_error_that_is_returned_undoes_nothing_beside_it(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    told: list[object] = []
    refuse = [lambda connection, number=n: KeyError(number) for n in range(50)]
    results, commits = await write_together(database, [*refuse, *(add(f"{n}") for n in range(50))])
    assert [error.args for error in results[:50]] == [(n,) for n in range(50)]
    assert results[50:] == list(range(50))
    assert commits <= 3
    with pytest.raises(KeyError):
        await database.write(refuse[0], told.append)
    assert told == []
    await database.close()


async def test_twins_are_one_change_and_undo_no_other(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    account = new_account("first")
    await AccountStore(database).create(account)
    made: list[str] = []

    def twin(connection):
        once = IdempotencyKey(account_id=account.id, key="k", fingerprint="f")
        change = lambda _: made.append("made") or {"made": 1}  # noqa: E731
        return carry_out_once(connection, once, 200, change, dict)

    results, commits = await write_together(database, [twin] * 60)
    assert results[0] == {"made": 1}
    assert [(type(one), one.body) for one in results[1:]] == [(AnsweredBefore, {"made": 1})] * 59
    assert made == ["made"]
    assert commits <= 3
    await database.close()


@pytest.mark.parametrize("state", ["40001", "40P01", "23505"])
async def test_a_change_that_anothers_made_fail_is_carried_out_anew(tmp_path, state):
    """As PostgreSQL says it; what fails each time does so after a few."""
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    tries: list[int] = []

    def fail_twice(connection) -> int:
        tries.append(1)
        if len(tries) < 3:
            reason = sqlite3.OperationalError("could not serialize access")
            reason.sqlstate = state
            raise (IntegrityError if state == "23505" else OperationalError)("UPDATE", {}, reason)
        return add("once")(connection)

    assert await database.write(fail_twice) == 0
    assert await count(database) == 1
    await database.write(add("twice"))
    with pytest.raises(IntegrityError):
        await database.write(add("twice"))
    await database.close()


async def test_a_change_stands_though_its_caller_is_cancelled(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)

    def change(connection) -> None:
        time.sleep(0.1)
        add("late")(connection)

    caller = asyncio.create_task(database.write(change))
    await asyncio.sleep(0.02)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await count(database) == 1, "the caller learns of its cancel when the change is done"
    await database.close()


async def test_what_was_asked_for_is_written_before_closing(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    changes = [asyncio.create_task(database.write(add(f"{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await database.close()
    assert len(await asyncio.gather(*changes)) == 50


async def test_writers_from_two_processes_wait_for_each_other(tmp_path):
    migrate_database(tmp_path)
    first, second = Database.open(tmp_path), Database.open(tmp_path)
    seen = await asyncio.gather(
        *(database.write(add(f"{database is first} {n}")) for n in range(20) for database in (first, second))
    )
    assert sorted(seen) == list(range(40)), "each writer saw all that was written before it"
    await first.close()
    await second.close()


def test_no_error_carries_a_statement_s_values(tmp_path):
    migrate_database(tmp_path)

    async def fail() -> str:
        database = Database.open(tmp_path)
        try:
            values = {"a": "my secret prompt", "b": None}
            await database.write(
                lambda connection: connection.execute(
                    text("INSERT INTO accounts (id, name, created_at) VALUES (:a, :a, :b)"), values
                )
            )
        except Exception as error:
            return str(error)
        finally:
            await database.close()
        return ""

    message = asyncio.run(fail())
    assert "accounts" in message
    assert "secret" not in message


async def test_a_change_is_told_though_its_caller_has_left(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    told: list[int] = []
    held = asyncio.create_task(database.write(add("first"), told.append))
    await asyncio.sleep(0)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert told == [0]
    with pytest.raises(ZeroDivisionError):
        await database.write(add("second", fail=True), told.append)
    assert told == [0], "what was undone is not told"
    await database.close()


async def test_a_change_is_told_before_its_caller_goes_on(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    seen = []
    await database.write(add("first"), lambda count: seen.append("told"))
    seen.append("back")
    assert seen == ["told", "back"]
    await database.close()


async def test_a_row_is_looked_for_once_in_a_moment_and_one_that_is_missing_each_time(monkeypatch):
    asked: list[str] = []
    rows = {"here": "row"}

    async def ask(name: str) -> str | None:
        asked.append(name)
        return rows.get(name)

    recent: Recent[str] = Recent()
    assert [await recent.find(name, ask) for name in ("here", "here", "gone", "gone")] == ["row"] * 2 + [
        None
    ] * 2
    assert asked == ["here", "gone", "gone"]
    recent.clear()
    rows.clear()
    assert await recent.find("here", ask) is None
    rows["here"] = "newer"
    monkeypatch.setattr("understudy.database.RECENT_SECONDS", 0.0)
    assert [await recent.find("here", ask) for _ in range(2)] == ["newer"] * 2
    assert asked[3:] == ["here"] * 3, "after its moment a row is looked for again"


async def test_what_cannot_be_told_holds_up_no_other_change(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)

    def fail(result: int) -> None:
        raise ZeroDivisionError

    told: list[int] = []
    written = [database.write(add("first"), fail), database.write(add("second"), told.append)]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*written) == [0, 1]
    assert told == [1]
    await database.close()


async def test_a_change_that_ends_its_thread_is_its_own_failure(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)

    def leave(connection) -> None:
        raise SystemExit

    async with asyncio.timeout(30):
        results = await asyncio.gather(
            database.write(leave), database.write(add("first")), return_exceptions=True
        )
        assert isinstance(results[0], RuntimeError)
        assert results[1] == 0
        assert await database.write(add("second")) == 1
    await database.close()


async def test_a_closed_database_says_so(tmp_path):
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    await database.close()
    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError, match="closed"):
            await database.write(add("first"))
