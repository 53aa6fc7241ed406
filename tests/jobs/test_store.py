"""The job store: turns, leases, fencing, and each job's one end."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from sqlalchemy import event

from understudy.accounts.keys import KeyStore, NewKey
from understudy.accounts.limits import Limits
from understudy.errors import RateLimited
from understudy.jobs import compute_time
from understudy.jobs import store as store_module
from understudy.jobs.files import StoredFile
from understudy.jobs.retention import Retention
from understudy.server.bodies import status_body

LEASE = 30.0


def output_file(job, name="a.png", **values) -> StoredFile:
    return StoredFile(
        **{
            "name": name,
            "account_id": job.account_id,
            "kind": "output",
            "content_type": "image/png",
            "size": 3,
            "created_at": time.time(),
            "job_id": job.id,
            "expires_at": time.time() + 60,
            **values,
        }
    )


async def claim(store, lease_seconds):
    """The one job whose turn it is, or None."""
    return next(iter(await store.claim(lease_seconds)), None)


async def complete(store, job, name="a.png", seconds=1.0) -> bool:
    return await store.complete(
        job,
        images=[{"file_name": name}],
        inference_seconds=seconds,
        warnings=["w"],
        outputs=[output_file(job, name)],
    )


async def test_a_job_goes_from_queued_to_completed(store, files, key, submit):
    submitted = await submit(key)
    assert (submitted.status, submitted.stage, submitted.version) == ("QUEUED", "waiting", 1)
    held = await claim(store, LEASE)
    assert held.id == submitted.id
    assert held.status == "QUEUED", "a claimed job waits until a worker begins"
    assert await store.begin(held)
    assert await store.record_step(held, 4, b"preview")
    running = await store.get(held.id)
    assert (running.status, running.step, running.preview) == ("PROCESSING", 4, b"preview")
    assert await complete(store, held)
    ended = await store.get(held.id, key.account_id)
    assert (ended.status, ended.step, ended.preview, ended.lease_expires_at) == ("COMPLETED", 10, None, None)
    assert ended.warnings == ["w"]
    assert ended.seed == 2**53 - 1
    assert submitted.version < running.version < ended.version
    assert (await files.find("a.png")).job_id == ended.id


@pytest.mark.parametrize("told", ["step", "images"])
async def test_a_job_whose_progress_is_told_is_running(store, key, submit, told):
    job = await submit(key)
    held = await claim(store, LEASE)
    if told == "step":
        assert await store.record_step(held, 4, started_at=50.0)
    else:
        assert await store.record_images(
            held,
            [{"step": 4}],
            step=4,
            inference_seconds=0.0,
            warnings=[],
            files=[],
            started_at=50.0,
        )
    now = await store.get(job.id)
    assert (now.status, now.stage, now.step, now.started_at) == ("PROCESSING", "drawing", 4, 50.0)


async def test_one_key_is_served_in_order(store, key, submit):
    jobs = [await submit(key) for _ in range(5)]
    claimed = [await claim(store, LEASE) for _ in range(5)]
    assert [job.id for job in claimed] == [job.id for job in jobs]
    assert await claim(store, LEASE) is None


async def test_a_thousand_jobs_of_one_key_do_not_starve_another(store, key, other_key, submit):
    for _ in range(100):
        await submit(key)
    for _ in range(3):
        await claim(store, LEASE)
    late = [await submit(other_key) for _ in range(3)]
    order = [(await claim(store, LEASE)) for _ in range(8)]
    places = [index for index, job in enumerate(order) if job.id in {one.id for one in late}]
    assert len(places) == 3
    assert places[0] <= 1
    assert all(after - before <= 2 for before, after in pairwise(places))


async def test_however_many_keys_an_account_makes_it_has_one_turn(store, key, other_key, submit):
    keys = KeyStore(store.database)
    for number in range(100):
        made = (await keys.create_for(key.account_id, NewKey(name=str(number), counted_as=key.id)))[1]
        await submit(made)
        await keys.revoke_by_id(made.id)
    victims = [await submit(other_key) for _ in range(3)]
    assert [await store.count_ahead(job) for job in victims] == [1, 3, 5]


async def test_a_key_that_asks_one_at_a_time_alternates_with_a_crowd(store, key, other_key, submit):
    for _ in range(20):
        await submit(key)
    for _ in range(5):
        lone = await submit(other_key)
        served = [(await claim(store, LEASE)).id for _ in range(2)]
        assert lone.id in served


async def test_a_crowd_that_comes_while_a_job_runs_does_not_pass_those_after_it(
    store, key, other_key, submit
):
    for _ in range(50):
        await submit(key)
    for number in range(49):
        await complete(store, await claim(store, LEASE), f"{number}.png")
    running = await claim(store, LEASE)
    await store.begin(running)
    crowd = [await submit(other_key) for _ in range(30)]
    lone = await submit(key)
    assert await store.count_ahead(lone) <= 2
    assert await store.release(running, count_attempt=True)
    assert (await claim(store, LEASE)).id in {running.id, crowd[0].id}


async def test_accounts_that_are_passed_over_keep_their_turn(store, key, other_key, submit):
    mine, other = await submit(key), await submit(other_key)
    assert [job.id for job in await store.claim(LEASE, 5, [key.account_id])] == [other.id]
    assert [job.id for job in await store.claim(LEASE, 5)] == [mine.id]


async def test_two_claims_never_get_the_same_job(store, key, submit):
    for _ in range(20):
        await submit(key)
    claimed = await asyncio.gather(*(claim(store, LEASE) for _ in range(30)))
    ids = [job.id for job in claimed if job is not None]
    assert len(ids) == len(set(ids)) == 20


async def test_a_holder_that_lost_its_lease_changes_nothing(store, files, key, submit):
    await submit(key)
    old = await claim(store, LEASE)
    assert await store.free_leases() == 1
    new = await claim(store, LEASE)
    assert (new.id, new.token) == (old.id, old.token + 2)
    assert not await store.begin(old)
    assert not await store.record_step(old, 3)
    assert not await store.release(old, count_attempt=True)
    assert not await store.fail(old, code="engine_error", error="late")
    assert not await complete(store, old)
    assert await files.find("a.png") is None, "a refused end leaves no file behind"
    assert await complete(store, new, "b.png")
    assert (await store.get(new.id)).attempts == 0


async def test_the_holder_of_a_job_that_was_deleted_changes_nothing_of_a_later_one(
    store, key, other_key, submit
):
    first = await submit(key)
    stale = await claim(store, LEASE)
    assert await store.cancel(first.id, key.account_id)
    assert await store.delete(first.id, key.account_id)
    second = await submit(other_key)
    held = await claim(store, LEASE)
    assert (held.id, held.token) == (second.id, stale.token)
    assert not await complete(store, stale)
    assert not await store.fail(stale, code="engine_error", error="It failed.")
    assert not await store.begin(stale)
    assert stale.id not in await store.extend_leases([stale], LEASE)
    assert await complete(store, held)


async def test_a_lease_that_ran_out_is_freed_without_an_attempt(store, key, submit):
    await submit(key)
    held = await claim(store, 0.01)
    await asyncio.sleep(0.02)
    assert await store.free_leases(expired_before=time.time()) == 1
    again = await store.get(held.id)
    assert (again.status, again.attempts, again.lease_expires_at) == ("QUEUED", 0, None)
    fresh = await claim(store, LEASE)
    assert await store.free_leases(expired_before=time.time()) == 0
    assert await store.extend_leases([held], LEASE) == set()
    assert await store.extend_leases([fresh], LEASE) == {fresh.id}


async def test_a_released_job_keeps_its_turn_and_counts_its_attempt(store, key, submit):
    first = await submit(key)
    await submit(key)
    held = await claim(store, LEASE)
    assert await store.begin(held)
    assert await store.release(held, count_attempt=True)
    again = await claim(store, LEASE)
    assert (again.id, again.attempts, again.step) == (first.id, 1, 0)


async def test_cancelling_ends_a_waiting_and_a_running_job_at_once(store, key, other_key, submit):
    waiting, running = await submit(key), await submit(key)
    job, ended = await store.cancel(waiting.id, key.account_id)
    assert (job.status, job.error_code, ended) == ("FAILED", "cancelled", True)
    held = await claim(store, LEASE)
    assert held.id == running.id
    taken = []
    store.feed.observe_taken(taken.append)
    await store.begin(held)
    assert await store.cancel(running.id, other_key.account_id) == (None, False)
    _, ended = await store.cancel(running.id, key.account_id)
    assert ended
    assert taken == [running.id]
    assert not await complete(store, held)
    job, ended = await store.cancel(running.id, key.account_id)
    assert (job.status, ended) == ("FAILED", False)


async def test_a_full_queue_refuses(store, key, submit):
    await submit(key, queue_limit=1)
    with pytest.raises(RateLimited) as caught:
        await submit(key, queue_limit=1)
    assert caught.value.code == "queue_full"
    assert caught.value.retry_after_seconds > 0
    await claim(store, LEASE)


async def test_jobs_are_their_account_s_alone(store, key, other_key, submit):
    job = await submit(key)
    assert await store.get(job.id, other_key.account_id) is None
    assert await store.list_history(other_key.account_id, limit=10) == []
    assert [one.id for one in await store.list_history(key.account_id, limit=10)] == [job.id]


async def test_history_is_paged_newest_first(store, key, submit):
    jobs = [await submit(key) for _ in range(5)]
    page = await store.list_history(key.account_id, limit=2)
    rest = await store.list_history(key.account_id, limit=10, before=page[-1].sequence)
    assert [job.id for job in [*page, *rest]] == [job.id for job in reversed(jobs)]
    assert await store.list_history(key.account_id, limit=2, status="FAILED") == []


async def test_queue_position_counts_who_is_before(store, key, other_key, submit):
    first = await submit(key)
    second = await submit(key)
    third = await submit(other_key)
    assert [await store.count_ahead(job) for job in (first, third, second)] == [0, 1, 2]


async def test_waiting_jobs_expire_and_running_ones_do_not(store, key, submit):
    await submit(key)
    running = await claim(store, LEASE)
    waiting = await submit(key)
    assert await Retention(store).expire_waiting(time.time() + 1) == 1
    assert (await store.get(waiting.id)).error_code == "expired"
    assert (await store.get(running.id)).status == "QUEUED"


async def test_old_jobs_are_forgotten_and_their_files_expire(store, files, key, submit):
    await submit(key)
    held = await claim(store, LEASE)
    await complete(store, held)
    assert await Retention(store).forget_ended(time.time() - 60) == 0
    assert await Retention(store).forget_ended(time.time() + 1) == 1
    assert await store.get(held.id) is None
    assert await files.find("a.png") is None
    assert await files.list_expired() == ["a.png"]
    await files.forget(["a.png"])
    assert await files.list_names() == set()


async def test_inputs_expire_with_the_job_s_end(store, files, key, submit):
    job = await submit(key, inputs={"ip_image": {"file": "in.png", "sha256": "0"}})
    await files.add([output_file(job, "in.png", kind="input")])
    held = await claim(store, LEASE)
    assert await files.find("in.png") is not None
    await complete(store, held)
    assert await files.list_expired() == ["in.png"]


async def test_a_listener_is_woken_by_a_change(store, key, submit):
    job = await submit(key)
    with store.feed.listen(job.id) as changed:
        assert not changed.is_set()
        held = await claim(store, LEASE)
        await store.begin(held)
        await asyncio.wait_for(changed.wait(), 1)


async def test_the_mean_time_of_a_job_and_of_a_step(store, key, submit, monkeypatch):
    monkeypatch.setattr(compute_time, "MEAN_SECONDS", 0.0)
    assert await store.compute_time.read() is None
    await submit(key, steps=10)
    await complete(store, await claim(store, LEASE))
    assert await store.compute_time.read() == compute_time.MeanSeconds(1.0, {"m": 0.1})
    await submit(key, steps=30)
    await complete(store, await claim(store, LEASE), "b.png")
    assert await store.compute_time.read() == compute_time.MeanSeconds(1.0, {"m": 0.05})


async def test_a_slow_model_s_time_is_none_of_a_fast_one_s(store, key, submit, monkeypatch):
    """Each is estimated by its own steps, those before it by what was drawn last."""
    monkeypatch.setattr(compute_time, "MEAN_SECONDS", 3600.0)
    seconds = {"fast": 1.0, "slow": 100.0}
    for number, model in enumerate(["slow", *["fast"] * 60]):
        await submit(key, model=model, steps=10)
        await complete(store, await claim(store, LEASE), f"{number}.png", seconds[model])
    known = await store.compute_time.read()
    assert known.of_step == {"slow": 10.0, "fast": 0.1}
    assert known.of_job == 1.0
    for model, expected in (("slow", 100.0), ("fast", 1.0), ("new", None)):
        job = await submit(key, model=model, steps=10)
        held = await claim(store, LEASE)
        await store.begin(held)
        body = await status_body(await store.get(job.id), "http://us", store, 1)
        assert body["eta_seconds"] == expected
    # As soon as there is one, it counts.
    await complete(store, held, "new.png", 3.0)
    assert (await store.compute_time.read()).of_step["new"] == pytest.approx(0.3)


async def test_several_are_claimed_in_the_order_of_their_turns(store, key, other_key, submit):
    first = [await submit(key) for _ in range(3)]
    second = [await submit(other_key) for _ in range(3)]
    claimed = await store.claim(LEASE, limit=4)
    assert [job.id for job in claimed] == [first[0].id, second[0].id, first[1].id, second[1].id]
    assert len(await store.claim(LEASE, limit=4)) == 2


async def test_a_queue_that_drained_takes_jobs_again(store, key, submit):
    for _ in range(3):
        await submit(key, queue_limit=1)
        held = await claim(store, LEASE)
        await store.begin(held)


async def test_a_job_that_was_seen_is_seen_as_it_is_after_each_change(store, key, submit):
    job = await submit(key)

    async def look() -> tuple:
        seen = await store.get(job.id)
        return (seen.status, seen.stage, seen.step, seen.attempts, seen.lease_expires_at is not None)

    assert await look() == ("QUEUED", "waiting", 0, 0, False)
    held = await claim(store, LEASE)
    assert await look() == ("QUEUED", "waiting", 0, 0, True)
    await store.record_stage(held, "loading")
    assert (await look())[1] == "loading"
    await store.begin(held)
    assert (await look())[:2] == ("PROCESSING", "drawing")
    await store.record_step(held, 3)
    assert (await look())[2] == 3
    await store.release(held, count_attempt=True)
    assert await look() == ("QUEUED", "waiting", 0, 1, False)
    await claim(store, LEASE)
    assert (await look())[4]
    await store.free_leases()
    assert not (await look())[4]
    assert await Retention(store).expire_waiting(submitted_before=time.time() + 1) == 1
    assert (await look())[0] == "FAILED"
    assert await Retention(store).forget_ended(time.time() + 1) == 1
    assert await store.get(job.id) is None


async def test_a_job_that_was_seen_is_deleted_and_cancelled_for_all(store, key, other_key, submit):
    first, second = await submit(key), await submit(key)
    for job in (first, second):
        assert await store.get(job.id, key.account_id) is not None
        assert await store.get(job.id, other_key.account_id) is None
    await store.cancel(first.id, key.account_id)
    assert (await store.get(first.id)).error_code == "cancelled"
    assert await store.delete(first.id, key.account_id)
    assert await store.get(first.id) is None
    assert (await store.get(second.id)).status == "QUEUED"


async def test_a_job_is_read_once_until_it_changes(store, key, submit):
    job = await submit(key)
    reads: list[str] = []
    event.listen(
        store.database._engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *_: reads.append(statement),
    )
    for _ in range(5):
        await store.get(job.id)
    assert len([statement for statement in reads if statement.startswith("SELECT")]) == 1


async def test_remembered_jobs_are_bounded(store, key, submit, monkeypatch):
    monkeypatch.setattr(store_module, "SEEN_JOBS", 3)
    jobs = [await submit(key) for _ in range(7)]
    assert [(await store.get(job.id)).id for job in jobs] == [job.id for job in jobs]
    assert len(store._seen) <= 3


async def test_those_who_ask_for_their_places_at_once_share_one_look(store, key, submit):
    jobs = [await submit(key) for _ in range(20)]
    looks: list[str] = []
    event.listen(
        store.database._engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *_: looks.append(statement),
    )
    places = await asyncio.gather(*(store.count_ahead(job, 60.0) for job in jobs))
    assert places == list(range(20))
    assert len([statement for statement in looks if statement.startswith("SELECT")]) == 1
    late = await submit(key)
    assert await store.count_ahead(late, 60.0) == 20, "a look before the job was there tells nothing of it"
    await claim(store, LEASE)
    assert await store.count_ahead(late) == 19


async def test_no_question_of_the_hot_path_walks_over_the_table(store, key, submit):
    """The statements as they run, explained by SQLite: each finds its rows by an index."""
    plans: dict[str, list[str]] = {}

    def explain(connection, cursor, statement, parameters, *_) -> None:
        if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans[statement] = [row[3] for row in rows]

    event.listen(store.database._engine, "before_cursor_execute", explain)
    for _ in range(3):
        await submit(key, limits=Limits(submits_per_minute=9, concurrent_jobs=9, account_concurrent_jobs=9))
    held = await claim(store, LEASE)
    await store.begin(held)
    await store.record_step(held, 1)
    await complete(store, held)
    last = await submit(key)
    await store.count_ahead(last)
    await store.get(last.id)
    await store.count_by_status()
    await store.compute_time.read()
    await store.cancel(last.id, key.account_id)
    await store.extend_leases([held], LEASE)
    await store.free_leases(expired_before=time.time())
    await Retention(store).expire_waiting(submitted_before=0.0)
    await Retention(store).forget_ended(ended_before=0.0)
    for status in ("QUEUED", "PROCESSING", "FAILED", None):
        await store.list_history(key.account_id, limit=5, status=status)
    assert len(plans) > 15
    walks = [
        (plan, statement)
        for statement, steps in plans.items()
        for plan in steps
        if plan.startswith(("SCAN jobs", "SCAN files")) and "ix_jobs_waiting" not in plan
    ]
    assert walks == []
    (count,) = [steps for statement, steps in plans.items() if "FILTER" in statement]
    assert len(count) == 1
    assert "COVERING INDEX ix_jobs_account_turn" in count[0], "jobs at once are counted by an index alone"


async def test_a_clock_that_was_set_back_freezes_no_place(store, key, submit, monkeypatch):
    jobs = [await submit(key) for _ in range(4)]
    assert await store.count_ahead(jobs[-1], 0.25) == 3
    await store.claim(LEASE, 2)
    now = time.time() - 3600
    monkeypatch.setattr(store_module.time, "time", lambda: now)
    assert await store.count_ahead(jobs[-1], 0.25) == 1
