"""Every earlier revision of the schema, full of rows, becomes the newest with all of them.

The tests go by the revisions in the script folder and by each one's own tables: a new revision is
covered without a line here. That they can fail is shown with revisions that a test makes itself.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import IntegrityError

import understudy
from understudy import database as database_module
from understudy.accounts.keys import KeyStore
from understudy.database import Database, metadata, migrate_database
from understudy.jobs.characters import CharacterStore
from understudy.jobs.events import ChangeFeed
from understudy.jobs.files import FileStore
from understudy.jobs.store import Store

SCRIPTS = Path(understudy.__file__).parent / "migrations"
REVISIONS = [script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()]
HEAD = REVISIONS[0]
ROWS = 3

Rows = dict[str, list[dict[str, Any]]]


@contextmanager
def connect(folder: Path) -> Iterator[sa.Connection]:
    """A transaction on a folder's database as SQLAlchemy opens it by itself."""
    engine = sa.create_engine(f"sqlite:///{folder / 'understudy.sqlite3'}")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def run_alembic(folder: Path, scripts: Path, command: Callable[..., None], *arguments: str) -> None:
    """Carry out one of Alembic's commands on a folder's database, which it makes."""
    folder.mkdir(exist_ok=True)
    with connect(folder) as connection:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        command(config, *arguments)


def make_database(folder: Path, scripts: Path, revision: str) -> Rows:
    """A database at a revision, with rows in every table; return the rows."""
    run_alembic(folder, scripts, alembic.command.upgrade, revision)
    with connect(folder) as connection:
        tables = sa.MetaData()
        tables.reflect(connection)
        rows: Rows = {}
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                rows[table.name] = [_make_row(table, number, rows) for number in range(1, ROWS + 1)]
                connection.execute(table.insert(), rows[table.name])
        assert not connection.execute(sa.text("PRAGMA foreign_key_check")).all()
    return rows


def _make_row(table: sa.Table, number: int, rows: Rows) -> dict[str, Any]:
    """A row of a table: its first has a value in every column, its last only where it must."""
    row = {}
    for column in table.columns:
        if column.nullable and number == ROWS:
            row[column.name] = None
        elif column.foreign_keys:
            other = next(iter(column.foreign_keys)).column
            row[column.name] = rows[other.table.name][number - 1][other.name]
        else:
            row[column.name] = _make_value(column, number)
    return row


def _make_value(column: sa.Column, number: int) -> Any:
    match column.type:
        case sa.JSON():
            return {f"{column.table.name}.{column.name}": [number, None, "ä"]}
        case sa.Integer():
            return number
        case sa.Numeric() | sa.Float():
            return number + 0.5
        case sa.LargeBinary():
            return bytes([number, 0, 255])
        case sa.String() as text:
            return f"{number} {column.table.name}.{column.name} ä"[: text.length]
    raise NotImplementedError(f"No value for a column of the type {column.type!r}.")


def check_upgrade(folder: Path, scripts: Path, rows: Rows) -> None:
    """Every row is there with every column that is still there; the schema is that of the code."""
    with connect(folder) as connection:
        for name, before in rows.items():
            table = sa.Table(name, sa.MetaData(), autoload_with=connection)
            columns = [table.c[column] for column in before[0] if column in table.c]
            now = [dict(row) for row in connection.execute(sa.select(*columns)).mappings()]
            kept = [{column.name: row[column.name] for column in columns} for row in before]
            assert sorted(now, key=str) == sorted(kept, key=str), name
        assert not connection.execute(sa.text("PRAGMA foreign_key_check")).all()
        assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"
        indexes = _list_indexes(connection)
    run_alembic(folder, scripts, alembic.command.check)
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        # `check` does not look at what a partial index is limited to.
        assert _list_indexes(connection) == indexes
    engine.dispose()


def _list_indexes(connection: sa.Connection) -> dict[str, str]:
    query = sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return {name: " ".join(sql.split()) for name, sql in connection.execute(query)}


