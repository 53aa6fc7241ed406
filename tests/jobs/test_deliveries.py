"""Deliveries in the store: written with the end they tell of, leased, tried again, replayed."""

from __future__ import annotations

import time

import pytest

from understudy.accounts.webhooks import GIVE_UP_SECONDS, Attempt, name_target
from understudy.errors import NotFound
from understudy.jobs import ends
from understudy.jobs.deliverer import LONGEST_WAIT_SECONDS, choose_next_attempt, choose_wait

OK = Attempt(at=1.0, status=200, error=None, seconds=0.1)
BAD = Attempt(at=1.0, status=500, error="h answers HTTP 500.", seconds=0.1)


async def claim(webhooks, lease_seconds=60):
    """Lease everything that is due."""
    due = await webhooks.list_due(most_of_account=99, most_to_target=99)
    return await webhooks.claim([one.sequence for one in due], lease_seconds)


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
    (held,) = await claim(webhooks)
    assert await claim(webhooks) == []
    assert await webhooks.next_due_at() is None
    await webhooks.free_leases()
    (again,) = await claim(webhooks, -1)
    assert again.id == held.id
    # That lease was over at once: a third holder, and only the last one's word counts.
    (last,) = await claim(webhooks)
    assert not await webhooks.record(again, OK, delivered=True, next_attempt_at=None)
    assert await webhooks.record(last, BAD, delivered=False, next_attempt_at=time.time() + 60)
    (delivery,) = await webhooks.list(key.account_id, limit=9)
    assert (delivery.state, delivery.tries, len(delivery.attempts)) == ("pending", 1, 1)
    assert await claim(webhooks) == []


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://host.example/a", "host.example:443"),
        ("https://HOST.example./b", "host.example:443"),
        ("https://host.example:443", "host.example:443"),
        ("http://host.example:0080/?", "host.example:80"),
        ("http://bücher.example/", "xn--bcher-kva.example:80"),
        ("http://[::1]:8001/", "::1:8001"),
    ],
)
def test_a_target_is_the_same_however_it_is_written(url, target):
    assert name_target(url) == target


async def test_a_job_ends_though_its_webhook_s_url_is_none(store, webhooks, key, end):
    """Versions before this one let some in; the end, and what was held, must not hang on them."""
    for url in (
        *("http://example.org/\x01", "http://\u00ad/", "http://[v1.a]/", "ftp://example.org/"),
        "http://[::1%25x]\u00ad]/",
    ):
        await end(key, url)
        (newest, *_) = await webhooks.list(key.account_id, limit=1)
        assert (newest.url, newest.target, newest.state) == (url, url, "pending")
    assert {job.status for job in await store.list_history(key.account_id, limit=9)} == {"FAILED"}


async def test_what_is_due_is_told_with_every_account_and_as_many_targets_as_may_be(
    webhooks, key, other_key, end
):
    slow = [await end(key, "https://slow.example/") for _ in range(3)]
    fast = await end(key, "https://fast.example/")
    theirs = await end(other_key, "https://slow.example/")
    names = {one.sequence: one.job_id for one in await webhooks.list(key.account_id, limit=9)}
    names |= {one.sequence: one.job_id for one in await webhooks.list(other_key.account_id, limit=9)}

    async def list_due(of_account, to_target):
        due = await webhooks.list_due(most_of_account=of_account, most_to_target=to_target)
        return [names[one.sequence] for one in due]

    assert await list_due(9, 9) == [*slow, fast, theirs]
    assert await list_due(9, 2) == [*slow[:2], fast, theirs]
    # Rather one to each target than two to one.
    assert await list_due(2, 9) == [slow[0], fast, theirs]


async def test_what_somebody_holds_is_not_claimed_by_who_saw_it_before(webhooks, key, end):
    await end(key)
    (due,) = await webhooks.list_due(most_of_account=9, most_to_target=9)
    assert len(await webhooks.claim([due.sequence], 60)) == 1
    assert await webhooks.claim([due.sequence], 60) == []


async def test_what_is_delivered_or_failed_is_tried_no_more(webhooks, key, end):
    done, lost = await end(key), await end(key)
    for delivery in await claim(webhooks):
        good = delivery.job_id == done
        await webhooks.record(delivery, OK if good else BAD, delivered=good, next_attempt_at=None)
    assert await list_states(webhooks, key) == [(lost, "failed", 1), (done, "delivered", 1)]
    assert [one.job_id for one in await webhooks.list(key.account_id, limit=9, state="failed")] == [lost]
    assert await webhooks.next_due_at() is None


async def test_a_replay_during_an_attempt_is_not_lost(webhooks, key, end):
    job_id = await end(key)
    (held,) = await claim(webhooks)
    await webhooks.replay(key.account_id, held.id)
    assert await webhooks.record(held, OK, delivered=True, next_attempt_at=None)
    assert await list_states(webhooks, key) == [(job_id, "pending", 1)]
    (again,) = await claim(webhooks)
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
    second = await webhooks.rotate_secret(key.account_id)
    assert second == await webhooks.read_secret(key.account_id)
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


def test_a_target_that_is_back_within_the_day_is_told():
    """However the waits fall, the last attempt is made at the end of the day, and none after."""
    for _ in range(50):
        now, attempts = 0.0, []
        while now is not None:
            attempts.append(now)
            now = choose_next_attempt(now, choose_wait(len(attempts) - 1, 5.0), 0.0, GIVE_UP_SECONDS)
        assert attempts[-1] == GIVE_UP_SECONDS
        assert attempts == sorted(set(attempts))
    assert choose_next_attempt(0.0, 5.0, 60.0, 3600.0) == 60.0
    assert choose_next_attempt(0.0, 60.0, 5.0, 3600.0) == 60.0
    # Who asks for longer than there is left is not asked earlier.
    assert choose_next_attempt(0.0, 5.0, 3601.0, 3600.0) is None
