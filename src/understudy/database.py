"""The database: one connection pool, its transactions, and its schema's revisions.

Knows how SQLite is opened so that an acknowledged commit survives a power cut (WAL, fsync at
each commit) and that two writers never deadlock (each write transaction takes the write lock
when it begins). Knows no table's meaning.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import alembic.command
import alembic.config
from sqlalchemy import MetaData, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Database:
    """Transactions on the one database of a data folder."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # SQLite has one write lock for all; waiting for it here is fair and costs no busy loop.
        self._writing = asyncio.Lock()

    @classmethod
    def open(cls, data_dir: Path) -> Database:
        """Open the SQLite database of a data folder, whose schema must be up to date."""
        engine = create_async_engine(
            _sqlite_url("sqlite+aiosqlite", data_dir),
            pool_size=5,
            max_overflow=5,
            # A statement's values are prompts and addresses: no error message may carry them.
            hide_parameters=True,
        )
        _set_up_sqlite(engine.sync_engine)
        return cls(engine)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view for reading."""
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction: committed, and on disk, when the block ends without an error."""
        async with self._writing, self._engine.connect() as connection:
            await connection.execution_options(understudy_write=True)
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def migrate_database(data_dir: Path) -> None:
    """Make the data folder and bring its database to the newest revision of the schema.

    Safe while another process uses the database. Blocking.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "understudy.sqlite3"
    if not path.exists():
        # Prompts and key digests are nobody else's business on a shared machine.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(_sqlite_url("sqlite", data_dir))
    _set_up_sqlite(engine)
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(understudy_write=True)
            with connection.begin():
                config = alembic.config.Config()
                config.set_main_option("script_location", str(files("understudy") / "migrations"))
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")
    finally:
        engine.dispose()


def _sqlite_url(driver: str, data_dir: Path) -> str:
    return f"{driver}:///{(data_dir / 'understudy.sqlite3').absolute()}"


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def open_connection(connection, record) -> None:
        # The driver must not begin transactions by itself: `begin` below does.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA busy_timeout = 15000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection) -> None:
        write = connection.get_execution_options().get("understudy_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