async def read_with_stores(folder: Path, rows: Rows) -> None:
    """What the service itself reads of the rows."""
    database = Database.open(folder)
    try:
        store, files, keys = Store(database, ChangeFeed()), FileStore(database), KeyStore(database)
        for row in rows["jobs"]:
            job = await store.get(row["id"])
            assert job is not None
            assert (job.parameters, job.inputs, job.seed) == (row["parameters"], row["inputs"], row["seed"])
            assert row["id"] in {one.id for one in await store.list_history(row["account_id"], limit=9)}
        assert await files.list_names() == {row["name"] for row in rows["files"]}
        assert {key.id for key in await keys.list()} == {row["id"] for row in rows["keys"]}
    finally:
        await database.close()


@pytest.fixture
def use_scripts(monkeypatch) -> Callable[[Path], None]:
    """Let `migrate_database` take its revisions from another folder."""
    return lambda scripts: monkeypatch.setattr(database_module, "files", lambda _: scripts.parent)


@pytest.fixture
def later(tmp_path) -> Callable[[str], Path]:
    """A script folder with one revision more than ours, which does what is given."""

    def make(body: str) -> Path:
        scripts = tmp_path / "later" / "migrations"
        shutil.copytree(SCRIPTS, scripts)
        (scripts / "versions" / "later.py").write_text(
            f"import os, time\nfrom alembic import op\nimport sqlalchemy as sa\n"
            f"revision, down_revision = 'later', {HEAD!r}\ndef upgrade():\n    {body}\n"
        )
        return scripts

    return make


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_of_every_revision_becomes_the_newest_with_its_rows(tmp_path, revision):
    rows = make_database(tmp_path / "data", SCRIPTS, revision)
    for _ in range(2):
        migrate_database(tmp_path / "data")
        check_upgrade(tmp_path / "data", SCRIPTS, rows)
    asyncio.run(read_with_stores(tmp_path / "data", rows))


async def test_a_character_keeps_its_one_picture(tmp_path):
    rows = make_database(tmp_path / "data", SCRIPTS, "0004")
    migrate_database(tmp_path / "data")
    database = Database.open(tmp_path / "data")
    try:
        store = CharacterStore(database)
        for row in rows["characters"]:
            found = vars(await store.find(row["account_id"], row["name"]))
            file_name = row.pop("file_name")
            assert found == {**row, "file_names": (file_name,), "negative_prompt": ""}
    finally:
        await database.close()


def test_an_empty_folder_gets_the_newest(tmp_path):
    for _ in range(2):
        migrate_database(tmp_path / "data")
        check_upgrade(tmp_path / "data", SCRIPTS, {})


def test_a_later_revision_keeps_every_row(tmp_path, later, use_scripts):
    """The machinery with a revision that rebuilds a table, which is how SQLite alters one."""
    change = "alter_column('prompt', new_column_name='words', type_=sa.String(9000))"
    scripts = later(f"with op.batch_alter_table('characters', recreate='always') as table: table.{change}")
    rows = make_database(tmp_path / "data", SCRIPTS, HEAD)
    use_scripts(scripts)
    migrate_database(tmp_path / "data")
    with connect(tmp_path / "data") as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "later"
        table = sa.Table("characters", sa.MetaData(), autoload_with=connection)
        now = [dict(row) for row in connection.execute(sa.select(table)).mappings()]
    assert now == [
        {("words" if name == "prompt" else name): value for name, value in row.items()}
        for row in rows["characters"]
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('op.execute("DELETE FROM character_pictures WHERE rowid = 2")', AssertionError),
        ("op.execute(\"UPDATE keys SET digest = 'x' WHERE rowid = 1\")", AssertionError),
        ("op.add_column('jobs', sa.Column('extra', sa.Text()))", CommandError),
        ("op.drop_index('ix_jobs_waiting', 'jobs')", CommandError),
        (
            "op.drop_index('ix_jobs_turn', 'jobs'); op.create_index('ix_jobs_turn', 'jobs', ['turn'])",
            AssertionError,
        ),
    ],
    ids=[
        "loses a row",
        "changes a row",
        "is not the code's",
        "loses an index",
        "widens an index",
    ],
)
def test_a_revision_that_is_wrong_is_found(tmp_path, later, body, error):
    rows = make_database(tmp_path / "data", SCRIPTS, HEAD)
    scripts = later(body)
    run_alembic(tmp_path / "data", scripts, alembic.command.upgrade, "head")
    with pytest.raises(error):
        check_upgrade(tmp_path / "data", scripts, rows)


