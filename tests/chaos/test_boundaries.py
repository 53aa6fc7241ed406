"""The service dies at every boundary of a job's way, one after another, and on its way back.

A boundary is a call that changes the database or a file, starts a child or reads from one. Each life
of the service ends at a boundary of its own; the next one must find everything that was
acknowledged, and bring it to its end.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from clients import KINDS, PUBLIC_URL, Client, Ledger, serve_slowly
from mortals import MortalService
from witness import find_crash_faults, find_faults, wait_for_no_process

from receiver import Receiver, receive

SETTINGS = {
    "engine": "null",
    "fetch_allowed_hosts": "127.0.0.1",
    "public_url": PUBLIC_URL,
    # With a public URL they would be on.
    "credits": "off",
    "submits_per_minute": 0,
    "concurrent_jobs": 0,
    "account_concurrent_jobs": 0,
    "polls_per_second": 0,
    "sweep_interval_seconds": 0.2,
    "webhook_retry_seconds": 0.1,
}
LIVES = 3
"""Lives in the short run; `make chaos` tries every boundary."""

WAYS = (*KINDS, "cancelled", "deleted")
"""What is asked for in a life: a job of each kind, one that is cancelled, one that is deleted."""


class Lives:
    """One data folder, and a service that lives and dies on it."""

    def __init__(self, folder: Path, picture_path: Path, host: str, receiver: Receiver) -> None:
        self.service = MortalService(folder, picture_path, SETTINGS)
        self.folder = folder
        self.ledger = Ledger()
        self.client = Client(self.service, self.ledger, 0, picture_path.read_bytes(), host, receiver)
        self.deaths: Counter[str] = Counter()
        self.faults: list[str] = []

    async def live(self, way: str, die_at: int | None) -> bool:
        """One life: ask for something and see it to its end; False when death came first."""
        alive = await asyncio.to_thread(self.service.live, die_at)
        dying = asyncio.create_task(asyncio.to_thread(self.service.process.wait))
        asking = asyncio.create_task(self.ask(way) if alive else asyncio.sleep(0))
        await asyncio.wait({dying, asking}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
            # What goes on after a job's end has its boundaries as well.
            await asyncio.sleep(0.3)
            await asyncio.to_thread(self.service.stop)
        asking.cancel()
        await dying
        died = self.service.find_told(r"^died at \d+: (.*)$")
        self.deaths.update(died)
        self.faults += [f"after a death at {died}: {fault}" for fault in find_crash_faults(self.folder)]
        return not died

    async def ask(self, way: str) -> None:
        client = self.client
        job_id = await client.submit(way if way in KINDS else "inline")
        if way == "cancelled" and job_id:
            await client.cancel(job_id)
        if way == "deleted" and job_id:
            await client.follow(job_id)
            await client.delete(job_id)
        for known, told in self.ledger.jobs.items():
            if not told.ends and not told.deleted:
                await client.follow(known)

    async def count_boundaries(self, way: str) -> int:
        """The boundaries of a life that nothing cuts short, its stop included."""
        assert await self.live(way, None), "it died of itself:\n" + "".join(self.service.output)
        (passed,) = self.service.find_told(r"^passed (\d+) boundaries$")
        return int(passed)


@pytest.mark.slow
async def test_a_service_that_dies_at_every_boundary(
    rounds: Iterator[int], data_dir: Path, mark: str, picture_path: Path, report: Callable[..., None]
) -> None:
    long = "CHAOS_MINUTES" in os.environ
    picture = await asyncio.to_thread(picture_path.read_bytes)
    for seed in rounds:
        async with serve_slowly(picture, 0.02) as host, AsyncExitStack() as stack:
            receiver = stack.enter_context(receive())
            folder = data_dir / str(seed)
            lives = await asyncio.to_thread(Lives, folder, picture_path, host, receiver)
            way = WAYS[seed % len(WAYS)]
            count = await lives.count_boundaries(way)
            stride = 1 if long else count // LIVES
            for die_at in range(1 + seed % stride, count + 1, stride):
                async with asyncio.timeout(120):
                    await lives.live(way, die_at)
            async with asyncio.timeout(120):
                await asyncio.to_thread(lives.service.live)
                for job_id in lives.ledger.jobs:
                    await lives.client.confirm(job_id)
                lives.faults += await lives.client.find_untold()
                faults = lives.faults + await asyncio.to_thread(find_faults, folder)
                await asyncio.to_thread(lives.service.stop)
            await lives.client.close()
        faults += lives.ledger.find_faults() + await asyncio.to_thread(wait_for_no_process, mark)
        faults += [f"temporary file left: {name}" for name in os.listdir(os.environ["TMPDIR"])]
        ends = lives.ledger.count_ends()
        report(Counter({way: count}), lives.deaths, ends)
        if faults:
            pytest.fail(f"With CHAOS_SEED={seed}:\n" + "\n".join(faults))
        assert set(ends) == {"COMPLETED"}, f"with CHAOS_SEED={seed}: {ends}"
        assert lives.deaths
