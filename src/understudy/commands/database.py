"""A data folder's database, for commands that work on it whether or not the service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import NotFound
from .options import explain_damage, read_settings

if TYPE_CHECKING:
    from ..database import Database

DATABASE_FILE = "understudy.sqlite3"

T = TypeVar("T")


def find_folder(data_dir: Path | None) -> Path:
    """The service's data folder, which has a database.

    Raises:
        NotFound: it has none.
    """
    folder = read_settings(data_dir=data_dir).data_dir
    if not (folder / DATABASE_FILE).exists():
        raise NotFound(f"There is no database in {str(folder)!r}; name the service's folder with --data-dir.")
    return folder


def ask_database(folder: Path, ask: Callable[[Database], Awaitable[T]]) -> T:
    """What `ask` finds or does in the database of a folder, which is brought up to date first.

    Raises:
        ServiceError: it is damaged, locked or of a newer version (`data_dir_unusable`).
    """
    from ..database import Database, migrate_database

    async def run() -> T:
        database = Database.open(folder)
        try:
            return await ask(database)
        finally:
            await database.close()

    with explain_damage(folder):
        migrate_database(folder)
        return asyncio.run(run())
