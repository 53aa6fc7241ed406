"""One child process for each device of this machine, started, watched and replaced.

A child runs `python -m understudy.worker` and speaks the frames of `messages.py` on its standard
input and output. It ends when its pipe closes, so that a killed service leaks no device. A child
that says nothing for many times its slowest step counts as hung and is killed.

Where several engines are served, a child that would have to let one leave keeps it at least as long as
its loading took, while there is work for it. So no more than half of the time goes in loading, and no
job is passed over for longer than that (the rent-or-buy rule; Karlin, Manasse, Rudolph, Sleator 1988).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence

import msgspec

from ..settings import Settings
from . import RunMessage, WorkerLost, WorkerState
from .messages import (
    MAX_FRAME_BYTES,
    Cancel,
    Drawn,
    Finished,
    FromWorker,
    LoadFailed,
    Loading,
    Ready,
    Run,
    Starting,
    Step,
    ToWorker,
    decode_from_worker,
    encode_frame,
)

_STOP_SECONDS = 5.0
"""How long a child may take to end after its pipe has closed."""


class LocalExecutor:
    """Runs tasks on this machine's devices, one run at a time on each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers = [
            _Worker(settings, _device_of(settings.device, index)) for index in range(settings.devices)
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
        try:
            # A generator is not closed with the one that reads it: closing must reach the child.
            async with contextlib.aclosing(worker.run(run)) as messages:
                async for message in messages:
                    yield message
        finally:
            self._idle.append(worker)
            self._free.release()

    def _choose_worker(self, engine: str) -> _Worker:
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


