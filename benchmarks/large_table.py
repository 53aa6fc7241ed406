"""What the store's questions and changes cost when the tables are large.

A table with a million jobs that have ended and a hundred thousand that wait, beside one that holds
nothing but the round's own jobs; the real store on a real file. Told are the time as the caller
sees it, a commit's flush to disk included, and the time of the statements alone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from service import MODEL, judge, make_folder
from sqlalchemy import Connection, event

from understudy.database import Database, migrate_database
from understudy.jobs.events import ChangeFeed
from understudy.jobs.files import StoredFile
from understudy.jobs.job import Job, NewJob
from understudy.jobs.retention import Retention
from understudy.jobs.store import Store
from understudy.parameters import Parameters

ENDED_JOBS = 1_000_000
WAITING_JOBS = 100_000
CLAIMS = 40
"""Claims of one job, and claims of sixteen, in a round."""

JOB_CHANGES = {"submit": CLAIMS * 17, "claim 1": CLAIMS, "claim 16": CLAIMS, "complete": CLAIMS * 16}
"""How often in a round each change of a job is made: what is submitted is claimed."""

ASKS = 200
"""The most times that anything else is done in a round, within a second."""

LIMIT = 1.5

ASKED = Parameters(prompt="young man", ip_image="http://127.0.0.1:8000/files/x.png").model_dump(mode="json")

# A busy service of some teams: a few keys have most of the jobs.
KEYS = [(f"account-{number // 2}", f"key-{number}") for number in range(40)]
SHARES = [1 / (number + 1) for number in range(len(KEYS))]


class TimedDatabase(Database):
    """A database that notes how long statements took, without waiting for their turn and their commit."""

    seconds = 0.0
    statements: list[tuple[str, Any]] | None = None
    """What was executed, while somebody asks for it."""

    async def read(self, ask: Callable[[Connection], Any]) -> Any:
        return await super().read(lambda connection: self._time(ask, connection))

    async def look(self, ask: Callable[[Connection], Any]) -> Any:
        return await super().look(lambda connection: self._time(ask, connection))

    async def write(self, change: Callable[[Connection], Any], *told: Any) -> Any:
        return await super().write(lambda connection: self._time(change, connection), *told)

    def _time(self, act: Callable[[Connection], Any], connection: Connection) -> Any:
        def note(connection, cursor, statement, parameters, context, executemany) -> None:
            self.statements.append((statement, parameters))

        if self.statements is not None:
            event.listen(connection, "before_cursor_execute", note)
        started = time.perf_counter()
        try:
            return act(connection)
        finally:
            self.seconds = time.perf_counter() - started
            if self.statements is not None:
                event.remove(connection, "before_cursor_execute", note)


class Times:
    """Seconds of each thing that was done: as called, and of its statements."""

    def __init__(self) -> None:
        self.called: dict[str, list[float]] = defaultdict(list)
        self.statements: dict[str, list[float]] = defaultdict(list)
        self.plans: dict[str, list[str]] = {}


def measure(rounds: int) -> list[str]:
    """The section's lines: a row for each thing that the store does; plans of those that grow."""
    large, small = Times(), Times()
    with make_folder() as folder:
        started = time.perf_counter()
        fill(folder / "large", ENDED_JOBS, WAITING_JOBS)
        size = (folder / "large" / "understudy.sqlite3").stat().st_size
        filled = time.perf_counter() - started
        for number in range(rounds):
            fill(folder / f"small-{number}", 0, 0)
            asyncio.run(measure_store(folder / f"small-{number}", small))
            asyncio.run(measure_store(folder / "large", large))
    return [
        f"{ENDED_JOBS:,} jobs that have ended and {WAITING_JOBS:,} that wait, of {len(KEYS)} keys in "
        f"{len(KEYS) // 2} accounts, with their files' rows ({size / 2**30:.1f} GiB, filled in "
        f"{filled:.0f} s), beside an empty table that gets only the round's own jobs. Medians of {rounds} "
        "rounds in turn, milliseconds. *As called* is with the wait for the disk at a commit, "
        "*statements* without.",
        "",
        "| | empty, as called | large, as called | ratio | empty, statements | large, statements | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(describe_row(name, small, large) for name in large.called),
        "",
        "| limit | measured | |",
        "| --- | ---: | --- |",
        *(describe_limit(name, small, large) for name in ("claim 1", "claim 16")),
        *describe_plans(small, large),
    ]


