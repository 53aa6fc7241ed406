"""A service without HTTP, whose runs and drawn pictures are counted."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
from PIL import Image

from understudy.accounts.keys import Key
from understudy.catalog import REFERENCE_SLUG
from understudy.executors.messages import Drawn
from understudy.jobs.files import StoredFile
from understudy.jobs.job import Job, NewJob
from understudy.jobs.tasks import count_steps
from understudy.parameters import Parameters
from understudy.server.service import Service, open_service
from understudy.settings import Settings


class Bench:
    """`runs` are the tasks of each run, `engines` what they are drawn with, `drawn` the numbers of the
    pictures that the worker has drawn.

    After `stop_after` of them the worker stands still.
    """

    def __init__(self, service: Service, key: Key, character: StoredFile) -> None:
        self.service = service
        self.key = key
        self.character = character
        self.runs: list[int] = []
        self.engines: list[str] = []
        self.drawn: list[int] = []
        self.stop_after: int | None = None
        carry_out = service.executor.run

        async def count_run(run):
            self.runs.append(len(run.tasks))
            self.engines.append(run.engine)
            async with aclosing(carry_out(run)) as messages:
                async for message in messages:
                    if isinstance(message, Drawn):
                        self.drawn.append(int(message.task_id.rpartition("/")[2]))
                        if len(self.drawn) == self.stop_after:
                            os.kill(self.worker().pid, signal.SIGSTOP)
                    yield message

        service.executor.run = count_run

    async def submit(
        self,
        *,
        price: int | None = None,
        model: str = REFERENCE_SLUG,
        key: Key | None = None,
        **parameters,
    ) -> Job:
        reference = {"file": self.character.name, "decoded": True}
        return await self._submit(reference, parameters, price, model, key)

    async def submit_url(self, url: str) -> Job:
        return await self._submit({"url": url}, {})

    async def _submit(
        self,
        reference: dict,
        parameters: dict,
        price: int | None = None,
        model: str = REFERENCE_SLUG,
        key: Key | None = None,
    ) -> Job:
        key = key or self.key
        parameters = {
            "prompt": "a hero",
            "ip_image": "character:hero",
            "width": 256,
            "height": 256,
        } | parameters
        new = NewJob(
            id=str(uuid.uuid4()),
            account_id=key.account_id,
            key_id=key.id,
            model=model,
            parameters=parameters,
            inputs={"ip_image": reference},
            seed=1,
            steps=count_steps(Parameters.model_validate(parameters)),
            price_microcredits=price,
        )
        return (await self.service.store.submit(new, [], 1000)).job

    async def finish(self, jobs: list[Job], seconds: float = 30) -> list[Job]:
        waits = (self.service.store.wait_until_ended(job, seconds) for job in jobs)
        return list(await asyncio.gather(*waits))

    def worker(self) -> psutil.Process:
        children = psutil.Process().children()
        return next(child for child in children if "understudy.worker" in child.cmdline())

    def bytes_on_disk(self) -> set[str]:
        return {path.name for path in self.service.blobs.folder.iterdir()}


@asynccontextmanager
async def open_bench(tmp_path: Path, **settings) -> AsyncIterator[Bench]:
    async with open_service(Settings(data_dir=tmp_path, **{"engine": "null", **settings})) as service:
        _, key = await service.keys.create("bench")
        file = tmp_path / "hero.png"
        Image.new("RGB", (64, 64), "orange").save(file)
        name = await service.blobs.put("image/png", file.read_bytes())
        character = StoredFile(
            name=name,
            account_id=key.account_id,
            kind="character",
            content_type="image/png",
            size=file.stat().st_size,
            created_at=0.0,
        )
        await service.files.add([character])
        bench = Bench(service, key, character)
        # The first job tells how many tasks the engine likes to get at once.
        await bench.finish([await bench.submit()])
        bench.runs.clear()
        bench.engines.clear()
        bench.drawn.clear()
        yield bench


async def until(condition) -> None:
    """Return at the first turn of the loop at which the condition holds."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("It did not come about.")


async def submit_to_a_stopped_worker(bench: Bench, count: int, **parameters) -> list[Job]:
    """Jobs of which the first and then the rest are handed out to a worker that cannot answer."""
    os.kill(bench.worker().pid, signal.SIGSTOP)
    first = await bench.submit(**parameters)
    await until(lambda: bench.runs)
    rest = [await bench.submit(**parameters) for _ in range(count)]
    await asyncio.sleep(0.1)
    return [first, *rest]
