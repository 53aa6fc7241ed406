"""Deliveries in the store: written with the end they tell of, leased, tried again, replayed."""

from __future__ import annotations

import time
import uuid

import pytest

from understudy.accounts.webhooks import GIVE_UP_SECONDS, Attempt, WebhookStore
from understudy.errors import NotFound
from understudy.jobs import ends
from understudy.jobs.deliverer import LONGEST_WAIT_SECONDS, choose_wait
from understudy.jobs.job import NewJob

OK = Attempt(at=1.0, status=200, error=None, seconds=0.1)
BAD = Attempt(at=1.0, status=500, error="h answers HTTP 500.", seconds=0.1)


@pytest.fixture
def webhooks(store):
    return WebhookStore(store.database)


@pytest.fixture
def end(store):
    """End a job that is to be told of: `await end(key, url)`; return its id."""

    async def end_job(key, url="https://example.org/hook"):
        new = NewJob(
            id=str(uuid.uuid4()),
            account_id=key.account_id,
            key_id=key.id,
            model="m",
            parameters={"prompt": "a hero"},
            inputs={},
            seed=1,
            steps=10,
            webhook={"url": url, "base": "http://us"},
        )
        job = (await store.submit(new, [], 1000)).job
        await store.cancel(job.id, key.account_id)
        return job.id

    return end_job


async def list_states(webhooks, key):
    found = await webhooks.list(key.account_id, limit=100)
    return [(delivery.job_id, delivery.state, len(delivery.attempts)) for delivery in found]


async def test_a_delivery_is_there_when_the_end_is_and_not_before(store, webhooks, key, submit, end):
    await submit(key)
    assert await webhooks.next_due_at() is None
    job_id = await end(key, "https://user.example:8443/a?b=c")
    (delivery,) = await webhooks.list(key.account_id, limit=9)
    assert (delivery.job_id, delivery.target, delivery.base) == (job_id, "user.example:8443", "http://us")
    assert delivery.give_up_at == pytest.approx(delivery.created_at + GIVE_UP_SECONDS)
    assert await webhooks.next_due_at() == delivery.next_attempt_at <= time.time()


async def test_an_end_that_is_undone_leaves_no_delivery(store, webhooks, key, end, monkeypatch):
    def fail(*arguments):
        raise RuntimeError

    # The last of what follows from an end.
    add = ends.add_delivery
    monkeypatch.setattr(ends, "add_delivery", lambda *arguments: (add(*arguments), fail()))
    with pytest.raises(RuntimeError):
        await end(key)
    assert await webhooks.list(key.account_id, limit=9) == []
    (job,) = await store.list_history(key.account_id, limit=9)
    assert job.status == "QUEUED"


async def test_a_held_delivery_is_nobody_else_s_until_its_lease_runs_out(webhooks, key, end):
    await end(key)
    (held,) = await webhooks.claim(60, 9)
    assert await webhooks.claim(60, 9) == []
    assert await webhooks.next_due_at() is None
    await webhooks.free_leases()
    (again,) = await webhooks.claim(-1, 9)
    assert again.id == held.id
    # That lease was over at once: a third holder, and only the last one's word counts.
    (last,) = await webhooks.claim(60, 9)
    assert not await webhooks.record(again, OK, delivered=True, next_attempt_at=None)
    assert await webhooks.record(last, BAD, delivered=False, next_attempt_at=time.time() + 60)
    (delivery,) = await webhooks.list(key.account_id, limit=9)
    assert (delivery.state, delivery.tries, len(delivery.attempts)) == ("pending", 1, 1)
    assert await webhooks.claim(60, 9) == []


async def test_busy_targets_and_accounts_are_passed_over(webhooks, key, other_key, end):
    jobs = [
        await end(key, "https://slow.example/"),
        await end(key, "https://fast.example/"),
        await end(other_key, "https://fast.example/"),
    ]
    claimed = await webhooks.claim(60, 9, but_not_to=["slow.example"], but_not_of=[other_key.account_id])
    assert [delivery.job_id for delivery in claimed] == [jobs[1]]
    assert [delivery.job_id for delivery in await webhooks.claim(60, 1)] == [jobs[0]]


async def test_what_is_delivered_or_failed_is_tried_no_more(webhooks, key, end):
    done, lost = await end(key), await end(key)
    for delivery in await webhooks.claim(60, 9):
        good = delivery.job_id == done
        await webhooks.record(delivery, OK if good else BAD, delivered=good, next_attempt_at=None)
    assert await list_states(webhooks, key) == [(lost, "failed", 1), (done, "delivered", 1)]
    assert [one.job_id for one in await webhooks.list(key.account_id, limit=9, state="failed")] == [lost]
    assert await webhooks.next_due_at() is None


async def test_a_replay_during_an_attempt_is_not_lost(webhooks, key, end):
    job_id = await end(key)
    (held,) = await webhooks.claim(60, 9)
    await webhooks.replay(key.account_id, held.id)
    assert await webhooks.record(held, OK, delivered=True, next_attempt_at=None)
    assert await list_states(webhooks, key) == [(job_id, "pending", 1)]
    (again,) = await webhooks.claim(60, 9)
    assert (again.id, again.tries) == (held.id, 0)


async def test_a_delivery_goes_with_its_job_and_is_its_account_s_alone(store, webhooks, key, other_key, end):
    job_id = await end(key)
    (delivery,) = await webhooks.list(key.account_id, limit=9)
    for ask in (webhooks.find, webhooks.replay):
        with pytest.raises(NotFound):
            await ask(other_key.account_id, delivery.id)
    assert await webhooks.list(other_key.account_id, limit=9) == []
    assert await store.delete(job_id, key.account_id)
    assert await webhooks.list(key.account_id, limit=9) == []


async def test_secrets_rotate_and_overlap(webhooks, key, other_key):
    first = await webhooks.read_secret(key.account_id)
    assert await webhooks.read_secret(key.account_id) == first
    assert (await webhooks.read_secret(other_key.account_id)).secret != first.secret
    await webhooks.rotate_secret(key.account_id)
    second = await webhooks.read_secret(key.account_id)
    assert second.list_signing(time.time()) == [second.secret, first.secret]
    assert second.list_signing(second.previous_until) == [second.secret]


def test_waits_double_up_to_three_hours_and_fill_a_day():
    waits = [[choose_wait(tries, 5.0) for _ in range(50)] for tries in range(40)]
    for tries, drawn in enumerate(waits):
        middle = min(5.0 * 2**tries, LONGEST_WAIT_SECONDS)
        assert all(0.5 * middle <= wait <= 1.5 * middle for wait in drawn)
        assert len(set(drawn)) > 40
    middles = [min(5.0 * 2**tries, LONGEST_WAIT_SECONDS) for tries in range(40)]
    assert 15 < next(n for n in range(40) if sum(middles[:n]) > GIVE_UP_SECONDS) < 25
