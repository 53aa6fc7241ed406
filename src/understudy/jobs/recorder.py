"""How far held jobs are: written to their rows beside their runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ..blobs import BlobStore
from ..executors.messages import Drawn, Step
from ..meters import Meters
from .held import HeldJob
from .store import Store

PROGRESS_SECONDS = 0.2
"""Least time between two writes of a job's progress."""

BEGIN_SECONDS = 0.05
"""How long after its first message a job is said to run."""


class Recorder:
    """Takes in the steps and pictures of held jobs, and has their rows tell of them."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        meters: Meters,
        do_beside: Callable[[Awaitable[None]], asyncio.Future[None]],
        lose: Callable[[HeldJob], None],
    ) -> None:
        """`do_beside` does something while the run goes on; `lose` is told of a job that a write found
        to be held no more."""
        self._store = store
        self._blobs = blobs
        self._meters = meters
        self._do_beside = do_beside
        self._lose = lose

    def take_step(self, held: HeldJob, number: int, step: Step) -> None:
        """A denoising step of a picture is done; the first says that its job runs."""
        if held.started_at is None:
            held.started_at = time.time()
            self._meters.queue_seconds.observe(held.started_at - held.job.created_at)
            self._do_beside(self._begin(held))
        held.take_step(number, step.step)
        held.preview = step.preview or held.preview
        self._record_progress(held)

    def take_picture(self, held: HeldJob, number: int, drawn: Drawn) -> None:
        """A picture is drawn: its file is written, then its job's row tells of it."""
        held.writes.append(asyncio.ensure_future(self._write_picture(held, number, drawn)))

    async def _begin(self, held: HeldJob) -> None:
        """Say that a job runs; one that has ended by then needs it not, and is spared the write."""
        await asyncio.sleep(BEGIN_SECONDS)
        if not (held.ended or held.lost or await self._store.begin(held.job, held.started_at)):
            self._lose(held)

    async def _write_picture(self, held: HeldJob, number: int, drawn: Drawn) -> None:
        name = await self._blobs.put(drawn.content_type, drawn.data)
        held.names.append(name)
        preview_name = None
        if drawn.preview is not None:
            preview_name = await self._blobs.put("image/jpeg", drawn.preview)
            held.names.append(preview_name)
        held.take_picture(number, drawn, name, preview_name)
        # The last one is told by the job's end.
        if held.left:
            self._record_images(held)

    def _record_progress(self, held: HeldJob) -> None:
        """Write how far a job is to its row, but not more often than a person can see."""
        now = time.monotonic()
        if now - held.progress_at < PROGRESS_SECONDS:
            return
        if held.several:
            self._record_images(held)
        elif held.step > 0:
            preview, held.preview = held.preview, None
            self._do_beside(self._store.record_step(held.job, held.step, preview, held.started_at))
        else:
            return
        held.progress_at = now

    def _record_images(self, held: HeldJob) -> None:
        """Write how far each of several pictures is to their job's row, all at once while one is written."""
        held.changed = True
        if held.recording is None or held.recording.done():
            held.recording = self._do_beside(self._write_images(held))

    async def _write_images(self, held: HeldJob) -> None:
        while held.changed and held.left and not held.lost:
            held.changed = False
            files = list(held.unrecorded)
            preview, held.preview = held.preview, None
            if not await self._store.record_images(
                held.job,
                list(held.images),
                step=held.step,
                inference_seconds=held.inference_seconds,
                warnings=held.warnings,
                files=files,
                preview=preview,
                started_at=held.started_at,
            ):
                self._lose(held)
                return
            del held.unrecorded[: len(files)]
