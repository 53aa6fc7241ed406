"""Random histories of one store, with crashes between any two statements, against a model."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, invariant, multiple, precondition, rule
from mortal_store import DIED, LIVES, MortalStore

from understudy.errors import RateLimited
from understudy.jobs.files import StoredFile
from understudy.jobs.job import Job, NewJob
from understudy.jobs.retention import Retention
from understudy.jobs.store import Submitted

HISTORIES = 15 + int(40 * float(os.environ.get("CHAOS_MINUTES", "0")))
"""How many are tried; `make chaos` asks for many more."""

FREE = -1
"""In place of a token: nobody holds the job."""


@dataclass
class Known:
    """What the model knows of a job.

    `token` is its holder's, `files` are its files by kind, `drawn` those of its pictures that its row
    tells of.
    """

    account_id: str
    files: dict[str, str]
    drawn: set[str] = field(default_factory=set)
    token: int = FREE
    lapsed: bool = False
    begun: bool = False
    step: int = 0
    attempts: int = 0
    version: int = 0
    end: str | None = None

    def free(self, *, attempt: bool = False) -> None:
        self.token, self.begun, self.step = FREE, False, 0
        self.attempts += attempt

    def finish(self, end: str) -> None:
        self.end, self.token = end, FREE
        if end != "completed":
            self.drawn.clear()


class StoreMachine(MortalStore):
    """Clients submit, cancel and delete; holders work, finish, give up, vanish; services die."""

    held = Bundle("held")

    tables = ("jobs", "files")

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Known] = {}
        self.let_go: set[str] = set()

    def rows(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Every job by its id and every file by its name."""
        jobs, files = self.look()
        return {row.id: row for row in jobs}, {row.name: row for row in files}

    def free_all(self) -> None:
        for known in self.known.values():
            if known.token != FREE:
                known.free()

    def is_current(self, job: Job) -> bool:
        known = self.known.get(job.id)
        return known is not None and known.token == job.token

    def pick_id(self, number: int) -> str:
        """A job's id, or one that nobody has."""
        ids = [*self.known, str(uuid.UUID(int=0))]
        return ids[number % len(ids)]

    def own(self, job_id: str, account_id: str) -> Known | None:
        known = self.known.get(job_id)
        return known if known is not None and known.account_id == account_id else None

    def forget(self, job_id: str) -> None:
        self.let_go.update(self.known.pop(job_id).files.values())

    @initialize(count=st.integers(1, 5), lives=LIVES)
    def begin_life(self, count, lives):
        """Each process dies after so many boundaries, the last one never."""
        self.submit_together(count)
        self.lives = lives
        self.restart(self.disk.folder)

    @rule()
    def stop_and_start(self):
        self.restart(self.disk.folder)

    # Clients.

    def prepare_submit(
        self, number: int, *, with_input: bool, pictures: int, queue_limit: int = 1000
    ) -> tuple[Awaitable[Submitted], Callable[[], None]]:
        key, job_id, name = self.keys[number], str(uuid.uuid4()), f"{uuid.uuid4().hex}.png"
        new = NewJob(
            id=job_id,
            account_id=key.account_id,
            key_id=key.id,
            model="m",
            parameters={"num_images": pictures},
            inputs={"ip_image": {"file": name, "sha256": "0"}} if with_input else {},
            seed=1,
            steps=4,
        )
        files = [stored_file(name, key.account_id, "input")] if with_input else []

        def happens() -> None:
            self.known[job_id] = Known(key.account_id, {"input": name} if with_input else {})

        return self.store.submit(new, files, queue_limit), happens

    @rule(
        number=st.integers(0, 1),
        with_input=st.booleans(),
        pictures=st.integers(1, 2),
        queue_limit=st.sampled_from([1000, 5]),
    )
    def submit(self, number, with_input, pictures, queue_limit):
        waiting = sum(known.end is None and not known.begun for known in self.known.values())
        submit, happens = self.prepare_submit(
            number, with_input=with_input, pictures=pictures, queue_limit=queue_limit
        )
        try:
            self.change(submit, happens)
        except RateLimited:
            assert waiting >= queue_limit, "a job was refused though there was room"

    @rule(count=st.integers(2, 5))
    def submit_together(self, count):
        submits = [
            self.prepare_submit(number % 2, with_input=True, pictures=1 + number % 2)
            for number in range(count)
        ]

        def happens() -> None:
            for _, submit_happens in submits:
                submit_happens()

        self.change(self.together(*(submit for submit, _ in submits)), happens)

    @rule(number=st.integers(0, 99), account=st.integers(0, 1))
    def cancel(self, number, account):
        job_id, account_id = self.pick_id(number), self.keys[account].account_id
        known = self.own(job_id, account_id)
        open_still = known is not None and known.end is None

        def happens() -> None:
            if open_still:
                known.finish("cancelled")

        done = self.change(self.store.cancel(job_id, account_id), happens)
        if done is not DIED:
            job, ended = done
            assert ended == open_still
            assert (job is None) == (known is None)

    @precondition(lambda self: any(known.end for known in self.known.values()))
    @rule(number=st.integers(0, 99), account=st.integers(0, 1))
    def delete(self, number, account):
        job_id, account_id = self.pick_id(number), self.keys[account].account_id
        known = self.own(job_id, account_id)
        ended = known is not None and known.end is not None

        def happens() -> None:
            if ended:
                self.forget(job_id)

        assert self.change(self.store.delete(job_id, account_id), happens) in (DIED, ended)

    # Holders.

    @rule(
        target=held,
        lease_seconds=st.sampled_from([-1, 30]),
        limit=st.integers(1, 3),
        but_not_of=st.lists(st.integers(0, 1), max_size=1),
    )
    def claim(self, lease_seconds, limit, but_not_of):
        accounts = [self.keys[number].account_id for number in but_not_of]
        free = {
            job_id
            for job_id, known in self.known.items()
            if known.token == FREE and known.end is None and known.account_id not in accounts
        }
        claimed = self.change(self.store.claim(lease_seconds, limit, accounts))
        if claimed is DIED:
            return multiple()
        assert len(claimed) == min(limit, len(free))
        for job in claimed:
            assert job.id in free, "a job was given out that was not free"
            known = self.known[job.id]
            known.token, known.lapsed = job.token, lease_seconds < 0
        return multiple(*claimed)

    @rule(job=held)
    def begin(self, job):
        current = self.is_current(job)

        def happens() -> None:
            if current:
                self.known[job.id].begun = True

        assert self.change(self.store.begin(job), happens) in (DIED, current)

    @rule(job=held, step=st.integers(1, 4), preview=st.sampled_from([None, b"preview"]))
    def record_step(self, job, step, preview):
        current = self.is_current(job)

        def happens() -> None:
            if current:
                self.known[job.id].step, self.known[job.id].begun = step, True

        assert self.change(self.store.record_step(job, step, preview), happens) in (DIED, current)

    @rule(job=held, step=st.integers(1, 4), preview=st.sampled_from([None, b"preview"]))
    def record_images(self, job, step, preview):
        """One more of a sheet's pictures is drawn; its preview is a file too."""
        if job.picture_count == 1:
            return
        current = self.is_current(job)
        known = self.known.get(job.id) if current else None
        output, small = (f"{uuid.uuid4().hex}.{ending}" for ending in ("png", "jpg"))
        drawn = {*(known.drawn if known else ()), output}

        def happens() -> None:
            if known is not None:
                known.step, known.drawn, known.begun = step, drawn, True
                known.files |= {f"output {output}": output, f"preview {output}": small}

        change = self.store.record_images(
            job,
            [{"file_name": name} for name in sorted(drawn)],
            step=step,
            inference_seconds=0.1,
            warnings=[],
            files=[
                replace(stored_file(name, job.account_id, kind, job.id), expires_at=None)
                for name, kind in ((output, "output"), (small, "preview"))
            ],
            preview=preview,
        )
        assert self.change(change, happens) in (DIED, current)

    @rule(job=held)
    def record_stage(self, job):
        current = self.is_current(job)
        assert self.change(self.store.record_stage(job, "fetching")) in (DIED, current)

    @rule(jobs=st.lists(held, max_size=4))
    def extend(self, jobs):
        current = {job.id for job in jobs if self.is_current(job)}

        def happens() -> None:
            for job_id in current:
                self.known[job_id].lapsed = False

        assert self.change(self.store.extend_leases(jobs, 30), happens) in (DIED, current)

    @rule(job=consumes(held), pictures=st.integers(1, 2))
    def complete(self, job, pictures):
        current = self.is_current(job)
        names = [f"{uuid.uuid4().hex}.png" for _ in range(pictures)]

        def happens() -> None:
            if current:
                known = self.known[job.id]
                known.finish("completed")
                known.step = 4
                known.files |= {f"output {name}": name for name in names}
                known.drawn.update(names)

        assert self.change(self.end_completed(job, names), happens) in (DIED, current)

    @rule(job=consumes(held), cancel_first=st.booleans())
    def complete_while_it_is_cancelled(self, job, cancel_first):
        """Both in one transaction: the first of them is the end."""
        current = self.is_current(job)
        name = f"{uuid.uuid4().hex}.png"
        known = self.own(job.id, job.account_id)
        open_still = known is not None and known.end is None
        completes = current and not cancel_first

        def happens() -> None:
            if completes:
                known.finish("completed")
                known.step = 4
                known.files["output"] = name
                known.drawn.add(name)
            elif open_still:
                known.finish("cancelled")

        changes = [self.end_completed(job, [name]), self.store.cancel(job.id, job.account_id)]
        done = self.change(self.together(*(changes[::-1] if cancel_first else changes)), happens)
        if done is not DIED:
            completed, (_, cancelled) = done[::-1] if cancel_first else done
            assert (completed, cancelled) == (completes, open_still and not completes)

    def end_completed(self, job: Job, names: list[str]) -> Awaitable[bool]:
        known = self.known.get(job.id)
        drawn = {*names, *(known.drawn if known else ())}
        return self.store.complete(
            job,
            images=[{"file_name": name} for name in sorted(drawn)],
            inference_seconds=0.1,
            warnings=[],
            outputs=[stored_file(name, job.account_id, "output", job.id) for name in names],
            keep_until=time.time() + 1000,
        )

    @rule(job=consumes(held))
    def fail(self, job):
        current = self.is_current(job)

        def happens() -> None:
            if current:
                self.known[job.id].finish("engine_error")

        change = self.store.fail(job, code="engine_error", error="It failed.")
        assert self.change(change, happens) in (DIED, current)

    @rule(job=consumes(held), attempt=st.booleans())
    def release(self, job, attempt):
        current = self.is_current(job)

        def happens() -> None:
            if current:
                self.known[job.id].free(attempt=attempt)

        assert self.change(self.store.release(job, count_attempt=attempt), happens) in (DIED, current)

    # The service itself.

    @precondition(lambda self: any(known.token != FREE for known in self.known.values()))
    @rule(only_lapsed=st.booleans())
    def free_leases(self, only_lapsed):
        freed = [
            known
            for known in self.known.values()
            if known.token != FREE and (known.lapsed or not only_lapsed)
        ]

        def happens() -> None:
            for known in freed:
                known.free()

        change = self.store.free_leases(time.time() if only_lapsed else None)
        assert self.change(change, happens) in (DIED, len(freed))

    @precondition(lambda self: self.known)
    @rule(share=st.floats(0, 1))
    def expire_waiting(self, share):
        rows = self.rows()[0]
        times = sorted(row.created_at for row in rows.values())
        before = [0.0, *times][int(share * len(times))]
        expired = [
            known
            for job_id, known in self.known.items()
            if known.token == FREE and known.end is None and rows[job_id].created_at < before
        ]

        def happens() -> None:
            for known in expired:
                known.finish("expired")

        assert self.change(Retention(self.store).expire_waiting(before), happens) in (DIED, len(expired))

    @precondition(lambda self: any(known.end for known in self.known.values()))
    @rule(limit=st.integers(1, 3))
    def forget_ended(self, limit):
        ended = {job_id for job_id, known in self.known.items() if known.end is not None}
        count = min(limit, len(ended))

        def happens() -> None:
            gone = self.known.keys() - self.rows()[0].keys()
            assert gone <= ended
            assert len(gone) == count
            for job_id in gone:
                self.forget(job_id)

        assert self.change(Retention(self.store).forget_ended(time.time() + 1, limit), happens) in (
            DIED,
            count,
        )

    @invariant()
    def every_row_is_as_the_model_has_it(self):
        jobs, files = self.rows()
        assert jobs.keys() == self.known.keys()
        for job_id, known in self.known.items():
            job = jobs[job_id]
            assert job.version >= known.version, "a version went back"
            known.version = job.version
            assert (job.step, job.attempts) == (known.step, known.attempts)
            assert (job.lease_expires_at is not None) == (known.token != FREE)
            assert (job.ended_at is not None) == (known.end is not None)
            if known.end is None:
                assert job.status == ("PROCESSING" if known.begun else "QUEUED")
                assert known.token in (FREE, job.token)
            elif known.end == "completed":
                assert job.status == "COMPLETED"
            else:
                assert (job.status, job.error_code) == ("FAILED", known.end)
            images = json.loads(job.images or "[]")
            assert {image["file_name"] for image in images} == known.drawn
        named = {name: job_id for job_id, known in self.known.items() for name in known.files.values()}
        assert files.keys() == named.keys() | self.let_go
        for name, file in files.items():
            job_id = named.get(name)
            assert file.job_id == job_id
            known = None if job_id is None else self.known[job_id]
            used = known is not None and (known.end is None or name in known.drawn)
            kept = file.expires_at is None or file.expires_at > time.time()
            assert kept == used, f"a file of kind {file.kind} is kept wrongly"
            assert file.expires_at is not None or known.end is None, "it is kept for ever"


def stored_file(name: str, account_id: str, kind: str, job_id: str | None = None) -> StoredFile:
    now = time.time()
    return StoredFile(
        name=name,
        account_id=account_id,
        kind=kind,
        content_type="image/png",
        size=1,
        created_at=now,
        job_id=job_id,
        expires_at=now + 1000,
    )


# A history that fails is made small first, which takes minutes.
TestStoreMachine = pytest.mark.timeout(900)(StoreMachine.TestCase)
TestStoreMachine.settings = settings(max_examples=HISTORIES, stateful_step_count=40, deadline=None)
