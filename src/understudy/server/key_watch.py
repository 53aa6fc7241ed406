"""Keys that somebody waits with: a wait ends when its key works no more."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from ..accounts.keys import KeyStore

KEY_SECONDS = 0.4
"""How often a key is looked at: with the time that it is remembered, its end is felt within a second."""


class KeyWatch:
    """Wakes those who wait when their key works no more, with one look for all who wait with the same.

    For one event loop.
    """

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._looking: asyncio.Task[None] | None = None

    async def is_good(self, secret: str) -> bool:
        """Whether a key that was let in may stay."""
        key = await self._keys.find(secret)
        return key is not None and not key.account_disabled

    @contextmanager
    def wake(self, secret: str, event: asyncio.Event) -> Iterator[None]:
        """For the time of the block, set an event when a key works no more, as long as it does not."""
        self._waiting[secret].add(event)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._waiting[secret].discard(event)
            if not self._waiting[secret]:
                del self._waiting[secret]

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(KEY_SECONDS)
            for secret in list(self._waiting):
                if not await self._may_stay(secret):
                    for event in self._waiting.get(secret, ()):
                        event.set()

    async def _may_stay(self, secret: str) -> bool:
        try:
            return await self.is_good(secret)
        except Exception:
            # Whoever is woken looks for himself, and meets the same.
            return False
