"""A job store on a database of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from dispatched import Bench, open_bench

from understudy.accounts.keys import Key, KeyStore
from understudy.accounts.limits import UNLIMITED, Limits
from understudy.accounts.webhooks import WebhookStore
from understudy.database import Database, migrate_database
from understudy.jobs.events import ChangeFeed
from understudy.jobs.files import FileStore
from understudy.jobs.job import Job, NewJob
from understudy.jobs.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    yield Store(database, ChangeFeed())
    await database.close()


@pytest.fixture
def files(store: Store) -> FileStore:
    """The files beside the store."""
    return FileStore(store.database)


@pytest.fixture
async def key(store: Store) -> Key:
    """A key of an account of its own."""
    return (await KeyStore(store.database).create("first"))[1]


@pytest.fixture
async def other_key(store: Store) -> Key:
    """A key of another account."""
    return (await KeyStore(store.database).create("second"))[1]


@pytest.fixture
def submit(store: Store) -> Callable[..., Awaitable[Job]]:
    """Submit a job for a key: `await submit(key)`."""

    async def submit_job(
        key: Key,
        *,
        queue_limit: int = 1000,
        steps: int = 10,
        model: str = "m",
        inputs: dict | None = None,
        limits: Limits = UNLIMITED,
        **parameters,
    ) -> Job:
        new = NewJob(
            id=str(uuid.uuid4()),
            account_id=key.account_id,
            key_id=key.id,
            model=model,
            parameters={"prompt": "a hero", **parameters},
            inputs=inputs or {},
            seed=2**53 - 1,
            steps=steps,
        )
        return (await store.submit(new, [], queue_limit, limits=limits)).job

    return submit_job


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A service without HTTP, with the null engine."""
    async with open_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
def webhooks(store: Store) -> WebhookStore:
    """The webhooks beside the store."""
    return WebhookStore(store.database)


@pytest.fixture
def end(store: Store) -> Callable[..., Awaitable[str]]:
    """End a job that is to be told of: `await end(key, url)`; return its id."""

    async def end_job(key: Key, url: str = "https://example.org/hook") -> str:
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
