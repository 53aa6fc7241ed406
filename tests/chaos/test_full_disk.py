"""The disk is full at each write of a job's way, one after another: clear errors, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from clients import KINDS, PUBLIC_URL, Client, Ledger, serve_slowly
from mortals import MortalService
from witness import find_crash_faults, find_faults, wait_for_no_process

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
    "sweep_interval_seconds": 0.1,
    # A job that could not even be given back waits until its lease runs out.
    "lease_seconds": 0.6,
}
WRITES = 40
"""Writes of the longest way of a job; an order that skips more finds none to refuse."""

STRIDE = 5
"""In the short run every so many of them is refused; `make chaos` tries each."""


async def test_a_disk_that_is_full_at_every_write(
    rounds: Iterator[int], data_dir: Path, mark: str, picture_path: Path, report: Callable[..., None]
) -> None:
    long = "CHAOS_MINUTES" in os.environ
    picture = await asyncio.to_thread(picture_path.read_bytes)
    for seed in rounds:
        async with serve_slowly(picture, 0.01) as host:
            folder = data_dir / str(seed)
            service = await asyncio.to_thread(MortalService, folder, picture_path, SETTINGS)
            await asyncio.to_thread(service.live)
            client = Client(service, Ledger(), seed, picture, host)
            for kind in KINDS if long else client.random.sample(KINDS, 2):
                for skip in range(0 if long else seed % STRIDE, WRITES, 1 if long else STRIDE):
                    async with asyncio.timeout(60):
                        count = client.random.randint(1, 4)
                        await asyncio.to_thread(service.orders.write_text, f"{skip} {count}")
                        job_id = await client.submit(kind)
                        if job_id is not None:
                            await client.follow(job_id)
                await asyncio.to_thread(service.orders.unlink, missing_ok=True)
            async with asyncio.timeout(60):
                for job_id in client.ledger.jobs:
                    await client.confirm(job_id)
                faults = await asyncio.to_thread(find_faults, folder)
                await asyncio.to_thread(service.stop)
            await client.close()
        faults += client.ledger.find_faults() + await asyncio.to_thread(wait_for_no_process, mark)
        faults += [f"temporary file left: {name}" for name in os.listdir(os.environ["TMPDIR"])]
        full = Counter(service.find_told(r"^full at: (.*)$"))
        ends = client.ledger.count_ends()
        report(full, ends, client.ledger.answers)
        if faults:
            pytest.fail(f"With CHAOS_SEED={seed}:\n" + "\n".join(faults))
        assert set(ends) == {"COMPLETED"}, f"with CHAOS_SEED={seed}: {ends}"
        assert len(full) >= 4, f"few kinds of writes were refused: {full}"


async def test_a_start_on_a_full_disk_says_so_and_spoils_nothing(
    data_dir: Path, mark: str, picture_path: Path
) -> None:
    service = await asyncio.to_thread(MortalService, data_dir, picture_path, SETTINGS)
    for skip in range(12) if "CHAOS_MINUTES" in os.environ else (3,):
        await asyncio.to_thread(service.orders.write_text, f"{skip} 1000000")
        lived = await asyncio.to_thread(service.live)
        if lived:
            await asyncio.to_thread(service.stop)
        else:
            assert service.process.wait() == 1
        words = [
            line
            for line in service.output
            if not line.startswith(("\n", "full at", "passed", "{", "Understudy"))
        ]
        assert lived or len(words) == 1, service.output
        assert find_crash_faults(data_dir) == []
    await asyncio.to_thread(service.orders.unlink, missing_ok=True)
    assert await asyncio.to_thread(service.live)
    assert await asyncio.to_thread(service.stop) == 0


async def test_a_write_that_is_cut_off_anywhere_spoils_nothing(
    data_dir: Path, mark: str, picture_path: Path
) -> None:
    """The kernel takes a part of a write and refuses the rest, of the log or of a picture."""
    picture = await asyncio.to_thread(picture_path.read_bytes)
    service = await asyncio.to_thread(MortalService, data_dir, picture_path, SETTINGS)
    await asyncio.to_thread(service.live)
    client = Client(service, Ledger(), 0, picture, "")
    process = psutil.Process(service.process.pid)
    log = data_dir / "understudy.sqlite3-wal"
    async with asyncio.timeout(100):
        for part in range(1, 6):
            written = log.stat().st_size if log.exists() else 0
            process.rlimit(psutil.RLIMIT_FSIZE, (written + part * 1500, resource.RLIM_INFINITY))
            job_id = await client.submit("inline")
            await asyncio.sleep(0.1)
            process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if job_id is not None:
                await client.follow(job_id)
        assert await client.submit("inline") is not None
        for job_id in client.ledger.jobs:
            await client.confirm(job_id)
    assert await asyncio.to_thread(find_faults, data_dir) == []
    await asyncio.to_thread(service.stop)
    await client.close()
    assert client.ledger.find_faults() == []
    assert client.ledger.answers["submit", 503, "storage_unavailable"] > 0
