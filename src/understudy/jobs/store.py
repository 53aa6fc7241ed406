"""The durable store of jobs: every change of a job's row is made here, each in one transaction.

A job moves QUEUED -> PROCESSING -> COMPLETED | FAILED. Whoever works on it holds a lease (until
`lease_expires_at`) and the fencing token that was current when the lease was given; every later
change names that token, so that a holder that lost its lease changes nothing. Cancelling raises
the token, which takes the job from its holder.

Knows nothing of pictures, engines or HTTP. Times are seconds since the epoch.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    Connection,
    Update,
    and_,
    select,
    update,
)

from ..accounts.idempotency import IdempotencyKey, carry_out_once
from ..accounts.limits import UNLIMITED, Allowance, Limits
from ..database import Database, Recent
from ..errors import InsufficientCredits, RateLimited, UnderstudyError
from . import statements
from .admission import Admission
from .compute_time import ComputeTime
from .ends import follow_ends, forget_jobs
from .events import ChangeFeed
from .files import StoredFile, expire_files, insert_files, keep_outputs, refuse_files, refuse_gone_files
from .job import ENDED, Job, NewJob
from .tables import jobs

SEEN_JOBS = 1000
"""Jobs whose rows are remembered for those who look at them again before they change."""

_NOTHING_YET: dict[str, Any] = dict.fromkeys(
    (
        "preview",
        "lease_expires_at",
        "started_at",
        "ended_at",
        "images",
        "inference_seconds",
        "error_code",
        "error",
        "remaining_microcredits",
    )
)


@dataclass(frozen=True)
class Submitted:
    """A job that was accepted, and what is left of its key's submits; None where they have no limit."""

    job: Job
    allowance: Allowance | None


