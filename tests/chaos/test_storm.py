"""A service under load, killed with SIGKILL in every state of a job: the worker, the decoder, all of it.

The whole service is stopped (SIGSTOP) before it is looked at, so that what was seen is what it
dies in. Disks that are full are real ones to the kernel: a limit of no bytes on what the service
may write.

Several accounts ask for pictures that cost credits, half of the time under idempotency keys, and have
every end told to a webhook. `CHAOS_JOBS` goes on killing at random until so many jobs were asked for.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import resource
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest
from clients import PUBLIC_URL, Client, Ledger, serve_slowly
from witness import (
    Scene,
    find_children,
    find_crash_faults,
    find_faults,
    freeze,
    is_ignored,
    look,
    wait_for_no_process,
)

from receiver import Answer, receive
from running_service import RunningService

CLIENTS = 14
ACCOUNTS = 3
JOBS = int(os.environ.get("CHAOS_JOBS", "0"))
"""Jobs that a round has at least."""

DECODER_SECONDS = 8
"""Time for a decoder to start in; one that is killed twice while it starts is given up, by design."""

JOBS_BETWEEN = 20
"""Jobs between two deaths of a long round, on the average."""

JOB_SECONDS = 2
"""A job of a long round has so long, deaths included."""

WORKER, DECODER = "understudy.worker", "understudy.decoder"
EVERYWHERE = (
    "waiting",
    "fetching",
    "leased",
    "processing, some steps done",
    "picture written, no row",
    "completed",
    "cancelled",
    "being uploaded",
    "being submitted",
)
"""States in which the whole service is killed."""

DEATHS = [
    *(("service killed", state) for state in EVERYWHERE),
    *(("worker killed", state) for state in EVERYWHERE[:-2]),
    *(("decoder killed", state) for state in ("fetching", "being uploaded", "being submitted")),
    ("worker hung", "processing, some steps done"),
    ("disk full", "leased"),
    ("disk full", "being uploaded"),
    ("disk full", "processing, some steps done"),
]
"""What is done to the service, and the state that it is done in."""

LONG_ALONE = {
    ("service killed", "being submitted"),
    ("worker killed", "waiting"),
    ("worker killed", "completed"),
    ("worker killed", "fetching"),
    ("decoder killed", "being submitted"),
    ("disk full", "leased"),
    ("disk full", "being uploaded"),
}
"""What the short run leaves out, for its time."""

SETTINGS = {
    "engine": "null",
    "credits": "on",
    "fetch_allowed_hosts": "127.0.0.1",
    "public_url": PUBLIC_URL,
    # With a public URL they would be on.
    "submits_per_minute": 0,
    "concurrent_jobs": 0,
    "account_concurrent_jobs": 0,
    "polls_per_second": 0,
    "sweep_interval_seconds": 0.2,
    # Every job can still be asked for at the end of the longest round.
    "result_ttl_seconds": 86_400,
    "webhook_retry_seconds": 0.1,
    "webhook_timeout_seconds": 0.5,
    "worker_hang_seconds": 4,
    # A job that could not even be given back, to a full disk, waits until its lease runs out.
    "lease_seconds": 3,
}


class Reaper:
    """Does to a service what is on its list, each thing in the state that it names."""

    def __init__(self, service: RunningService, ledgers: Sequence[Ledger], seed: object) -> None:
        self.service = service
        self.ledgers = ledgers
        self.random = random.Random(repr(seed))
        long = "CHAOS_MINUTES" in os.environ
        self.left = [death for death in DEATHS if long or death not in LONG_ALONE]
        self.random.shuffle(self.left)
        self.decoder_killed_at = -math.inf
        self.done: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []

    async def run(self, seconds: float) -> None:
        """Go through the list, until it is empty or the time is over."""
        deadline = time.monotonic() + seconds
        while self.left and time.monotonic() < deadline:
            await asyncio.sleep(self.random.uniform(0.003, 0.025))
            await self.look_and_strike()

    async def run_on(self, jobs: int) -> None:
        """Do things by chance until so many jobs were acknowledged; what was left stays so."""
        left, then = self.left, 0
        while (count := self.count_jobs()) < jobs:
            if count >= then:
                self.left = [self.random.choice(DEATHS)]
                await self.run(10)
                then = self.count_jobs() + self.random.randrange(2 * JOBS_BETWEEN)
            await asyncio.sleep(0.05)
        self.left = left

    def count_jobs(self) -> int:
        return sum(len(ledger.jobs) for ledger in self.ledgers)

    async def look_and_strike(self) -> None:
        process = psutil.Process(self.service.process.pid)
        freeze(process)
        try:
            try:
                death = self.choose(look(self.service.data_dir))
            except sqlite3.OperationalError:
                # It stands still with the database locked, even to those who only read.
                return
            if death is None:
                return
            self.left.remove(death)
            self.done[death] += 1
            resume = self.strike(process, death[0])
        finally:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        await resume()

    def choose(self, scene: Scene) -> tuple[str, str] | None:
        """The first thing on the list whose state is there."""
        states = scene.find_states()
        states |= {
            state
            for what, state in (("upload", "being uploaded"), ("submit", "being submitted"))
            if any(ledger.in_flight[what] for ledger in self.ledgers)
        }
        # A job may lose its worker twice; the third time would end it, by design.
        spared = {"worker"} if any(job["attempts"] >= 2 for job in scene.open_jobs) else set()
        if time.monotonic() - self.decoder_killed_at < DECODER_SECONDS:
            spared.add("decoder")
        for death in self.left:
            if death[1] in states and death[0].split()[0] not in spared:
                return death
        return None

    def strike(self, process: psutil.Process, what: str) -> Callable[[], Awaitable[None]]:
        """Do it while the service stands still; what is returned is done once it goes on."""
        match what:
            case "service killed":
                process.kill()
                return self.start_again
            case "worker killed" | "decoder killed":
                is_worker = what.startswith("worker")
                if not is_worker:
                    self.decoder_killed_at = time.monotonic()
                for child in find_children(process, WORKER if is_worker else DECODER):
                    child.kill()
            case "worker hung":
                for child in find_children(process, WORKER):
                    # One that starts does not know yet that it is to die with its service.
                    if is_ignored(child, signal.SIGINT):
                        child.send_signal(signal.SIGSTOP)
            case "disk full":
                process.rlimit(psutil.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
                return self.make_room
        return self.settle

    async def settle(self) -> None:
        await asyncio.sleep(self.random.uniform(0, 0.3))

    async def make_room(self) -> None:
        await asyncio.sleep(0.4)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        psutil.Process(self.service.process.pid).rlimit(psutil.RLIMIT_FSIZE, unlimited)

    async def start_again(self) -> None:
        self.service.process.wait()
        self.faults += find_crash_faults(self.service.data_dir)
        await asyncio.to_thread(self.service.start)


def answer_at_times(seed: object) -> Answer:
    """A receiver that fails now and then, and now and then hangs."""
    chance = random.Random(f"{seed} webhooks")
    return lambda request, before: chance.choices((200, 503, None), weights=(70, 25, 5))[0]


async def ask_until(end: asyncio.Event, client: Client) -> None:
    while not end.is_set():
        await client.live_through_a_job()
        await asyncio.sleep(client.random.uniform(0, 0.05))


@pytest.mark.slow
async def test_a_service_that_dies_in_every_state(
    rounds: Iterator[int], data_dir: Path, mark: str, picture_path: Path, report: Callable[..., None]
) -> None:
    picture = await asyncio.to_thread(picture_path.read_bytes)
    for seed in rounds:
        folder = data_dir / str(seed)
        service = RunningService(folder, picture_path, SETTINGS)
        ledgers, end = [Ledger() for _ in range(ACCOUNTS)], asyncio.Event()
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(service.start)
            stack.callback(service.kill)
            host = await stack.enter_async_context(serve_slowly(picture, 0.1))
            receiver = stack.enter_context(receive(answer_at_times(seed)))
            operator = Client(service, Ledger(), seed, picture, host)
            stack.push_async_callback(operator.close)
            keys = [await operator.open_account(f"account {n}", credits=1_000_000) for n in range(ACCOUNTS)]
            clients = [
                Client(
                    service,
                    ledgers[number % ACCOUNTS],
                    (seed, number),
                    picture,
                    host,
                    receiver,
                    keys[number % ACCOUNTS],
                )
                for number in range(CLIENTS)
            ]
            for client in clients:
                stack.push_async_callback(client.close)
            reaper = Reaper(service, ledgers, seed)
            async with asyncio.timeout(240 + JOBS * JOB_SECONDS), asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(ask_until(end, client))
                await reaper.run(120)
                await reaper.run_on(JOBS)
                end.set()
            async with asyncio.timeout(120 + JOBS * JOB_SECONDS):
                await asyncio.to_thread(service.stop)
                await asyncio.to_thread(service.start)
                for client in clients[:ACCOUNTS]:
                    for job_id in client.ledger.jobs:
                        await client.confirm(job_id)
                    reaper.faults += await client.find_untold()
                faults = reaper.faults + await asyncio.to_thread(find_faults, folder)
            await asyncio.to_thread(service.stop)
        faults += [fault for ledger in ledgers for fault in ledger.find_faults()]
        faults += [f"the log has: {line}" for line in service.output if '"request_failed"' in line]
        faults += await asyncio.to_thread(wait_for_no_process, mark)
        faults += [f"temporary file left: {name}" for name in os.listdir(os.environ["TMPDIR"])]
        ends = sum((ledger.count_ends() for ledger in ledgers), Counter())
        report(reaper.done, ends, sum((ledger.answers for ledger in ledgers), Counter()))
        if faults:
            pytest.fail(f"With CHAOS_SEED={seed}:\n" + "\n".join(faults))
        assert not reaper.left, f"with CHAOS_SEED={seed} these states did not come about: {reaper.left}"
        assert set(ends) == {"COMPLETED"}, f"with CHAOS_SEED={seed}: {ends}"
