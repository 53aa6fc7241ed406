"""The worker: engines that answer messages. What a child process and a Ray replica run.

`Worker` turns tasks into messages and can be driven in-process; `main` is the shell around it
that speaks frames over stdin and stdout (`python -m understudy.worker`). A worker knows nothing
of jobs, keys or HTTP, and it writes no prompt and no picture into its log.
"""

from __future__ import annotations

import ctypes
import io
import logging
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from PIL import Image

from .candidates import Begun, Candidate, choose_candidate_seed, encode_candidate, group_drawings
from .content_policy import ContentBlocked, PromptPolicy
from .encoder import Encoder, Send
from .engines import DrawRequest, DrawResult, Engine, EngineError
from .engines.detector import PoseDetector
from .engines.pose_finder import PoseFinder
from .engines.shelf import EngineShelf
from .errors import UnderstudyError
from .executors.inbox import Inbox, claim_pipes
from .executors.messages import (
    Drawn,
    Finished,
    FromWorker,
    LoadFailed,
    Loading,
    Ready,
    Released,
    Run,
    Step,
    Task,
    TaskFailed,
    encode_frame,
)
from .logs import start_logging
from .pictures import encode_preview
from .pose.skeleton import fit_skeleton, read_keypoints, scale_to_canvas
from .pose.whole_body import WholeBody
from .settings import Settings

if TYPE_CHECKING:
    from .engines.safety import PictureClassifier

# By name: `python -m` calls the module otherwise, and the log tells only of our own what happened.
logger = logging.getLogger("understudy.worker")

