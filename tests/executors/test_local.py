"""The local executor with real workers: runs, cancels, deaths, hangs and idle times."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections import Counter
from contextlib import aclosing, suppress

import psutil
import pytest
from PIL import Image

from understudy.executors import WorkerLost
from understudy.executors.local import LocalExecutor
from understudy.executors.messages import Drawn, Finished, Released, Run, Starting, Step, Task, TaskFailed
from understudy.settings import Settings

NOWHERE = ("sdxl_model", "sdxl_controlnet", "sdxl_ip_adapter", "sdxl_vae")


def make_task(task_id: str = "t", **values) -> Task:
    return Task(**{"id": task_id, "prompt": "a hero", "references": ["hero.png"], **values})


def make_run(tasks: list[Task], size: int = 64) -> Run:
    file = io.BytesIO()
    Image.effect_noise((size, size), 99).convert("RGB").save(file, "PNG")
    return Run(tasks, {"hero.png": file.getvalue()})


def worker_ids() -> list[int]:
    pids = []
    for child in psutil.Process().children():
        # A child that ends just now is no worker any more.
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "understudy.worker" in child.cmdline():
                pids.append(child.pid)
    return pids


@pytest.fixture
async def start(tmp_path):
    executors = []

    async def start_executor(**values) -> LocalExecutor:
        executor = LocalExecutor(Settings(data_dir=tmp_path, **{"engine": "null", **values}))
        executors.append(executor)
        await executor.start()
        return executor

    yield start_executor
    for executor in executors:
        await executor.close()
    assert worker_ids() == [], "a closed executor leaves no child"


async def run(executor, tasks):
    async with aclosing(executor.run(make_run(tasks))) as messages:
        return [message async for message in messages]


async def read_until_step(messages, step=2):
    async for message in messages:
        if isinstance(message, Step) and message.step >= step:
            return


async def test_a_run_gives_a_picture_for_each_task(start):
    executor = await start()
    messages = await run(executor, [make_task("a"), make_task("b", seed=1)])
    assert isinstance(messages[-1], Finished)
    drawn = [message for message in messages if isinstance(message, Drawn)]
    assert [message.task_id for message in drawn] == ["a", "b"]
    assert Image.open(io.BytesIO(drawn[0].data)).size == (1024, 1024)
    assert executor.describe_workers()[0].state == "idle"
    assert executor.describe_workers()[0].engine == "null"


async def test_the_second_run_finds_the_worker_warm(start):
    executor = await start()
    await run(executor, [make_task()])
    messages = await run(executor, [make_task()])
    assert not any(isinstance(message, Starting) for message in messages)


async def test_runs_wait_for_the_one_worker(start):
    executor = await start()
    runs = await asyncio.gather(*(run(executor, [make_task(str(number))]) for number in range(4)))
    assert all(isinstance(messages[-1], Finished) for messages in runs)
    assert len(worker_ids()) == 1


async def test_a_run_begins_while_the_one_before_is_encoded(start):
    executor = await start()
    await run(executor, [make_task("warm")])
    told = []

    async def follow(name: str) -> None:
        # Two large pictures take long to encode, and no time to draw.
        tasks = [make_task(f"{name}/{number}", width=2048, height=2048) for number in range(2)]
        async with aclosing(executor.run(make_run(tasks))) as messages:
            async for message in messages:
                if not isinstance(message, Step | Drawn | Finished | Released):
                    continue
                assert getattr(message, "task_id", name).startswith(name), "each hears of its own tasks"
                told.append((type(message), name))

    await asyncio.gather(*(follow(name) for name in "abc"))
    first, second, third = [name for kind, name in told if kind is Released]
    assert told.index((Step, second)) < told.index((Finished, first))
    assert told.index((Released, second)) > told.index((Finished, first)), "at most one waits to be sent"
    assert Counter(told)[Drawn, third] == 2
    assert len(worker_ids()) == 1
    assert executor.describe_workers()[0].state == "idle"


async def test_a_death_takes_what_is_encoded_and_what_is_drawn(start):
    executor = await start(engine="toon")
    encoded = executor.run(make_run([make_task("a", steps=1)]))
    async for message in encoded:
        if isinstance(message, Released):
            break
    drawn = executor.run(make_run([make_task("b", steps=70)]))
    await read_until_step(drawn)
    os.kill(worker_ids()[0], signal.SIGKILL)
    with pytest.raises(WorkerLost):
        await read_until_step(drawn, step=1000)
    await encoded.aclose()
    assert isinstance((await run(executor, [make_task(steps=1)]))[-1], Finished)


async def test_a_killed_worker_is_told_and_replaced(start):
    executor = await start(engine="toon")
    messages = executor.run(make_run([make_task(steps=70)]))
    await read_until_step(messages)
    os.kill(worker_ids()[0], signal.SIGKILL)
    with pytest.raises(WorkerLost) as caught:
        await read_until_step(messages, step=1000)
    assert caught.value.code == "worker_died"
    again = await run(executor, [make_task(steps=2)])
    assert isinstance(again[0], Starting)
    assert isinstance(again[-1], Finished)


async def test_a_hung_worker_is_killed(start):
    executor = await start(engine="toon", worker_hang_seconds=1, worker_hang_factor=2)
    await run(executor, [make_task(steps=2)])
    messages = executor.run(make_run([make_task(steps=70)]))
    await read_until_step(messages)
    hung = worker_ids()[0]
    os.kill(hung, signal.SIGSTOP)
    with pytest.raises(WorkerLost) as caught:
        await read_until_step(messages, step=1000)
    assert caught.value.code == "worker_hung"
    assert not psutil.pid_exists(hung)


async def test_a_worker_that_hangs_before_it_reads_is_killed_too(start):
    executor = await start(worker_hang_seconds=1, worker_hang_factor=2)
    await run(executor, [make_task()])
    os.kill(worker_ids()[0], signal.SIGSTOP)
    messages = executor.run(make_run([make_task()], size=1500))
    with pytest.raises(WorkerLost) as caught:
        await read_until_step(messages)
    assert caught.value.code == "worker_hung"


async def test_cancel_stops_between_two_steps_and_keeps_the_worker(start):
    executor = await start(engine="toon")
    await run(executor, [make_task(steps=1)])
    before = worker_ids()
    seen = []
    async with aclosing(
        executor.run(make_run([make_task("a", steps=70), make_task("b", steps=70)]))
    ) as messages:
        async for message in messages:
            seen.append(message)
            if isinstance(message, Step) and message.step == 2:
                await executor.cancel(["a", "b", "unknown"])
    ends = [message for message in seen if isinstance(message, TaskFailed)]
    assert [(end.task_id, end.code) for end in ends] == [("a", "cancelled"), ("b", "cancelled")]
    assert isinstance(seen[-1], Finished)
    assert max(message.step for message in seen if isinstance(message, Step)) < 70
    assert worker_ids() == before


@pytest.mark.slow
async def test_a_run_that_nobody_reads_to_its_end_takes_the_worker_down(start):
    executor = await start(engine="toon")
    messages = executor.run(make_run([make_task(steps=70)]))
    await read_until_step(messages)
    before = worker_ids()
    await messages.aclose()
    assert worker_ids() == []
    assert isinstance((await run(executor, [make_task(steps=1)]))[-1], Finished)
    assert worker_ids() != before


async def test_an_engine_that_cannot_load_says_why(start):
    executor = await start(engine="sdxl", **dict.fromkeys(NOWHERE, "/nonexistent/folder"))
    with pytest.raises(WorkerLost) as caught:
        await run(executor, [make_task()])
    assert caught.value.code == "engine_load_failed"
    assert "UNDERSTUDY_SDXL_" in caught.value.message
    assert executor.describe_workers()[0].failure == caught.value.message


async def test_an_idle_worker_unloads_and_starts_again(start):
    executor = await start(worker_idle_seconds=0.2)
    assert worker_ids() == []
    assert isinstance((await run(executor, [make_task()]))[0], Starting)
    for _ in range(200):
        if not worker_ids():
            break
        await asyncio.sleep(0.05)
    assert executor.describe_workers()[0].state == "stopped"
    assert isinstance((await run(executor, [make_task()]))[0], Starting)


async def test_several_devices_work_at_the_same_time(start):
    executor = await start(devices=2)
    assert executor.slots == 2
    await asyncio.gather(*(run(executor, [make_task(str(number))]) for number in range(4)))
    assert len(worker_ids()) == 2


UNACCEPTED = {"flux2_klein_model": "black-forest-labs/FLUX.2-klein-9B"}
"""An engine that cannot be loaded, which is known at once."""


async def read_failures(executor, engine):
    messages = await run(executor, [make_task("a", engine=engine), make_task("b", engine=engine)])
    assert isinstance(messages[-1], Finished)
    return [message.code for message in messages if isinstance(message, TaskFailed)]


async def test_a_worker_changes_its_engine_without_being_taken_for_hung(start):
    executor = await start(engines="toon,flux2-klein", worker_hang_seconds=1, **UNACCEPTED)
    await run(executor, [make_task()])
    worker = worker_ids()
    assert executor.describe_workers()[0].resident == ["null"]
    assert (executor.batch_size("null"), executor.batch_size("toon")) == (64, 1)
    begun = time.monotonic()
    messages = await run(executor, [make_task(engine="toon", steps=1, width=256, height=256)])
    assert time.monotonic() - begun > 1, "it says nothing while it loads"
    assert isinstance(messages[0], Starting), "who waits is told"
    assert any(isinstance(message, Drawn) for message in messages)
    (state,) = executor.describe_workers()
    assert (state.engine, state.resident, state.loading, state.state) == ("toon", ["toon"], None, "idle")
    assert (executor.batch_size("null"), executor.batch_size("toon")) == (64, 1)
    assert executor.preferred_engines() == executor.preferred_engines(of_idle=True) == {"toon"}
    assert await read_failures(executor, "flux2-klein") == ["licence_not_accepted"] * 2
    (state,) = executor.describe_workers()
    assert (state.resident, state.failure) == ([], None)
    assert executor.preferred_engines() == frozenset(), "there is nothing to be kept"
    assert any(isinstance(message, Drawn) for message in await run(executor, [make_task()]))
    assert worker_ids() == worker


async def test_a_worker_starts_though_its_first_engine_cannot_be_loaded(start):
    executor = await start(engine="flux2-klein", engines="null", **UNACCEPTED)
    for _ in range(600):
        if executor.describe_workers()[0].resident:
            break
        await asyncio.sleep(0.05)
    assert executor.describe_workers()[0].resident == ["null"]
    assert executor.describe_workers()[0].failure is None
    assert await read_failures(executor, "flux2-klein") == ["licence_not_accepted"] * 2
    assert any(isinstance(message, Drawn) for message in await run(executor, [make_task(engine="null")]))


async def test_an_engine_that_cannot_be_loaded_is_no_failure_of_a_worker_that_may_have_another(start):
    executor = await start(engine="null", engines="flux2-klein", worker_idle_seconds=1000, **UNACCEPTED)
    for engines in (["null", "flux2-klein"], ["flux2-klein"]):
        (worker,) = executor._workers
        worker._settings = worker._settings.model_copy(
            update={"engine": engines[0], "engines": ",".join(engines[1:])}
        )
        with pytest.raises(WorkerLost) as caught:
            await run(executor, [make_task(engine="flux2-klein")])
        assert caught.value.code == "licence_not_accepted"
        failure = executor.describe_workers()[0].failure
        assert failure == (None if "null" in engines else caught.value.message)


async def test_an_engine_that_loads_for_too_long_is_given_up(start):
    executor = await start(engines="toon")
    await run(executor, [make_task()])
    (worker,) = executor._workers
    worker._settings = worker._settings.model_copy(update={"worker_start_seconds": 0.5})
    with pytest.raises(WorkerLost) as caught:
        await run(executor, [make_task(engine="toon")])
    assert caught.value.code == "engine_load_failed"
    assert "UNDERSTUDY_WORKER_START_SECONDS" in caught.value.message


async def test_a_worker_that_dies_of_a_load_is_told_as_that(start):
    executor = await start(engines="toon")
    await run(executor, [make_task()])
    async with aclosing(executor.run(make_run([make_task(engine="toon")]))) as messages:
        assert isinstance(await anext(messages), Starting)
        os.kill(worker_ids().pop(), signal.SIGKILL)
        with pytest.raises(WorkerLost) as caught:
            await anext(messages)
    assert caught.value.code == "engine_load_failed"
    assert any(isinstance(message, Drawn) for message in await run(executor, [make_task()]))


async def test_a_run_goes_to_the_worker_that_has_its_engine(start):
    executor = await start(devices=2, engines="flux2-klein", **UNACCEPTED)
    await asyncio.gather(*(run(executor, [make_task(str(number))]) for number in range(2)))
    # It leaves one of them with no engine, the one that became free last.
    assert await read_failures(executor, "flux2-klein") == ["licence_not_accepted"] * 2
    assert sorted(state.resident for state in executor.describe_workers()) == [[], ["null"]]
    messages = await run(executor, [make_task()])
    assert not any(isinstance(message, Starting) for message in messages)