def test_an_upgrade_that_leaves_a_broken_reference_is_undone(tmp_path, later, use_scripts):
    rows = make_database(tmp_path / "data", SCRIPTS, HEAD)
    use_scripts(later('op.execute("DELETE FROM accounts")'))
    with pytest.raises(IntegrityError, match="accounts that is not there"):
        migrate_database(tmp_path / "data")
    check_upgrade(tmp_path / "data", SCRIPTS, rows)


def test_references_are_not_checked_where_nothing_is_upgraded(tmp_path):
    make_database(tmp_path / "data", SCRIPTS, HEAD)
    with connect(tmp_path / "data") as connection:
        connection.execute(sa.text("DELETE FROM accounts"))
    migrate_database(tmp_path / "data")


# Crashes, and two at once.

MIGRATE = """
import sys
from pathlib import Path
from understudy import database
database.files = lambda _: Path(sys.argv[2]).parent
database.migrate_database(Path(sys.argv[1]))
"""


def start_migrating(folder: Path, scripts: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MIGRATE, str(folder), str(scripts)])


CHANGES = "[op.add_column('jobs', sa.Column('extra', sa.Text())), op.drop_table('characters'), {}]"


def test_an_upgrade_that_is_killed_leaves_the_old_revision_whole(tmp_path, later):
    rows = make_database(tmp_path / "data", SCRIPTS, HEAD)
    scripts = later(CHANGES.format("os.kill(os.getpid(), 9)"))
    assert start_migrating(tmp_path / "data", scripts).wait(60) == -signal.SIGKILL
    check_upgrade(tmp_path / "data", SCRIPTS, rows)
    migrate_database(tmp_path / "data")
    asyncio.run(read_with_stores(tmp_path / "data", rows))


def test_an_upgrade_that_fails_leaves_the_old_revision_whole(tmp_path, later, use_scripts):
    rows = make_database(tmp_path / "data", SCRIPTS, HEAD)
    use_scripts(later(CHANGES.format("1 / 0")))
    with pytest.raises(ZeroDivisionError):
        migrate_database(tmp_path / "data")
    check_upgrade(tmp_path / "data", SCRIPTS, rows)


@pytest.mark.parametrize("revision", ["an empty folder", HEAD])
def test_two_processes_upgrade_at_the_same_time(tmp_path, later, revision):
    scripts = later("op.add_column('jobs', sa.Column('extra', sa.Text())); time.sleep(0.5)")
    rows = {} if revision != HEAD else make_database(tmp_path / "data", SCRIPTS, HEAD)
    both = [start_migrating(tmp_path / "data", scripts) for _ in range(3)]
    assert [one.wait(60) for one in both] == [0, 0, 0]
    with connect(tmp_path / "data") as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).all() == [("later",)]
        assert connection.scalar(sa.text("SELECT count(*) FROM jobs")) == len(rows.get("jobs", []))
        assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path, later):
    make_database(tmp_path / "data", SCRIPTS, HEAD)
    scripts = later("op.add_column('jobs', sa.Column('extra', sa.Text()))")
    run_alembic(tmp_path / "data", scripts, alembic.command.upgrade, "head")
    with closing(sqlite3.connect(tmp_path / "data" / "understudy.sqlite3")) as database:
        database.execute("PRAGMA journal_mode = WAL")
    before = (tmp_path / "data" / "understudy.sqlite3").read_bytes()
    for command in (["serve", "--port", "0", "--engine", "null"], ["keys", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", "understudy.cli", *command, "--data-dir", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "was made by another version; install that one" in done.stderr
        assert done.stderr.count("\n") == 1
        assert (tmp_path / "data" / "understudy.sqlite3").read_bytes() == before
