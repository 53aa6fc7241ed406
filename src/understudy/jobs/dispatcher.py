"""Carries jobs from the queue to the workers and their pictures back.

It claims the jobs whose turn it is, gets their pictures while the devices are still busy with
those before, hands out what workers can start now and one batch more, writes progress, and
finishes. It wakes when a job is submitted or a worker becomes free. It knows executors by their
protocol, and never decodes a picture itself.

Which engine draws a job is told by its model. A batch has jobs of one engine; the executor says for how
long an engine that is loaded is preferred to the queue's order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from ..blobs import BlobStore
from ..content_policy import PromptPolicy
from ..errors import NotFound, ServiceError, UnderstudyError
from ..executors import Executor, RunMessage, WorkerLost
from ..executors.messages import Drawn, Released, Run, Starting, Step, TaskFailed
from ..fetch import FetchPlaces
from ..meters import Meters
from ..settings import Settings
from .claims import Claims
from .files import FileStore, delete_rowless
from .held import HeldJob
from .inputs import InputReader, must_fetch
from .recorder import Recorder
from .store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 2.0
"""How long a job waits that this machine could not carry out, before it is queued again."""


class Dispatcher:
    """The one loop between the job store and an executor."""

    def __init__(
        self,
        settings: Settings,
        policy: PromptPolicy,
        store: Store,
        files: FileStore,
        blobs: BlobStore,
        inputs: InputReader,
        places: FetchPlaces,
        executor: Executor,
        meters: Meters,
        engines: Mapping[str, str],
    ) -> None:
        """`engines` has the engine of each model, by the model's slug."""
        self._settings = settings
        self._claims = Claims(store, executor, engines, settings.lease_seconds)
        self._policy = policy
        self._store = store
        self._files = files
        self._blobs = blobs
        self._inputs = inputs
        self._places = places
        self._executor = executor
        self._meters = meters
        self._recorder = Recorder(store, blobs, meters, self._do_beside, self._lose_running)
        # From the start at zero, or the first load would not count as an increase.
        for engine in set(engines.values()):
            meters.engine_loads.labels(engine)
        self._held: dict[str, HeldJob] = {}
        self._preparing: set[HeldJob] = set()
        self._ready: list[HeldJob] = []
        self._some_ready = asyncio.Condition()
        # Jobs whose batch took a worker down: one of them is to blame, so each runs alone next.
        self._suspects: set[str] = set()
        self._stopping = False
        self._stop_by = 0.0
        self._loops: list[asyncio.Task[None]] = []
        self._runs: set[asyncio.Task[None]] = set()
        self._lease_loop: asyncio.Task[None] | None = None
        self._side_work: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Begin to claim jobs."""
        self._store.feed.observe_taken(self._lose)
        self._loops = [asyncio.create_task(self._claim_jobs())]
        self._loops += [asyncio.create_task(self._run_batches()) for _ in range(self._executor.slots)]
        self._lease_loop = asyncio.create_task(self._keep_leases())

    def stop_claiming(self) -> None:
        """Claim no more and begin nothing; what runs goes on, for the grace time at most."""
        if not self._stopping:
            self._stopping = True
            self._stop_by = time.monotonic() + self._settings.shutdown_grace_seconds

    async def stop(self) -> None:
        """Let running jobs end within the grace time; give everything else back."""
        self.stop_claiming()
        for held in list(self._held.values()):
            if not held.running and held.work is not None:
                held.work.cancel()
        running = [held for held in self._held.values() if held.running]
        while running and time.monotonic() < self._stop_by:
            await asyncio.sleep(0.02)
            running = [held for held in self._held.values() if held.running]
        under_way = [*self._loops, *self._runs]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        works = [held.work for held in self._held.values() if held.work is not None]
        await asyncio.gather(*works, return_exceptions=True)
        while self._side_work:
            await asyncio.gather(*self._side_work, return_exceptions=True)
        for held in list(self._held.values()):
            await self._give_back(held)
        if self._lease_loop is not None:
            self._lease_loop.cancel()
            await asyncio.gather(self._lease_loop, return_exceptions=True)

    # Claiming and preparing.

    async def _claim_jobs(self) -> None:
        while True:
            try:
                while await self._claim_batch():
                    pass
            except Exception:
                log.exception("claiming_failed")
                await asyncio.sleep(RETRY_SECONDS)
            # A job can also become free by time (a lease that ran out), hence a limit.
            await self._store.feed.wait_for_work(self._settings.lease_seconds)

    async def _claim_batch(self) -> bool:
        """Claim jobs to be kept ready; whether to look for more.

        Those that wait for another host are not counted, so that it holds up no other.
        """
        if self._stopping or self._places.are_taken:
            return False
        claimed, more = await self._claims.claim(
            {*self._ready, *self._preparing}, but_not_of=self._places.list_full()
        )
        for held in claimed:
            self._begin_to_prepare(held)
        return more

    def _begin_to_prepare(self, held: HeldJob) -> None:
        self._held[held.job.id] = held
        fetches = must_fetch(held.job)
        if fetches:
            self._places.take(held.job.account_id)
        else:
            self._preparing.add(held)

        def end(work: asyncio.Task[None]) -> None:
            # Here and not in the work itself: cancelled before its first step, it never begins.
            if fetches:
                self._places.free(held.job.account_id)
            else:
                self._preparing.discard(held)
            if work.cancelled():
                self._do_beside(self._give_back(held))
            self._store.feed.wake()

        held.work = asyncio.create_task(self._prepare(held))
        held.work.add_done_callback(end)

    async def _prepare(self, held: HeldJob) -> None:
        job = held.job
        try:
            if held.engine is None:
                raise NotFound(
                    f"The model {job.model} is not served any more; send the request to another.",
                    code="model_not_found",
                )
            # Before anything is fetched for it, and whether or not an engine is there.
            self._policy.check(job.parameters["prompt"], job.parameters.get("negative_prompt", ""))
            if must_fetch(job):
                await self._store.record_stage(job, "fetching")
            held.take_tasks(*await self._inputs.read_tasks(job, held.engine))
        except (OSError, ServiceError, DBAPIError):
            log.exception("job_not_prepared", extra={"job": job.id})
            await self._give_back_later(held)
        except UnderstudyError as error:
            await self._fail(held, code=error.code, error=error.message)
        except Exception:
            log.exception("job_not_prepared", extra={"job": job.id})
            await self._fail_internally(held)
        else:
            if not held.left:
                # Whoever held it before died between its last picture and its end.
                held.running = True
                self._do_beside(self._finish(held))
                return
            async with self._some_ready:
                self._ready.append(held)
                self._ready.sort(key=lambda one: one.order)
                self._some_ready.notify()

    # Running.

    async def _run_batches(self) -> None:
        """Begin one run after another; what of one is left when its slot is free goes on beside."""
        while True:
            async with self._some_ready:
                await self._some_ready.wait_for(lambda: self._ready and not self._stopping)
                batch = self._take_batch()
            self._store.feed.wake()
            released = asyncio.Event()
            run = asyncio.create_task(self._carry_out(batch, released))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
            await released.wait()

    async def _carry_out(self, batch: Sequence[HeldJob], released: asyncio.Event) -> None:
        try:
            await self._run(batch, released)
        except WorkerLost as error:
            self._meters.worker_losses.labels(error.code).inc()
            log.warning("worker_lost", extra={"code": error.code, "jobs": [one.job.id for one in batch]})
            beside_another = released.is_set() and len(self._runs) > 1
            await self._try_all_again(batch, error, beside_another=beside_another)
        except OSError:
            log.exception("run_not_begun")
            for held in batch:
                self._do_beside(self._give_back_later(held))
        except Exception:
            log.exception("run_failed")
            await self._try_all_again(batch, WorkerLost("The service failed.", "internal_error"))
        else:
            for held in batch:
                self._do_beside(self._finish(held))
        finally:
            released.set()

    def _take_batch(self) -> list[HeldJob]:
        preferred = self._executor.preferred_engines(of_idle=True)
        first = next((held for held in self._ready if held.engine in preferred), self._ready[0])
        self._ready.remove(first)
        first.running = True
        batch = [first]
        if first.job.id in self._suspects:
            return batch
        for held in list(self._ready):
            if len(batch) >= self._executor.batch_size(first.engine):
                break
            if held.agrees_with(first) and held.job.id not in self._suspects:
                self._ready.remove(held)
                held.running = True
                batch.append(held)
        return batch

    async def _run(self, batch: Sequence[HeldJob], released: asyncio.Event) -> None:
        by_task = {held.tasks[number].id: (held, number) for held in batch for number in held.left}
        run = Run(
            tasks=[held.tasks[number] for held, number in by_task.values()],
            pictures={digest: file for held in batch for digest, file in held.pictures.items()},
        )
        async with aclosing(self._executor.run(run)) as messages:
            async for message in messages:
                if isinstance(message, Starting):
                    self._meters.engine_loads.labels(batch[0].engine).inc()
                    for held in batch:
                        self._do_beside(self._store.record_stage(held.job, "loading"))
                elif isinstance(message, Released):
                    # A suspect's run has the worker to itself until its end.
                    if batch[0].job.id not in self._suspects:
                        released.set()
                elif isinstance(message, Step | Drawn | TaskFailed):
                    self._receive(*by_task[message.task_id], message)

    def _receive(self, held: HeldJob, number: int, message: RunMessage) -> None:
        """Take in a message about a picture of a job; what must be written is written beside the run."""
        match message:
            case Step():
                self._recorder.take_step(held, number, message)
            case Drawn():
                self._recorder.take_picture(held, number, message)
            case TaskFailed() if held.failure is None:
                held.failure = message
                if held.several:
                    self._do_beside(self._executor.cancel(held.task_ids))

    # Ending.

    async def _finish(self, held: HeldJob) -> None:
        """End a job whose run has ended."""
        held.ended = True
        try:
            if held.lost:
                await self._let_go(held)
            elif (failure := held.failure) is not None:
                refused = await held.list_refused(self._blobs)
                await self._fail(held, code=failure.code, error=failure.message, refused=refused)
            else:
                await self._complete(held)
        except (OSError, DBAPIError):
            # A full disk is nobody's attempt: the job waits until there is room.
            log.exception("job_not_finished", extra={"job": held.job.id})
            await self._give_back_later(held)
        except Exception:
            log.exception("job_not_finished", extra={"job": held.job.id})
            await self._fail_internally(held)

    async def _complete(self, held: HeldJob) -> None:
        until = time.time() + min(self._settings.file_ttl_seconds, self._settings.history_ttl_seconds)
        for write in held.writes:
            await write
        await held.settle()
        kept = {image["file_name"] for image in held.images}
        completed = await self._store.complete(
            held.job,
            images=held.list_images(),
            inference_seconds=held.inference_seconds,
            warnings=held.warnings,
            outputs=[replace(file, expires_at=until) for file in held.unrecorded if file.name in kept],
            started_at=held.started_at,
            keep_until=until,
        )
        if completed:
            self._meters.ended.labels("COMPLETED", "").inc()
            self._meters.inference_seconds.observe(held.inference_seconds)
            _log_end(held, "COMPLETED", inference_seconds=round(held.inference_seconds, 3))
            held.names = [name for name in held.names if name not in kept]
        await self._let_go(held)

    async def _fail(self, held: HeldJob, *, code: str, error: str, refused: Sequence[str] = ()) -> None:
        try:
            ended = await self._store.fail(held.job, code=code, error=error, refused=refused)
        except DBAPIError:
            log.exception("job_not_failed", extra={"job": held.job.id})
            await self._give_back_later(held)
            return
        if ended:
            self._meters.ended.labels("FAILED", code).inc()
            _log_end(held, "FAILED", code=code)
        await self._let_go(held)

    async def _fail_internally(self, held: HeldJob) -> None:
        await self._fail(
            held, code="internal_error", error="The service failed on this request; send it again."
        )

    async def _try_all_again(
        self, batch: Sequence[HeldJob], error: WorkerLost, *, beside_another: bool = False
    ) -> None:
        """Queue jobs again whose worker was lost, or end the one that has had its attempts.

        One that was lost beside another run may not be to blame either.
        """
        if error.code == "engine_load_failed":
            await asyncio.sleep(RETRY_SECONDS)
        if len(batch) > 1 or beside_another:
            for held in batch:
                self._suspects.add(held.job.id)
                await self._give_back(held)
            return
        held = batch[0]
        self._meters.attempts_lost.labels(error.code).inc()
        if held.job.attempts + 1 >= self._settings.max_attempts:
            words = f"{error.message} It was tried {self._settings.max_attempts} times."
            await self._fail(held, code=error.code, error=words)
            return
        await self._give_back(held, count_attempt=True)

    async def _give_back_later(self, held: HeldJob) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        await self._give_back(held)

    async def _give_back(self, held: HeldJob, *, count_attempt: bool = False) -> None:
        """Put a job back in the queue; if not even that can be written, its lease runs out."""
        await held.settle()
        if not held.lost:
            with contextlib.suppress(DBAPIError):
                await self._store.release(held.job, count_attempt=count_attempt)
        await self._let_go(held, comes_again=not held.lost)

    async def _let_go(self, held: HeldJob, *, comes_again: bool = False) -> None:
        """Forget a job; of its pictures only those stay whose row was written."""
        if self._held.get(held.job.id) is held:
            del self._held[held.job.id]
        if not comes_again:
            self._suspects.discard(held.job.id)
        await held.settle()
        try:
            await delete_rowless(self._files, self._blobs, held.names)
        except (OSError, DBAPIError):
            # The next start finds bytes that no row knows of.
            log.exception("files_not_deleted", extra={"job": held.job.id})
        self._store.feed.wake()

    # Leases.

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
                log.exception("leases_not_extended")

    def _lose(self, job_id: str) -> None:
        """A job is no longer ours: stop its work, between two steps if it runs."""
        held = self._held.get(job_id)
        if held is None:
            return
        held.lost = True
        if held.running:
            self._do_beside(self._executor.cancel(held.task_ids))
        elif held in self._ready:
            self._ready.remove(held)
            self._do_beside(self._let_go(held))
        elif held.work is not None:
            held.work.cancel()

    def _lose_running(self, held: HeldJob) -> None:
        """A change of a job was refused: it is no longer ours, unless that was an earlier claim of it."""
        if not held.ended and self._held.get(held.job.id) is held:
            self._lose(held.job.id)

    def _do_beside(self, work: Awaitable[T]) -> asyncio.Future[T]:
        """Do something while the run goes on; `stop` waits for it."""
        task = asyncio.ensure_future(work)
        self._side_work.add(task)
        task.add_done_callback(self._forget_side_work)
        return task

    def _forget_side_work(self, task: asyncio.Future[Any]) -> None:
        self._side_work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("progress_not_written", exc_info=error)


def _log_end(held: HeldJob, status: str, **facts: Any) -> None:
    job = held.job
    begun = held.started_at or time.time()
    times = {"queue_seconds": round(begun - job.created_at, 3), "attempts": job.attempts}
    log.info("job_ended", extra={"job": job.id, "model": job.model, "status": status, **times, **facts})
