"""Carries jobs from the queue to the workers and their pictures back.

It claims the job whose turn it is, gets its pictures while the device is still busy with the one
before, hands out what workers can start now and one more, writes progress, and finishes. It wakes
when a job is submitted or a worker becomes free. It knows executors by their protocol, and never
decodes a picture itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import OperationalError

from ..blobs import BlobStore
from ..decoder import PictureDecoder
from ..errors import InferenceFailed, ServiceError, UnderstudyError
from ..executors import Executor, WorkerLost
from ..executors.messages import Drawn, Starting, Step, Task, TaskFailed
from ..fetch import PictureFetcher
from ..meters import Meters
from ..parameters import Parameters
from ..settings import Settings
from .files import FileStore, StoredFile
from .job import Job
from .store import Store
from .tasks import build_tasks

log = logging.getLogger(__name__)

PREPARE_LIMIT = 4
"""Jobs whose pictures are fetched at the same time, so that one slow host holds up no other."""

PROGRESS_SECONDS = 0.2
"""Least time between two writes of a job's progress."""

RETRY_SECONDS = 2.0
"""How long a job waits that this machine could not carry out, before it is queued again."""


@dataclass(eq=False)
class _Held:
    """A job that this dispatcher has claimed."""

    job: Job
    work: asyncio.Task[None] | None = None
    task_ids: list[str] = field(default_factory=list)
    running: bool = False
    lost: bool = False


