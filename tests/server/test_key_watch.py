"""A stream of events that has nothing to tell ends with its key all the same."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from understudy.accounts.accounts import AccountStore
from understudy.accounts.keys import KeyStore
from understudy.database import Database, migrate_database
from understudy.jobs.events import ChangeFeed
from understudy.jobs.job import NewJob
from understudy.jobs.store import Store
from understudy.server import requests
from understudy.server.key_watch import KeyWatch


@pytest.fixture
async def service(tmp_path) -> AsyncIterator[SimpleNamespace]:
    """As much of a service as a stream needs."""
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    keys = KeyStore(database)
    yield SimpleNamespace(
        store=Store(database, ChangeFeed()),
        executor=SimpleNamespace(slots=1),
        keys=keys,
        key_watch=KeyWatch(keys),
        stopping=asyncio.Event(),
    )
    await database.close()


async def begin_job(store, key):
    """A job that is being drawn: nothing changes until its next step."""
    new = NewJob(
        id=str(uuid.uuid4()),
        account_id=key.account_id,
        key_id=key.id,
        model="m",
        parameters={"prompt": "a hero"},
        inputs={},
        seed=1,
        steps=4,
    )
    await store.submit(new, [], 10)
    (job,) = await store.claim(60)
    assert await store.begin(job)
    return await store.get(job.id)


@pytest.mark.parametrize("end", ["revoked here", "revoked elsewhere", "account disabled"])
async def test_a_stream_without_news_ends_with_its_key(service, tmp_path, monkeypatch, end):
    monkeypatch.setattr(requests, "HEARTBEAT_SECONDS", 3600.0)
    secret, key = await service.keys.create("first")
    other_secret, _ = await service.keys.create("second", key.account_name)
    job = await begin_job(service.store, key)
    streams = [requests._stream(job, 0, "http://us", service, one) for one in (secret, other_secret)]
    async with asyncio.timeout(60):
        for stream in streams:
            assert b'"status":"PROCESSING"' in await anext(stream)
        waits = [asyncio.ensure_future(anext(stream, None)) for stream in streams]
        if end == "revoked here":
            await service.keys.revoke_by_id(key.id)
        elif end == "revoked elsewhere":
            database = Database.open(tmp_path)
            await KeyStore(database).revoke_by_id(key.id)
            await database.close()
        else:
            await AccountStore(service.store.database).disable(key.account_id, True)
        assert await waits[0] is None
        if end == "account disabled":
            assert await waits[1] is None
        else:
            # The other key is good: its stream goes on, and tells what comes.
            assert not waits[1].done()
            await service.store.cancel(job.id, key.account_id)
            assert b'"code":"cancelled"' in await waits[1]
            assert await anext(streams[1], None) is None


async def test_who_waits_no_more_is_not_looked_after(service):
    secret, _ = await service.keys.create("first")
    event = asyncio.Event()
    with service.key_watch.wake(secret, event):
        looking = service.key_watch._looking
    async with asyncio.timeout(60):
        await looking
    assert not event.is_set()