class _Worker:
    """One device's child process, whichever process that now is."""

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._process: asyncio.subprocess.Process | None = None
        self._messages: asyncio.Queue[FromWorker | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._ready: Ready | None = None
        # Of the present run, or of the last.
        self._engine = settings.engine
        self._resident: list[str] = []
        self._loading: str | None = None
        self._keeps_until = 0.0
        self.batch_sizes: dict[str, int] = {}
        """By engine, as it was when it was last loaded."""
        # By engine, since the last start that succeeded: whoever cannot load one may still load another.
        self._failures: dict[str, str] = {}
        self._starting = asyncio.Lock()
        self._task_ids: set[str] = set()
        self._slowest_seconds: dict[str, float] = {}
        self._unload: asyncio.TimerHandle | None = None
        self._unloading: asyncio.Task[None] | None = None

    @property
    def at_hand(self) -> list[str]:
        """The engines that are loaded, and the one that is about to be."""
        return self._resident if self._loading is None else [*self._resident, self._loading]

    @property
    def keeps_engines(self) -> bool:
        """Whether it is too early for one of its engines to leave for another."""
        if len(self.at_hand) < self._settings.resident_engines:
            return False
        return self._loading is not None or time.monotonic() < self._keeps_until

    def describe(self) -> WorkerState:
        if self._task_ids:
            state = "busy"
        elif self._is_warm():
            state = "idle"
        else:
            state = "starting" if self._starting.locked() else "stopped"
        ready = self._ready
        return WorkerState(
            device=ready.device if ready else self._device,
            state=state,
            engine=ready.engine if ready else None,
            version=ready.version if ready else None,
            resident=list(self._resident),
            loading=self._loading,
            failure=self._tell_failure(),
        )

    def _tell_failure(self) -> str | None:
        """Why the child cannot be started with any engine; None where one has not been tried."""
        if self._failures.keys() >= set(self._settings.served_engines):
            return next(iter(self._failures.values()))
        return None

    async def warm_up(self) -> None:
        """Start the child ahead of its first run, with the first engine that can be loaded.

        A failure is told by the next run of that engine.
        """
        for engine in self._settings.served_engines:
            with contextlib.suppress(WorkerLost, OSError):
                await self._ensure_started(engine)
                return

    async def run(self, run: Run) -> AsyncGenerator[RunMessage]:
        if self._unload is not None:
            self._unload.cancel()
        if self._unloading is not None:
            await asyncio.wait({self._unloading})
        self._engine = run.engine or self._settings.engine
        if not self._is_warm():
            yield Starting()
            await self._ensure_started(self._engine)
        if self._engine not in self._resident:
            # Not from its `Loading` on: what leaves before takes its time too.
            self._loading = self._engine
        self._task_ids = {task.id for task in run.tasks}
        finished = False
        try:
            await self._send(run)
            while not finished:
                match message := await self._next_message():
                    case Loading():
                        self._resident, self._loading = message.resident, message.engine
                        yield Starting()
                    case Ready():
                        self._take_ready(message)
                    case _:
                        # Before it is ready: it cannot be loaded.
                        self._loading = None
                        finished = isinstance(message, Finished)
                        yield message
        finally:
            self._task_ids = set()
            if not finished:
                # What it was told to do is no longer wanted, and half of it may be under way.
                await self.stop(kill=True)
            elif self._settings.worker_idle_seconds > 0:
                loop = asyncio.get_running_loop()
                self._unload = loop.call_later(self._settings.worker_idle_seconds, self._begin_unload)

    async def cancel(self, task_ids: Sequence[str]) -> None:
        mine = self._task_ids.intersection(task_ids)
        if mine and self._is_warm():
            with contextlib.suppress(WorkerLost):
                await self._send(Cancel(sorted(mine)))

    async def stop(self, *, kill: bool = False) -> None:
        """End the child: by closing its pipe, by force after a while or at once."""
        if self._unload is not None:
            self._unload.cancel()
        process, self._process, self._ready = self._process, None, None
        self._resident, self._loading = [], None
        if process is None:
            return
        if process.returncode is None:
            if kill:
                _kill(process)
            else:
                assert process.stdin is not None
                process.stdin.close()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                _kill(process)
                await process.wait()
        if self._reader is not None:
            await asyncio.wait({self._reader})

    def _begin_unload(self) -> None:
        self._unloading = asyncio.create_task(self.stop())

    def _is_warm(self) -> bool:
        return self._ready is not None and self._process is not None and self._process.returncode is None

    def _take_ready(self, ready: Ready) -> None:
        self._ready, self._resident, self._loading = ready, ready.resident, None
        self._failures.clear()
        self._keeps_until = time.monotonic() + ready.load_seconds
        self.batch_sizes[ready.engine] = ready.batch_size
        # It may compile before its first step.
        self._slowest_seconds.pop(ready.engine, None)

    async def _ensure_started(self, engine: str) -> None:
        async with self._starting:
            if self._is_warm():
                return
            await self.stop(kill=True)
            self._failures.pop(engine, None)
            try:
                await self._start(engine)
            except WorkerLost as error:
                self._failures[engine] = error.message
                await self.stop(kill=True)
                raise
            except OSError as error:
                message = f"The worker's process cannot be started ({error.strerror})."
                self._failures = dict.fromkeys(self._settings.served_engines, message)
                await self.stop(kill=True)
                raise
            except BaseException:
                await self.stop(kill=True)
                raise

    async def _start(self, engine: str) -> None:
        environment = {
            **os.environ,
            **self._settings.lead_with(engine).to_environment(),
            "UNDERSTUDY_DEVICE": self._device,
        }
        # A session of its own: Ctrl-C in the terminal is for the service, which ends its children.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "understudy.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._messages = asyncio.Queue()
        self._slowest_seconds = {}
        self._loading = engine
        self._reader = asyncio.create_task(_read_messages(self._process, self._messages))
        try:
            async with asyncio.timeout(self._settings.worker_start_seconds):
                message = await self._messages.get()
        except TimeoutError:
            raise _tell_slow_load() from None
        match message:
            case Ready():
                self._take_ready(message)
            case LoadFailed():
                raise WorkerLost(message.message, message.code)
            case _:
                raise _tell_death_in_load()

    async def _send(self, message: ToWorker) -> None:
        process = self._process
        try:
            assert process is not None
            assert process.stdin is not None
            process.stdin.write(encode_frame(message))
            # A worker that hangs reads nothing, and a picture is more than a pipe holds.
            async with asyncio.timeout(self._silence_limit_seconds()):
                await process.stdin.drain()
        except TimeoutError:
            raise WorkerLost("The worker hung and was replaced.", "worker_hung") from None
        except (ConnectionError, RuntimeError):
            raise WorkerLost("The worker died.") from None

    async def _next_message(self) -> RunMessage | Loading | Ready:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._silence_limit_seconds()):
                message = await self._messages.get()
        except TimeoutError:
            if self._loading is not None:
                raise _tell_slow_load() from None
            raise WorkerLost("The worker hung and was replaced.", "worker_hung") from None
        if message is None and self._loading is not None:
            raise _tell_death_in_load()
        if message is None or isinstance(message, LoadFailed):
            raise WorkerLost("The worker died.")
        if isinstance(message, Drawn) or (isinstance(message, Step) and message.step > 0):
            waited = time.monotonic() - begun
            slowest = self._slowest_seconds.get(self._engine, 0.0)
            self._slowest_seconds[self._engine] = max(slowest, waited)
        return message

    def _silence_limit_seconds(self) -> float:
        if self._loading is not None:
            return self._settings.worker_start_seconds
        slowest = self._slowest_seconds.get(self._engine)
        # Before its first step an engine may compile or page in weights: give it as long as a load.
        if slowest is None:
            return max(self._settings.worker_start_seconds, self._settings.worker_hang_seconds)
        return max(self._settings.worker_hang_seconds, slowest * self._settings.worker_hang_factor)


def _tell_slow_load() -> WorkerLost:
    return WorkerLost(
        "The engine did not load in time; see UNDERSTUDY_WORKER_START_SECONDS.", "engine_load_failed"
    )


def _tell_death_in_load() -> WorkerLost:
    return WorkerLost(
        "The worker ended while it loaded the engine; the service's log says more.", "engine_load_failed"
    )


async def _read_messages(
    process: asyncio.subprocess.Process, messages: asyncio.Queue[FromWorker | None]
) -> None:
    """Put each message of a child into the queue, and None when there are no more."""
    assert process.stdout is not None
    try:
        while True:
            length = int.from_bytes(await process.stdout.readexactly(4), "big")
            if length > MAX_FRAME_BYTES:
                break
            messages.put_nowait(decode_from_worker(await process.stdout.readexactly(length)))
    except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
        # A frame that cannot be read is a worker that cannot be trusted: it ends here too.
        pass
    finally:
        messages.put_nowait(None)
        if process.returncode is None:
            _kill(process)
        await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _device_of(device: str, index: int) -> str:
    """The device of the index-th child: `cuda` is counted, others are taken as they are."""
    return f"cuda:{index}" if device == "cuda" else device
