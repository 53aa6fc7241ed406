"""Limits of keys: counted in the database, so that gateways agree, or in the process."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from understudy.accounts.credits import CreditStore
from understudy.accounts.idempotency import AnsweredBefore, IdempotencyKey
from understudy.accounts.keys import KeyStore, NewKey
from understudy.accounts.limits import MINUTE, UNLIMITED, Limits, RateCounter, take_submit
from understudy.accounts.tables import keys
from understudy.database import Database, migrate_database
from understudy.errors import InsufficientCredits, RateLimited
from understudy.jobs.events import ChangeFeed
from understudy.jobs.job import NewJob
from understudy.jobs.store import Store, Submitted


def submit(store, key, limits=UNLIMITED, price=None, **once):
    """Submit a job of a key within its limits."""
    new = NewJob(
        id=str(uuid.uuid4()),
        account_id=key.account_id,
        key_id=key.id,
        model="m",
        parameters={},
        inputs={},
        seed=1,
        steps=1,
        price_microcredits=price,
    )
    return store.submit(new, [], 10_000, limits=limits, **once)


@asynccontextmanager
async def open_gateways(folder):
    """Three gateways on one database, and a key."""
    migrate_database(folder)
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(3):
            database = Database.open(folder)
            stack.push_async_callback(database.close)
            stores.append(Store(database, ChangeFeed()))
        yield stores, (await KeyStore(stores[0].database).create("first"))[1]


async def submit_through_gateways(folder, count, limits):
    """Submit jobs of one key through three gateways at once: what was accepted, what was refused."""
    async with open_gateways(folder) as (stores, key):
        started_at = time.time()

        submits = [submit(stores[number % 3], key, limits) for number in range(count)]
        done = await asyncio.gather(*submits, return_exceptions=True)
        accepted = [one for one in done if isinstance(one, Submitted)]
        refused = [one for one in done if isinstance(one, RateLimited)]
        assert len(accepted) + len(refused) == count, done
        return accepted, refused, time.time() - started_at


async def test_gateways_agree_on_submits_a_minute(tmp_path):
    limits = Limits(submits_per_minute=10)
    accepted, refused, seconds = await submit_through_gateways(tmp_path, 40, limits)
    assert 10 <= len(accepted) <= 10 + seconds / 6
    assert sorted(one.allowance.remaining for one in accepted)[:10] == list(range(10))
    for error in refused:
        assert 1 <= error.retry_after_seconds <= 7
        assert error.headers["x-rate-limit-limit"] == "10"
        assert error.headers["x-rate-limit-remaining"] == "0"


async def test_gateways_agree_on_concurrent_jobs(tmp_path):
    accepted, refused, _ = await submit_through_gateways(tmp_path, 40, Limits(concurrent_jobs=7))
    assert len(accepted) == 7
    assert all("7 jobs" in error.message for error in refused)


async def test_gateways_agree_on_the_jobs_of_an_account(tmp_path):
    limits = Limits(concurrent_jobs=10, account_concurrent_jobs=7)
    accepted, refused, _ = await submit_through_gateways(tmp_path, 20, limits)
    assert len(accepted) == 7
    assert all("The account has 7 jobs" in error.message for error in refused)


async def test_gateways_hold_no_more_than_there_is(tmp_path):
    async with open_gateways(tmp_path) as (stores, key):
        credits = CreditStore(stores[0].database)
        await credits.grant(key.account_id, 50)
        done = await asyncio.gather(
            *(submit(stores[number % 3], key, price=7) for number in range(24)), return_exceptions=True
        )
        assert sum(isinstance(one, Submitted) for one in done) == 7
        assert sum(isinstance(one, InsufficientCredits) for one in done) == 17
        assert await credits.read_balance(key.account_id) == 1
        jobs = [one.job for one in done if isinstance(one, Submitted)]
        # Each is cancelled at all gateways at once: what was held comes back once.
        ends = await asyncio.gather(
            *(store.cancel(job.id, key.account_id) for job in jobs for store in stores)
        )
        assert sum(ended for _, ended in ends) == 7
        assert await credits.read_balance(key.account_id) == 50
        assert await credits.find_unbalanced() == {}


async def test_gateways_carry_the_same_request_out_once(tmp_path):
    async with open_gateways(tmp_path) as (stores, key):
        await CreditStore(stores[0].database).grant(key.account_id, 50)
        once = IdempotencyKey(account_id=key.account_id, key="a", fingerprint="x")
        done = await asyncio.gather(
            *(
                submit(stores[number % 3], key, price=7, once=once, answer={"number": number})
                for number in range(24)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(one, Submitted) for one in done) == 1
        answers = [one.body for one in done if isinstance(one, AnsweredBefore)]
        (first,) = (number for number, one in enumerate(done) if isinstance(one, Submitted))
        assert answers == [{"number": first}] * 23
        assert await CreditStore(stores[1].database).read_balance(key.account_id) == 43


async def test_the_jobs_of_an_account_are_counted_over_its_keys(store, key, other_key):
    second = (await KeyStore(store.database).create_for(key.account_id, NewKey(name="second")))[1]
    limits = Limits(concurrent_jobs=2, account_concurrent_jobs=3)
    for one in (key, second, key):
        await submit(store, one, limits)
    with pytest.raises(RateLimited, match="The key has 2 jobs"):
        await submit(store, key, limits)
    with pytest.raises(RateLimited, match="The account has 3 jobs"):
        await submit(store, second, limits)
    await submit(store, other_key, limits)


async def test_an_account_s_requests_do_not_fail_without_end(store, key, other_key):
    """They cost nothing and leave rows: so many may, and as many beside as were paid for."""
    limits = Limits(account_failures_per_day=2)
    await submit(store, key, limits)
    (held,) = await store.claim(60)
    await store.complete(
        held, images=[{"file_name": "a.png"}], inference_seconds=1.0, warnings=[], outputs=[]
    )
    for _ in range(3):
        job = (await submit(store, key, limits)).job
        await store.cancel(job.id, key.account_id)
    for ask in (
        lambda: submit(store, key, limits),
        lambda: store.foresee(key.account_id, key.id, 10_000, limits, 0),
    ):
        with pytest.raises(
            RateLimited, match="3 requests of the account failed or were cancelled"
        ) as refused:
            await ask()
        assert 1 <= refused.value.retry_after_seconds <= 86_400
    await submit(store, other_key, limits)
    await submit(store, key)


async def test_an_ended_job_makes_room(store, key):
    limits = Limits(concurrent_jobs=1)
    for _ in range(3):
        job = (await submit(store, key, limits)).job
        with pytest.raises(RateLimited, match="wait for one of them"):
            await submit(store, key, limits)
        await store.cancel(job.id, key.account_id)


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 20))
def test_no_minute_lets_more_through_than_twice_the_limit(pauses, limit):
    """And never fewer than what comes evenly: by the algorithm, whenever requests come."""
    clock = [1_000_000.0]
    counter = RateCounter(limit, MINUTE, clock=lambda: clock[0])
    passed = []
    for pause in pauses:
        clock[0] += pause
        if not counter.take("one"):
            passed.append(clock[0])
    for first in passed:
        assert sum(first <= one < first + MINUTE for one in passed) <= 2 * limit
    even = RateCounter(limit, MINUTE, clock=lambda: clock[0])
    for _ in range(100):
        assert even.take("one") == 0
        clock[0] += MINUTE / limit


@pytest.mark.parametrize("skew_seconds", [0.15, 0.5, 2.0, 30.0])
async def test_clocks_that_differ_give_no_minute_twice(store, key, skew_seconds):
    """Two gateways share a key of 600 submits a minute, the clock of one being ahead."""

    def submit_all(connection) -> tuple[int, list[RateLimited]]:
        begun, refused = time.time(), []
        for number in range(1500):
            # Half a second in all, as each gateway tells the time.
            now = begun + number / 3000 + (skew_seconds if number % 2 else 0.0)
            done = take_submit(connection, key.id, 600, now)
            if isinstance(done, RateLimited):
                refused.append(done)
        return 1500 - len(refused), refused

    accepted, refused = await store.database.write(submit_all)
    # What a clock that is ahead sees as past is over for it alone.
    assert 600 <= accepted <= 600 + 10 * (skew_seconds + 0.5) + 2
    assert all(1 <= error.retry_after_seconds <= skew_seconds + 2 for error in refused)
    assert all(error.headers["x-rate-limit-remaining"] == "0" for error in refused[-100:])


def test_counting_goes_by_a_clock_that_nobody_sets(monkeypatch):
    counter = RateCounter(3, MINUTE)
    assert [counter.take("one") > 0 for _ in range(4)] == [False, False, False, True]
    now = time.time()
    for moved in (-3600, 3600):
        monkeypatch.setattr("understudy.accounts.limits.time.time", lambda moved=moved: now + moved)
        assert counter.take("one") > 0
        assert now + moved + 55 < counter.tell("one").reset_at < now + moved + 61


async def test_a_key_whose_minute_lies_in_another_clocks_future_may_submit(store, key):
    ahead = update(keys).values(submits_spent_until=time.time() + 3600)
    await store.database.write(lambda connection: connection.execute(ahead).rowcount)
    done = await submit(store, key, Limits(submits_per_minute=3))
    assert done.allowance.remaining == 2


def test_names_that_have_everything_left_are_forgotten():
    clock = [0.0]
    counter = RateCounter(1, 1.0, clock=lambda: clock[0])
    for number in range(50_000):
        clock[0] += 0.01
        assert counter.take(str(number)) == 0
        assert counter.take(str(number)) > 0
    assert counter.size <= 20_000