async def measure_store(data_dir: Path, times: Times) -> None:
    """One round on one table."""
    database = TimedDatabase.open(data_dir)
    store = Store(database, ChangeFeed())
    numbers = itertools.count()

    async def do(name: str, act: Callable[[], Awaitable[Any]]) -> None:
        give_up_at = time.perf_counter() + 1
        for count in range(JOB_CHANGES.get(name, ASKS)):
            if count and name not in JOB_CHANGES and time.perf_counter() > give_up_at:
                break
            started = time.perf_counter()
            await act()
            times.called[name].append(time.perf_counter() - started)
            times.statements[name].append(database.seconds)

    def submit() -> Awaitable[Job]:
        return store.submit(*make_job(next(numbers)), queue_limit=10**9)

    held: list[Job] = []

    async def claim(limit: int) -> None:
        held.extend(await store.claim(30, limit))

    async def complete() -> None:
        job = held.pop()
        output = make_output(job.id, job.account_id)
        done = await store.complete(
            job, images=[make_image(output)], inference_seconds=1.0, warnings=[], outputs=[output]
        )
        assert done

    def look_anew() -> Store:
        """A store that remembers nothing."""
        return Store(database, ChangeFeed())

    await submit()  # The first counts the queue, once in a service's life.
    last = await submit()
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "submit": submit,
        "claim 1": lambda: claim(1),
        "claim 16": lambda: claim(16),
        "complete": complete,
        "extend_leases of 16": lambda: store.extend_leases(held[:16], 30),
        "get": lambda: look_anew().get(last.id),
        "count_ahead of the last job": lambda: look_anew().count_ahead(last),
        "count_ahead, a look at the queue that many share": lambda: look_anew().count_ahead(last, 1.0),
        "count_by_status": store.count_by_status,
        "mean_seconds": lambda: look_anew().mean_seconds(),
        "expire_waiting, none is due": lambda: Retention(store).expire_waiting(0),
        "forget_ended, none is due": lambda: Retention(store).forget_ended(0),
    }
    for status in (None, "QUEUED", "COMPLETED", "FAILED"):
        words = f"list_history, a page{f' of {status}' if status else ''}"
        acts[words] = lambda s=status: store.list_history(last.account_id, limit=51, status=s)
    try:
        for name, act in acts.items():
            await do(name, act)
            await note_plan(database, data_dir, times, name, act)
    finally:
        while held:
            await complete()
        await database.close()


