"""The deliverer among targets that hang: whose turn it is, and that nobody waits for another's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from understudy.accounts.keys import KeyStore
from understudy.accounts.webhooks import DueDelivery
from understudy.jobs import deliverer as module
from understudy.jobs.deliverer import Deliverer, choose_deliveries
from understudy.meters import Meters
from understudy.settings import Settings


class Log(list[str]):
    """The names of the targets that requests arrived at, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def add(self, name: str) -> None:
        self.append(name)
        self._changed.set()

    async def until(self, condition: Callable[[Log], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
HANGING = [f"account {account}, target {number}" for account in range(4) for number in range(5)]


@asynccontextmanager
async def open_targets(log: Log, fine: bool = False) -> AsyncIterator[dict[str, str]]:
    """The URLs of 20 targets that never answer, and with `fine` one that does at once, by their names."""
    servers, urls = [], {}
    for name in [*HANGING, *(["fine"] if fine else [])]:

        async def serve(reader, writer, name=name) -> None:
            await reader.readuntil(b"\r\n\r\n")
            log.add(name)
            if name == "fine":
                writer.write(NO_CONTENT)
                await writer.drain()
            else:
                await reader.read()
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        urls[name] = f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}/"
    try:
        yield urls
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def open_deliverer(store, webhooks, monkeypatch):
    """Start a deliverer for a block, with attempts of so many seconds."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.0)

    @asynccontextmanager
    async def open_one(timeout_seconds: float):
        settings = Settings(fetch_allowed_hosts="127.0.0.1", webhook_timeout_seconds=timeout_seconds)
        running = Deliverer(settings, webhooks, store, Meters(), lambda job, base: {"request_id": job.id})
        await running.start()
        try:
            yield running
        finally:
            await running.stop()

    return open_one


@pytest.fixture
async def hang(store, end):
    """Have four accounts tell of so many ends at each of five targets of theirs that hang."""

    async def end_jobs(urls: dict[str, str], count: int) -> None:
        for account in range(4):
            key = (await KeyStore(store.database).create(f"hanging {account}"))[1]
            names = [name for name in HANGING if name.startswith(f"account {account}")]
            await asyncio.gather(*(end(key, urls[name]) for name in names for _ in range(count)))

    return end_jobs


async def test_four_accounts_with_five_hanging_targets_hold_up_nobody(open_deliverer, hang, end, key):
    log = Log()
    async with open_targets(log, fine=True) as urls:
        await hang(urls, 5)
        async with open_deliverer(600.0):
            # All that may be under way of them is: 16 of each.
            await log.until(lambda log: len(log) == 4 * module.AT_ONCE_OF_ACCOUNT)
            await end(key, urls["fine"])
            await log.until(lambda log: "fine" in log)


async def test_a_place_that_becomes_free_goes_to_who_has_fewest(open_deliverer, hang, end, key, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 8)
    log = Log()
    async with open_targets(log, fine=True) as urls:
        await hang(urls, 5)
        async with open_deliverer(1.0):
            await log.until(lambda log: len(log) == 8)
            await end(key, urls["fine"])
            before = len(log)
            await log.until(lambda log: "fine" in log)
    # Of the hundred that wait longer none may go first but those that begin while it is being made.
    assert log.index("fine") - before <= 8


async def test_no_limit_is_passed(open_deliverer, hang):
    log = Log()
    async with open_targets(log) as urls:
        await hang(urls, 5)
        async with open_deliverer(600.0):
            await log.until(lambda log: len(log) == 4 * module.AT_ONCE_OF_ACCOUNT)
            # The deliverer wakes for whatever may be due.
            await asyncio.sleep(0.5)
    counts = Counter(log)
    assert len(log) == 4 * module.AT_ONCE_OF_ACCOUNT
    # Rather a few of each target than as many as may be of some.
    assert set(counts) == set(HANGING)
    assert max(counts.values()) <= module.AT_ONCE_TO_TARGET


async def test_what_the_service_itself_fails_on_is_recorded_and_given_up(store, webhooks, end, key):
    tries = Log()

    def describe(job, base):
        tries.add("tried")
        raise ValueError("a prompt")

    settings = Settings(webhook_retry_seconds=0.01, webhook_timeout_seconds=600.0)
    await end(key)
    running = Deliverer(settings, webhooks, store, Meters(), describe)
    await running.start()
    try:
        # Those before the last one are recorded.
        await tries.until(lambda tries: len(tries) == 4)
    finally:
        await running.stop()
    (delivery,) = await webhooks.list(key.account_id, limit=1)
    assert (delivery.state, delivery.lease_expires_at) == ("pending", None)
    assert len(delivery.attempts) >= 3
    assert {one["error"] for one in delivery.attempts} == {"The service failed on it; its log says more."}


def due(*of: tuple[str, str]) -> list[DueDelivery]:
    return [DueDelivery(number, account_id, target) for number, (account_id, target) in enumerate(of)]


def test_the_account_and_the_target_with_the_fewest_come_first():
    waiting = due(*[("a", "slow")] * 6, ("a", "fast"), ("b", "slow"), ("b", "other"))
    assert choose_deliveries(waiting, Counter(), Counter(), 3) == [0, 7 + 1, 6]
    # Of a target that has all it may have nothing more is chosen, of its account what goes elsewhere.
    assert choose_deliveries(waiting, Counter(a=4), Counter(slow=4), 9) == [8, 6]
    assert choose_deliveries(waiting, Counter(), Counter(), 9) == [0, 8, 6, 7, 1, 2]
    assert choose_deliveries(waiting, Counter(a=16), Counter(), 9) == [7, 8]
    assert choose_deliveries(waiting, Counter(), Counter(), 0) == []
