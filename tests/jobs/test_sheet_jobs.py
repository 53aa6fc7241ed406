"""Jobs of several pictures: each is told as it comes, none is drawn twice, none outlives a failure."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import uuid
from collections import Counter
from typing import Any

import pytest
from dispatched import Bench, open_bench

from understudy.jobs.files import StoredFile
from understudy.jobs.job import Job
from understudy.jobs.retention import Retention
from understudy.jobs.store import Store
from understudy.server.bodies import event_body, history_entry, result_body, status_body
from understudy.server.service import open_service
from understudy.settings import Settings

BASE = "http://understudy.test"

SHEET: dict[str, Any] = {"poses": ["wave", "stand"], "num_images": 6, "width": 1024, "height": 1024}
"""Twelve pictures, large enough that a worker that is stopped after some has not drawn them all."""

PRICE = 12_000


async def draw_half(bench: Bench, **values: Any) -> Job:
    """A sheet of which the worker has drawn three pictures or a few more, and stands still."""
    bench.stop_after = 3
    return await wait_for_pictures(bench, await bench.submit(**SHEET, **values))


async def wait_for_pictures(bench: Bench, job: Job) -> Job:
    """The job when its row tells of every picture that was drawn until the worker stood still."""
    with bench.service.store.feed.listen(job.id) as changed:
        async with asyncio.timeout(60):
            while True:
                changed.clear()
                now = await bench.service.store.get(job.id)
                if len(bench.drawn) >= 3 and count_drawn(now) >= len(bench.drawn):
                    assert count_drawn(now) < 12, "the worker was too fast for this test"
                    return now
                await changed.wait()


def count_drawn(job: Job) -> int:
    return sum("file_name" in image for image in job.images or ())


async def tell(store: Store, job: Job) -> list[dict[str, Any]]:
    """What a client is told of each picture, before the end: the same by the status and the events."""
    images = (await status_body(job, BASE, store, 1))["images"]
    assert (await event_body(job, BASE, store, 1))["images"] == images
    return images


async def read_pictures(bench: Bench, job: Job) -> list[bytes]:
    return [await bench.service.blobs.get(image["file_name"]) for image in job.images]


async def check_files(bench: Bench) -> None:
    """What is on disk is what rows tell of, and nothing of it is past its time."""
    await bench.service.dispatcher.stop()
    assert await bench.service.files.list_expired() == []
    assert bench.bytes_on_disk() == await bench.service.files.list_names()


async def sweep(bench: Bench) -> None:
    for name in await bench.service.files.list_expired():
        await bench.service.blobs.delete(name)
        await bench.service.files.forget([name])


async def test_before_the_first_every_picture_waits(store, key, submit):
    images = await tell(store, await submit(key, poses=["Wave", "stand"], num_images=2, steps=40))
    assert [image["state"] for image in images] == ["waiting"] * 4
    assert [image["asked_pose"] for image in images] == ["wave"] * 2 + ["stand"] * 2
    assert [image["seed"] for image in images] == [2**53 - 1, 0] * 2
    assert [(image["index"], image["step"], image["steps"]) for image in images] == [
        (index, 0, 10) for index in range(4)
    ]


async def test_every_picture_is_told_as_it_comes(bench):
    job = await draw_half(bench)
    images = await tell(bench.service.store, job)
    done = [image for image in images if image["state"] == "done"]
    assert len(done) == count_drawn(job) >= 3
    for image in done:
        assert image["url"] == f"{BASE}/files/{image['file_name']}"
        assert len(await bench.service.blobs.get(image["file_name"])) == image["file_size"]
        assert (await bench.service.files.find(image["file_name"])).expires_at is None
        assert (image["step"], image["steps"]) == (10, 10)
    # The null engine has told the one step that each of the others takes.
    assert {(image["state"], image["step"]) for image in images if image not in done} == {("drawing", 1)}
    assert job.step == 10 * len(done) + 12 - len(done)
    assert history_entry(job, BASE)["images"] == []

    os.kill(bench.worker().pid, signal.SIGCONT)
    (ended,) = await bench.finish([job])
    result = result_body(ended, BASE)
    assert [image["url"] for image in result["images"] if image["url"] in str(done)] == [
        image["url"] for image in done
    ]
    for image in ended.images:
        assert (await bench.service.files.find(image["file_name"])).expires_at is not None
    assert "images" not in await status_body(ended, BASE, bench.service.store, 1)


async def test_what_costs_credits_is_shown_small_until_it_is_paid(bench):
    await bench.service.credits.grant(bench.key.account_id, PRICE)
    job = await draw_half(bench, price=PRICE)
    images = await tell(bench.service.store, job)
    done = [image for image in images if image["state"] == "done"]
    assert len(done) >= 3
    names = {image["file_name"] for image in job.images if "file_name" in image}
    assert not any(name in str(images) for name in names), "a full picture's address is its key"
    for image in done:
        assert {"url", "file_name"}.isdisjoint(image)
        small = await bench.service.blobs.get(image["preview"].rpartition("/")[2])
        assert small.startswith(b"\xff\xd8\xff")
    os.kill(bench.worker().pid, signal.SIGCONT)
    (ended,) = await bench.finish([job])
    assert names < {image["file_name"] for image in ended.images}
    assert "preview" not in str(result_body(ended, BASE))
    assert await bench.service.credits.read_balance(bench.key.account_id) == 0
    await sweep(bench)
    await check_files(bench)
    assert not any(name.endswith(".jpg") for name in bench.bytes_on_disk())


async def test_cancelled_half_way_it_costs_and_leaves_nothing(bench):
    await bench.service.credits.grant(bench.key.account_id, PRICE)
    job = await draw_half(bench, price=PRICE)
    names = [image["file_name"] for image in job.images if "file_name" in image]
    cancelled, _ = await bench.service.store.cancel(job.id, bench.key.account_id)
    assert (cancelled.status, cancelled.images) == ("FAILED", None)
    assert [await bench.service.files.find(name) for name in names] == [None] * len(names)
    os.kill(bench.worker().pid, signal.SIGCONT)
    (after,) = await bench.finish([await bench.submit()])
    assert after.status == "COMPLETED"
    assert await bench.service.credits.read_balance(bench.key.account_id) == PRICE
    (day,) = await bench.service.usage.list(bench.key.account_id, 1)
    assert (day.failed, day.pictures) == (1, 2), "only the pictures of what was completed count"
    await sweep(bench)
    await check_files(bench)


async def test_a_worker_that_dies_half_way_draws_only_the_rest(bench):
    (whole,) = await bench.finish([await bench.submit(**SHEET)])
    bench.drawn.clear()
    job = await draw_half(bench)
    drawn = {number for number, image in enumerate(job.images) if "file_name" in image}
    os.kill(bench.worker().pid, signal.SIGKILL)
    (ended,) = await bench.finish([job])
    assert (ended.status, ended.attempts) == ("COMPLETED", 1)
    assert bench.runs[-1] == 12 - len(drawn)
    assert Counter(bench.drawn) == Counter(range(12))
    assert [ended.images[number] for number in drawn] == [job.images[number] for number in drawn]
    # Each is the one that it is when nothing happens.
    assert await read_pictures(bench, ended) == await read_pictures(bench, whole)
    assert ended.inference_seconds > job.inference_seconds > 0
    await check_files(bench)


async def test_a_stop_half_way_keeps_what_is_drawn(tmp_path):
    async with open_bench(tmp_path, shutdown_grace_seconds=0.2) as bench:
        job = await draw_half(bench)
    async with open_service(Settings(data_dir=tmp_path, engine="null")) as service:
        ended = await service.store.wait_until_ended(job, 60)
        assert (ended.status, ended.attempts) == ("COMPLETED", 0)
        kept = [image for image in job.images if "file_name" in image]
        assert [image for image in ended.images if image in kept] == kept
        assert {path.name for path in service.blobs.folder.iterdir()} == await service.files.list_names()


async def test_in_the_queue_again_it_shows_what_is_drawn(store, key, submit):
    job = await submit(key, num_images=3, steps=30)
    (held,) = await store.claim(30)
    file = make_file(job)
    assert await record(store, held, [{}, describe(file), {"step": 4}], [file])
    await store.begin(held)
    images = await tell(store, await store.get(job.id))
    assert [image["state"] for image in images] == ["waiting", "done", "drawing"]
    await store.release(held, count_attempt=False)
    images = await tell(store, await store.get(job.id))
    assert [image["state"] for image in images] == ["waiting", "done", "waiting"]
    again = await status_body(await store.get(job.id), BASE, store, 1)
    assert (again["status"], again["step"], again["progress"]) == ("QUEUED", 10, 0.3333)


async def test_who_lost_the_lease_adds_no_picture(store, files, key, submit):
    job = await submit(key, num_images=2)
    (stale,) = await store.claim(30)
    await store.free_leases()
    (held,) = await store.claim(30)
    mine, theirs = make_file(job), make_file(job)
    assert not await record(store, stale, [describe(theirs), {}], [theirs])
    assert await record(store, held, [{}, describe(mine)], [mine])
    assert await files.find(theirs.name) is None
    assert (await store.get(job.id)).images == [{}, describe(mine)]
    await store.cancel(job.id, key.account_id)
    assert not await record(store, held, [describe(theirs), {}], [theirs])
    assert await files.list_names() == {mine.name}


@pytest.mark.parametrize("what", ["cancelled", "expired", "failed", "deleted"])
async def test_half_a_sheet_goes_with_its_job(store, files, key, submit, what):
    job = await submit(key, num_images=2)
    (held,) = await store.claim(30)
    file = make_file(job)
    await record(store, held, [describe(file), {}], [file])
    if what == "expired":
        await store.release(held, count_attempt=False)
        assert await Retention(store).expire_waiting(job.created_at + 1) == 1
    elif what == "failed":
        assert await store.fail(held, code="worker_died", error="The worker died.")
    else:
        await store.cancel(job.id, key.account_id)
    if what == "deleted":
        assert await store.delete(job.id, key.account_id)
    else:
        assert (await store.get(job.id)).images is None
    assert await files.list_expired() == [file.name]


async def test_a_holder_that_died_after_the_last_picture_leaves_nothing_to_draw(tmp_path):
    async with open_bench(tmp_path) as bench:
        bench.service.dispatcher.stop_claiming()
        job = await bench.submit(num_images=2)
        (held,) = await bench.service.store.claim(30)
        names = [await bench.service.blobs.put("image/png", b"picture") for _ in range(2)]
        files = [make_file(job, name) for name in names]
        assert await record(bench.service.store, held, [describe(file) for file in files], files)
    async with open_service(Settings(data_dir=tmp_path, engine="null")) as service:
        ended = await service.store.wait_until_ended(job, 60)
        assert [image["file_name"] for image in ended.images] == names
        assert (ended.inference_seconds, ended.warnings) == (1.5, ["one"])
        assert {path.name for path in service.blobs.folder.iterdir()} == await service.files.list_names()


async def test_a_disk_that_is_full_half_way_costs_no_picture_that_is_drawn(bench, monkeypatch):
    put, calls = bench.service.blobs.put, Counter()

    async def put_on_a_full_disk(content_type, data):
        calls["put"] += 1
        if calls["put"] == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return await put(content_type, data)

    monkeypatch.setattr(bench.service.blobs, "put", put_on_a_full_disk)
    (ended,) = await bench.finish([await bench.submit(**SHEET)])
    assert (ended.status, ended.attempts) == ("COMPLETED", 0)
    assert Counter(bench.drawn).total() == 13, "one picture was drawn twice: the one that had no room"
    await check_files(bench)


async def test_a_single_picture_is_written_once(bench, monkeypatch):
    async def refuse(*arguments, **values):
        raise AssertionError("a single picture is told by its job's end")

    monkeypatch.setattr(bench.service.store, "record_images", refuse)
    (ended,) = await bench.finish([await bench.submit()])
    assert ended.status == "COMPLETED"


def make_file(job: Job, name: str | None = None) -> StoredFile:
    """A picture of a job, of which no row tells yet."""
    return StoredFile(
        name=name or f"{uuid.uuid4().hex}.png",
        account_id=job.account_id,
        kind="output",
        content_type="image/png",
        size=7,
        created_at=0.0,
        job_id=job.id,
    )


def describe(file: StoredFile) -> dict[str, Any]:
    """A drawn picture as the job's row tells it."""
    known = {"file_name": file.name, "content_type": file.content_type, "file_size": file.size}
    return {**known, "seed": 1, "likeness": None, "pose": None}


async def record(store: Store, held: Job, images: list[dict[str, Any]], files: list[StoredFile]) -> bool:
    return await store.record_images(
        held, images, step=1, inference_seconds=1.5, warnings=["one"], files=files
    )
