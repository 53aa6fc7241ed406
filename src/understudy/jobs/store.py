"""The durable store of jobs: every change of a job's row is made here, each in one transaction.

A job moves QUEUED -> PROCESSING -> COMPLETED | FAILED. Whoever works on it holds a lease (until
`lease_expires_at`) and the fencing token that was current when the lease was given; every later
change names that token, so that a holder that lost its lease changes nothing. Cancelling raises
the token, which takes the job from its holder.

Knows nothing of pictures, engines or HTTP. Times are seconds since the epoch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..database import Database
from ..errors import RateLimited
from .events import ChangeFeed
from .tables import files, jobs, waiting

ENDED = ("COMPLETED", "FAILED")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job's row."""

    sequence: int
    id: str
    account_id: str
    key_id: str
    model: str
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    seed: int
    warnings: list[str]
    status: str
    version: int
    stage: str
    step: int
    steps: int
    preview: bytes | None
    turn: int
    token: int
    lease_expires_at: float | None
    attempts: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    images: list[dict[str, Any]] | None
    inference_seconds: float | None
    error_code: str | None
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether the job has its end."""
        return self.status in ENDED


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a job is submitted with; `steps` is the number of denoising steps over all its pictures."""

    id: str
    account_id: str
    key_id: str
    model: str
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    seed: int
    steps: int
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """The row of a file in the blob store; `kind` is output, input, upload or character."""

    name: str
    account_id: str
    kind: str
    content_type: str
    size: int
    created_at: float
    job_id: str | None = None
    expires_at: float | None = None


