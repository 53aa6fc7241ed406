"""The picture decoder, shared fairly: no account's pictures stand in another's way."""

from __future__ import annotations

import asyncio
from collections import Counter

from ..decoder import PictureDecoder
from ..errors import RateLimited

MOST_WAITING = 200
"""Pictures of an account that are decoded or wait for it at once; each is held in memory meanwhile."""


class FairDecoder:
    """Decodes pictures of many accounts; of each as many at a time as the decoder has processes.

    So whoever waits for a process has no more before him than that many pictures of each account
    that is there. For one event loop.
    """

    def __init__(self, decoder: PictureDecoder, processes: int) -> None:
        self._decoder = decoder
        self._processes = processes
        self._count: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    async def decode(self, account_id: str, data: bytes, field: str | None = None) -> bytes:
        """Decode an account's picture (`PictureDecoder.decode`).

        Raises:
            RateLimited: too many pictures of the account wait already.
            TooLarge, InvalidRequest, ServiceError: as the decoder does.
        """
        if self._count[account_id] >= MOST_WAITING:
            raise RateLimited(
                f"{MOST_WAITING} pictures of the account are being read; wait for some of them.",
                retry_after_seconds=5,
            )
        self._count[account_id] += 1
        turns = self._turns.setdefault(account_id, asyncio.Semaphore(self._processes))
        try:
            async with turns:
                return await self._decoder.decode(data, field)
        finally:
            self._count[account_id] -= 1
            if not self._count[account_id]:
                del self._count[account_id], self._turns[account_id]
