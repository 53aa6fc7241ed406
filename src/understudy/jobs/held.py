"""A job that a dispatcher holds, from its claim to its end, and what has come of it so far."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ..executors.messages import Drawn, Task, TaskFailed
from .job import Job


@dataclass(eq=False)
class HeldJob:
    """One claimed job.

    `lost`: its lease went to somebody else or it was cancelled. `names` has the file of each task
    that was drawn, while it is being written.
    """

    job: Job
    tasks: list[Task] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    work: asyncio.Task[None] | None = None
    running: bool = False
    lost: bool = False
    drawn: dict[str, Drawn] = field(default_factory=dict)
    names: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    failure: TaskFailed | None = None
    steps: dict[str, int] = field(default_factory=dict)
    preview: bytes | None = None
    progress_at: float = 0.0
    started_at: float | None = None
    ended: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.job.turn, self.job.sequence

    @property
    def task_ids(self) -> list[str]:
        return [task.id for task in self.tasks]

    def agrees_with(self, other: HeldJob) -> bool:
        """Whether both are a single task and may be drawn in one batch."""
        return len(self.tasks) == len(other.tasks) == 1 and self._shape() == other._shape()

    def _shape(self) -> tuple[Any, ...]:
        first = self.tasks[0]
        posed = first.keypoints is not None or first.pose_picture is not None
        size = (first.width, first.height)
        strengths = (first.guidance_scale, first.ip_scale, first.pose_scale)
        counts = (first.steps, first.candidates, len(first.references))
        return (*size, *strengths, *counts, posed)
