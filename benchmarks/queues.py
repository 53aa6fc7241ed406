"""Three durable queues that do the same work, each with its own means.

A job is a small JSON payload, on disk when its submit returns. The work is to write a small result
file, flushed to disk with its name, and to mark the job as done. Our store has no HTTP, no checks
and no worker process here: it stands for itself, like the other two.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from understudy.accounts.keys import KeyStore
from understudy.blobs import BlobStore
from understudy.database import Database, migrate_database
from understudy.jobs.events import ChangeFeed
from understudy.jobs.files import StoredFile
from understudy.jobs.job import Job, NewJob
from understudy.jobs.store import Store

RESULT = bytes(1000)
"""What is written for each job: about what a small flat picture has."""

AT_ONCE = 16
"""Jobs that are worked on at the same time; DBOS without a limit, which is faster."""

WORKERS = 2
"""Processes that work for Procrastinate: on two cores two are faster than one."""


class DurableQueue(Protocol):
    """A queue and its worker."""

    async def open(self) -> None:
        """Get ready to take jobs; the worker runs."""

    async def submit(self, payload: dict[str, Any]) -> str:
        """Take a job: it is on disk when its id is returned."""

    async def count_done(self) -> int:
        """How many jobs have been worked on and are marked as done."""

    async def close(self) -> None:
        """Stop."""


class StoreQueue:
    """Our store on SQLite; worker and submitters share a process."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._folder = folder

    async def open(self) -> None:
        await asyncio.to_thread(migrate_database, self._folder)
        self._database = Database.open(self._folder)
        self._store = Store(self._database, ChangeFeed())
        self._blobs = BlobStore(self._folder / "files")
        _, self._key = await KeyStore(self._database).create("bench")
        self._done = 0
        self._working: set[asyncio.Task[None]] = set()
        self._worker = asyncio.create_task(self._work())

    async def submit(self, payload: dict[str, Any]) -> str:
        new = NewJob(
            id=str(uuid.uuid4()),
            account_id=self._key.account_id,
            key_id=self._key.id,
            model="bench",
            parameters=payload,
            inputs={},
            seed=0,
            steps=1,
        )
        return (await self._store.submit(new, [], queue_limit=10**9)).job.id

    async def count_done(self) -> int:
        return self._done

    async def close(self) -> None:
        self._worker.cancel()
        await asyncio.gather(self._worker, *self._working, return_exceptions=True)
        await self._database.close()

    async def _work(self) -> None:
        while True:
            while room := AT_ONCE - len(self._working):
                jobs = await self._store.claim(30, room)
                for job in jobs:
                    task = asyncio.create_task(self._finish(job))
                    self._working.add(task)
                    task.add_done_callback(self._let_go)
                if len(jobs) < room:
                    break
            await self._store.feed.wait_for_work(1)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._store.feed.wake()

    async def _finish(self, job: Job) -> None:
        name = await self._blobs.put("image/png", RESULT)
        output = StoredFile(
            name=name,
            account_id=job.account_id,
            kind="output",
            content_type="image/png",
            size=len(RESULT),
            created_at=time.time(),
            job_id=job.id,
        )
        image = {"file_name": name, "content_type": "image/png", "seed": 0}
        ended = await self._store.complete(
            job, images=[image], inference_seconds=0.0, warnings=[], outputs=[output]
        )
        self._done += ended


class ProcrastinateQueue:
    """Procrastinate on PostgreSQL; its workers are processes of their own, as they are meant to be."""

    def __init__(self, folder: Path, database_url: str) -> None:
        import procrastinate

        self._folder = folder
        self._database_url = database_url
        connector = procrastinate.PsycopgConnector(conninfo=database_url, min_size=4, max_size=AT_ONCE)
        self.app = procrastinate.App(connector=connector)
        self._work = self.app.task(name="work", pass_context=False)(_write_result_into(folder))

    async def open(self) -> None:
        await self.app.open_async()
        await self.app.schema_manager.apply_schema_async()
        program = Path(__file__).with_name("procrastinate_worker.py")
        command = [sys.executable, program, self._folder, self._database_url]
        self._workers = [await asyncio.create_subprocess_exec(*command) for _ in range(WORKERS)]

    async def submit(self, payload: dict[str, Any]) -> str:
        return str(await self._work.defer_async(payload=payload))

    async def count_done(self) -> int:
        row = await self.app.connector.execute_query_one_async(
            "SELECT count(*) AS done FROM procrastinate_jobs WHERE status = 'succeeded'"
        )
        return row["done"]

    async def close(self) -> None:
        for worker in self._workers:
            worker.terminate()
            await worker.wait()
        await self.app.close_async()


class DbosQueue:
    """DBOS on SQLite; its worker is a thread of the process, as it comes.

    Generous to it: the database in WAL mode, and a queue that is looked at every 20 milliseconds.
    """

    def __init__(self, folder: Path, database_url: str) -> None:
        from dbos import DBOS

        self._file = folder / "dbos.sqlite3"
        with closing(sqlite3.connect(self._file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        self._dbos = DBOS
        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{self._file}",
                "log_level": "ERROR",
                "enable_otlp": False,
            }
        )
        self._work = DBOS.workflow(name="work")(_write_result_into(folder))

    async def open(self) -> None:
        await asyncio.to_thread(self._dbos.launch)
        await self._dbos.register_queue_async("bench", polling_interval_sec=0.02)

    async def submit(self, payload: dict[str, Any]) -> str:
        handle = await self._dbos.enqueue_workflow_async("bench", self._work, payload)
        return handle.workflow_id

    async def count_done(self) -> int:
        return await asyncio.to_thread(self._count)

    async def close(self) -> None:
        await asyncio.to_thread(self._dbos.destroy)

    def _count(self) -> int:
        query = "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchone()[0]


QUEUES: dict[str, Callable[[Path, str], DurableQueue]] = {
    "store": StoreQueue,
    "procrastinate": ProcrastinateQueue,
    "dbos": DbosQueue,
}


def _write_result_into(folder: Path) -> Callable[[dict[str, Any]], Any]:
    """The work of a job, with our own way of putting a file on disk for good."""
    blobs = BlobStore(folder / "files")

    async def work(payload: dict[str, Any]) -> None:
        await blobs.put("image/png", RESULT)

    return work
