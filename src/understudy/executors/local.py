"""One child process for each device of this machine: `child.py` starts, watches and replaces it.

Where several engines are served, a child that would have to let one leave keeps it at least as long as
its loading took, while there is work for it. So no more than half of the time goes in loading, and no
job is passed over for longer than that (the rent-or-buy rule; Karlin, Manasse, Rudolph, Sleator 1988).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from ..settings import Settings
from . import RunMessage, WorkerState
from .child import Child
from .messages import Released, Run


class LocalExecutor:
    """Runs tasks on this machine's devices, one run at a time on each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers = [
            Child(settings, _device_of(settings.device, index)) for index in range(settings.devices)
        ]
        # The one that became free last is the last.
        self._idle = self._workers[::-1]
        self._free = asyncio.Semaphore(len(self._workers))
        self._starts: set[asyncio.Task[None]] = set()

    @property
    def slots(self) -> int:
        """How many runs can be carried out at the same time."""
        return len(self._workers)

    def batch_size(self, engine: str) -> int:
        """The most tasks that one run of an engine should have, as the workers say."""
        return max(worker.batch_sizes.get(engine, 1) for worker in self._workers)

    def preferred_engines(self, *, of_idle: bool = False) -> frozenset[str]:
        """The engines of workers that would lose one to another too early; none where one would not."""
        workers = self._idle if of_idle else self._workers
        if len(self._settings.served_engines) == 1 or not all(worker.keeps_engines for worker in workers):
            return frozenset()
        return frozenset(engine for worker in workers for engine in worker.at_hand)

    async def start(self) -> None:
        """Begin to start every worker; does not wait for them.

        With an idle time set, workers start with their first run instead.
        """
        if self._settings.worker_idle_seconds == 0:
            for worker in self._workers:
                start = asyncio.create_task(worker.warm_up())
                self._starts.add(start)
                start.add_done_callback(self._starts.discard)

    async def run(self, run: Run) -> AsyncGenerator[RunMessage]:
        """Carry out one run on the next free worker, which has its engine at hand if one has."""
        await self._free.acquire()
        worker = self._choose_worker(run.engine or self._settings.engine)
        self._idle.remove(worker)
        holds = True
        try:
            # A generator is not closed with the one that reads it: closing must reach the child.
            async with contextlib.aclosing(worker.run(run)) as messages:
                async for message in messages:
                    if isinstance(message, Released):
                        holds = False
                        self._make_idle(worker)
                    yield message
        finally:
            if holds:
                self._make_idle(worker)

    def _make_idle(self, worker: Child) -> None:
        self._idle.append(worker)
        self._free.release()

    def _choose_worker(self, engine: str) -> Child:
        """The free worker to run an engine: one that has it, or one that may lose another for it.

        Of equals the one that became free last: the others may unload.
        """
        return max(
            reversed(self._idle), key=lambda worker: (engine in worker.at_hand, not worker.keeps_engines)
        )

    async def cancel(self, task_ids: Sequence[str]) -> None:
        """Ask that these tasks stop between two denoising steps."""
        for worker in self._workers:
            await worker.cancel(task_ids)

    def describe_workers(self) -> list[WorkerState]:
        """The state of each worker."""
        return [worker.describe() for worker in self._workers]

    async def close(self) -> None:
        """End every worker."""
        starts = list(self._starts)
        for start in starts:
            start.cancel()
        # A start that is given up ends its own child.
        await asyncio.gather(*starts, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers))


def _device_of(device: str, index: int) -> str:
    """The device of the index-th child: `cuda` is counted, others are taken as they are."""
    return f"cuda:{index}" if device == "cuda" else device
