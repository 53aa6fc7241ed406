"""Work done at the same time, a piece on each core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


class Cores:
    """Threads that each keep a core busy; `count` of them with the one that calls.

    Torch's settings that belong to a thread (no gradients, denormal numbers taken for zero) hold
    in every piece of work.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(
            max(1, count - 1),
            thread_name_prefix="core",
            initializer=torch.set_flush_denormal,
            initargs=(True,),
        )

    def do(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """What each piece of work gives, in their order; the first is done by the caller's thread."""

        def do_quietly(work: Callable[[], T]) -> T:
            with torch.no_grad():
                return work()

        if self.count == 1:
            return [do_quietly(work) for work in works]
        others = [self._threads.submit(do_quietly, work) for work in works[1:]]
        return [do_quietly(works[0]), *(other.result() for other in others)]
