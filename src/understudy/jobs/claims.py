"""Which jobs are claimed next: those whose turn it is, but a batch of one engine, and one that is loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..executors import Executor
from .held import HeldJob
from .store import Store

Choice = Collection[str | None] | None
"""Engines that jobs are claimed of; None is any."""


class Claims:
    """Claims jobs of a store for an executor."""

    def __init__(
        self, store: Store, executor: Executor, engines: Mapping[str, str], lease_seconds: float
    ) -> None:
        """`engines` has the engine of each model, by the model's slug."""
        self._store = store
        self._executor = executor
        self._engines = engines
        self._served = list(dict.fromkeys(engines.values()))
        self._lease_seconds = lease_seconds

    async def claim(self, kept: Collection[HeldJob], but_not_of: Sequence[str]) -> tuple[list[HeldJob], bool]:
        """Claim what fills a batch of those that are kept ready; and whether there may be more.

        Jobs of the accounts `but_not_of` are passed over.
        """
        room, choices = self._find_room(kept)
        for engines in choices if room > 0 else ():
            models = self._list_models(engines)
            claimed = await self._store.claim(self._lease_seconds, room, but_not_of, models)
            if claimed:
                held = [HeldJob(job, self._engines.get(job.model)) for job in claimed]
                return held, len(held) == room
        return [], False

    def _find_room(self, kept: Collection[HeldJob]) -> tuple[int, list[Choice]]:
        """How many more jobs to claim, and of which engines: the first of these that has some.

        One batch, which is of one engine, is kept ready beside those that run.
        """
        if len(self._served) == 1:
            return self._executor.batch_size(self._served[0]) - len(kept), [None]
        if kept:
            engine = min(kept, key=lambda held: held.order).engine
            return (self._executor.batch_size(engine) if engine else 1) - len(kept), [{engine}]
        # The first one tells which engine the others are to have.
        preferred = self._executor.preferred_engines()
        return 1, [preferred, None] if preferred else [None]

    def _list_models(self, engines: Choice) -> list[str] | None:
        """The models that these engines draw; None of any engine."""
        if engines is None:
            return None
        return [model for model, engine in self._engines.items() if engine in engines]
