"""A job that a dispatcher holds, from its claim to its end, and what has come of it so far."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from ..blobs import BlobStore
from ..content_policy import ContentBlocked
from ..executors.messages import Drawn, Task, TaskFailed
from ..pictures import digest_picture
from .files import StoredFile
from .job import Job, list_files


@dataclass(eq=False)
class HeldJob:
    """One claimed job.

    `engine` draws it; None when its model is not served any more. `tasks` are its pictures in their
    order, `images` what is known of each as the job's row tells it. `lost`: its lease went to somebody
    else or it was cancelled. `names` are the files that were written for it, `unrecorded` those of them
    that no row names yet.
    """

    job: Job
    engine: str | None = None
    tasks: list[Task] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    work: asyncio.Task[None] | None = None
    running: bool = False
    lost: bool = False
    writes: list[asyncio.Future[None]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    unrecorded: list[StoredFile] = field(default_factory=list)
    recording: asyncio.Future[None] | None = None
    changed: bool = False
    inference_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    failure: TaskFailed | None = None
    preview: bytes | None = None
    progress_at: float = 0.0
    started_at: float | None = None
    ended: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.job.turn, self.job.sequence

    @property
    def several(self) -> bool:
        """Whether it has more than one picture, which are told one by one."""
        return len(self.tasks) > 1

    @property
    def left(self) -> list[int]:
        """The pictures that are not drawn and written yet, by their numbers."""
        return [number for number, image in enumerate(self.images) if not is_drawn(image)]

    @property
    def task_ids(self) -> list[str]:
        return [self.tasks[number].id for number in self.left]

    @property
    def step(self) -> int:
        """The steps done over all pictures; what is drawn counts whole."""
        steps_each = self.job.steps // len(self.images)
        return sum(steps_each if is_drawn(image) else image.get("step", 0) for image in self.images)

    def take_tasks(self, tasks: list[Task], pictures: dict[str, bytes]) -> None:
        """What is to be drawn; pictures that an earlier holder recorded stay as they are."""
        self.tasks, self.pictures = tasks, pictures
        known = self.job.images or [{}] * len(tasks)
        self.images = [image if is_drawn(image) else {} for image in known]
        self.inference_seconds = self.job.inference_seconds or 0.0

    def take_step(self, number: int, step: int) -> None:
        """So many steps of a picture are done."""
        self.images[number] = {"step": step}

    def take_picture(self, number: int, drawn: Drawn, name: str, preview_name: str | None) -> None:
        """A picture is drawn and written under a name; so is its preview, where it has one."""
        image: dict[str, Any] = {
            "file_name": name,
            "content_type": drawn.content_type,
            "seed": drawn.seed,
            "likeness": drawn.likeness,
            "pose": drawn.pose,
            "file_size": len(drawn.data),
        }
        pose = self.tasks[number].provenance.get("pose")
        if isinstance(pose, str):
            image["asked_pose"] = pose
        self._keep_file(name, "output", drawn.content_type, drawn.data)
        if preview_name is not None and drawn.preview is not None:
            image["preview"] = preview_name
            self._keep_file(preview_name, "preview", "image/jpeg", drawn.preview)
        self.images[number] = image
        self.inference_seconds += drawn.compute_seconds
        told = [*self.job.warnings, *self.warnings]
        self.warnings += [warning for warning in drawn.warnings if warning not in told]

    def list_images(self) -> list[dict[str, Any]]:
        """The pictures as the completed job's row tells them: their previews end with it."""
        return [{name: value for name, value in image.items() if name != "preview"} for image in self.images]

    async def list_refused(self, blobs: BlobStore) -> list[str]:
        """The files whose pictures are blocked, where some are; of several in a parameter these alone."""
        failure, inputs = self.failure, self.job.inputs
        if failure is None or failure.code != ContentBlocked.default_code or failure.field not in inputs:
            return []
        names = list_files(inputs[failure.field])
        if len(names) < 2:
            return names
        # Several are a character's, whose files are drawn from as they are.
        digests = {name: digest_picture(await blobs.get(name) or b"") for name in names}
        return [name for name, digest in digests.items() if digest in failure.pictures]

    async def settle(self) -> None:
        """Wait until what is being written of its pictures is written, or is known not to be."""
        await asyncio.gather(*self.writes, return_exceptions=True)
        if self.recording is not None:
            await asyncio.wait({self.recording})

    def agrees_with(self, other: HeldJob) -> bool:
        """Whether both are a single task and may be drawn in one batch, by one engine."""
        return (
            self.engine == other.engine
            and len(self.tasks) == len(other.tasks) == 1
            and self._shape() == other._shape()
        )

    def _keep_file(self, name: str, kind: str, content_type: str, data: bytes) -> None:
        self.unrecorded.append(
            StoredFile(
                name=name,
                account_id=self.job.account_id,
                kind=kind,
                content_type=content_type,
                size=len(data),
                created_at=time.time(),
                job_id=self.job.id,
            )
        )

    def _shape(self) -> tuple[Any, ...]:
        first = self.tasks[0]
        posed = first.keypoints is not None or first.pose_picture is not None
        size = (first.width, first.height)
        strengths = (first.guidance_scale, first.ip_scale, first.pose_scale)
        counts = (first.steps, first.candidates, len(first.references))
        return (self.engine, *size, *strengths, *counts, posed)


def is_drawn(image: dict[str, Any]) -> bool:
    """Whether a picture's entry in its job's row has its file."""
    return "file_name" in image
