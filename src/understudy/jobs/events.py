"""Who is told that a job has changed, within this process.

Nothing is carried but the fact: whoever is woken reads the row, so that a missed or doubled
wake-up is harmless and a slow listener sees the present state, never a backlog.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class ChangeFeed:
    """Wakes those who wait for a job, and those who wait for work. For one event loop."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._observers: list[Callable[[str], None]] = []
        self._work = asyncio.Event()
        self._deliveries = asyncio.Event()

    def publish(
        self, job_id: str, *, queue: bool = False, taken: bool = False, delivery: bool = False
    ) -> None:
        """Say that a job's row has changed.

        `queue`: there may be work to claim. `taken`: whoever held the job has lost it. `delivery`: it
        has ended, and somebody is to be told.
        """
        for event in self._listeners.get(job_id, ()):
            event.set()
        if taken:
            for observe in self._observers:
                observe(job_id)
        if queue:
            self._work.set()
        if delivery:
            self._deliveries.set()

    def observe_taken(self, observer: Callable[[str], None]) -> None:
        """Call `observer(job_id)` whenever a job is taken from its holder."""
        self._observers.append(observer)

    @contextmanager
    def listen(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of the job; clear it before reading the row."""
        event = asyncio.Event()
        self._listeners[job_id].add(event)
        try:
            yield event
        finally:
            self._listeners[job_id].discard(event)
            if not self._listeners[job_id]:
                del self._listeners[job_id]

    def wake_listeners(self) -> None:
        """Wake everyone who listens to any job: the service stops."""
        for events in self._listeners.values():
            for event in events:
                event.set()

    def wake(self) -> None:
        """Wake whoever waits for work."""
        self._work.set()

    async def wait_for_work(self, timeout_seconds: float) -> None:
        """Return when there may be work to claim, at the latest after the timeout."""
        await _wait(self._work, timeout_seconds)

    def wake_deliverer(self) -> None:
        """Wake whoever waits for deliveries."""
        self._deliveries.set()

    async def wait_for_deliveries(self, timeout_seconds: float) -> None:
        """Return when there may be deliveries to claim, at the latest after the timeout."""
        await _wait(self._deliveries, timeout_seconds)


async def _wait(event: asyncio.Event, timeout_seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    event.clear()
