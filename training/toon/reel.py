"""Drawings without end for a training: made by processes of their own, kept, and shown again.

Rendering is as dear as learning from what is rendered. So a reel holds as many drawings as the
memory allows; the processes go on replacing them, one after another, whenever a core is idle.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy
from numpy.typing import NDArray

Arrays = dict[str, NDArray]

_WEAKEST = 19
"""The niceness of a process that has filled its share: it takes what nobody else wants."""


class Reel:
    """`count` entries, each what `make(seed)` gives: arrays, of the same names and shapes every time.

    `make` is called in `workers` processes, so it is a function of a module or a `partial` of one.
    The seeds follow `first_seed`. Used as a context: the processes end with it.
    """

    def __init__(
        self, make: Callable[[int], Arrays], count: int, *, workers: int = 1, first_seed: int = 0
    ) -> None:
        self.count = max(count, workers)
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="reel-", dir=_choose_memory())
        self._entries = _open_entries(Path(self._folder.name), self.count, make(first_seed))
        self._lock = context.Lock()
        self._made = [context.Value("q", 0) for _ in range(workers)]
        places = {name: (array.dtype.str, array.shape) for name, array in self._entries.items()}
        self._processes = [
            context.Process(
                target=_keep_drawing,
                args=(
                    make,
                    self._folder.name,
                    places,
                    self._lock,
                    made,
                    number,
                    workers,
                    first_seed,
                    os.getpid(),
                ),
                daemon=True,
            )
            for number, made in enumerate(self._made)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._entries.clear()
        self._folder.cleanup()

    @property
    def filled(self) -> int:
        """How many of the entries are there."""
        return sum(len(places) for places in self._find_places())

    def wait(self, share: float = 1.0, patience_seconds: float = 1.0) -> None:
        """Wait until that share of the entries is there.

        Raises:
            RuntimeError: a process that draws has ended.
        """
        while self.filled < share * self.count:
            for process in self._processes:
                process.join(patience_seconds / len(self._processes))
                if process.exitcode is not None:
                    raise RuntimeError(f"a process that draws ended with status {process.exitcode}")

    def take(self, rng: numpy.random.Generator, count: int) -> Arrays:
        """The arrays of `count` different entries of those that are there, joined along their first axis."""
        there = numpy.concatenate(self._find_places())
        chosen = rng.choice(there, count, replace=False)
        with self._lock:
            taken = {name: entries[chosen] for name, entries in self._entries.items()}
        return {name: array.reshape(-1, *array.shape[2:]) for name, array in taken.items()}

    def _find_places(self) -> list[NDArray[numpy.int64]]:
        """The places that each process has filled."""
        workers = len(self._made)
        return [
            numpy.arange(number, self.count, workers)[: made.value] for number, made in enumerate(self._made)
        ]


def _keep_drawing(
    make: Callable[[int], Arrays],
    folder: str,
    places: dict[str, tuple[str, tuple[int, ...]]],
    lock: Any,
    made: Any,
    number: int,
    workers: int,
    first_seed: int,
    parent: int,
) -> None:
    """Fill the places `number`, `number` + `workers` and so on, again and again, till the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    entries = {
        name: numpy.memmap(Path(folder, name), dtype, "r+", shape=shape)
        for name, (dtype, shape) in places.items()
    }
    count = next(iter(places.values()))[1][0]
    mine = range(number, count, workers)
    while os.getppid() == parent:
        drawn = make(first_seed + number + workers * made.value)
        place = mine[made.value % len(mine)]
        with lock:
            for name, array in drawn.items():
                entries[name][place] = array
        made.value += 1
        if made.value == len(mine):
            os.nice(_WEAKEST)


def _open_entries(folder: Path, count: int, like: Arrays) -> Arrays:
    return {
        name: numpy.memmap(folder / name, array.dtype, "w+", shape=(count, *array.shape))
        for name, array in like.items()
    }


def _choose_memory() -> str | None:
    """A folder in memory where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