class Dispatcher:
    """The one loop between the job store and an executor."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        files: FileStore,
        blobs: BlobStore,
        decoder: PictureDecoder,
        fetcher: PictureFetcher,
        executor: Executor,
        meters: Meters,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._blobs = blobs
        self._decoder = decoder
        self._fetcher = fetcher
        self._executor = executor
        self._meters = meters
        self._held: dict[str, _Held] = {}
        self._preparing = 0
        self._prepared = 0
        self._stopping = False
        self._stop_by = 0.0
        self._loops: tuple[asyncio.Task[None], asyncio.Task[None]] | None = None
        self._cancels: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to claim jobs."""
        self._store.feed.observe_taken(self._lose)
        self._loops = (
            asyncio.create_task(self._claim_jobs()),
            asyncio.create_task(self._keep_leases()),
        )

    def stop_claiming(self) -> None:
        """Claim no more; what is held goes on, for the grace time at most."""
        if not self._stopping:
            self._stopping = True
            self._stop_by = time.monotonic() + self._settings.shutdown_grace_seconds

    async def stop(self) -> None:
        """Claim no more; let running jobs end within the grace time; give the rest back."""
        self.stop_claiming()
        claiming, keeping = self._loops or (None, None)
        if claiming is not None:
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
        for held in list(self._held.values()):
            if not held.running and held.work is not None:
                held.work.cancel()
        works = [held.work for held in self._held.values() if held.work is not None]
        if works:
            await asyncio.wait(works, timeout=max(0.0, self._stop_by - time.monotonic()))
        for work in works:
            work.cancel()
        await asyncio.gather(*works, *self._cancels, return_exceptions=True)
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    # Claiming.

    async def _claim_jobs(self) -> None:
        while True:
            try:
                while self._has_room():
                    claimed = await self._store.claim(self._settings.lease_seconds)
                    if not claimed:
                        break
                    for job in claimed:
                        held = _Held(job)
                        self._held[job.id] = held
                        self._preparing += 1
                        held.work = asyncio.create_task(self._carry_out(held))
            except Exception:
                log.exception("Claiming a job failed.")
                await asyncio.sleep(RETRY_SECONDS)
            # A job can also become free by time (a lease that ran out), hence a limit.
            await self._store.feed.wait_for_work(self._settings.lease_seconds)

    def _has_room(self) -> bool:
        return (
            not self._stopping
            and self._prepared < self._executor.slots + 1
            and self._preparing < PREPARE_LIMIT
        )

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            try:
                held = list(self._held.values())
                kept = await self._store.extend_leases(
                    [one.job for one in held], self._settings.lease_seconds
                )
                for one in held:
                    if one.job.id not in kept and self._held.get(one.job.id) is one:
                        self._lose(one.job.id)
                await self._store.free_leases(expired_before=time.time())
            except Exception:
                log.exception("Extending leases failed.")

    def _lose(self, job_id: str) -> None:
        """A job is no longer ours: stop its work between two steps."""
        held = self._held.get(job_id)
        if held is None or held.lost:
            return
        held.lost = True
        if held.running:
            cancel = asyncio.create_task(self._executor.cancel(held.task_ids))
            self._cancels.add(cancel)
            cancel.add_done_callback(self._cancels.discard)
        elif held.work is not None:
            held.work.cancel()

    # One job.

    async def _carry_out(self, held: _Held) -> None:
        job = held.job
        counted = "preparing"
        try:
            tasks = await self._prepare(job)
            self._preparing -= 1
            self._prepared += 1
            counted = "prepared"
            self._store.feed.wake()
            await self._run(held, tasks)
        except asyncio.CancelledError:
            if not held.lost:
                await self._store.release(job, count_attempt=False)
            if not self._stopping and not held.lost:
                raise
        except (OSError, OperationalError, ServiceError):
            # A full disk or a decoder that does not start is nobody's attempt: the job waits.
            log.exception("Job %s could not be carried out now.", job.id)
            await asyncio.sleep(RETRY_SECONDS)
            # If not even this can be written, the lease runs out and frees the job.
            with contextlib.suppress(OperationalError):
                await self._store.release(job, count_attempt=False)
        except UnderstudyError as error:
            await self._fail(job, code=error.code, error=error.message)
        except WorkerLost as error:
            await self._try_again(job, error)
        except Exception:
            log.exception("Job %s failed inside the service.", job.id)
            await self._fail(
                job, code="internal_error", error="The service failed on this request; send it again."
            )
        finally:
            if counted == "preparing":
                self._preparing -= 1
            else:
                self._prepared -= 1
            if self._held.get(job.id) is held:
                del self._held[job.id]
            self._store.feed.wake()

    async def _prepare(self, job: Job) -> list[Task]:
        parameters = Parameters.model_validate(job.parameters)
        if any("url" in source for source in job.inputs.values()):
            await self._store.record_stage(job, "fetching")
        names = list(job.inputs)
        pictures = await asyncio.gather(*(self._get_picture(job.inputs[name], name) for name in names))
        by_name = dict(zip(names, pictures, strict=True))
        return build_tasks(
            parameters,
            model=job.model,
            seed=job.seed,
            reference=by_name["ip_image"],
            pose_picture=by_name.get("input_image"),
            id_prefix=f"{job.id}/{job.token}/",
        )

    async def _get_picture(self, source: dict[str, Any], name: str) -> bytes:
        """A picture as the decoder leaves it, from where the job says it is."""
        if "url" in source:
            return await self._decoder.decode(await self._fetcher.fetch(source["url"], name), name)
        data = await self._blobs.get(source["file"])
        if data is None:
            raise InferenceFailed(
                f"The file given as {name} has expired; upload it again.", code="invalid_picture", field=name
            )
        return data if source.get("decoded") else await self._decoder.decode(data, name)

    async def _run(self, held: _Held, tasks: Sequence[Task]) -> None:
        job = held.job
        held.task_ids = [task.id for task in tasks]
        progress = _Progress(self._store, job)
        drawn: dict[str, Drawn] = {}
        names: dict[str, str] = {}
        failure: TaskFailed | None = None
        begun = kept = False
        try:
            async with aclosing(self._executor.run(tasks)) as messages:
                async for message in messages:
                    held.running = True
                    match message:
                        case Starting():
                            await self._store.record_stage(job, "loading")
                        case Step():
                            if not begun:
                                begun = True
                                self._meters.queue_seconds.observe(time.time() - job.created_at)
                                if not await self._store.begin(job):
                                    held.lost = True
                                    await self._executor.cancel(held.task_ids)
                            await progress.record(message)
                        case Drawn():
                            names[message.task_id] = await self._blobs.put(message.content_type, message.data)
                            drawn[message.task_id] = message
                        case TaskFailed():
                            if failure is None:
                                failure = message
                                await self._executor.cancel(held.task_ids)
            if held.lost:
                return
            if failure is not None:
                await self._fail(job, code=failure.code, error=failure.message)
            else:
                kept = await self._complete(job, [drawn[task.id] for task in tasks], names)
        finally:
            if not kept:
                await delete_rowless(self._files, self._blobs, list(names.values()))

    async def _complete(self, job: Job, drawn: Sequence[Drawn], names: dict[str, str]) -> bool:
        now = time.time()
        expires_at = now + min(self._settings.file_ttl_seconds, self._settings.history_ttl_seconds)
        images: list[dict[str, Any]] = []
        outputs: list[StoredFile] = []
        warnings: list[str] = []
        for picture in drawn:
            name = names[picture.task_id]
            size = len(picture.data)
            images.append(
                {
                    "file_name": name,
                    "content_type": picture.content_type,
                    "file_size": size,
                    "seed": picture.seed,
                    "likeness": picture.likeness,
                    "pose": picture.pose,
                }
            )
            outputs.append(
                StoredFile(
                    name=name,
                    account_id=job.account_id,
                    kind="output",
                    content_type=picture.content_type,
                    size=size,
                    created_at=now,
                    job_id=job.id,
                    expires_at=expires_at,
                )
            )
            warnings.extend(warning for warning in picture.warnings if warning not in warnings)
        inference_seconds = sum(picture.compute_seconds for picture in drawn)
        completed = await self._store.complete(
            job,
            images=images,
            inference_seconds=inference_seconds,
            warnings=warnings,
            outputs=outputs,
        )
        if completed:
            self._meters.ended.labels("COMPLETED", "").inc()
            self._meters.inference_seconds.observe(inference_seconds)
        return completed

    async def _fail(self, job: Job, *, code: str, error: str, count_attempt: bool = False) -> None:
        if await self._store.fail(job, code=code, error=error, count_attempt=count_attempt):
            self._meters.ended.labels("FAILED", code).inc()

    async def _try_again(self, job: Job, error: WorkerLost) -> None:
        """Queue a job again whose worker was lost, or end it when it has had its attempts."""
        self._meters.worker_losses.labels(error.code).inc()
        if job.attempts + 1 < self._settings.max_attempts:
            await self._store.release(job, count_attempt=True)
            return
        await self._fail(
            job,
            code=error.code,
            error=f"{error.message} It was tried {self._settings.max_attempts} times.",
            count_attempt=True,
        )


class _Progress:
    """Writes a job's progress to its row, but not more often than a person can see."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._steps: dict[str, int] = {}
        self._preview: bytes | None = None
        self._written_at = 0.0

    async def record(self, step: Step) -> None:
        self._steps[step.task_id] = step.step
        self._preview = step.preview or self._preview
        done = sum(self._steps.values())
        if done == 0 or time.monotonic() - self._written_at < PROGRESS_SECONDS:
            return
        self._written_at = time.monotonic()
        preview, self._preview = self._preview, None
        await self._store.record_step(self._job, done, preview)


async def delete_rowless(files: FileStore, blobs: BlobStore, names: Sequence[str]) -> None:
    """Delete bytes whose row was not written: also a cancelled write may have been carried out."""
    for name in names:
        if await files.find(name) is None:
            await blobs.delete(name)


async def wait_until_ended(store: Store, job: Job, timeout_seconds: float) -> Job:
    """The job when it has ended, or as it is when the time is over."""
    with store.feed.listen(job.id) as changed, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            while True:
                changed.clear()
                now = await store.get(job.id)
                if now is None or now.ended:
                    return now or job
                job = now
                await changed.wait()
    return job
