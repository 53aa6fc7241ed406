"""Random histories of one store, against a model of what may have happened."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from understudy.accounts.keys import KeyStore
from understudy.database import Database, migrate_database
from understudy.jobs.events import ChangeFeed
from understudy.jobs.job import NewJob
from understudy.jobs.store import Store


class StoreMachine(RuleBasedStateMachine):
    """Clients submit and cancel; holders begin, finish, give up, vanish; services restart."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        migrate_database(self.folder)
        self.open()
        create = KeyStore(self.database).create
        self.keys = [self.do(create(f"key {number}"))[1] for number in range(2)]
        # What the model knows: the current token of each job, and the end of those that have one.
        self.tokens: dict[str, int] = {}
        self.ends: dict[str, str] = {}
        self.versions: dict[str, int] = {}

    def open(self) -> None:
        self.database = Database.open(self.folder)
        self.store = Store(self.database, ChangeFeed())

    def do(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def current(self, job) -> bool:
        return self.tokens.get(job.id) == job.token and job.id not in self.ends

    @rule(number=st.integers(0, 1))
    def submit(self, number):
        key = self.keys[number]
        new = NewJob(
            id=str(uuid.uuid4()),
            account_id=key.account_id,
            key_id=key.id,
            model="m",
            parameters={},
            inputs={},
            seed=1,
            steps=4,
        )
        job = self.do(self.store.submit(new, [], 1000))
        self.tokens[job.id] = -1

    @rule(target=held)
    def claim(self):
        job = next(iter(self.do(self.store.claim(30))), None)
        if job is not None:
            assert self.tokens[job.id] == -1, "a held job was given to a second holder"
            assert job.id not in self.ends
            self.tokens[job.id] = job.token
        return job

    @rule(job=held)
    def begin(self, job):
        if job is not None:
            assert self.do(self.store.begin(job)) == self.current(job)

    @rule(job=held, step=st.integers(1, 4))
    def record_step(self, job, step):
        if job is not None:
            assert self.do(self.store.record_step(job, step)) == self.current(job)

    @rule(job=consumes(held), success=st.booleans())
    def end(self, job, success):
        if job is None:
            return
        current = self.current(job)
        if success:
            done = self.do(
                self.store.complete(job, images=[{}], inference_seconds=0.1, warnings=[], outputs=[])
            )
        else:
            done = self.do(self.store.fail(job, code="engine_error", error="It failed."))
        assert done == current
        if current:
            self.ends[job.id] = "COMPLETED" if success else "FAILED"

    @rule(job=consumes(held), attempt=st.booleans())
    def release(self, job, attempt):
        if job is None:
            return
        current = self.current(job)
        assert self.do(self.store.release(job, count_attempt=attempt)) == current
        if current:
            self.tokens[job.id] = -1

    @rule(data=st.data())
    def cancel(self, data):
        if not self.tokens:
            return
        job_id = data.draw(st.sampled_from(sorted(self.tokens)))
        job = self.do(self.store.get(job_id))
        _, ended = self.do(self.store.cancel(job_id, job.account_id))
        assert ended == (job_id not in self.ends)
        self.ends.setdefault(job_id, "FAILED")

    @rule()
    def restart(self):
        self.do(self.database.close())
        self.open()
        self.do(self.store.free_leases())
        for job_id in self.tokens:
            if job_id not in self.ends:
                self.tokens[job_id] = -1

    @invariant()
    def every_job_is_where_it_should_be(self):
        for job_id in self.tokens:
            job = self.do(self.store.get(job_id))
            assert job is not None, "an acknowledged job was lost"
            assert job.version >= self.versions.get(job_id, 0), "a version went back"
            self.versions[job_id] = job.version
            if job_id in self.ends:
                assert job.status == self.ends[job_id], "an end was changed"
                assert job.ended_at is not None
                assert job.lease_expires_at is None
            else:
                assert job.status in ("QUEUED", "PROCESSING")
                assert job.ended_at is None
                assert (job.lease_expires_at is None) == (self.tokens[job_id] == -1)

    def teardown(self):
        self.do(self.database.close())
        self.loop.close()
        shutil.rmtree(self.folder)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
