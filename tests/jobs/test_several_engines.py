"""Jobs of several engines in one queue: whose turn it is, which are drawn together, and which cannot be."""

from __future__ import annotations

import math
import os
import signal

import pytest
from dispatched import open_bench, submit_to_a_stopped_worker
from sqlalchemy import select

from understudy.jobs.statements import NEAR_JOBS
from understudy.jobs.tables import jobs

NULL, TOON, KLEIN = "understudy-null", "understudy-toon", "understudy-flux2-klein"
UNACCEPTED = {"flux2_klein_model": "black-forest-labs/FLUX.2-klein-9B"}
"""An engine that cannot be loaded, which is known at once."""

LOAD_SECONDS = 200
"""How long the embedded engine may take to load where every core is busy."""

SMALL = {"steps": 1, "width": 256, "height": 256}


async def test_an_engine_that_cannot_be_loaded_holds_up_no_other(tmp_path):
    async with open_bench(tmp_path, engines="flux2-klein", **UNACCEPTED) as bench:
        first = await submit_to_a_stopped_worker(bench, 0)
        models = [NULL, NULL, KLEIN, NULL, KLEIN, NULL]
        jobs = [await bench.submit(model=model) for model in models]
        worker = bench.worker().pid
        os.kill(worker, signal.SIGCONT)
        ended = await bench.finish(first + jobs)
        assert [job.error_code for job in ended] == [
            "licence_not_accepted" if model == KLEIN else None for model in [NULL, *models]
        ]
        assert [job.attempts for job in ended] == [0] * 7
        assert bench.worker().pid == worker
        # Those that wait together of one engine are one run, and none has two.
        assert sum(bench.runs) == 7
        assert bench.runs[bench.engines.index("null", 1)] >= 3
        again = await bench.finish([await bench.submit(model=NULL)])
        assert again[0].status == "COMPLETED"


async def test_a_job_whose_model_was_taken_away_ends(bench):
    job, other = await bench.submit(model=TOON), await bench.submit()
    ended, drawn = await bench.finish([job, other])
    assert (ended.status, ended.error_code) == ("FAILED", "model_not_found")
    assert TOON in ended.error
    assert drawn.status == "COMPLETED"


@pytest.mark.slow
async def test_an_engine_is_kept_for_a_while_and_no_job_waits_for_longer(tmp_path):
    """A stream of jobs of the loaded engine, and one of another account, whose turn it is, for another."""
    async with open_bench(tmp_path, engine="toon", engines="null") as bench:
        executor = bench.service.executor
        (worker,) = executor._workers
        await bench.finish([await bench.submit(model=TOON, **SMALL)], LOAD_SECONDS)
        together = executor.batch_size("toon")
        _, other = await bench.service.keys.create("other")

        async def queue_up() -> list:
            """Two batches and one job of the first account, then one of the other, which goes first."""
            bench.runs.clear()
            jobs = await submit_to_a_stopped_worker(bench, 2 * together, model=TOON, **SMALL)
            jobs.append(await bench.submit(model=NULL, key=other))
            bench.engines.clear()
            return jobs

        jobs = await queue_up()
        # As long ago as its loading took.
        worker._keeps_until = 0.0
        os.kill(bench.worker().pid, signal.SIGCONT)
        assert {job.status for job in await bench.finish(jobs, LOAD_SECONDS)} == {"COMPLETED"}
        assert bench.engines == ["toon", "null", "toon"]

        jobs = await queue_up()
        worker._keeps_until = math.inf
        os.kill(bench.worker().pid, signal.SIGCONT)
        assert {job.status for job in await bench.finish(jobs, LOAD_SECONDS)} == {"COMPLETED"}
        assert bench.engines == ["toon", "toon", "null"]
        assert executor.describe_workers()[0].resident == ["null"]


@pytest.mark.parametrize(("models", "count"), [(None, 3), (["m"], 3), (["other", "m"], 3), (["other"], 0)])
async def test_jobs_are_claimed_of_some_models_in_the_order_of_their_turns(store, submit, key, models, count):
    jobs = [await submit(key) for _ in range(3)]
    claimed = await store.claim(30, 5, (), models)
    assert [job.id for job in claimed] == [job.id for job in jobs][:count]


async def test_jobs_of_some_models_are_not_looked_for_to_the_end_of_a_long_queue(store, submit, key):
    await submit(key)

    def put_others_before(connection) -> None:
        row = connection.execute(select(jobs)).one()._asdict()
        del row["sequence"]
        before = [row["turn"] - number for number in range(1, NEAR_JOBS + 1)]
        others = [{**row, "id": f"other{turn}", "model": "other", "turn": turn} for turn in before]
        connection.execute(jobs.insert(), others)

    await store.database.write(put_others_before)
    assert await store.claim(30, 1, (), ["m"]) == []
    assert [job.model for job in await store.claim(30, 1)] == ["other"]
    assert [job.model for job in await store.claim(30, 1, (), ["m"])] == ["m"]