class Store:
    """Every question and change that touches jobs and their files."""

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self.database = database
        self.feed = feed

    # Submitting and looking.

    async def submit(self, new: NewJob, inputs: Sequence[StoredFile], queue_limit: int) -> Job:
        """Put a job in the queue; it is on disk when this returns.

        Its turn is one past the last turn that its key waits for, and at least the turn now
        being served, so that keys take turns however many jobs each has (start-time fair
        queueing; Goyal, Vin, Cheng 1996).

        Raises:
            RateLimited: `queue_limit` jobs wait already (`queue_full`).
        """
        async with self.database.write() as connection:
            queued = await connection.scalar(select(func.count()).where(jobs.c.status == "QUEUED"))
            if queued >= queue_limit:
                raise RateLimited(
                    f"The queue is full ({queue_limit} jobs wait); try again in a few seconds.",
                    code="queue_full",
                    retry_after_seconds=5,
                )
            own = await connection.scalar(
                select(func.max(jobs.c.turn)).where(jobs.c.key_id == new.key_id, jobs.c.status == "QUEUED")
            )
            served = await connection.scalar(select(func.min(jobs.c.turn)).where(waiting))
            turn = max(-1 if own is None else own, -1 if served is None else served - 1) + 1
            row = await connection.execute(
                insert(jobs)
                .values(
                    id=new.id,
                    account_id=new.account_id,
                    key_id=new.key_id,
                    model=new.model,
                    parameters=new.parameters,
                    inputs=new.inputs,
                    seed=new.seed,
                    warnings=new.warnings,
                    status="QUEUED",
                    version=1,
                    stage="waiting",
                    step=0,
                    steps=new.steps,
                    turn=turn,
                    token=0,
                    attempts=0,
                    created_at=time.time(),
                )
                .returning(*jobs.c)
            )
            job = _job(row.one())
            await _insert_files(connection, [replace(file, job_id=new.id) for file in inputs])
        self.feed.publish(job.id, queue=True)
        return job

    async def get(self, job_id: str, account_id: str | None = None) -> Job | None:
        """A job by its id; None when there is none, or when it is not this account's."""
        query = select(jobs).where(jobs.c.id == job_id)
        if account_id is not None:
            query = query.where(jobs.c.account_id == account_id)
        async with self.database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _job(row)

    async def count_ahead(self, job: Job) -> int:
        """How many waiting jobs have their turn before this one."""
        before = or_(jobs.c.turn < job.turn, and_(jobs.c.turn == job.turn, jobs.c.sequence < job.sequence))
        async with self.database.read() as connection:
            return await connection.scalar(select(func.count()).where(waiting, before)) or 0

    async def count_by_status(self) -> dict[str, int]:
        """How many jobs are QUEUED and PROCESSING."""
        query = (
            select(jobs.c.status, func.count())
            .where(jobs.c.status.in_(("QUEUED", "PROCESSING")))
            .group_by(jobs.c.status)
        )
        async with self.database.read() as connection:
            counts = dict((await connection.execute(query)).tuples().all())
        return {status: counts.get(status, 0) for status in ("QUEUED", "PROCESSING")}

    async def list_history(
        self, account_id: str, *, limit: int, before: int | None = None, status: str | None = None
    ) -> list[Job]:
        """An account's jobs, newest first; `before` is the `sequence` of the last one seen."""
        query = select(jobs).where(jobs.c.account_id == account_id)
        if before is not None:
            query = query.where(jobs.c.sequence < before)
        if status is not None:
            query = query.where(jobs.c.status == status)
        query = query.order_by(jobs.c.sequence.desc()).limit(limit)
        async with self.database.read() as connection:
            return [_job(row) for row in (await connection.execute(query)).all()]

    # Holding a job.

    async def claim(self, lease_seconds: float) -> Job | None:
        """Lease the waiting job whose turn it is; None when none waits."""
        now = time.time()
        first = (
            select(jobs.c.sequence)
            .where(waiting)
            .order_by(jobs.c.turn, jobs.c.sequence)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        statement = (
            update(jobs)
            .where(jobs.c.sequence == first)
            .values(token=jobs.c.token + 1, lease_expires_at=now + lease_seconds)
            .returning(*jobs.c)
        )
        async with self.database.write() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _job(row)

    async def begin(self, job: Job) -> bool:
        """Say that a worker has begun: PROCESSING. False when the lease is lost."""
        started_at = func.coalesce(jobs.c.started_at, time.time())
        return await self._change(job, status="PROCESSING", stage="drawing", started_at=started_at)

    async def record_stage(self, job: Job, stage: str) -> bool:
        """Say what a job is at (`fetching`, `loading`, ...). False when the lease is lost."""
        return await self._change(job, stage=stage)

    async def record_step(self, job: Job, step: int, preview: bytes | None = None) -> bool:
        """Say how many denoising steps are done. False when the lease is lost."""
        values: dict[str, Any] = {"step": step}
        if preview is not None:
            values["preview"] = preview
        return await self._change(job, **values)

    async def extend_leases(self, held: Sequence[Job], lease_seconds: float) -> set[str]:
        """Keep the leases of these jobs; return the ids of those that are still held."""
        kept: set[str] = set()
        expires_at = time.time() + lease_seconds
        async with self.database.write() as connection:
            for job in held:
                result = await connection.execute(
                    update(jobs).where(_holds(job)).values(lease_expires_at=expires_at)
                )
                if result.rowcount:
                    kept.add(job.id)
        return kept

    async def complete(
        self,
        job: Job,
        *,
        images: list[dict[str, Any]],
        inference_seconds: float,
        warnings: Sequence[str],
        outputs: Sequence[StoredFile],
    ) -> bool:
        """End a job COMPLETED, with its files, in one transaction. False when the lease is lost."""
        now = time.time()
        async with self.database.write() as connection:
            ended = await connection.execute(
                update(jobs)
                .where(_holds(job))
                .values(
                    status="COMPLETED",
                    stage="done",
                    step=jobs.c.steps,
                    images=images,
                    inference_seconds=inference_seconds,
                    warnings=[*job.warnings, *warnings],
                    started_at=func.coalesce(jobs.c.started_at, now),
                    **_end(now),
                )
            )
            if ended.rowcount:
                await _insert_files(connection, outputs)
                await _expire_inputs(connection, job.id, now)
        if ended.rowcount:
            self.feed.publish(job.id)
        return bool(ended.rowcount)

    async def fail(self, job: Job, *, code: str, error: str, count_attempt: bool = False) -> bool:
        """End a job FAILED. False when the lease is lost."""
        now = time.time()
        async with self.database.write() as connection:
            ended = await connection.execute(
                update(jobs)
                .where(_holds(job))
                .values(
                    status="FAILED",
                    error_code=code,
                    error=error,
                    attempts=jobs.c.attempts + int(count_attempt),
                    **_end(now),
                )
            )
            if ended.rowcount:
                await _expire_inputs(connection, job.id, now)
        if ended.rowcount:
            self.feed.publish(job.id)
        return bool(ended.rowcount)

    async def release(self, job: Job, *, count_attempt: bool) -> bool:
        """Give a job back to the queue, in its old turn. False when the lease is lost.

        `count_attempt` tells a worker's death or hang from a service that merely stopped.
        """
        return await self._change(
            job,
            queue=True,
            **_back_in_queue,
            attempts=jobs.c.attempts + int(count_attempt),
        )

    # What happens to a job from outside.

    async def cancel(self, job_id: str, account_id: str) -> tuple[Job | None, bool]:
        """End a job as cancelled at once; its holder loses it.

        Returns the job as it then is (None: there is none) and whether this call ended it.
        """
        now = time.time()
        async with self.database.write() as connection:
            mine = and_(jobs.c.id == job_id, jobs.c.account_id == account_id)
            ended = await connection.execute(
                update(jobs)
                .where(mine, jobs.c.status.not_in(ENDED))
                .values(
                    status="FAILED",
                    error_code="cancelled",
                    error="The request was cancelled.",
                    token=jobs.c.token + 1,
                    **_end(now),
                )
            )
            if ended.rowcount:
                await _expire_inputs(connection, job_id, now)
            row = (await connection.execute(select(jobs).where(mine))).one_or_none()
        if ended.rowcount:
            self.feed.publish(job_id, taken=True)
        return (None if row is None else _job(row)), bool(ended.rowcount)

    async def delete(self, job_id: str, account_id: str) -> bool:
        """Forget an ended job; its files expire now. False when there is none or it has no end yet."""
        now = time.time()
        async with self.database.write() as connection:
            mine = and_(jobs.c.id == job_id, jobs.c.account_id == account_id, jobs.c.status.in_(ENDED))
            if await connection.scalar(select(func.count()).where(mine)) == 0:
                return False
            await connection.execute(
                update(files).where(files.c.job_id == job_id).values(job_id=None, expires_at=now)
            )
            await connection.execute(delete(jobs).where(mine))
        return True

    async def free_leases(self, expired_before: float | None = None) -> int:
        """Put held jobs back in the queue without counting an attempt; return how many.

        With `expired_before`, only those whose lease ran out by then; without, all of them: what
        a service does when it starts alone on a data folder that an earlier run has left.
        """
        held = jobs.c.lease_expires_at.is_not(None)
        if expired_before is not None:
            held = and_(held, jobs.c.lease_expires_at < expired_before)
        async with self.database.write() as connection:
            freed = await connection.execute(
                update(jobs)
                .where(held)
                .values(**_back_in_queue, token=jobs.c.token + 1, version=jobs.c.version + 1)
                .returning(jobs.c.id)
            )
            ids = list(freed.scalars())
        for job_id in ids:
            self.feed.publish(job_id, queue=True, taken=True)
        return len(ids)

    async def expire_waiting(self, submitted_before: float) -> int:
        """End waiting jobs that were submitted before a time as FAILED (`expired`); return how many."""
        now = time.time()
        async with self.database.write() as connection:
            ended = await connection.execute(
                update(jobs)
                .where(waiting, jobs.c.created_at < submitted_before)
                .values(
                    status="FAILED",
                    error_code="expired",
                    error="The request waited too long for a worker; send it again.",
                    **_end(now),
                )
                .returning(jobs.c.id)
            )
            ids = list(ended.scalars())
            for job_id in ids:
                await _expire_inputs(connection, job_id, now)
        for job_id in ids:
            self.feed.publish(job_id)
        return len(ids)

    async def forget_ended(self, ended_before: float) -> int:
        """Delete the rows of jobs that ended before a time; their files expire now."""
        now = time.time()
        old = select(jobs.c.id).where(jobs.c.ended_at < ended_before)
        async with self.database.write() as connection:
            await connection.execute(
                update(files).where(files.c.job_id.in_(old)).values(job_id=None, expires_at=now)
            )
            forgotten = await connection.execute(delete(jobs).where(jobs.c.ended_at < ended_before))
        return forgotten.rowcount

    async def mean_inference_seconds(self, last: int = 20) -> float | None:
        """The mean compute time of the last completed jobs; None when there is none."""
        recent = (
            select(jobs.c.inference_seconds)
            .where(jobs.c.ended_at.is_not(None), jobs.c.status == "COMPLETED")
            .order_by(jobs.c.ended_at.desc())
            .limit(last)
            .subquery()
        )
        async with self.database.read() as connection:
            return await connection.scalar(select(func.avg(recent.c.inference_seconds)))

    # Files.

    async def add_file(self, file: StoredFile) -> None:
        """Record a file whose bytes are in the blob store already."""
        async with self.database.write() as connection:
            await _insert_files(connection, [file])

    async def get_file(self, name: str) -> StoredFile | None:
        """A file's row; None when there is none or it has expired."""
        query = select(files).where(
            files.c.name == name, or_(files.c.expires_at.is_(None), files.c.expires_at > time.time())
        )
        async with self.database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else StoredFile(**row._mapping)

    async def list_expired_files(self, limit: int = 500) -> list[str]:
        """Names of files whose time is over."""
        query = select(files.c.name).where(files.c.expires_at <= time.time()).limit(limit)
        async with self.database.read() as connection:
            return list((await connection.scalars(query)).all())

    async def list_file_names(self) -> set[str]:
        """Names of every file that has a row."""
        async with self.database.read() as connection:
            return set((await connection.scalars(select(files.c.name))).all())

    async def forget_files(self, names: Sequence[str]) -> None:
        """Delete the rows of files whose bytes are gone."""
        async with self.database.write() as connection:
            await connection.execute(delete(files).where(files.c.name.in_(names)))

    async def _change(self, job: Job, *, queue: bool = False, **values: Any) -> bool:
        async with self.database.write() as connection:
            changed = await connection.execute(
                update(jobs).where(_holds(job)).values(version=jobs.c.version + 1, **values)
            )
        if changed.rowcount:
            self.feed.publish(job.id, queue=queue)
        return bool(changed.rowcount)


_back_in_queue: dict[str, Any] = {
    "status": "QUEUED",
    "stage": "waiting",
    "step": 0,
    "preview": None,
    "lease_expires_at": None,
}


def _holds(job: Job) -> Any:
    return and_(
        jobs.c.sequence == job.sequence,
        jobs.c.token == job.token,
        jobs.c.lease_expires_at.is_not(None),
    )


def _end(now: float) -> dict[str, Any]:
    return {
        "ended_at": now,
        "lease_expires_at": None,
        "preview": None,
        "version": jobs.c.version + 1,
    }


def _job(row: Any) -> Job:
    return Job(**row._mapping)


async def _insert_files(connection: AsyncConnection, rows: Sequence[StoredFile]) -> None:
    if rows:
        await connection.execute(insert(files), [vars(row) for row in rows])


async def _expire_inputs(connection: AsyncConnection, job_id: str, now: float) -> None:
    await connection.execute(
        update(files).where(files.c.job_id == job_id, files.c.kind == "input").values(expires_at=now)
    )
