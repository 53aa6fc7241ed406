"""How much memory processes take while something is done to them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import psutil

INTERVAL_SECONDS = 0.01


class MemoryWatch:
    """The largest resident memory of processes, looked at again and again for the time of a block.

    `find` names the processes each time, for they may come and go. After the block `peak_bytes`
    is the largest sum that was seen.
    """

    def __init__(self, find: Callable[[], Iterable[int]]) -> None:
        self._find = find
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self.peak_bytes = self._measure()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._measure())

    def _measure(self) -> int:
        total = 0
        for process_id in self._find():
            with contextlib.suppress(psutil.Error):
                total += psutil.Process(process_id).memory_info().rss
        return total
