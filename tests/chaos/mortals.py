"""A service that dies, or finds its disk full, at boundaries that the test chooses."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from running_service import RunningService
from understudy.accounts.keys import KeyStore
from understudy.database import Database, migrate_database

HERE = Path(__file__).parent


class MortalService(RunningService):
    """`mortal_service.py` on a data folder that has a key already."""

    command = (sys.executable, str(HERE / "mortal_service.py"))

    def __init__(self, data_dir: Path, picture_path: Path, settings: Mapping[str, object]) -> None:
        super().__init__(data_dir, picture_path, {**settings, "data_dir": data_dir})
        self.orders = data_dir / "orders"
        self._settings["CHAOS_ORDERS"] = str(self.orders)
        # Its own folder and the tests', before what marks its processes.
        self._settings["PYTHONPATH"] = os.pathsep.join((str(HERE.parent), os.environ["PYTHONPATH"]))
        self.key = make_first_key(data_dir)

    def live(self, die_at: int | None = None) -> bool:
        """Start it, to die at a boundary; whether it lived to listen."""
        self._settings["CHAOS_DIE_AT"] = "" if die_at is None else str(die_at)
        self.output.clear()
        # Why it does not start is the test's business.
        with suppress(RuntimeError):
            self.start()
        return self.is_alive()

    def is_alive(self) -> bool:
        assert self.process is not None
        return self.process.poll() is None

    def find_told(self, pattern: str) -> list[str]:
        """What the process has told on stderr."""
        return re.findall(pattern, "".join(self.output), re.MULTILINE)


def make_first_key(data_dir: Path) -> str:
    migrate_database(data_dir)

    async def create() -> str:
        database = Database.open(data_dir)
        secret, _ = await KeyStore(database).create("chaos")
        await database.close()
        return secret

    return asyncio.run(create())
