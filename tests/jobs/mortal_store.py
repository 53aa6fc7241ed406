"""A store whose process can die between any two statements, for state machines over it.

A crash keeps the database's files as they are on disk at that moment, the bytes of a commit cut
off anywhere, and starts on a copy of them as the next service does. Nothing of the process that
died is used: a change that was acknowledged is there, any other is wholly there or wholly absent.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from boundaries import DiskFull, watch_database
from understudy.accounts.keys import Key, KeyStore
from understudy.database import Database, migrate_database
from understudy.jobs.events import ChangeFeed
from understudy.jobs.store import Store

DIED = object()
"""In place of a change's result: the process died, and nobody was told of one."""

LIVES = st.lists(st.tuples(st.integers(0, 50), st.one_of(st.just(1.0), st.floats(0, 1))), max_size=12)
"""After how many boundaries each process dies, and how much of its last commit is then on disk."""


@dataclass
class Disk:
    """A data folder, and the watcher of the process on it, which may die at a boundary."""

    folder: Path
    boundaries_left: int | None = None
    cut: float = 1.0
    boundary: str = ""
    log_bytes: int = 0
    found: Path | None = None

    @property
    def log(self) -> Path:
        return self.folder / "understudy.sqlite3-wal"

    def watch(self, boundary: str) -> None:
        if self.found is not None:
            raise DiskFull
        if boundary == "COMMIT":
            self.log_bytes = self.log.stat().st_size
        if self.boundaries_left is None:
            return
        self.boundaries_left -= 1
        if self.boundaries_left < 0:
            self.boundary, self.found = boundary, self.copy()
            raise DiskFull

    def copy(self) -> Path:
        """What is on disk, but for what processes share: that dies with them."""
        return Path(
            shutil.copytree(
                self.folder,
                tempfile.mkdtemp(dir=self.folder.parent),
                ignore=shutil.ignore_patterns("*-shm"),
                dirs_exist_ok=True,
            )
        )


@functools.cache
def prepare_folder() -> tuple[tempfile.TemporaryDirectory[str], list[Key]]:
    """A data folder with two keys of two accounts: where every history begins."""
    folder = tempfile.TemporaryDirectory()
    migrate_database(Path(folder.name))
    database = Database.open(Path(folder.name))

    async def create_keys() -> list[Key]:
        keys = [(await KeyStore(database).create(f"key {number}"))[1] for number in range(2)]
        await database.close()
        return keys

    return folder, asyncio.run(create_keys())


class MortalStore(RuleBasedStateMachine):
    """The process: its life, and its death. A machine gives `tables`, and `free_all`."""

    tables: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.closing = ExitStack()
        root = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
        template, self.keys = prepare_folder()
        self.disk = Disk(Path(shutil.copytree(template.name, root / "first")))
        self.closing.enter_context(watch_database(lambda boundary: self.disk.watch(boundary)))
        self.lives: list[tuple[int, float]] = []
        self.open()

    def open(self) -> None:
        self.database = Database.open(self.disk.folder)
        self.store = Store(self.database, ChangeFeed())

    def do(self, awaitable: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(awaitable)

    def look(self) -> list[list[Any]]:
        """Every row of the machine's tables."""

        def read_rows(connection: Connection) -> list[list[Any]]:
            return [list(connection.execute(text(f"SELECT * FROM {table}"))) for table in self.tables]

        return self.do(self.database.read(read_rows))

    def change(self, change: Awaitable[Any], happens: Callable[[], Any] = lambda: None) -> Any:
        """Make a change, and `happens` in the model; or `DIED`, and the next process has started."""
        before = self.look()
        try:
            done = self.do(change)
        except DBAPIError:
            if self.disk.found is None:
                raise
            if self.find_changed(before):
                happens()
            self.restart(self.disk.folder)
            return DIED
        assert self.disk.found is None, "a dead process has acknowledged a change"
        happens()
        return done

    async def together(self, *changes: Awaitable[Any]) -> list[Any]:
        """Make changes that wait at the same time, and so share a transaction."""
        entered, all_wait = threading.Event(), threading.Event()

        def hold_up(connection: Connection) -> None:
            entered.set()
            all_wait.wait()

        holding = asyncio.ensure_future(self.database.write(hold_up))
        # A process that dies before it gets there ends the wait as well.
        holding.add_done_callback(lambda _: entered.set())
        await asyncio.to_thread(entered.wait)
        waiting = [asyncio.ensure_future(change) for change in (holding, *changes)]
        await asyncio.sleep(0)
        all_wait.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error
        return done[1:]

    def find_changed(self, before: Any) -> bool:
        """Whether the dead process's last change is there: it must be all of it or nothing."""
        self.do(self.database.close())
        dead, whole = self.disk, before
        assert dead.found is not None
        self.disk = Disk(dead.found)
        if dead.boundary == "after COMMIT":
            self.disk = Disk(self.disk.copy())
            self.open()
            whole = self.look()
            self.do(self.database.close())
            self.disk = Disk(dead.found)
            # A death within the commit: only a part of what it wrote is there.
            written = self.disk.log.stat().st_size - dead.log_bytes
            os.truncate(self.disk.log, dead.log_bytes + int(written * dead.cut))
        self.open()
        found = self.look()
        assert found in (before, whole), f"a change is half there after a death at {dead.boundary}"
        if dead.cut == 1:
            assert found == whole, f"a commit was lost after a death at {dead.boundary}"
        assert self.do(self.database.read(lambda c: c.scalar(text("PRAGMA integrity_check")))) == "ok"
        return found != before

    def restart(self, folder: Path) -> None:
        """Start on a folder, as often as it takes: a start may die as well."""
        self.do(self.database.close())
        self.disk = Disk(folder, *(self.lives.pop(0) if self.lives else ()))
        try:
            migrate_database(folder)
            self.open()
            self.do(self.store.free_leases())
        except DBAPIError:
            if self.disk.found is None:
                raise
            self.restart(self.disk.found)
        self.free_all()

    def free_all(self) -> None:
        """What the model does when a service has started: nobody holds anything."""
        raise NotImplementedError

    def teardown(self) -> None:
        self.do(self.database.close())
        self.loop.close()
        self.closing.close()
