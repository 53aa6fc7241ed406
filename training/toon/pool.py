"""A pool of entries that processes of their own make, keep and replace: training replays it.

Rendering is as dear as learning from what is rendered. So the pool holds as many entries as memory
allows, each is shown many times, and the oldest are replaced in the background, as fast as the
caller lets them.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Entry = dict[str, NDArray[Any]]
"""Arrays by name; of a pool's entries each has the same names, shapes and types."""

HELD_OUT_SEED = 10**9
"""The first seed of what trainings are measured on. A pool's own are spread over 63 bits: that one of
them is among a few hundred numbers from here on does not happen."""
NICENESS = 10
"""Rendering gives way to training where both want a core."""

_ALIGNMENT = 64
_PATIENCE_SECONDS = 0.2
# One thread for each worker: they are as many as the cores already.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Pool:
    """`count` entries of `make_entry(seed)`, made by `workers` processes.

    Entry number n is made with a seed that comes of the pool's `seed` and n, so that a filled pool
    is the same with any number of workers. Number n lies in place n modulo `count`: after
    `count` of them the oldest are replaced, `refresh` entries a second at most (0: never).

    `make_entry` is sent to processes that import its module, and not the main program: it is
    pickled, so it is a function of a module, a `partial` of one or an object of such a class. The
    entries lie in a file without a name in `folder` (the machine's shared memory where they fit,
    else its folder for temporary files), which ends with the processes; those end with
    the caller, however it ends.

    A context manager:

        with Pool(make_entry, 20_000, workers=16, seed=1, refresh=100) as pool:
            pool.wait()
            batch = pool.take(np.random.default_rng(0), 64)
    """

    def __init__(
        self,
        make_entry: Callable[[int], Entry],
        count: int,
        *,
        workers: int = 1,
        seed: int = 0,
        refresh: float = math.inf,
        folder: Path | None = None,
    ) -> None:
        """Lay the pool out: the first entry is made here, to see its shapes.

        Raises:
            ValueError: `make_entry` is of the main program, where processes cannot find it.
            OSError: there is no room for that many entries.
        """
        if getattr(make_entry, "__module__", type(make_entry).__module__) == "__main__":
            raise ValueError("make_entry is of the main program; move it to a module of its own")
        self.count = count
        self.workers = min(workers, count)
        layout = _lay_out(make_entry(find_seed(seed, 0)), count)
        self._task = _Task(make_entry, seed, count, self.workers, layout)
        self._file = _open_nameless(layout.size, folder)
        self._store = _Store(self._file.fileno(), layout)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._places: NDArray[np.int64] | None = None
        self.refresh = refresh

    def __enter__(self) -> Self:
        paths = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
        environment = os.environ | _ONE_THREAD | {"PYTHONPATH": paths}
        for number in range(self.workers):
            process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import work; work({self._file.fileno()}, {number})"],
                stdin=subprocess.PIPE,
                env=environment,
                pass_fds=[self._file.fileno()],
                start_new_session=True,
            )
            self._processes.append(process)
            # The pipe stays open: its end tells the process that nobody needs it any more.
            with contextlib.suppress(BrokenPipeError):
                pickle.dump(self._task, process.stdin)
                process.stdin.flush()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def refresh(self) -> float:
        """How many entries a second may be replaced."""
        return float(self._store.refresh[0])

    @refresh.setter
    def refresh(self, entries_per_second: float) -> None:
        self._store.refresh[0] = entries_per_second

    @property
    def made(self) -> int:
        """How many entries have been made so far, replaced ones included."""
        return int((self._store.versions // 2).sum())

    @property
    def filled(self) -> int:
        """How many entries can be taken."""
        return int((self._store.versions > 1).sum())

    def wait(self, share: float = 1.0, progress_seconds: float = 10.0) -> None:
        """Wait until that share of the entries can be taken; tell now and then how many can.

        Raises:
            RuntimeError: a process that makes entries has ended.
        """
        start, told = time.monotonic(), time.monotonic()
        before = self.filled
        while (filled := self.filled) < math.ceil(share * self.count):
            self._check_processes()
            now = time.monotonic()
            if now - told > progress_seconds:
                told = now
                rate = (filled - before) / (now - start)
                print(f"pool: {filled} of {self.count} entries, {rate:.0f} a second", flush=True)
            time.sleep(0.02)
        seconds = time.monotonic() - start
        if progress_seconds < math.inf and seconds > progress_seconds:
            print(f"pool: {self.filled} entries after {seconds:.0f} seconds", flush=True)

    def take(self, rng: np.random.Generator, count: int) -> Entry:
        """`count` entries at random of those that are there, each array stacked along a new first axis.

        No entry is half of one and half of its successor.

        Raises:
            RuntimeError: there is none yet (`wait` first), or a process that makes them has ended.
        """
        self._check_processes()
        places = self._find_places()
        if not len(places):
            raise RuntimeError("the pool has no entry yet; wait for some")
        chosen = places[rng.integers(len(places), size=count)]
        store = self._store
        versions = store.versions[chosen]
        taken = {name: array[chosen] for name, array in store.arrays.items()}
        for row in np.flatnonzero((versions % 2 == 1) | (versions != store.versions[chosen])):
            # It was written meanwhile: one entry alone is read fast enough to be whole.
            version, place = -1, chosen[row]
            while version % 2 == 1 or version != store.versions[place]:
                version = store.versions[place]
                for name, array in store.arrays.items():
                    taken[name][row] = array[place]
        return taken

    def close(self) -> None:
        """End the processes. The memory is given back when nothing holds the pool any more."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self._file.close()

    def _find_places(self) -> NDArray[np.int64]:
        if self._places is not None:
            return self._places
        places = np.flatnonzero(self._store.versions > 1)
        if len(places) == self.count:
            self._places = places
        return places

    def _check_processes(self) -> None:
        for number, process in enumerate(self._processes):
            status = process.poll()
            if status is not None:
                raise RuntimeError(
                    f"process {number} of the pool ended with status {status}; its own words are on stderr"
                )


def find_seed(seed: int, number: int) -> int:
    """The seed of entry `number` in a pool of that seed: other pools have others."""
    state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def work(file: int, number: int) -> None:
    """What a worker process does: make the entries `number`, `number` + workers and so on.

    It reads its task from stdin, and ends when stdin does.
    """
    os.nice(NICENESS)
    task: _Task = pickle.load(sys.stdin.buffer)  # noqa: S301
    threading.Thread(target=_end_with_caller, daemon=True).start()
    store = _Store(file, task.layout)
    due = time.monotonic()
    while True:
        if number >= task.count:
            due = _wait_turn(due, store, task.workers)
        store.write(number % task.count, task.make_entry(find_seed(task.seed, number)))
        number = _find_next(number, task)


def _find_next(number: int, task: _Task) -> int:
    # A worker keeps to its own places, so that two never write into one.
    later = number + task.workers
    rounds = number // task.count
    if later < (rounds + 1) * task.count:
        return later
    return (rounds + 1) * task.count + number % task.count % task.workers


def _wait_turn(due: float, store: _Store, workers: int) -> float:
    """Wait as `refresh` asks, which may change meanwhile; `due` is the last turn, the answer this one."""
    while True:
        rate = store.refresh[0] / workers
        now = time.monotonic()
        if rate > 0 and now >= due + 1 / rate:
            # Turns that were missed are not made up for.
            return max(due + 1 / rate, now - _PATIENCE_SECONDS)
        time.sleep(min(_PATIENCE_SECONDS, due + 1 / rate - now) if rate > 0 else _PATIENCE_SECONDS)


def _end_with_caller() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


@dataclass(frozen=True)
class _Layout:
    """Where in the file what is: name -> offset in bytes, shape, type."""

    arrays: dict[str, tuple[int, tuple[int, ...], str]]
    versions: int
    refresh: int
    count: int
    size: int


@dataclass(frozen=True)
class _Task:
    make_entry: Callable[[int], Entry]
    seed: int
    count: int
    workers: int
    layout: _Layout


class _Store:
    """The entries in the file. A version is odd while its entry is written (a sequence lock)."""

    def __init__(self, file: int, layout: _Layout) -> None:
        memory = mmap.mmap(file, layout.size)

        def view(offset: int, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
            return np.frombuffer(memory, kind, math.prod(shape), offset).reshape(shape)

        self.arrays = {name: view(*place) for name, place in layout.arrays.items()}
        self.versions = view(layout.versions, (layout.count,), "int64")
        self.refresh = view(layout.refresh, (1,), "float64")

    def write(self, place: int, entry: Entry) -> None:
        self.versions[place] += 1
        for name, array in self.arrays.items():
            array[place] = entry[name]
        self.versions[place] += 1


def _lay_out(entry: Entry, count: int) -> _Layout:
    arrays, end = {}, 0

    def reserve(size: int) -> int:
        nonlocal end
        start, end = end, end + -(-size // _ALIGNMENT) * _ALIGNMENT
        return start

    for name, array in entry.items():
        shape = (count, *array.shape)
        arrays[name] = (reserve(count * array.nbytes), shape, array.dtype.str)
    return _Layout(arrays, reserve(8 * count), reserve(8), count, end)


def _open_nameless(size: int, folder: Path | None) -> Any:
    """A file of that size that nobody has to remove."""
    memory = Path("/dev/shm")  # noqa: S108
    folders = [folder] if folder is not None else [memory, Path(tempfile.gettempdir())]
    for each in folders:
        if each.is_dir() and os.access(each, os.W_OK) and shutil.disk_usage(each).free > 1.05 * size:
            file = tempfile.TemporaryFile(dir=each)  # noqa: SIM115
            file.truncate(size)
            return file
    raise OSError(f"no room for {size / 2**30:.1f} GiB in {', '.join(map(str, folders))}; keep fewer entries")