async def note_plan(
    database: TimedDatabase, data_dir: Path, times: Times, name: str, act: Callable[[], Awaitable[Any]]
) -> None:
    """Do something once more and note how the database goes about its statements."""
    database.statements = []
    await act()
    statements, database.statements = database.statements, None
    with closing(sqlite3.connect(data_dir / "understudy.sqlite3")) as connection:
        times.plans[name] = [
            step[3]
            for statement, parameters in statements
            if not isinstance(parameters, list)
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


def fill(data_dir: Path, ended: int, waiting: int) -> None:
    """Make a data folder with so many jobs, in the order in which they would have been submitted.

    Each key's jobs have their turns in a row, as fair queueing gives them; those that wait come last.
    """
    migrate_database(data_dir)
    with closing(sqlite3.connect(data_dir / "understudy.sqlite3")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        now = time.time()
        accounts = {account for account, _ in KEYS}
        connection.executemany(
            "INSERT INTO accounts (id, name, created_at) VALUES (?1, ?1, ?2)",
            [(one, now) for one in accounts],
        )
        connection.executemany(
            "INSERT INTO keys (id, account_id, name, prefix, digest, created_at) "
            "VALUES (?1, ?2, ?1, ?1, ?1, ?3)",
            [(key, account, now) for account, key in KEYS],
        )
        jobs, files = [], []
        for job, some_files in make_rows(ended, waiting):
            jobs.append(job)
            files.extend(some_files)
            if len(jobs) == 50_000:
                insert(connection, jobs, files)
                jobs, files = [], []
        insert(connection, jobs, files)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def make_rows(ended: int, waiting: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Rows of jobs and of their files; 95 of 100 ended jobs are COMPLETED, each with a picture."""
    chance = random.Random(0)  # noqa: S311
    now = time.time()
    turns: dict[str, int] = defaultdict(int)
    served = 0
    for number in range(ended + waiting):
        account, key = chance.choices(KEYS, SHARES)[0]
        new, inputs = make_job(number, account, key)
        created_at = now - 30 * 86400 * (1 - number / (ended + waiting))
        # The service keeps up with what has ended: turns go on together, and part where jobs wait.
        served = max(served, number // len(KEYS) if number < ended else served)
        turns[key] = max(turns[key] + 1, served)
        job = vars(new) | {
            "parameters": json.dumps(new.parameters),
            "inputs": json.dumps(new.inputs),
            "warnings": "[]",
            "status": "QUEUED",
            "version": 1,
            "stage": "waiting",
            "step": 0,
            "turn": turns[key],
            "token": 0,
            "attempts": 0,
            "created_at": created_at,
            "started_at": None,
            "ended_at": None,
            "images": None,
            "inference_seconds": None,
            "error_code": None,
            "error": None,
        }
        files = list(inputs)
        if number < ended:
            end = {"version": 5, "token": 1, "started_at": created_at + 1, "ended_at": created_at + 3}
            job |= end
            job["turn"] = served
            if number % 20:
                output = make_output(new.id, account)
                files.append(output)
                job |= {"status": "COMPLETED", "stage": "done", "step": new.steps, "inference_seconds": 2.0}
                job["images"] = json.dumps([make_image(output)])
            else:
                job |= {"status": "FAILED", "error_code": "cancelled", "error": "The request was cancelled."}
        yield job, [vars(file) for file in files]


def insert(connection: sqlite3.Connection, jobs: list[dict[str, Any]], files: list[dict[str, Any]]) -> None:
    """Insert rows of jobs, then those of their files."""
    for table, rows in (("jobs", jobs), ("files", files)):
        if rows:
            names = ", ".join(rows[0])
            places = ", ".join(f":{name}" for name in rows[0])
            connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", rows)  # noqa: S608


def make_job(
    number: int, account: str = KEYS[0][0], key: str = KEYS[0][1]
) -> tuple[NewJob, list[StoredFile]]:
    """A job as a submit makes it; each fifth has kept its own reference picture."""
    job_id = str(uuid.uuid4())
    inputs: dict[str, Any] = {"ip_image": {"url": f"https://pictures.example/{uuid.uuid4().hex}.png"}}
    files = []
    if number % 5 == 0:
        files = [make_file(job_id, account, "input")]
        inputs = {"ip_image": {"file": files[0].name, "decoded": True, "sha256": uuid.uuid4().hex * 2}}
    new = NewJob(
        id=job_id,
        account_id=account,
        key_id=key,
        model=MODEL,
        parameters={**ASKED, "prompt": f"young man, red plaid shirt, page {number}"},
        inputs=inputs,
        seed=ASKED["seed"],
        steps=ASKED["steps"],
    )
    return new, files


def make_file(job_id: str, account: str, kind: str) -> StoredFile:
    """A file's row as a job makes it."""
    now = time.time()
    return StoredFile(
        name=f"{uuid.uuid4().hex}.png",
        account_id=account,
        kind=kind,
        content_type="image/png",
        size=123_456,
        created_at=now,
        job_id=job_id,
        expires_at=now + 7 * 86400,
    )


def make_output(job_id: str, account: str) -> StoredFile:
    """The row of a job's picture."""
    return make_file(job_id, account, "output")


def make_image(output: StoredFile) -> dict[str, Any]:
    """A picture as a job's row tells it."""
    return {
        "file_name": output.name,
        "content_type": output.content_type,
        "seed": 4898558797,
        "likeness": 0.93,
        "pose": 0.97,
        "file_size": output.size,
    }


def describe_row(name: str, small: Times, large: Times) -> str:
    """A row: medians as called and of the statements, each with its ratio."""
    cells = []
    for some in ("called", "statements"):
        empty, full = (statistics.median(getattr(times, some)[name]) for times in (small, large))
        cells += [f"{empty * 1000:.2f}", f"{full * 1000:.2f}", f"{full / empty:.2f}"]
    return f"| {name} | {' | '.join(cells)} |"


def describe_limit(name: str, small: Times, large: Times) -> str:
    """The claim's limit: the worse of its two ratios counts."""
    ratio = max(find_ratio(some, name, small, large) for some in ("called", "statements"))
    words = f"{name}: at most {LIMIT} times the empty table's, by the worse of both ratios"
    return f"| {words} | {ratio:.2f} | {judge(ratio <= LIMIT)} |"


def describe_plans(small: Times, large: Times) -> list[str]:
    """How the database goes about what takes twice as long or longer on the large table."""
    grown = [name for name in large.called if find_ratio("statements", name, small, large) >= 2]
    if not grown:
        return []
    lines = ["", "Query plans of what grows with the table (statements at least twice as slow):", "", "```"]
    for name in grown:
        lines += [name, *(f"    {step}" for step in large.plans[name])]
    return [*lines, "```"]


def find_ratio(some: str, name: str, small: Times, large: Times) -> float:
    """The large table's median over the empty one's."""
    empty, full = (statistics.median(getattr(times, some)[name]) for times in (small, large))
    return full / empty