class Store:
    """Every question and change that touches jobs."""

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self.database = database
        self.feed = feed
        self._admission = Admission()
        self._foreseen: Recent[dict[str, str]] = Recent()
        # As they are in the database: whatever changes one makes it forgotten here.
        self._seen: dict[str, Job] = {}
        self._order: asyncio.Future[list[tuple[int, int]]] | None = None
        self._order_at = 0.0
        self.compute_time = ComputeTime(database)

    # Submitting and looking.

    async def submit(
        self,
        new: NewJob,
        inputs: Sequence[StoredFile],
        queue_limit: int,
        *,
        limits: Limits = UNLIMITED,
        once: IdempotencyKey | None = None,
        answer: dict[str, Any] | None = None,
    ) -> Submitted:
        """Put a job in the queue; it is on disk when this returns.

        Its turn is one past the last turn of its account's unended jobs, and at least the turn now
        being served, the least of all unended jobs: so accounts take turns however many jobs and
        keys each has (start-time fair queueing; Goyal, Vin, Cheng 1996).

        The job's price is held, its key's limits are counted and, with `once`, the `answer` to
        its request is kept, all in the transaction that makes the job.

        Raises:
            AnsweredBefore: the request was carried out before; there is no second job.
            Conflict: its idempotency key was used for another one.
            RateLimited: `queue_limit` jobs wait already (`queue_full`), or its key or account is
                past a limit.
            InsufficientCredits: the account's balance is below the price.
            InvalidRequest: a file that it names is not there any more (`invalid_picture`).
        """
        values = {
            **vars(new),
            "status": "QUEUED",
            "version": 1,
            "stage": "waiting",
            "step": 0,
            "token": 0,
            "attempts": 0,
            "created_at": time.time(),
        }
        unplaced = Job(sequence=0, turn=0, **_NOTHING_YET, **values)
        values["of_account"] = new.account_id
        rows = [replace(file, job_id=new.id) for file in inputs]

        def put_in_queue(connection: Connection) -> Submitted | UnderstudyError:
            gone = refuse_gone_files(connection, new.inputs, time.time())
            if gone is not None:
                return gone
            allowance = self._admission.admit(connection, new, queue_limit, limits)
            if isinstance(allowance, UnderstudyError):
                return allowance
            row = connection.execute(statements.insert_job, values).one()
            insert_files(connection, rows)
            return Submitted(replace(unplaced, sequence=row.sequence, turn=row.turn), allowance)

        try:
            submitted = await self.database.write(
                lambda c: carry_out_once(c, once, 200, put_in_queue, lambda _: answer or {}),
                lambda _: self._publish(new.id, queue=True),
            )
        except (RateLimited, InsufficientCredits):
            self._foreseen.forget(new.key_id)
            raise
        left = submitted.allowance
        if left is not None and left.remaining:
            self._foreseen.correct(new.key_id, left.to_headers())
        elif left is not None:
            self._foreseen.forget(new.key_id)
        return submitted

    async def foresee(
        self, account_id: str, key_id: str, queue_limit: int, limits: Limits, least_price: int
    ) -> dict[str, str]:
        """What is left of a key's submits, as headers, before its request is read.

        It is what is or was half a second ago; a refusal is of now.

        Raises:
            RateLimited, InsufficientCredits: a job would be refused, at this price.
        """

        async def ask(key_id: str) -> dict[str, str]:
            return await self.database.look(
                lambda c: self._admission.foresee(c, account_id, key_id, queue_limit, limits, least_price)
            )

        return await self._foreseen.find(key_id, ask) or {}

    async def get(self, job_id: str, account_id: str | None = None) -> Job | None:
        """A job by its id; None when there is none, or when it is not this account's."""
        job = self._seen.get(job_id)
        if job is None:
            row = await self.database.look(
                lambda connection: connection.execute(statements.select_job, {"job_id": job_id}).one_or_none()
            )
            if row is None:
                return None
            if len(self._seen) >= SEEN_JOBS:
                self._seen.clear()
            self._seen[job_id] = job = _job(row)
        return job if account_id is None or job.account_id == account_id else None

    async def wait_until_ended(self, job: Job, timeout_seconds: float) -> Job | None:
        """The job when it has ended, or as it is when the time is over; None when it was deleted."""
        with self.feed.listen(job.id) as changed, suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while True:
                    changed.clear()
                    now = await self.get(job.id)
                    if now is None or now.ended:
                        return now
                    job = now
                    await changed.wait()
        return job

    async def count_ahead(self, job: Job, age_seconds: float = 0.0) -> int:
        """How many waiting jobs have their turn before this one.

        With `age_seconds` it may be what was so that long ago: those who ask meanwhile share one
        look at the queue.
        """
        now = time.time()
        # A clock that was set back makes the last look one of the future: it is none then.
        fresh = self._order is not None and 0.0 <= now - self._order_at <= age_seconds
        if age_seconds and not fresh and (self._order is None or self._order.done()):
            look = self.database.read(lambda c: [tuple(row) for row in c.execute(statements.select_order)])
            self._order, self._order_at, fresh = asyncio.ensure_future(look), now, True
        if self._order is not None and fresh and job.created_at < self._order_at:
            return bisect_left(await asyncio.shield(self._order), (job.turn, job.sequence))
        values = {"of_turn": job.turn, "of_sequence": job.sequence}
        return await self.database.read(lambda c: c.scalar(statements.count_ahead, values)) or 0

    async def count_by_status(self) -> dict[str, int]:
        """How many jobs are QUEUED and PROCESSING."""

        def ask(connection: Connection) -> dict[str, int]:
            return {
                "QUEUED": connection.scalar(statements.count_queued) or 0,
                "PROCESSING": connection.scalar(statements.count_processing) or 0,
            }

        return await self.database.read(ask)

    async def list_history(
        self, account_id: str, *, limit: int, before: int | None = None, status: str | None = None
    ) -> list[Job]:
        """An account's jobs, newest first; `before` is the `sequence` of the last one seen."""
        query = select(jobs).where(jobs.c.account_id == account_id)
        if before is not None:
            query = query.where(jobs.c.sequence < before)
        if status is not None:
            query = query.where(*statements.of_status[status])
        query = query.order_by(jobs.c.sequence.desc()).limit(limit)
        return [_job(row) for row in await self.database.read(lambda c: c.execute(query).all())]

    # Holding a job.

    async def claim(
        self,
        lease_seconds: float,
        limit: int = 1,
        but_not_of: Sequence[str] = (),
        models: Sequence[str] | None = None,
    ) -> list[Job]:
        """Lease the waiting jobs whose turn it is, in the order of their turns.

        Jobs of the accounts `but_not_of` are passed over, and those that are not of these `models`, which
        are looked for among the next thousand alone.
        """
        values = {"limit": limit, "until": time.time() + lease_seconds, "but_not_of": list(but_not_of)}
        claim = statements.claim
        if models is not None:
            claim, values["models"] = statements.claim_of_models, list(models)
        rows = await self.database.write(
            lambda connection: connection.execute(claim, values).all(),
            lambda rows: self.publish_all([row.id for row in rows]),
        )
        return sorted(map(_job, rows), key=lambda job: (job.turn, job.sequence))

    async def begin(self, job: Job, started_at: float | None = None) -> bool:
        """Say that a worker has begun: PROCESSING. False when the lease is lost."""
        return await self._change(job, statements.begin, started=started_at or time.time())

    async def record_stage(self, job: Job, stage: str) -> bool:
        """Say what a job is at (`fetching`, `loading`, ...). False when the lease is lost."""
        return await self._change(job, statements.set_stage, new_stage=stage)

    async def record_step(
        self, job: Job, step: int, preview: bytes | None = None, started_at: float | None = None
    ) -> bool:
        """Say how many denoising steps of a job that runs are done. False when the lease is lost."""
        values = {"new_step": step, "started": started_at or time.time()}
        if preview is None:
            return await self._change(job, statements.set_step, **values)
        return await self._change(job, statements.set_preview, **values, new_preview=preview)

    async def record_images(
        self,
        job: Job,
        images: Sequence[dict[str, Any]],
        *,
        step: int,
        inference_seconds: float,
        warnings: Sequence[str],
        files: Sequence[StoredFile],
        preview: bytes | None = None,
        started_at: float | None = None,
    ) -> bool:
        """Say how far each of several pictures of a job that runs is. False when the lease is lost.

        Those that are drawn come with their new `files` and all that they cost and warned of so far:
        whoever holds the job next need not draw them again.
        """
        values = {
            **_holder(job),
            "new_images": images,
            "new_step": step,
            "new_inference_seconds": inference_seconds,
            "new_warnings": [*job.warnings, *warnings],
            "new_preview": preview,
            "started": started_at or time.time(),
        }

        def write(connection: Connection) -> bool:
            held = bool(connection.execute(statements.set_images, values).rowcount)
            if held:
                insert_files(connection, files)
            return held

        return await self.database.write(write, lambda held: held and self._publish(job.id))

    async def extend_leases(self, held: Sequence[Job], lease_seconds: float) -> set[str]:
        """Keep the leases of these jobs; return the ids of those that are still held."""
        until = time.time() + lease_seconds

        def write(connection: Connection) -> set[str]:
            return {
                job.id
                for job in held
                if connection.execute(statements.extend, {**_holder(job), "until": until}).rowcount
            }

        return await self.database.write(write)

    async def complete(
        self,
        job: Job,
        *,
        images: list[dict[str, Any]],
        inference_seconds: float,
        warnings: Sequence[str],
        outputs: Sequence[StoredFile],
        started_at: float | None = None,
        keep_until: float | None = None,
    ) -> bool:
        """End a job COMPLETED, with its files, in one transaction. False when the lease is lost.

        `outputs` are those that were not recorded before; those that were are kept until `keep_until`.
        """
        values = {
            "new_images": images,
            "new_inference_seconds": inference_seconds,
            "new_warnings": [*job.warnings, *warnings],
            "started": started_at or time.time(),
        }
        completed = await self._end(job, statements.complete, values, outputs, keep_until)
        if completed:
            self.compute_time.take_completed(job.model)
        return completed

    async def fail(self, job: Job, *, code: str, error: str, refused: Sequence[str] = ()) -> bool:
        """End a job FAILED. False when the lease is lost.

        `refused` are the names of files that are to be shown to nobody from now on.
        """
        values = {"code": code, "words": error}
        return await self._end(job, statements.fail, values, refused=refused)

    async def release(self, job: Job, *, count_attempt: bool) -> bool:
        """Give a job back to the queue, in its old turn. False when the lease is lost.

        `count_attempt` tells a worker's death or hang from a service that merely stopped.
        """
        return await self._change(job, statements.release, queue=True, attempt=int(count_attempt))

    # What happens to a job from outside.

    async def cancel(self, job_id: str, account_id: str) -> tuple[Job | None, bool]:
        """End a job as cancelled at once; its holder loses it.

        Returns the job as it then is (None: there is none) and whether this call ended it.
        """
        now = time.time()
        mine = and_(jobs.c.id == job_id, jobs.c.account_id == account_id)
        end = (
            update(jobs)
            .where(mine, jobs.c.status.not_in(ENDED))
            .values(
                error_code="cancelled",
                error="The request was cancelled.",
                token=jobs.c.token + 1,
                **statements.FAILING,
            )
            .returning(*statements.ended_row)
        )

        def write(connection: Connection) -> tuple[Job | None, bool]:
            ended = connection.execute(end, {"now": now}).all()
            follow_ends(connection, ended)
            if ended:
                expire_files(connection, job_id, now)
            row = connection.execute(select(jobs).where(mine)).one_or_none()
            return (None if row is None else _job(row)), bool(ended)

        def tell(end: tuple[Job | None, bool]) -> None:
            job, ended = end
            if job is not None and ended:
                self._publish(job_id, taken=True, delivery=job.webhook is not None)

        return await self.database.write(write, tell)

    async def delete(self, job_id: str, account_id: str) -> bool:
        """Forget an ended job; its files expire now. False when there is none or it has no end yet."""
        mine = and_(jobs.c.id == job_id, jobs.c.account_id == account_id, jobs.c.status.in_(ENDED))
        return bool(await self.database.write(lambda c: forget_jobs(c, mine), self.publish_all))

    async def free_leases(self, expired_before: float | None = None) -> int:
        """Put held jobs back in the queue without counting an attempt; return how many.

        With `expired_before`, only those whose lease ran out by then; without, all of them: what
        a service does when it starts alone on a data folder that an earlier run has left.
        """
        held = jobs.c.lease_expires_at.is_not(None)
        if expired_before is not None:
            held = and_(held, jobs.c.lease_expires_at < expired_before)
        free = (
            update(jobs)
            .where(held)
            .values(**statements.BACK_IN_QUEUE, token=jobs.c.token + 1, version=jobs.c.version + 1)
            .returning(jobs.c.id)
        )

        def tell(ids: Sequence[str]) -> None:
            for job_id in ids:
                self._publish(job_id, queue=True, taken=True)

        return len(await self.database.write(lambda connection: connection.scalars(free).all(), tell))

    # Changes of what is held.

    async def _change(self, job: Job, change: Update, *, queue: bool = False, **values: Any) -> bool:
        values |= _holder(job)
        return await self.database.write(
            lambda connection: bool(connection.execute(change, values).rowcount),
            lambda changed: changed and self._publish(job.id, queue=queue),
        )

    async def _end(
        self,
        job: Job,
        end: Update,
        values: dict[str, Any],
        outputs: Sequence[StoredFile] = (),
        keep_until: float | None = None,
        refused: Sequence[str] = (),
    ) -> bool:
        now = time.time()
        values = {**values, **_holder(job), "now": now}

        def write(connection: Connection) -> bool:
            ended = connection.execute(end, values).all()
            if not ended:
                return False
            follow_ends(connection, ended)
            several = job.picture_count > 1
            if several and ended[0].status == "COMPLETED":
                keep_outputs(connection, job.id, now, keep_until)
            elif several or job.owns_inputs:
                # Of a single picture only what the job was given has rows by now.
                expire_files(connection, job.id, now)
            insert_files(connection, outputs)
            refuse_files(connection, refused, now)
            return True

        return await self.database.write(
            write, lambda ended: ended and self._publish(job.id, delivery=job.webhook is not None)
        )

    # Telling.

    def _publish(self, job_id: str, **change: bool) -> None:
        self._seen.pop(job_id, None)
        self.feed.publish(job_id, **change)

    def publish_all(self, job_ids: Sequence[str]) -> None:
        """Say that these jobs' rows have changed."""
        for job_id in job_ids:
            self._publish(job_id)


def _holder(job: Job) -> dict[str, Any]:
    """Who may change a job: the one with the token that its lease came with."""
    return {"held_sequence": job.sequence, "held_id": job.id, "held_token": job.token}


def _job(row: Any) -> Job:
    return Job(**row._mapping)
