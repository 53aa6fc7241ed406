"""Removes what has had its time: files, rows of history, kept answers, jobs that waited too long.

A file's bytes go first and its row after, so that a crash in between leaves an expired row, which
the next sweep takes, and never bytes that nobody knows of.
"""

from __future__ import annotations

import asyncio
import logging
import time

from ..accounts.idempotency import IdempotencyStore
from ..blobs import BlobStore
from ..meters import Meters
from ..settings import Settings
from .files import FileStore
from .retention import Retention

log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps a data folder now and then."""

    def __init__(
        self,
        settings: Settings,
        retention: Retention,
        files: FileStore,
        blobs: BlobStore,
        idempotency: IdempotencyStore,
        meters: Meters,
    ) -> None:
        self._settings = settings
        self._retention = retention
        self._files = files
        self._blobs = blobs
        self._idempotency = idempotency
        self._meters = meters
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Clean up after an earlier run, then sweep at the set interval."""
        await self.delete_orphans()
        self._loop = asyncio.create_task(self._sweep_forever())

    async def stop(self) -> None:
        """Stop sweeping."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def sweep(self) -> None:
        """Do once what is due now; what fails is logged and holds up nothing else."""
        for step in (
            self._expire_waiting,
            self._forget_ended,
            self._delete_files,
            self._idempotency.forget_expired,
        ):
            try:
                await step()
            except Exception:
                log.exception("sweeping_failed")

    async def delete_orphans(self) -> None:
        """Delete bytes that no row knows of: a service died between writing the two.

        Only safe while nothing else writes to the data folder.
        """
        known = await self._files.list_names()
        for name in await self._blobs.list_names():
            if name not in known:
                await self._blobs.delete(name)

    async def _expire_waiting(self) -> None:
        submitted_before = time.time() - self._settings.job_deadline_seconds
        while expired := await self._retention.expire_waiting(submitted_before):
            self._meters.ended.labels("FAILED", "expired").inc(expired)

    async def _forget_ended(self) -> None:
        ended_before = time.time() - self._settings.history_ttl_seconds
        while await self._retention.forget_ended(ended_before):
            pass
        # After the jobs that are counted against them.
        while await self._retention.forget_keys(ended_before):
            pass

    async def _delete_files(self) -> None:
        while names := await self._files.list_expired():
            for name in names:
                await self._blobs.delete(name)
            await self._files.forget(names)

    async def _sweep_forever(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(self._settings.sweep_interval_seconds)
