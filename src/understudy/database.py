"""The database: reading, writing, and its schema's revisions.

What is written is a function of a connection. Functions that wait at the same time share one
transaction, so that many small changes cost one fsync; if one of them fails, the transaction is
undone and each is tried alone. Every function may therefore run more than once and must touch
nothing but its connection. One that refuses before it has written anything returns its error, which
is raised for its caller: it undoes nothing of those beside it.

SQLite is opened so that an acknowledged commit survives a power cut (WAL, fsync at each commit).
Knows no table's meaning.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Generic, TypeVar

import alembic.command
import alembic.config
from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

log = logging.getLogger(__name__)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

T = TypeVar("T")

READERS = 4
"""Reads that may go on at the same time; beside the event loop, so that none holds it up."""

BATCH_SIZE = 256
"""The most changes that share a transaction."""

TRIES = 4
"""How often a change is tried that another's beside it made fail."""

PASSING_STATES = ("40001", "40P01")
"""SQLSTATE of what another transaction made fail: serialization_failure, deadlock_detected (PostgreSQL)."""

RECENT_SECONDS = 0.5
"""How long a row is taken for what it was: what changes it is felt within a second."""

RECENT_ROWS = 10_000
"""The most rows that are remembered so."""


@dataclass(eq=False, slots=True)
class _Change:
    """A change that waits for its transaction, then its outcome."""

    carry_out: Callable[[Connection], Any]
    done: asyncio.Future[Any]
    tell: Callable[[Any], None] | None
    result: Any = None
    error: Exception | None = None


class Recent(Generic[T]):
    """Rows as they were within the last half second, by the words they are asked for with.

    For rows that hardly change and are asked for all the time. What is not there is asked for anew.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, T]] = {}

    async def find(self, name: str, ask: Callable[[str], Awaitable[T | None]]) -> T | None:
        """The row of a name, asked for if it was not within that time."""
        now = time.monotonic()
        known = self._rows.get(name)
        if known is not None and now - known[0] < RECENT_SECONDS:
            return known[1]
        row = await ask(name)
        self._rows.pop(name, None)
        if row is not None:
            if len(self._rows) >= RECENT_ROWS:
                self._rows.clear()
            self._rows[name] = (now, row)
        return row

    def correct(self, name: str, row: T) -> None:
        """What a remembered row has become; it is not remembered for longer."""
        if name in self._rows:
            self._rows[name] = (self._rows[name][0], row)

    def forget(self, name: str) -> None:
        """Ask for a name anew."""
        self._rows.pop(name, None)

    def clear(self) -> None:
        """Ask for everything anew."""
        self._rows.clear()


class Database:
    """The one SQLite database of a data folder."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._reading = threading.local()
        self._closed = False
        self._looking: Connection | None = None
        self._connections: list[Connection] = []
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        # Here, so that a database that cannot be opened is the opener's error.
        self._writing = engine.connect().execution_options(understudy_write=True)
        self._connections.append(self._writing)
        self._writer = threading.Thread(target=self._write_batches, name="write", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, data_dir: Path) -> Database:
        """Open the database of a data folder, whose schema must be up to date."""
        return cls(_open_engine(data_dir))

    async def read(self, ask: Callable[[Connection], T]) -> T:
        """What `ask` finds in a consistent view of the database."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._ask_beside, ask)

    async def look(self, ask: Callable[[Connection], T]) -> T:
        """What `ask` finds by a key: a row or none.

        In the event loop's own thread, since handing over such a read costs more than the read;
        no writer can hold it up.
        """
        if self._looking is None:
            self._looking = self._engine.connect()
            self._connections.append(self._looking)
        return _ask(self._looking, ask)

    async def write(
        self, change: Callable[[Connection], T | Exception], tell: Callable[[T], None] | None = None
    ) -> T:
        """Carry out a change in a transaction; it is on disk when this returns.

        An error that the change returns is raised here, and nothing is told.

        A change is carried out though its caller be cancelled, who learns of that only afterwards:
        whatever it then looks at shows what became of the change. `tell` is called with the
        change's result in the event loop, before anything else there can know of it; for a
        cancelled caller too.
        """
        if self._closed:
            raise RuntimeError("the database is closed")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._changes.put(_Change(change, done, tell))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait({done})
            raise

    async def close(self) -> None:
        """Finish what is being written and close every connection."""
        self._closed = True
        self._changes.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()
        self._engine.dispose()

    def _ask_beside(self, ask: Callable[[Connection], T]) -> T:
        connection = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._reading.connection = self._engine.connect()
            self._connections.append(connection)
        return _ask(connection, ask)

    def _write_batches(self) -> None:
        ends = False
        while not ends:
            batch = [self._changes.get()]
            with suppress(queue.Empty):
                while len(batch) < BATCH_SIZE:
                    batch.append(self._changes.get_nowait())
            ends = None in batch
            changes = [change for change in batch if change is not None]
            if changes:
                _write_batch(self._writing, changes)
                _tell_results(changes)


def migrate_database(data_dir: Path) -> None:
    """Make the data folder and bring its database to the newest revision of the schema.

    Safe while another process uses the database. Blocking.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir / "understudy.sqlite3"
    if not path.exists():
        # Prompts and key digests are nobody else's business on a shared machine.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = _open_engine(data_dir)
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(understudy_write=True)
            # SQLite alters a table by building it anew: dropping the old one must not count as
            # deleting what others refer to. This can be said only before the transaction begins;
            # at its end each revision is checked for rows without those they name (migrations/env.py).
            connection.connection.execute("PRAGMA foreign_keys = OFF")
            with connection.begin():
                config = alembic.config.Config()
                config.set_main_option("script_location", str(files("understudy") / "migrations"))
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")
    finally:
        engine.dispose()


