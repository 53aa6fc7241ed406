"""Random histories of credits, with crashes between any two statements, against a model.

Whatever dies: an account's balance is the sum of its ledger, each job is billed once if it
completed and never else, what was held for it comes back once, and a request that is sent again
under its idempotency key is one job with one bill.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, invariant, multiple, precondition, rule
from mortal_store import DIED, LIVES, MortalStore

from understudy.accounts.credits import CreditStore
from understudy.accounts.idempotency import AnsweredBefore, IdempotencyKey
from understudy.errors import Conflict, InsufficientCredits, InvalidRequest
from understudy.jobs.job import Job, NewJob
from understudy.jobs.retention import Retention

HISTORIES = 10 + int(40 * float(os.environ.get("CHAOS_MINUTES", "0")))
"""How many are tried; `make chaos` asks for many more."""

PRICES = st.sampled_from([0, 1, 7, 580_000, 1_000_000])
NUMBERS = st.integers(0, 99)


@dataclass
class Billed:
    """What the model knows of a job; `end` is COMPLETED, FAILED or none yet."""

    account_id: str
    price: int
    end: str | None = None
    token: int | None = None


class LedgerMachine(MortalStore):
    """Operators grant, clients submit and repeat themselves, holders finish once or twice; services die."""

    held = Bundle("held")

    tables = ("ledger", "jobs", "accounts", "idempotency_keys")

    def __init__(self) -> None:
        super().__init__()
        self.granted: dict[str, int] = defaultdict(int)
        self.known: dict[str, Billed] = {}
        self.gone: list[Billed] = []
        self.answered: dict[tuple[str, str], tuple[str, str]] = {}
        self.entered: dict[int, tuple[Any, ...]] = {}

    def free_all(self) -> None:
        for known in self.known.values():
            known.token = None

    def balance(self, account_id: str) -> int:
        """By the model: what was granted, less what is billed, less what is held."""
        mine = [one for one in [*self.known.values(), *self.gone] if one.account_id == account_id]
        return self.granted[account_id] - sum(one.price for one in mine if one.end != "FAILED")

    @initialize(amount=st.integers(0, 3_000_000), lives=LIVES)
    def begin_life(self, amount, lives):
        if amount:
            self.grant(0, amount)
        self.lives = lives
        self.restart(self.disk.folder)

    @rule()
    def stop_and_start(self):
        self.restart(self.disk.folder)

    @rule(
        number=st.integers(0, 1),
        amount=st.one_of(
            st.integers(-2_000_000, 4_000_000),
            st.sampled_from([-(10**19), 10**18 - 4_000_000, 10**18, 10**19]),
        ),
    )
    def grant(self, number, amount):
        key = self.keys[number]
        refused = (
            not amount
            or self.balance(key.account_id) + amount < 0
            or self.granted[key.account_id] + amount > 10**18
        )

        def happens() -> None:
            self.granted[key.account_id] += amount

        try:
            done = self.change(CreditStore(self.database).grant(key.account_id, amount), happens)
        except InvalidRequest:
            assert refused, "a grant was refused that leaves the balance within its bounds"
            return
        if done is not DIED:
            assert not refused
            assert done == self.balance(key.account_id)

    def prepare_submit(self, number: int, price: int, once: str | None, asked: str) -> tuple[Any, Any]:
        key, job_id = self.keys[number], str(uuid.uuid4())
        new = NewJob(
            id=job_id,
            account_id=key.account_id,
            key_id=key.id,
            model="m",
            parameters={},
            inputs={},
            seed=1,
            steps=4,
            price_microcredits=price,
        )
        kept = once and IdempotencyKey(account_id=key.account_id, key=once, fingerprint=asked)
        submit = self.store.submit(new, [], 1000, once=kept, answer={"request_id": job_id})

        def happens() -> None:
            self.known[job_id] = Billed(key.account_id, price)
            if once is not None:
                self.answered[key.account_id, once] = asked, job_id

        return submit, happens

    @rule(
        number=st.integers(0, 1),
        price=PRICES,
        once=st.sampled_from([None, "a", "b"]),
        asked=st.sampled_from("xy"),
    )
    def submit(self, number, price, once, asked):
        account_id = self.keys[number].account_id
        before = self.answered.get((account_id, once))
        affordable = price <= self.balance(account_id)
        submit, happens = self.prepare_submit(number, price, once, asked)
        try:
            met: Any = DIED if self.change(submit, happens) is DIED else "accepted"
        except (AnsweredBefore, Conflict, InsufficientCredits) as refusal:
            met = refusal.body["request_id"] if isinstance(refusal, AnsweredBefore) else type(refusal)
        if met is DIED:
            return
        if before is not None:
            assert met == (before[1] if before[0] == asked else Conflict)
        else:
            assert met == ("accepted" if affordable else InsufficientCredits)

    @rule(number=st.integers(0, 1), price=PRICES, once=st.text("abcdef0123456789", min_size=8, max_size=8))
    def submit_twice_at_once(self, number, price, once):
        """The same request in one transaction with itself: one job."""
        account_id = self.keys[number].account_id
        if price > self.balance(account_id) or (account_id, once) in self.answered:
            return
        (first, happens), (second, _) = (self.prepare_submit(number, price, once, "x") for _ in range(2))

        async def repeat() -> str:
            try:
                return (await second).job.id
            except AnsweredBefore as answer:
                return answer.body["request_id"]

        done = self.change(self.together(first, repeat()), happens)
        if done is not DIED:
            assert done[0].job.id == done[1]

    @rule(target=held, lease_seconds=st.sampled_from([-1, 30]), limit=st.integers(1, 3))
    def claim(self, lease_seconds, limit):
        claimed = self.change(self.store.claim(lease_seconds, limit))
        if claimed is DIED:
            return multiple()
        for job in claimed:
            self.known[job.id].token = job.token
        return multiple(*claimed)

    def end(self, job: Job, end: str, change: Any) -> None:
        known = self.known.get(job.id)
        current = known is not None and known.end is None and known.token == job.token

        def happens() -> None:
            if current:
                known.end, known.token = end, None

        assert self.change(change, happens) in (DIED, current)

    def complete_job(self, job: Job) -> Any:
        return self.store.complete(
            job, images=[{"file_name": "x.png"}], inference_seconds=0.1, warnings=[], outputs=[]
        )

    @rule(job=held)
    def complete(self, job):
        """Held jobs stay in the bundle: most are finished again, by holders that know no better."""
        self.end(job, "COMPLETED", self.complete_job(job))

    @rule(job=held)
    def fail(self, job):
        self.end(job, "FAILED", self.store.fail(job, code="engine_error", error="It failed."))

    @rule(job=consumes(held))
    def complete_and_fail_at_once(self, job):
        known = self.known.get(job.id)
        current = known is not None and known.end is None and known.token == job.token

        def happens() -> None:
            if current:
                known.end, known.token = "COMPLETED", None

        fail = self.store.fail(job, code="engine_error", error="It failed.")
        done = self.change(self.together(self.complete_job(job), fail), happens)
        assert done is DIED or list(done) == [current, False]

    @rule(job=held, attempt=st.booleans())
    def release(self, job, attempt):
        known = self.known.get(job.id)
        current = known is not None and known.end is None and known.token == job.token

        def happens() -> None:
            if current:
                known.token = None

        assert self.change(self.store.release(job, count_attempt=attempt), happens) in (DIED, current)

    @precondition(lambda self: self.known)
    @rule(number=NUMBERS)
    def cancel(self, number):
        job_id = list(self.known)[number % len(self.known)]
        known = self.known[job_id]
        open_still = known.end is None

        def happens() -> None:
            if open_still:
                known.end, known.token = "FAILED", None

        done = self.change(self.store.cancel(job_id, known.account_id), happens)
        assert done is DIED or done[1] == open_still

    @precondition(lambda self: self.known)
    @rule()
    def expire_waiting(self):
        waiting = [one for one in self.known.values() if one.end is None and one.token is None]

        def happens() -> None:
            for known in waiting:
                known.end = "FAILED"

        assert self.change(Retention(self.store).expire_waiting(time.time() + 1), happens) in (
            DIED,
            len(waiting),
        )

    @rule()
    def free_leases(self):
        held = [one for one in self.known.values() if one.token is not None]
        assert self.change(self.store.free_leases(), self.free_all) in (DIED, len(held))

    @precondition(lambda self: any(one.end for one in self.known.values()))
    @rule()
    def forget_ended(self):
        """The bill outlives the job's row."""
        ended = {job_id: one for job_id, one in self.known.items() if one.end is not None}

        def happens() -> None:
            for job_id, known in ended.items():
                del self.known[job_id]
                self.gone.append(known)

        assert self.change(Retention(self.store).forget_ended(time.time() + 1), happens) in (DIED, len(ended))

    @invariant()
    def the_ledger_adds_up(self):
        entries, jobs, accounts, answers = self.look()
        assert self.do(CreditStore(self.database).find_unbalanced()) == {}
        entered = {entry.sequence: tuple(entry) for entry in entries}
        assert self.entered.items() <= entered.items(), "an entry was changed or is gone"
        self.entered = entered
        for account in accounts:
            mine = [entry.amount_microcredits for entry in entries if entry.account_id == account.id]
            assert account.balance_microcredits == sum(mine) == self.balance(account.id)
        by_job: dict[str, dict[str, int]] = defaultdict(dict)
        for entry in entries:
            if entry.kind != "grant":
                assert entry.kind not in by_job[entry.job_id], "an entry is there twice"
                by_job[entry.job_id][entry.kind] = entry.amount_microcredits
        assert {job.id for job in jobs} == self.known.keys()
        assert len(by_job) == len(self.known) + len(self.gone)
        for job_id, known in self.known.items():
            expected = {"hold": -known.price}
            if known.end is not None:
                expected["release"] = known.price
            if known.end == "COMPLETED":
                expected["charge"] = -known.price
            assert by_job[job_id] == expected
        ends = sorted((one.end, one.price) for one in self.gone)
        gone = [billed for job_id, billed in by_job.items() if job_id not in self.known]
        assert ends == sorted(
            ("COMPLETED" if "charge" in billed else "FAILED", -billed["hold"]) for billed in gone
        )
        assert {(row.account_id, row.key): row.fingerprint for row in answers} == {
            where: asked for where, (asked, _) in self.answered.items()
        }