_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that is sent when the parent dies."""

IsCancelled = Callable[[str], bool]


class _Cancelled(Exception):
    """Nobody waits for a task any more."""


class Worker:
    """Draws tasks with the engines that they name, those together that agree and are faster so."""

    def __init__(
        self,
        engines: EngineShelf | Engine,
        detector: PoseDetector | None = None,
        *,
        policy: PromptPolicy | None = None,
        classifier: PictureClassifier | None = None,
    ) -> None:
        """`engines` is a shelf of them, or a single one.

        `detector` finds poses in any picture; without it the installed one is loaded when needed.

        What an engine drew is scored by the engine's own, where it has one. `policy` judges prompts
        (what is always refused, when None), `classifier` the pictures that are given and drawn: with
        one there are no previews, for an unfinished picture cannot be judged.
        """
        self._shelf = engines if isinstance(engines, EngineShelf) else EngineShelf.holding(engines)
        self._engine: Engine | None = None
        self._poses: PoseFinder | None = None
        self._finders: dict[str, PoseFinder] = {}
        self._detector = detector
        self._policy = policy or PromptPolicy()
        self._classifier = classifier
        self._passed: set[str] = set()
        self._files: Mapping[str, bytes] = {}
        self._opened: dict[str, Image.Image] = {}
        self._begun: dict[str, Begun] = {}
        self._ended: set[str] = set()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker")
        self._encoder = Encoder()
        self._last: Future[None] | None = None

    def run(self, run: Run, is_cancelled: IsCancelled = lambda task_id: False) -> Iterator[FromWorker]:
        """What `perform` sends, as an iterator, which is drawn from in a thread of its own.

        Leaving the iterator early cancels what is left.
        """
        messages: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
        left = threading.Event()
        self._thread.submit(
            self.perform, run, lambda task_id: left.is_set() or is_cancelled(task_id), messages.put
        )
        try:
            while True:
                message = messages.get()
                yield message
                if isinstance(message, Finished):
                    return
        finally:
            left.set()

    def perform(self, run: Run, is_cancelled: IsCancelled, send: Send) -> Future[None]:
        """Draw a run's tasks in order and send each one's messages, then `Released` and `Finished`.

        Returns when all is drawn: what is left is encoded and sent by threads of its own, beside the
        next run; the future is done when `Finished` is sent. At most one run waits for that.
        `is_cancelled` is asked for a task before it begins and after each of its steps. Whatever
        goes wrong with a task is its own `TaskFailed`.
        """
        self._files = run.pictures
        try:
            for name, tasks in groupby(run.tasks, key=lambda task: task.engine or self._shelf.first):
                self._draw_tasks(name, list(tasks), is_cancelled, send)
        finally:
            # An idle worker keeps no prompt and no picture.
            self._files, self._opened = {}, {}
            self._begun, self._ended, self._passed = {}, set(), set()
        if self._last is not None:
            wait([self._last])
        send(Released())
        self._last = self._encoder.send(Finished, send)
        return self._last

    def _draw_tasks(self, name: str, tasks: Sequence[Task], is_cancelled: IsCancelled, send: Send) -> None:
        """Draw tasks with the engine of a name; where it cannot be loaded, they fail, and no others."""
        try:
            if name not in self._shelf.names and all(is_cancelled(task.id) for task in tasks):
                # Nothing is loaded for what nobody waits for.
                raise _Cancelled
            self._take_engine(name, send)
        except (EngineError, _Cancelled) as error:
            for task in tasks:
                self._fail(task, error, send)
            return
        drawings = [(task, number) for task in tasks for number in range(task.candidates)]
        for batch in group_drawings(drawings, self._engine.batch_size):
            self._draw_batch(batch, is_cancelled, send)

    def _take_engine(self, name: str, send: Send) -> None:
        """Have the engine of a name draw from now on, loaded first if it is not.

        Raises:
            EngineError: it cannot be loaded.
        """
        # Whoever leaves the shelf is to be held by nobody.
        self._engine = self._poses = None
        loads = name not in self._shelf.names
        begun = time.perf_counter()
        if loads:
            self._finders.clear()
        self._engine = self._shelf.take(name, lambda: send(Loading(name, self._shelf.names)))
        if name not in self._finders:
            self._finders[name] = PoseFinder(self._engine.detector, self._detector)
        self._poses = self._finders[name]
        if loads:
            send(describe_ready(self._engine, self._shelf, time.perf_counter() - begun))

    def _draw_batch(self, batch: Sequence[tuple[Task, int]], is_cancelled: IsCancelled, send: Send) -> None:
        """Draw these candidates together, and end each task whose last one is among them."""
        wanted: list[tuple[Begun, int]] = []
        for task, number in batch:
            if task.id not in self._ended:
                with self._failing_alone(task, send):
                    begun = self._begun.get(task.id) or self._begin(task, is_cancelled, send)
                    if number < begun.candidates:
                        wanted.append((begun, number))
        self._draw_together(wanted, is_cancelled, send)

    def _draw_together(
        self, wanted: Sequence[tuple[Begun, int]], is_cancelled: IsCancelled, send: Send
    ) -> None:
        """Draw candidates in one batch; where that fails, in smaller ones, down to one by one."""
        wanted = [one for one in wanted if one[0].task.id not in self._ended]
        if not wanted:
            return
        requests = [
            replace(begun.request, seed=choose_candidate_seed(begun.task.seed, number))
            for begun, number in wanted
        ]

        def on_step(index: int, step: int, steps: int, preview: Image.Image | None) -> bool:
            begun, number = wanted[index]
            if is_cancelled(begun.task.id):
                return False
            begun.steps[number] = step
            # Of candidates that are not drawn the steps count as done with those of the others.
            done = sum(begun.steps.values()) * begun.task.candidates // begun.candidates
            # A batch that is drawn again in parts has told its first steps already.
            if done > begun.told_steps:
                begun.told_steps = done
                shown = self._encode_preview(preview)
                send(Step(begun.task.id, done, steps * begun.task.candidates, shown))
            return True

        self._encoder.wait_for_room()
        started = time.perf_counter()
        failed = False
        try:
            results = self._engine.draw(requests, on_step)
        except Exception as error:
            if len(wanted) == 1:
                self._fail(wanted[0][0].task, error, send)
                return
            failed = True
            logger.warning(
                "a batch of %d failed with %s; it is drawn in halves", len(wanted), _name_error(error)
            )
        if failed:
            # Only now, for the error holds on to all that the batch had in memory.
            half = len(wanted) // 2
            self._draw_together(wanted[:half], is_cancelled, send)
            self._draw_together(wanted[half:], is_cancelled, send)
            return
        share_seconds = (time.perf_counter() - started) / len(wanted)
        for (begun, _), request, result in zip(wanted, requests, results, strict=True):
            begun.seconds += share_seconds
            if begun.task.id not in self._ended:
                with self._failing_alone(begun.task, send):
                    self._take_candidate(begun, request, result, send)

    def _begin(self, task: Task, is_cancelled: IsCancelled, send: Send) -> Begun:
        started = time.perf_counter()
        if is_cancelled(task.id):
            raise _Cancelled
        # Once more, for not every way to a worker leads through a service.
        self._policy.check(task.prompt, task.negative_prompt)
        self._check_inputs(task)
        send(Step(task.id, 0, task.steps * task.candidates))
        request = self._read_request(task)
        can_choose = self._engine.scores_likeness or self._poses.can_score(request.skeleton)
        candidates = task.candidates if can_choose else 1
        begun = Begun(task, request, candidates, time.perf_counter() - started)
        self._begun[task.id] = begun
        return begun

    def _take_candidate(
        self, begun: Begun, request: DrawRequest, result: DrawResult | None, send: Send
    ) -> None:
        """Score a candidate, keep the best, the first of equals, so that it repeats; have it encoded at
        last."""
        if result is None:
            raise _Cancelled
        started = time.perf_counter()
        likeness = self._engine.score_likeness(request.references, result.picture)
        candidate = Candidate(
            seed=request.seed,
            picture=result.picture,
            likeness=None if likeness is None else round(likeness, 4),
            pose=self._poses.score(request.skeleton, result.picture),
            warnings=result.warnings,
        )
        begun.drawn += 1
        if begun.best is None or candidate.score > begun.best.score:
            begun.best = candidate
        if begun.drawn == begun.candidates:
            self._judge(begun.best)
            begun.seconds += time.perf_counter() - started
            encode = partial(self._encode, begun, begun.best, self._engine.name, self._engine.version)
            self._encoder.send(encode, send)
            self._end(begun.task)
        else:
            begun.seconds += time.perf_counter() - started

    def _judge(self, best: Candidate) -> None:
        """
        Raises:
            ContentBlocked: it is not to be shown.
        """
        if self._classifier is not None and self._classifier.blocks(best.picture):
            raise ContentBlocked(
                "output",
                "what was drawn is something that this service does not show; "
                "change the prompt, or try another seed",
            )

    def _encode(self, begun: Begun, best: Candidate, engine: str, version: str) -> Drawn | TaskFailed:
        try:
            return encode_candidate(begun, best, engine, version, self._encode_preview)
        except Exception as error:
            return describe_failure(begun.task, error)

    def _encode_preview(self, picture: Image.Image | None) -> bytes | None:
        return None if picture is None or self._classifier is not None else encode_preview(picture)

    @contextmanager
    def _failing_alone(self, task: Task, send: Send) -> Iterator[None]:
        """Whatever goes wrong inside is the end of this task alone."""
        try:
            yield
        except Exception as error:
            self._fail(task, error, send)

    def _fail(self, task: Task, error: Exception, send: Send) -> None:
        self._end(task)
        send(describe_failure(task, error))

    def _end(self, task: Task) -> None:
        """A task has its answer: its pictures are needed no more."""
        self._ended.add(task.id)
        self._begun.pop(task.id, None)

    def _read_request(self, task: Task) -> DrawRequest:
        body = self._find_pose(task)
        return DrawRequest(
            prompt=task.prompt,
            negative_prompt=task.negative_prompt,
            references=[self._open_picture(digest) for digest in task.references],
            width=task.width,
            height=task.height,
            seed=task.seed,
            guidance_scale=task.guidance_scale,
            steps=task.steps,
            ip_scale=task.ip_scale,
            pose_scale=task.pose_scale,
            skeleton=None if body is None else body.skeleton,
            hands=None if body is None else body.hands,
            face=None if body is None else body.face,
        )

    def _check_inputs(self, task: Task) -> None:
        """Have the pictures that a task was given judged, each of a run's once.

        Raises:
            ContentBlocked: one of them is not to be drawn from.
        """
        if self._classifier is None:
            return
        given = {"ip_image": task.references}
        if task.pose_picture is not None:
            given["input_image"] = [task.pose_picture]
        for name, digests in given.items():
            # All of them: what is blocked is shown to nobody, what is not stays.
            blocked = [digest for digest in digests if self._blocks(digest)]
            if blocked:
                raise ContentBlocked(
                    "input",
                    f"the picture in {name} is something that this service does not draw from; give another",
                    field=name,
                    pictures=blocked,
                )

    def _blocks(self, digest: str) -> bool:
        if digest in self._passed:
            return False
        if self._classifier.blocks(self._open_picture(digest)):
            return True
        self._passed.add(digest)
        return False

    def _find_pose(self, task: Task) -> WholeBody | None:
        """The body that a task asks for, in pixels of its canvas; None when it asks for none."""
        if task.keypoints is not None:
            keypoints = read_keypoints(task.keypoints)
            if task.fit_pose:
                return WholeBody(fit_skeleton(keypoints, task.width, task.height))
            return WholeBody(scale_to_canvas(keypoints, task.width, task.height))
        if task.pose_picture is None:
            return None
        picture = self._open_picture(task.pose_picture)
        body = self._poses.find(task.pose_picture, picture)
        return body.place(picture.size, (task.width, task.height))

    def _open_picture(self, digest: str) -> Image.Image:
        """A picture of the present run; its pixels are read once, when they are first needed."""
        if digest not in self._opened:
            picture = Image.open(io.BytesIO(self._files[digest]))
            # The decoder's files are RGB already.
            self._opened[digest] = picture if picture.mode == "RGB" else picture.convert("RGB")
        return self._opened[digest]


def describe_ready(engine: Engine, shelf: EngineShelf, load_seconds: float) -> Ready:
    """What is told of an engine that has just been loaded, and of those beside it."""
    return Ready(
        engine=engine.name,
        version=engine.version,
        device=engine.device,
        load_seconds=load_seconds,
        batch_size=engine.batch_size,
        resident=shelf.names,
    )


def describe_failure(task: Task, error: Exception) -> TaskFailed:
    """What is told of a task that has no picture; what nobody foresaw is in the log."""
    match error:
        case _Cancelled():
            return TaskFailed(task.id, "cancelled", "The request was cancelled.")
        case ContentBlocked():
            return TaskFailed(task.id, error.code, error.message, error.field, error.pictures)
        case UnderstudyError():
            return TaskFailed(task.id, error.code, error.message, error.field)
        case EngineError():
            return TaskFailed(task.id, error.code, error.message)
    # The exception's own words may quote the prompt; its place in the code does not.
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a task failed with %s:\n%s", type(error).__name__, places)
    return TaskFailed(
        task.id,
        "engine_error",
        "The engine failed on this picture; try again, and tell the operator if it stays so.",
    )


def _name_error(error: Exception) -> str:
    """What the log may tell of an error: its code or its kind, for its words may quote a prompt."""
    return error.code if isinstance(error, EngineError | UnderstudyError) else type(error).__name__


def _die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone, where it can (Linux).

    A closed pipe is seen by a thread of this process: one that hangs in a driver has none that runs.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Serve one executor over stdin and stdout until the pipe closes; the exit status."""
    _die_with_parent()
    commands, answers = claim_pipes()
    start_logging("warning")
    # Ctrl-C reaches the whole process group; when the worker ends is its executor's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox = Inbox(commands)
    inbox.start()

    sending = threading.Lock()

    def send(message: FromWorker) -> None:
        frame = memoryview(encode_frame(message))
        try:
            with sending:
                while frame:
                    frame = frame[answers.write(frame) :]
        except BrokenPipeError:
            inbox.close()

    begun = time.perf_counter()
    classifier = None
    try:
        settings = Settings()
        shelf = EngineShelf.from_settings(settings)
        engine = shelf.take(shelf.first)
        if settings.block_pictures:
            from .engines.safety import load_classifier

            classifier = load_classifier(settings, engine.device)
    except EngineError as error:
        send(LoadFailed(error.code, error.message))
        return 1
    except Exception as error:
        logger.error("the worker could not be started", exc_info=error)
        message = "The engine could not be loaded; the worker's log tells why."
        send(LoadFailed("engine_load_failed", message))
        return 1
    send(describe_ready(engine, shelf, time.perf_counter() - begun))
    # The shelf alone holds it, so that it can leave.
    del engine

    worker = Worker(shelf, policy=PromptPolicy.from_settings(settings), classifier=classifier)
    while (run := inbox.next_run()) is not None:
        worker.perform(run, inbox.is_cancelled, send)
        inbox.forget(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
