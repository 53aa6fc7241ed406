"""Every call by which this process changes its database or its files, as a place where it can end.

A watcher is told of each such call before it is made, and of a commit or a rename also after it.
It may let the process die there, or raise `DiskFull`, which the call then fails with in its own
terms. Nothing of the product is replaced: the calls are those of `sqlite3` and `os`.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

Watcher = Callable[[str], None]
"""Called with the name of a boundary, such as `COMMIT` or `after COMMIT`."""

CHANGES = ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "BEGIN IMMEDIATE")


class DiskFull(Exception):
    """Raised by a watcher: there is no room for what the call was to write."""


@contextmanager
def watch_database(watch: Watcher) -> Iterator[None]:
    """Tell `watch` of each change that SQLite connections opened in this block make."""

    def visit(boundary: str) -> None:
        try:
            watch(boundary)
        except DiskFull:
            raise sqlite3.OperationalError("database or disk is full") from None

    def visit_statement(statement: str) -> str | None:
        words = " ".join(statement.split()[:3]).upper()
        if words.startswith("COMMIT"):
            visit("COMMIT")
            return "after COMMIT"
        if words.startswith(CHANGES):
            visit(words)
        return None

    class WatchedCursor(sqlite3.Cursor):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            after = visit_statement(statement)
            done = super().execute(statement, *values)
            if after:
                visit(after)
            return done

        def executemany(self, statement: str, *values: Any) -> sqlite3.Cursor:
            visit_statement(statement)
            return super().executemany(statement, *values)

    class WatchedConnection(sqlite3.Connection):
        def cursor(self, factory: type[sqlite3.Cursor] = WatchedCursor) -> sqlite3.Cursor:
            return super().cursor(factory)

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            return self.cursor().execute(statement, *values)

        def commit(self) -> None:
            if not self.in_transaction:
                return
            visit("COMMIT")
            super().commit()
            visit("after COMMIT")

    connect = sqlite3.dbapi2.connect

    def connect_watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, **{"factory": WatchedConnection, **options})

    with (
        mock.patch.object(sqlite3, "connect", connect_watched),
        mock.patch.object(sqlite3.dbapi2, "connect", connect_watched),
    ):
        yield


@contextmanager
def watch_files(folder: Path, watch: Watcher) -> Iterator[None]:
    """Tell `watch` of each file below `folder` that is created, synced, renamed or deleted."""
    inside = f"{folder.absolute()}{os.sep}"

    def visit(boundary: str) -> None:
        try:
            watch(boundary)
        except DiskFull:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    def is_inside(path: Any) -> bool:
        return not isinstance(path, int) and os.path.abspath(os.fspath(path)).startswith(inside)

    def watched(name: str, call: Callable[..., Any], after: str | None = None) -> Callable[..., Any]:
        def visit_and_call(path: Any, *arguments: Any, **options: Any) -> Any:
            if not is_inside(path):
                return call(path, *arguments, **options)
            visit(name)
            done = call(path, *arguments, **options)
            if after:
                visit(after)
            return done

        return visit_and_call

    def open_watched(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if is_inside(path) and not mode.startswith("r"):
            visit("create")
        return open_file(path, mode, *arguments, **options)

    def fsync_watched(file: int) -> None:
        # Nothing but the data folder is synced.
        visit("fsync")
        fsync(file)

    open_file, fsync = builtins.open, os.fsync
    with (
        mock.patch.object(builtins, "open", open_watched),
        mock.patch.object(io, "open", open_watched),
        mock.patch.object(os, "fsync", fsync_watched),
        mock.patch.object(os, "rename", watched("rename", os.rename, "after rename")),
        mock.patch.object(os, "replace", watched("rename", os.replace, "after rename")),
        mock.patch.object(os, "unlink", watched("unlink", os.unlink, "after unlink")),
        mock.patch.object(os, "remove", watched("unlink", os.remove, "after unlink")),
    ):
        yield