def _ask(connection: Connection, ask: Callable[[Connection], T]) -> T:
    try:
        return ask(connection)
    finally:
        connection.rollback()


def _write_batch(connection: Connection, changes: list[_Change]) -> None:
    """Carry out changes in one transaction, or, if that fails, each in one of its own."""
    try:
        with connection.begin():
            for change in changes:
                change.result = change.carry_out(connection)
    except BaseException:
        # Whatever it is: the thread that writes must not end while somebody waits for it.
        for change in changes:
            _write_alone(connection, change)
    for change in changes:
        if change.error is None and isinstance(change.result, Exception):
            change.error = change.result


def _write_alone(connection: Connection, change: _Change) -> None:
    """Carry out a change in a transaction of its own, anew where another's may have made it fail."""
    for tries_left in reversed(range(TRIES)):
        try:
            with connection.begin():
                change.result = change.carry_out(connection)
            return
        except BaseException as error:
            if tries_left and _may_pass(error):
                continue
            ended = not isinstance(error, Exception)
            change.error = RuntimeError(f"a change raised {type(error).__name__}") if ended else error
            return


def _may_pass(error: BaseException) -> bool:
    """Whether a change may do better anew: what is there by then, it finds before it writes."""
    if isinstance(error, IntegrityError):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in PASSING_STATES


def _tell_results(changes: list[_Change]) -> None:
    """Wake those who wait for changes: each event loop once, however many they are."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Change]] = {}
    for change in changes:
        by_loop.setdefault(change.done.get_loop(), []).append(change)
    for loop, some in by_loop.items():
        # A loop that was closed meanwhile has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, some)


def _resolve(changes: list[_Change]) -> None:
    for change in changes:
        if change.error is None and change.tell is not None:
            try:
                change.tell(change.result)
            except Exception:
                # It is on disk all the same, and whoever waits for the others must go on.
                log.exception("change_not_told")
        if change.done.cancelled():
            continue
        if change.error is not None:
            change.done.set_exception(change.error)
        else:
            change.done.set_result(change.result)


def _open_engine(data_dir: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{(data_dir / 'understudy.sqlite3').absolute()}",
        pool_size=READERS + 3,
        connect_args={"check_same_thread": False},
        # A statement's values are prompts and addresses: no error message may carry them.
        hide_parameters=True,
    )

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
        # Taking the write lock at once cannot deadlock with another process's transaction.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
