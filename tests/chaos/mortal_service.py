"""`understudy serve` in a process that dies at a boundary, or whose disk is full from one on.

Boundaries are counted from the start of the process: each change of the database and of the files,
each start of a child, and each read from a child's pipe. From the environment:

- `CHAOS_DIE_AT`: the process kills itself at the boundary of this number.
- `CHAOS_ORDERS`: a file that, whenever it is there, holds `<skip> <count>`: it is removed, and after
  `skip` more boundaries the next `count` writes find no room.

What happens is told on stderr.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from boundaries import DiskFull, watch_database, watch_files
from understudy import cli
from understudy.jobs import dispatcher

RETRY_SECONDS = 0.1
"""In place of the dispatcher's own, so that a full disk at each of many writes takes no minutes."""


class Fate:
    """What becomes of this process, boundary by boundary."""

    def __init__(self, die_at: int | None, orders: Path | None) -> None:
        self.die_at = die_at
        self.orders = orders
        self.number = 0
        self.skip = self.count = 0

    def meet(self, boundary: str) -> None:
        """Pass a boundary that may be the last one."""
        self.number += 1
        if self.number == self.die_at:
            tell(f"died at {self.number}: {boundary}")
            os.kill(os.getpid(), signal.SIGKILL)

    def meet_write(self, boundary: str) -> None:
        """Pass a boundary that needs room on the disk.

        Raises:
            DiskFull: there is none.
        """
        self.meet(boundary)
        if boundary.startswith(("after", "unlink")):
            return
        self.read_orders()
        if self.skip > 0:
            self.skip -= 1
        elif self.count > 0:
            self.count -= 1
            tell(f"full at: {boundary}")
            raise DiskFull

    def read_orders(self) -> None:
        if self.orders is not None and self.orders.exists():
            self.skip, self.count = map(int, self.orders.read_text().split())
            self.orders.unlink()


def tell(words: str) -> None:
    # On a line of its own: another thread may be in the middle of one.
    os.write(2, f"\n{words}\n".encode())


def main() -> None:
    """Serve, as the environment says."""
    die_at, orders = os.environ.get("CHAOS_DIE_AT"), os.environ.get("CHAOS_ORDERS")
    fate = Fate(int(die_at) if die_at else None, Path(orders) if orders else None)
    create_child = asyncio.create_subprocess_exec
    read_child = asyncio.StreamReader.readexactly

    async def create_child_and_meet(*arguments: Any, **options: Any) -> Any:
        fate.meet("start of a child")
        child = await create_child(*arguments, **options)
        fate.meet("after start of a child")
        return child

    async def read_child_and_meet(reader: asyncio.StreamReader, count: int) -> bytes:
        read = await read_child(reader, count)
        fate.meet("after read from a child")
        return read

    with ExitStack() as stack:
        stack.enter_context(watch_database(fate.meet_write))
        stack.enter_context(watch_files(Path(os.environ["UNDERSTUDY_DATA_DIR"]), fate.meet_write))
        stack.enter_context(mock.patch.object(asyncio, "create_subprocess_exec", create_child_and_meet))
        stack.enter_context(mock.patch.object(asyncio.StreamReader, "readexactly", read_child_and_meet))
        stack.enter_context(mock.patch.object(dispatcher, "RETRY_SECONDS", RETRY_SECONDS))
        try:
            cli.main()
        finally:
            tell(f"passed {fate.number} boundaries")


if __name__ == "__main__":
    main()
