"""What has had its time goes, whatever stands in the way of something else."""

from __future__ import annotations

import asyncio
import time

from understudy.accounts.idempotency import IdempotencyKey, IdempotencyStore
from understudy.blobs import BlobStore
from understudy.jobs.files import StoredFile
from understudy.jobs.sweeper import Sweeper
from understudy.meters import Meters
from understudy.settings import Settings


def open_sweeper(store, files, folder, **settings) -> Sweeper:
    blobs = BlobStore(folder / "files")
    return Sweeper(Settings(**settings), store, files, blobs, IdempotencyStore(store.database), Meters())


async def count_kept(store) -> int:
    return await store.database.read(
        lambda connection: connection.exec_driver_sql("SELECT count(*) FROM idempotency_keys").scalar()
    )


async def test_what_cannot_be_deleted_holds_up_nothing_else(store, files, key, submit, tmp_path, monkeypatch):
    sweeper = open_sweeper(store, files, tmp_path, job_deadline_seconds=0.01)
    # Not a file: it cannot be deleted as one.
    (tmp_path / "files" / "a.png").mkdir(parents=True)
    row = StoredFile(
        name="a.png",
        account_id=key.account_id,
        kind="upload",
        content_type="image/png",
        size=1,
        created_at=0.0,
        expires_at=1.0,
    )
    once = IdempotencyKey(account_id=key.account_id, key="k", fingerprint="f")
    with monkeypatch.context() as long_ago:
        long_ago.setattr("understudy.accounts.idempotency.KEPT_SECONDS", -1.0)
        await files.add([row], once, {})
    job = await submit(key)
    await asyncio.sleep(0.02)
    await sweeper.sweep()
    assert (await store.get(job.id)).error_code == "expired"
    assert await count_kept(store) == 0
    assert await files.list_expired() == ["a.png"], "it is tried again"


async def test_a_long_queue_expires_in_short_transactions(store, files, key, submit, tmp_path):
    sweeper = open_sweeper(store, files, tmp_path, job_deadline_seconds=0.01)
    jobs = [await submit(key) for _ in range(7)]
    await asyncio.sleep(0.02)
    assert await store.expire_waiting(time.time(), limit=3) == 3
    await sweeper.sweep()
    assert {(await store.get(job.id)).error_code for job in jobs} == {"expired"}
    assert sweeper._meters.ended.labels("FAILED", "expired")._value.get() == 4
