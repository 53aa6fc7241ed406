"""The Executor protocol: where runs of tasks are carried out.

An executor starts `worker.py` by name, in a child process or on another machine, and imports no
engine. The dispatcher knows executors by this protocol alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .messages import Drawn, Finished, Released, Run, Starting, Step, TaskFailed

RunMessage = Starting | Step | Drawn | TaskFailed | Released | Finished


class WorkerLost(Exception):
    """A worker died, hung or could not start while it held a run; `code` is stable.

    The run may be tried again on another worker.
    """

    def __init__(self, message: str, code: str = "worker_died") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """What a worker is doing: stopped, starting, idle or busy; `failure` is why it cannot start.

    `engine` is the one that was loaded last, `loading` the one that is being loaded beside or in place
    of it, and `resident` has all that are loaded.
    """

    device: str
    state: str
    engine: str | None = None
    version: str | None = None
    resident: list[str] = field(default_factory=list)
    loading: str | None = None
    failure: str | None = None


class Executor(Protocol):
    """Carries out runs of tasks, `slots` at a time.

    A run holds its slot until its `Released`, or until it ends.
    """

    slots: int

    def batch_size(self, engine: str) -> int:
        """The most tasks that an engine draws faster in one run than one after another.

        1 until a worker has loaded it.
        """
        ...

    def preferred_engines(self, *, of_idle: bool = False) -> frozenset[str]:
        """The engines that the next run should have where there is work for them; none: any will do.

        `of_idle` asks for those of the workers that are free now.
        """
        ...

    async def start(self) -> None:
        """Begin to start workers; does not wait for them."""
        ...

    def run(self, run: Run) -> AsyncGenerator[RunMessage]:
        """Carry out one run, whose tasks name one engine; waits for a free worker, ends after `Finished`.

        Closing the generator before its end takes the worker down with it.

        Raises:
            WorkerLost: the worker died, hung or could not start.
        """
        ...

    async def cancel(self, task_ids: Sequence[str]) -> None:
        """Ask that these tasks stop between two denoising steps; each still gets its end message."""
        ...

    def describe_workers(self) -> list[WorkerState]:
        """The state of each worker."""
        ...

    async def close(self) -> None:
        """End every worker."""
        ...
