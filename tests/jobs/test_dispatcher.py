"""The dispatcher between a real store and real workers: batches, their deaths, cancels, full disks."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import threading
from contextlib import aclosing

from dispatched import open_bench, submit_to_a_stopped_worker, until
from sqlalchemy.exc import OperationalError

from picture_host import serve_picture
from understudy.fetch import FETCHES, FETCHES_PER_ACCOUNT, FetchPlaces
from understudy.jobs.held import HeldJob
from understudy.server.service import open_service
from understudy.settings import Settings


async def test_a_job_is_drawn_while_the_one_before_is_encoded(bench):
    carry_out, under_way, most = bench.service.executor.run, [], 0

    async def count(run):
        nonlocal most
        under_way.append(run)
        most = max(most, len(under_way))
        async with aclosing(carry_out(run)) as messages:
            async for message in messages:
                yield message
        under_way.remove(run)

    bench.service.executor.run = count
    # Of other sizes, so that each is a run of its own; they take long to encode, and no time to draw.
    jobs = [await bench.submit(num_images=2, width=2048, height=2048 - 64 * number) for number in range(4)]
    jobs = await bench.finish(jobs)
    assert [job.status for job in jobs] == ["COMPLETED"] * 4
    assert (most, under_way) == (2, [])


async def test_jobs_that_wait_together_go_as_one_run(bench):
    jobs = await submit_to_a_stopped_worker(bench, 12)
    os.kill(bench.worker().pid, signal.SIGCONT)
    ended = await bench.finish(jobs)
    assert [job.status for job in ended] == ["COMPLETED"] * 13
    assert bench.runs == [1, 12]
    assert len({job.images[0]["file_name"] for job in ended}) == 13


async def test_jobs_that_differ_go_apart(bench):
    jobs = await submit_to_a_stopped_worker(bench, 3)
    jobs += [await bench.submit(width=512) for _ in range(3)]
    await asyncio.sleep(0.1)
    os.kill(bench.worker().pid, signal.SIGCONT)
    assert [job.status for job in await bench.finish(jobs)] == ["COMPLETED"] * 7
    assert bench.runs == [1, 3, 3]


async def test_cancelling_one_of_a_batch_leaves_the_others(bench):
    jobs = await submit_to_a_stopped_worker(bench, 5)
    worker = bench.worker().pid
    os.kill(worker, signal.SIGCONT)
    await bench.finish(jobs[:1])
    os.kill(worker, signal.SIGSTOP)
    jobs = await submit_to_a_stopped_worker(bench, 5)
    await bench.service.store.cancel(jobs[3].id, bench.key.account_id)
    os.kill(worker, signal.SIGCONT)
    ended = await bench.finish(jobs)
    assert [job.status for job in ended] == ["COMPLETED"] * 3 + ["FAILED"] + ["COMPLETED"] * 2
    assert ended[3].error_code == "cancelled"
    assert bench.worker().pid == worker


async def test_a_batch_that_dies_is_tried_again_one_by_one(bench):
    jobs = await submit_to_a_stopped_worker(bench, 4)
    os.kill(bench.worker().pid, signal.SIGCONT)
    await bench.finish(jobs[:1])
    await bench.finish(jobs)
    bench.runs.clear()
    first = await submit_to_a_stopped_worker(bench, 4)
    # The first run is let go, the second, which has four jobs, dies.
    worker = bench.worker().pid
    os.kill(worker, signal.SIGCONT)
    await until(lambda: len(bench.runs) >= 2)
    os.kill(worker, signal.SIGKILL)
    ended = await bench.finish(first)
    assert [job.status for job in ended] == ["COMPLETED"] * 5
    assert bench.runs[:2] == [1, 4]
    assert all(job.attempts == 0 for job in ended), "nobody knows who of them was to blame"


async def test_a_job_that_lost_its_lease_leaves_no_file(bench):
    jobs = await submit_to_a_stopped_worker(bench, 2)
    await bench.service.store.free_leases()
    os.kill(bench.worker().pid, signal.SIGCONT)
    ended = await bench.finish(jobs)
    assert [job.status for job in ended] == ["COMPLETED"] * 3
    await asyncio.sleep(0.2)
    assert bench.bytes_on_disk() == await bench.service.files.list_names()


async def test_a_full_disk_costs_no_attempt(bench, monkeypatch):
    put = bench.service.blobs.put
    failures = []

    async def put_on_a_full_disk(content_type, data):
        if len(failures) < 2:
            failures.append(1)
            raise OSError(errno.ENOSPC, "No space left on device")
        return await put(content_type, data)

    monkeypatch.setattr(bench.service.blobs, "put", put_on_a_full_disk)
    (ended,) = await bench.finish([await bench.submit()])
    assert (ended.status, ended.attempts, len(failures)) == ("COMPLETED", 0, 2)


async def test_what_was_held_is_free_after_a_stop(tmp_path):
    async with open_bench(tmp_path, shutdown_grace_seconds=0.2) as bench:
        jobs = await submit_to_a_stopped_worker(bench, 3)
    async with open_service(Settings(data_dir=tmp_path, engine="null")) as service:
        ended = await asyncio.gather(*(service.store.wait_until_ended(job, 30) for job in jobs))
        assert [(job.status, job.attempts) for job in ended] == [("COMPLETED", 0)] * 4
        assert {path.name for path in service.blobs.folder.iterdir()} == await service.files.list_names()


async def test_cancels_at_any_moment_leave_room_for_the_next(bench):
    async def submit_and_cancel(number: int) -> None:
        job = await bench.submit()
        await asyncio.sleep(0.001 * (number % 7))
        await bench.service.store.cancel(job.id, bench.key.account_id)

    for _ in range(6):
        await asyncio.gather(*(submit_and_cancel(number) for number in range(40)))
    (ended,) = await bench.finish([await bench.submit()])
    assert ended.status == "COMPLETED"
    assert not bench.service.dispatcher._preparing


async def test_slow_hosts_of_one_key_hold_up_no_other(bench):
    _, slow_key = await bench.service.keys.create("slow")
    forever = asyncio.Event()

    async def hang(url, field):
        await forever.wait()

    bench.service.fetcher.fetch = hang
    other = bench.key
    bench.key = slow_key
    stuck = [await bench.submit_url("http://slow.example/a.png") for _ in range(20)]
    bench.key = other
    ended = await bench.finish([await bench.submit() for _ in range(5)])
    assert [job.status for job in ended] == ["COMPLETED"] * 5
    for job in stuck:
        await bench.service.store.cancel(job.id, slow_key.account_id)


async def test_names_whose_servers_stall_hold_up_no_other_account(tmp_path, picture_path, monkeypatch):
    released = threading.Event()
    look_up = socket.getaddrinfo

    def stall(host, *arguments, **options):
        if str(host).endswith(".stalls.example"):
            released.wait()
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    async with open_bench(tmp_path, fetch_allowed_hosts="localhost", fetch_timeout_seconds=3) as bench:
        fine, stuck = bench.key, []
        try:
            for number in range(2):
                _, bench.key = await bench.service.keys.create(f"stalls {number}")
                stuck += [await bench.submit_url("http://x.stalls.example/a.png") for _ in range(6)]
            # What is given up stalls on: a dozen names of two accounts.
            assert {job.error_code for job in await bench.finish(stuck)} == {"picture_unreachable"}
            bench.key = fine
            with serve_picture(picture_path) as host:
                url = host.url.replace("127.0.0.1", "localhost")
                (ended,) = await bench.finish([await bench.submit_url(f"{url}/a.png")])
            assert ended.status == "COMPLETED", ended.error
        finally:
            released.set()


async def test_whatever_fetches_for_an_account_shares_its_places():
    freed = []
    places = FetchPlaces(lambda: freed.append(1))
    for _ in range(FETCHES_PER_ACCOUNT - 1):
        places.take("a")
    running = asyncio.Event()
    ends = asyncio.Event()

    async def fetch():
        async with places.wait_for_one("a"):
            running.set()
            await ends.wait()

    first = asyncio.create_task(fetch())
    await running.wait()
    assert places.list_full() == ["a"]
    running.clear()
    second = asyncio.create_task(fetch())
    async with places.wait_for_one("b"):
        assert not running.is_set()
    places.free("a")
    await running.wait()
    ends.set()
    await asyncio.gather(first, second)
    assert places.list_full() == []
    assert len(freed) == 4
    for number in range(FETCHES - 2):
        places.take(str(number))
    assert places.are_taken
    places.free("0")
    assert not places.are_taken


def fail_first(monkeypatch, store, name: str, times: int) -> list[int]:
    """Let a change of the store fail as on a full disk, so often."""
    change = getattr(store, name)
    failures: list[int] = []

    async def change_on_a_full_disk(*arguments, **values):
        if len(failures) < times:
            failures.append(1)
            raise OperationalError("UPDATE", {}, RuntimeError("database or disk is full"))
        return await change(*arguments, **values)

    monkeypatch.setattr(store, name, change_on_a_full_disk)
    return failures


async def test_a_job_that_cannot_even_be_failed_is_failed_later(bench, monkeypatch):
    failures = fail_first(monkeypatch, bench.service.store, "fail", 1)
    (ended,) = await bench.finish([await bench.submit_url("http://127.0.0.1:9/a.png")])
    assert (ended.status, ended.error_code, len(failures)) == ("FAILED", "picture_refused", 1)


async def test_a_lost_worker_on_a_full_disk_does_not_end_the_runs(tmp_path, monkeypatch):
    async with open_bench(tmp_path, max_attempts=1) as bench:
        failures = fail_first(monkeypatch, bench.service.store, "fail", 1)
        worker = bench.worker().pid
        os.kill(worker, signal.SIGSTOP)
        job = await bench.submit()
        await until(lambda: bench.runs)
        os.kill(worker, signal.SIGKILL)
        (ended,) = await bench.finish([job])
        assert (ended.status, ended.attempts, len(failures)) == ("COMPLETED", 0, 1)
        (after,) = await bench.finish([await bench.submit()])
        assert after.status == "COMPLETED"


async def test_a_late_begin_does_not_take_the_job_from_its_next_holder(bench):
    dispatcher, store = bench.service.dispatcher, bench.service.store
    dispatcher.stop_claiming()
    await bench.submit()
    (first,) = await store.claim(30)
    await store.release(first, count_attempt=True)
    (second,) = await store.claim(30)
    now = dispatcher._held[second.id] = HeldJob(second)
    await dispatcher._recorder._begin(HeldJob(first))
    assert not now.lost
    assert await store.begin(second)
    del dispatcher._held[second.id]


async def test_a_stage_that_cannot_be_written_fails_no_job(bench, monkeypatch):
    failures = fail_first(monkeypatch, bench.service.store, "record_stage", 1)
    (ended,) = await bench.finish([await bench.submit_url("http://127.0.0.1:9/a.png")])
    assert (ended.error_code, ended.attempts, len(failures)) == ("picture_refused", 0, 1)
