"""What has had its time goes, whatever stands in the way of something else."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import event

from understudy.accounts.idempotency import IdempotencyKey, IdempotencyStore
from understudy.accounts.keys import Key, KeyStore, NewKey
from understudy.blobs import BlobStore
from understudy.errors import NotFound
from understudy.jobs.files import StoredFile
from understudy.jobs.retention import Retention
from understudy.jobs.sweeper import Sweeper
from understudy.meters import Meters
from understudy.settings import Settings


def open_sweeper(store, files, folder, **settings) -> Sweeper:
    blobs = BlobStore(folder / "files")
    return Sweeper(
        Settings(**settings), Retention(store), files, blobs, IdempotencyStore(store.database), Meters()
    )


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
    assert await Retention(store).expire_waiting(time.time(), limit=3) == 3
    await sweeper.sweep()
    assert {(await store.get(job.id)).error_code for job in jobs} == {"expired"}
    assert sweeper._meters.ended.labels("FAILED", "expired")._value.get() == 4


async def test_keys_are_forgotten_when_nothing_needs_them(store, key, submit):
    keys, retention = KeyStore(store.database), Retention(store)

    async def make(name: str, **options) -> Key:
        return (await keys.create_for(key.account_id, NewKey(name=name, **options)))[1]

    used, lone, expired = await make("used"), await make("lone"), await make("expired", expires_at=1.0)
    shared = await make("shared")
    works = await make("works", counted_as=shared.id)
    job = await submit(used)
    for one in (used, lone, shared):
        await keys.revoke_by_id(one.id)
    assert await retention.forget_keys(time.time() - 60) == 1
    assert {one.name for one in await keys.list(key.account_id)} == {
        "first",
        "used",
        "lone",
        "shared",
        "works",
    }
    assert await retention.forget_keys(time.time() + 1) == 1
    assert {one.id for one in await keys.list(key.account_id)} == {key.id, used.id, shared.id, works.id}
    await store.cancel(job.id, key.account_id)
    await retention.forget_ended(time.time() + 1)
    await keys.revoke_by_id(works.id)
    assert await retention.forget_keys(time.time() + 1) == 2
    assert await retention.forget_keys(time.time() + 1) == 1
    assert [one.id for one in await keys.list(key.account_id)] == [key.id]
    with pytest.raises(NotFound):
        await keys.read(expired.id)


async def test_a_key_is_revoked_by_its_beginning_without_a_look_at_the_others(store, key):
    keys, plans = KeyStore(store.database), []

    def explain(connection, cursor, statement, parameters, *_) -> None:
        if "keys" in statement:
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

    event.listen(store.database._engine, "before_cursor_execute", explain)
    assert (await keys.revoke(key.prefix)).id == key.id
    assert any("ix_keys_prefix" in plan for plan in plans)
    assert not [plan for plan in plans if plan.startswith("SCAN keys")]
    with pytest.raises(NotFound):
        await keys.revoke(key.prefix)