async def test_what_is_held_counts_as_given_and_comes_back(store, key):
    """However much was granted meanwhile, no job's end can fail for it."""
    credits, most = CreditStore(store.database), 10**18
    await credits.grant(key.account_id, most)
    jobs = []
    for _ in range(2):
        new = NewJob(
            id=str(uuid.uuid4()),
            account_id=key.account_id,
            key_id=key.id,
            model="m",
            parameters={},
            inputs={},
            seed=1,
            steps=4,
            price_microcredits=5,
        )
        jobs.append((await store.submit(new, [], 1000)).job)
    with pytest.raises(InvalidRequest, match="no more than 1000000000000 in all"):
        await credits.grant(key.account_id, 5)
    assert (await store.cancel(jobs[0].id, key.account_id))[1]
    assert await Retention(store).expire_waiting(time.time() + 1) == 1
    assert await credits.read_balance(key.account_id) == most
    assert await credits.grant(key.account_id, -5) == most - 5
    assert await credits.grant(key.account_id, 5) == most
    assert await credits.find_unbalanced() == {}


# A history that fails is made small first, which takes minutes.
TestLedgerMachine = pytest.mark.timeout(900)(LedgerMachine.TestCase)
TestLedgerMachine.settings = settings(max_examples=HISTORIES, stateful_step_count=40, deadline=None)
