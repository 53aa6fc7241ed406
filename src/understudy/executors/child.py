"""The child process of one device: started, watched and replaced.

A child runs `python -m understudy.worker` and speaks the frames of `messages.py` on its standard
input and output. It ends when its pipe closes, so that a killed service leaks no device. A child
that says nothing for many times its slowest step counts as hung and is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence

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
    Released,
    Run,
    Starting,
    Step,
    TaskFailed,
    ToWorker,
    decode_from_worker,
    encode_frame,
)

STOP_SECONDS = 5.0
"""How long a child may take to end after its pipe has closed."""


class _Listener:
    """Who hears a process: a run that is under way, or the start of the process itself."""

    def __init__(self, engine: str, task_ids: Iterable[str] = ()) -> None:
        self.engine = engine
        self.task_ids = frozenset(task_ids)
        self.released = False
        """Whether all is drawn, so that the process may be at another run."""
        self.messages: asyncio.Queue[FromWorker | None] = asyncio.Queue()


class _Conversation:
    """What one process says: each message goes to the run that it is about.

    A run whose pictures are still being encoded is under way beside the one that is drawn.
    """

    def __init__(self) -> None:
        self.listeners: list[_Listener] = []

    def tell(self, message: FromWorker) -> None:
        """Pass a message on; what is for nobody is of a run that was given up."""
        match message:
            case Step() | Drawn() | TaskFailed():
                about = [one for one in self.listeners if message.task_id in one.task_ids]
            case Finished():
                # Its run has heard all, read or not: the next `Finished` is another's.
                about = [self.listeners.pop(0)] if self.listeners else []
            case _:
                about = self.listeners[-1:]
        for listener in about[:1]:
            listener.messages.put_nowait(message)

    def leave(self, listener: _Listener) -> None:
        """Hear no more, if there was any more to hear."""
        with contextlib.suppress(ValueError):
            self.listeners.remove(listener)

    def end(self) -> None:
        """Say None to everyone: the process is gone."""
        for listener in self.listeners:
            listener.messages.put_nowait(None)


class Child:
    """One device's child process, whichever process that now is."""

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._process: asyncio.subprocess.Process | None = None
        self._conversation = _Conversation()
        self._reader: asyncio.Task[None] | None = None
        self._ready: Ready | None = None
        self._resident: list[str] = []
        self._loading: str | None = None
        self._keeps_until = 0.0
        self.batch_sizes: dict[str, int] = {}
        """By engine, as it was when it was last loaded."""
        # By engine, since the last start that succeeded: whoever cannot load one may still load another.
        self._failures: dict[str, str] = {}
        self._starting = asyncio.Lock()
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
        if self._is_warm() and self._conversation.listeners:
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
        """Carry out a run; the next may begin after its `Released`, and `Finished` is its last message."""
        if self._unload is not None:
            self._unload.cancel()
        if self._unloading is not None:
            await asyncio.wait({self._unloading})
        engine = run.engine or self._settings.engine
        if not self._is_warm():
            yield Starting()
            await self._ensure_started(engine)
        if engine not in self._resident:
            # Not from its `Loading` on: what leaves before takes its time too.
            self._loading = engine
        conversation = self._conversation
        listener = _Listener(engine, (task.id for task in run.tasks))
        conversation.listeners.append(listener)
        finished = False
        try:
            await self._send(run, engine)
            while not finished:
                match message := await self._next_message(listener):
                    case Loading():
                        self._resident, self._loading = message.resident, message.engine
                        yield Starting()
                    case Ready():
                        self._take_ready(message)
                    case _:
                        if not listener.released:
                            # Before it is ready: it cannot be loaded.
                            self._loading = None
                        listener.released |= isinstance(message, Released)
                        finished = isinstance(message, Finished)
                        yield message
        finally:
            conversation.leave(listener)
            if not finished:
                # What it was told to do is no longer wanted, and half of it may be under way.
                await self.stop(kill=True)
            elif self._settings.worker_idle_seconds > 0 and not conversation.listeners:
                loop = asyncio.get_running_loop()
                self._unload = loop.call_later(self._settings.worker_idle_seconds, self._begin_unload)

    async def cancel(self, task_ids: Sequence[str]) -> None:
        """Ask that those of these tasks that are this child's stop between two denoising steps."""
        mine = {task_id for one in self._conversation.listeners for task_id in one.task_ids}
        if (asked := mine.intersection(task_ids)) and self._is_warm():
            newest = self._conversation.listeners[-1]
            with contextlib.suppress(WorkerLost):
                await self._send(Cancel(sorted(asked)), newest.engine)

    async def stop(self, *, kill: bool = False) -> None:
        """End the child: by closing its pipe, by force after a while or at once."""
        if self._unload is not None:
            self._unload.cancel()
        process, self._process, self._ready = self._process, None, None
        reader = self._reader
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
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                _kill(process)
                await process.wait()
        if reader is not None:
            await asyncio.wait({reader})

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
        start = _Listener(engine)
        self._conversation = _Conversation()
        self._conversation.listeners.append(start)
        self._slowest_seconds = {}
        self._loading = engine
        self._reader = asyncio.create_task(_read_messages(self._process, self._conversation))
        try:
            async with asyncio.timeout(self._settings.worker_start_seconds):
                message = await start.messages.get()
        except TimeoutError:
            raise _tell_slow_load() from None
        finally:
            self._conversation.leave(start)
        match message:
            case Ready():
                self._take_ready(message)
            case LoadFailed():
                raise WorkerLost(message.message, message.code)
            case _:
                raise _tell_death_in_load()

    async def _send(self, message: ToWorker, engine: str) -> None:
        process = self._process
        try:
            assert process is not None
            assert process.stdin is not None
            process.stdin.write(encode_frame(message))
            # A worker that hangs reads nothing, and a picture is more than a pipe holds.
            async with asyncio.timeout(self._silence_limit_seconds(engine)):
                await process.stdin.drain()
        except TimeoutError:
            raise WorkerLost("The worker hung and was replaced.", "worker_hung") from None
        except (ConnectionError, RuntimeError):
            raise WorkerLost("The worker died.") from None

    async def _next_message(self, listener: _Listener) -> RunMessage | Loading | Ready:
        begun = time.monotonic()
        loads = self._loading is not None and not listener.released
        try:
            async with asyncio.timeout(self._silence_limit_seconds(listener.engine)):
                message = await listener.messages.get()
        except TimeoutError:
            if loads:
                raise _tell_slow_load() from None
            raise WorkerLost("The worker hung and was replaced.", "worker_hung") from None
        if message is None and loads:
            raise _tell_death_in_load()
        if message is None or isinstance(message, LoadFailed):
            raise WorkerLost("The worker died.")
        if isinstance(message, Drawn) or (isinstance(message, Step) and message.step > 0):
            waited = time.monotonic() - begun
            slowest = self._slowest_seconds.get(listener.engine, 0.0)
            self._slowest_seconds[listener.engine] = max(slowest, waited)
        return message

    def _silence_limit_seconds(self, engine: str) -> float:
        if self._loading is not None:
            return self._settings.worker_start_seconds
        slowest = self._slowest_seconds.get(engine)
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


async def _read_messages(process: asyncio.subprocess.Process, conversation: _Conversation) -> None:
    """Pass on each message of a child, and its end when there are no more."""
    assert process.stdout is not None
    try:
        while True:
            length = int.from_bytes(await process.stdout.readexactly(4), "big")
            if length > MAX_FRAME_BYTES:
                break
            conversation.tell(decode_from_worker(await process.stdout.readexactly(length)))
    except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
        # A frame that cannot be read is a worker that cannot be trusted: it ends here too.
        pass
    finally:
        conversation.end()
        if process.returncode is None:
            _kill(process)
        await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
