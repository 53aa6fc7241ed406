"""The worker: in-process, and over a real pipe as a child process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from PIL import Image

from understudy.engines import DrawResult, EngineError
from understudy.engines.detector import PoseDetector
from understudy.engines.null import NullEngine
from understudy.executors.messages import (
    Cancel,
    Drawn,
    Finished,
    LoadFailed,
    Ready,
    Run,
    Step,
    Task,
    TaskFailed,
    decode_from_worker,
    encode_frame,
)
from understudy.parameters import MAX_SEED
from understudy.pictures import digest_picture, read_provenance
from understudy.pose.drawing import draw_skeleton
from understudy.worker import Worker, choose_candidate_seed, place_skeleton

REFERENCE = (Path(__file__).parents[1] / "examples" / "young-man.png").read_bytes()


PICTURES: dict[str, bytes] = {}


def name_picture(data: bytes) -> str:
    """A picture's digest, by which the runs made here bring it along."""
    digest = digest_picture(data)
    PICTURES[digest] = data
    return digest


def make_run(tasks: list[Task]) -> Run:
    return Run(tasks, dict(PICTURES))


def make_task(name: str = "a", **changes) -> Task:
    fields = {
        "id": name,
        "prompt": "young man, red plaid shirt, blue jeans",
        "references": [name_picture(REFERENCE)],
        "width": 256,
        "height": 256,
        "steps": 4,
        "seed": 7,
    } | changes
    return Task(**fields)


def standing() -> list[tuple[float, float, float]]:
    right = [(0.40, 0.36), (0.37, 0.48), (0.37, 0.60), (0.45, 0.58), (0.44, 0.76), (0.44, 0.92)]
    left = [(1 - x, y) for x, y in right]
    head = [(0.48, 0.20), (0.52, 0.20), (0.38, 0.22), (0.62, 0.22)]
    points = [(0.5, 0.24), (0.5, 0.35), *right[:3], *left[:3], *right[3:], *left[3:], *head]
    return [(x, y, 1.0) for x, y in points]


def open_picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


class RecordingEngine(NullEngine):
    """Draws flat pictures in as many steps as asked, and keeps what it was asked for, by batches.

    `likeness` gives each picture its score, by the seed that gave the picture its colour.
    """

    name = "recording"

    def __init__(self, likeness=None, batch_size=1) -> None:
        self.batches = []
        self.batch_size = batch_size
        self.scores_likeness = likeness is not None
        self._likeness = likeness or (lambda seed: None)

    @property
    def requests(self):
        return [request for batch in self.batches for request in batch]

    def draw(self, requests, on_step):
        self.batches.append(list(requests))
        pictures = [result.picture for result in super().draw(requests, lambda *step: True)]
        steps, going = requests[0].steps, set(range(len(requests)))
        for step in range(1, steps + 1):
            for index in sorted(going):
                if not on_step(index, step, steps, pictures[index] if step == 2 else None):
                    going.remove(index)
        return [
            DrawResult(picture=picture, warnings=["drawn flat"]) if index in going else None
            for index, picture in enumerate(pictures)
        ]

    def score_likeness(self, references, picture):
        red, green, blue = picture.getpixel((0, 0))
        return self._likeness(red << 16 | green << 8 | blue)


def test_a_run_is_answered_in_order():
    messages = list(Worker(RecordingEngine()).run(make_run([make_task("a"), make_task("b", steps=2)])))
    told = [(type(message).__name__, getattr(message, "task_id", None)) for message in messages]
    assert told == [("Step", "a")] * 5 + [("Drawn", "a")] + [("Step", "b")] * 3 + [
        ("Drawn", "b"),
        ("Finished", None),
    ]
    steps = [message for message in messages if isinstance(message, Step) and message.task_id == "a"]
    assert [(step.step, step.steps) for step in steps] == [(number, 4) for number in range(5)]
    assert [step.step for step in steps if step.preview] == [2]
    assert open_picture(steps[2].preview).format == "JPEG"


def test_the_file_carries_its_provenance():
    task = make_task(provenance={"prompt": "young man", "model": "x"}, output_format="webp", seed=9)
    drawn = next(
        m
        for m in Worker(RecordingEngine(lambda seed: 0.123456)).run(make_run([task]))
        if isinstance(m, Drawn)
    )
    assert drawn.content_type == "image/webp"
    assert (drawn.seed, drawn.likeness, drawn.pose) == (9, 0.1235, None)
    assert drawn.warnings == ["drawn flat"]
    assert read_provenance(drawn.data) == {
        "prompt": "young man",
        "model": "x",
        "seed": 9,
        "engine": "recording",
        "version": "1",
        "likeness": 0.1235,
    }


def test_the_best_candidate_is_kept_and_its_seed_repeats_it():
    best = choose_candidate_seed(100, 2)
    engine = RecordingEngine(lambda seed: 0.9 if seed == best else 0.4)
    messages = list(Worker(engine).run(make_run([make_task(candidates=4, seed=100)])))
    steps = [(message.step, message.steps) for message in messages if isinstance(message, Step)]
    assert steps == [(number, 16) for number in range(17)]
    drawn = next(message for message in messages if isinstance(message, Drawn))
    assert (drawn.seed, drawn.likeness) == (best, 0.9)
    alone = next(
        message
        for message in Worker(engine).run(make_run([make_task(seed=best)]))
        if isinstance(message, Drawn)
    )
    assert open_picture(alone.data).tobytes() == open_picture(drawn.data).tobytes()


def test_candidates_that_cannot_be_scored_are_not_drawn_and_it_is_told():
    engine = RecordingEngine()
    drawn = next(m for m in Worker(engine).run(make_run([make_task(candidates=4)])) if isinstance(m, Drawn))
    assert len(engine.requests) == 1
    assert drawn.seed == 7
    assert "candidates was ignored" in drawn.warnings[-1]


def read_ends(messages) -> dict[str, str]:
    """How each task ended: its seed, or the code of its failure."""
    ends = {message.task_id: message.seed for message in messages if isinstance(message, Drawn)}
    return ends | {message.task_id: message.code for message in messages if isinstance(message, TaskFailed)}


class TestBatches:
    def test_tasks_that_agree_are_drawn_together(self):
        engine = RecordingEngine(batch_size=3)
        posed = make_task("posed", keypoints=standing())
        tasks = [make_task(str(seed), seed=seed, prompt=f"man {seed}") for seed in range(5)]
        messages = list(Worker(engine).run(make_run([*tasks, posed, make_task("small", width=128)])))
        assert [len(batch) for batch in engine.batches] == [3, 2, 1, 1]
        assert [request.prompt for request in engine.requests[:5]] == [f"man {seed}" for seed in range(5)]
        assert read_ends(messages) == {str(seed): seed for seed in range(5)} | {"posed": 7, "small": 7}
        for task in tasks:
            steps = [m.step for m in messages if isinstance(m, Step) and m.task_id == task.id]
            assert steps == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(
        "change",
        [
            {"width": 320},
            {"height": 320},
            {"steps": 5},
            {"guidance_scale": 2.0},
            {"ip_scale": 0.5},
            {"pose_scale": 0.5},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_what_a_batch_has_in_common(self, change):
        engine = RecordingEngine(batch_size=4)
        list(Worker(engine).run(make_run([make_task("a"), make_task("b", **change)])))
        assert [len(batch) for batch in engine.batches] == [1, 1]

    def test_candidates_are_drawn_together_and_the_best_is_kept(self):
        best = choose_candidate_seed(100, 2)
        engine = RecordingEngine(lambda seed: 0.9 if seed == best else 0.4, batch_size=3)
        messages = list(Worker(engine).run(make_run([make_task(candidates=4, seed=100)])))
        assert [len(batch) for batch in engine.batches] == [3, 1]
        steps = [(message.step, message.steps) for message in messages if isinstance(message, Step)]
        assert steps == [(number, 16) for number in range(17)]
        assert read_ends(messages) == {"a": best}

    def test_cancelling_one_leaves_the_others(self):
        asked = []

        def is_cancelled(task_id: str) -> bool:
            asked.append(task_id)
            return task_id == "b" and asked.count("b") > 2

        engine = RecordingEngine(batch_size=4)
        tasks = [make_task(name, seed=seed) for seed, name in enumerate("abc")]
        messages = list(Worker(engine).run(make_run(tasks), is_cancelled))
        assert len(engine.batches) == 1
        assert read_ends(messages) == {"a": 0, "b": "cancelled", "c": 2}
        told = [m.step for m in messages if isinstance(m, Step) and m.task_id == "b"]
        assert told == [0, 1]

    def test_a_batch_too_large_is_drawn_in_smaller_ones(self):
        class TightEngine(RecordingEngine):
            def draw(self, requests, on_step):
                on_step(0, 1, requests[0].steps, None)
                if len(requests) > 2:
                    self.batches.append(list(requests))
                    raise EngineError("Too much.", code="out_of_memory")
                return super().draw(requests, on_step)

        engine = TightEngine(batch_size=8)
        tasks = [make_task(str(seed), seed=seed) for seed in range(6)]
        messages = list(Worker(engine).run(make_run(tasks)))
        assert [len(batch) for batch in engine.batches] == [6, 3, 1, 2, 3, 1, 2]
        assert read_ends(messages) == {str(seed): seed for seed in range(6)}
        # No step is told twice, and none after a later one.
        assert [m.step for m in messages if isinstance(m, Step) and m.task_id == "0"] == [0, 1, 2, 3, 4]

    def test_a_task_that_cannot_begin_leaves_the_others(self):
        engine = RecordingEngine(batch_size=4)
        lost = make_task("lost", candidates=2, references=["of no file"])
        messages = list(Worker(engine).run(make_run([make_task("a"), lost, make_task("c")])))
        assert read_ends(messages) == {"a": 7, "lost": "engine_error", "c": 7}
        assert len([m for m in messages if isinstance(m, TaskFailed)]) == 1
        assert [len(batch) for batch in engine.batches] == [2]

    def test_the_time_of_a_batch_is_shared(self):
        class SlowEngine(RecordingEngine):
            def draw(self, requests, on_step):
                time.sleep(0.2)
                return super().draw(requests, on_step)

        begun = time.perf_counter()
        tasks = [make_task(str(seed), seed=seed, width=64, height=64) for seed in range(4)]
        messages = list(Worker(SlowEngine(batch_size=4)).run(make_run(tasks)))
        elapsed = time.perf_counter() - begun
        shares = [message.compute_seconds for message in messages if isinstance(message, Drawn)]
        assert all(share >= 0.05 for share in shares)
        assert sum(shares) <= elapsed


def test_candidate_seeds_stay_in_range_and_differ():
    seeds = [choose_candidate_seed(MAX_SEED - 5, number) for number in range(8)]
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert len(set(seeds)) == 8
    assert seeds[0] == MAX_SEED - 5


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (EngineError("Too big.", code="out_of_memory"), "out_of_memory", "Too big."),
        (ValueError("secret prompt"), "engine_error", "The engine failed on this picture"),
        (MemoryError(), "engine_error", "The engine failed on this picture"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_failed_task_is_its_own_and_leaks_nothing(caplog, error, code, words, batch_size):
    class FailingEngine(RecordingEngine):
        def draw(self, requests, on_step):
            if any(request.seed == 666 for request in requests):
                raise error
            return super().draw(requests, on_step)

    tasks = [make_task("bad", seed=666), make_task("good")]
    messages = list(Worker(FailingEngine(batch_size=batch_size)).run(make_run(tasks)))
    failed = next(message for message in messages if isinstance(message, TaskFailed))
    assert (failed.task_id, failed.code) == ("bad", code)
    assert words in failed.message
    assert "secret" not in failed.message + caplog.text
    assert [message.task_id for message in messages if isinstance(message, Drawn)] == ["good"]


def test_a_cancelled_task_stops_at_its_next_step_and_others_go_on():
    asked = []

    def is_cancelled(task_id: str) -> bool:
        asked.append(task_id)
        return task_id == "b" or (task_id == "a" and asked.count("a") > 3)

    run = make_run([make_task("a", steps=70), make_task("b"), make_task("c")])
    seen = list(Worker(RecordingEngine()).run(run, is_cancelled))
    failed = {message.task_id: message.code for message in seen if isinstance(message, TaskFailed)}
    assert failed == {"a": "cancelled", "b": "cancelled"}
    assert [message.task_id for message in seen if isinstance(message, Drawn)] == ["c"]
    steps = [message for message in seen if isinstance(message, Step)]
    assert max(step.step for step in steps if step.task_id == "a") < 70
    assert not [step for step in steps if step.task_id == "b"]


def test_leaving_the_iterator_cancels_the_rest():
    engine = RecordingEngine()
    worker = Worker(engine)
    run = worker.run(make_run([make_task(str(number), steps=70) for number in range(50)]))
    next(run)
    run.close()
    assert isinstance(list(worker.run(make_run([])))[-1], Finished)
    assert len(engine.requests) < 50


class TestPose:
    def asked_skeleton(self, worker_engine, **fields) -> numpy.ndarray:
        messages = list(Worker(worker_engine[0], worker_engine[1]).run(make_run([make_task(**fields)])))
        assert not [message for message in messages if isinstance(message, TaskFailed)]
        return worker_engine[0].requests[-1].skeleton

    def test_none_is_asked_for(self):
        assert self.asked_skeleton((RecordingEngine(), None)) is None

    def test_keypoints_are_fractions_of_the_canvas(self):
        skeleton = self.asked_skeleton((RecordingEngine(), None), keypoints=standing(), width=400, height=300)
        assert numpy.allclose(skeleton, numpy.array(standing()) * (400, 300, 1))

    def test_a_library_pose_keeps_its_proportions(self):
        skeleton = self.asked_skeleton(
            (RecordingEngine(), None), keypoints=standing(), fit_pose=True, width=600, height=300
        )
        width, height = numpy.ptp(skeleton[:, :2], axis=0)
        own_width, own_height = numpy.ptp(numpy.array(standing())[:, :2], axis=0)
        assert width / height == pytest.approx(own_width / own_height)
        assert height < 300

    def test_a_skeleton_picture_is_read_and_used_as_it_is(self):
        drawn = draw_skeleton(numpy.array(standing()) * (512, 512, 1), 512, 512)
        skeleton = self.asked_skeleton(
            (RecordingEngine(), None), pose_picture=name_picture(png(drawn)), width=1024, height=512
        )
        expected = numpy.array(standing()) * (512, 512, 1) + (256, 0, 0)
        assert numpy.abs(skeleton[:, :2] - expected[:, :2]).max() < 4

    def test_a_picture_of_somebody_goes_to_the_detector_once(self):
        calls = []

        def model(picture):
            calls.append(picture)
            points = numpy.array(standing()) * (picture.shape[1], picture.shape[0], 1)
            return points[None, :, :2], numpy.ones((1, 18))

        engine = RecordingEngine()
        worker = Worker(engine, PoseDetector(model))
        tasks = [make_task(str(seed), pose_picture=name_picture(REFERENCE), seed=seed) for seed in range(3)]
        drawn = [message for message in worker.run(make_run(tasks)) if isinstance(message, Drawn)]
        expected = numpy.array(standing()) * (256, 256, 1)
        assert numpy.allclose(engine.requests[-1].skeleton, expected)
        assert [message.pose for message in drawn] == [1.0] * 3
        assert len([call for call in calls if call.shape[0] == 1024]) == 1

    def test_an_engine_that_has_a_detector_scores_its_own_pictures_and_finds_poses_with_it(self, monkeypatch):
        monkeypatch.setattr("understudy.worker.is_detector_installed", lambda: False)
        engine = RecordingEngine()

        def model(picture):
            points = numpy.array(standing()) * (picture.shape[1], picture.shape[0], 1)
            return points[None, :, :2], numpy.ones((1, 18))

        engine.detector = PoseDetector(model)
        task = make_task(pose_picture=name_picture(REFERENCE))
        drawn = next(m for m in Worker(engine).run(make_run([task])) if isinstance(m, Drawn))
        assert drawn.pose == 1.0
        assert numpy.allclose(engine.requests[-1].skeleton, numpy.array(standing()) * (256, 256, 1))

    def test_whom_the_installed_detector_does_not_see_the_engine_s_own_may_find(self):
        engine = RecordingEngine()
        points = numpy.array(standing())[None, :, :2] * 256
        engine.detector = PoseDetector(lambda picture: (points, numpy.ones((1, 18))))
        blind = PoseDetector(lambda picture: (numpy.zeros((0, 18, 2)), numpy.zeros((0, 18))))
        task = make_task(pose_picture=name_picture(REFERENCE))
        messages = list(Worker(engine, blind).run(make_run([task])))
        assert any(isinstance(message, Drawn) for message in messages)
        assert engine.requests[-1].skeleton is not None

    def test_without_a_detector_it_is_said_what_to_do(self, monkeypatch):
        monkeypatch.setattr("understudy.engines.detector.is_detector_installed", lambda: False)
        task = make_task(pose_picture=name_picture(REFERENCE))
        failed = next(m for m in Worker(RecordingEngine()).run(make_run([task])) if isinstance(m, TaskFailed))
        assert failed.code == "pose_detector_missing"
        assert "input_image" in failed.message

    def test_nobody_drawn_has_the_pose_score_0(self):
        detector = PoseDetector(lambda picture: (numpy.zeros((0, 18, 2)), numpy.zeros((0, 18))))
        task = make_task(keypoints=standing())
        drawn = next(
            m for m in Worker(RecordingEngine(), detector).run(make_run([task])) if isinstance(m, Drawn)
        )
        assert drawn.pose == 0.0

    def test_a_detector_that_cannot_be_loaded_is_tried_once_and_costs_the_score_alone(self, monkeypatch):
        tries = []

        def fail():
            tries.append(1)
            raise EngineError("No models.", code="pose_detector_failed")

        monkeypatch.setattr("understudy.worker.is_detector_installed", lambda: True)
        monkeypatch.setattr("understudy.worker.load_detector", fail)
        tasks = [make_task(str(seed), keypoints=standing()) for seed in range(3)]
        drawn = [
            message
            for message in Worker(RecordingEngine()).run(make_run(tasks))
            if isinstance(message, Drawn)
        ]
        assert [message.pose for message in drawn] == [None] * 3
        assert len(tries) == 1

    def test_a_picture_is_placed_whole_and_centred(self):
        placed = place_skeleton(numpy.array([(0, 0, 1.0), (100, 200, 0.5)]), (100, 200), (400, 400))
        assert placed.tolist() == [[100, 0, 1.0], [300, 400, 0.5]]


class Child:
    """A worker process and its frames."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "understudy.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"UNDERSTUDY_DEVICE": "cpu"} | environment,
        )

    def send(self, message: Run | Cancel) -> None:
        self.process.stdin.write(encode_frame(message))
        self.process.stdin.flush()

    def read(self):
        head = self.process.stdout.read(4)
        return decode_from_worker(self.process.stdout.read(int.from_bytes(head, "big"))) if head else None

    def read_until(self, kind) -> list:
        messages = [self.read()]
        while not isinstance(messages[-1], kind):
            assert messages[-1] is not None, "the worker ended"
            messages.append(self.read())
        return messages

    def end(self) -> tuple[int, str]:
        """Close the pipe and wait; exit status and log."""
        log = threading.Thread(target=lambda: setattr(self, "log", self.process.stderr.read().decode()))
        log.start()
        self.process.stdin.close()
        status = self.process.wait(timeout=60)
        log.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return status, self.log


@pytest.fixture(scope="module")
def toon_child() -> Iterator[Child]:
    child = Child(UNDERSTUDY_ENGINE="toon")
    ready = child.read()
    assert isinstance(ready, Ready)
    assert (ready.engine, ready.device) == ("toon", "cpu")
    assert ready.load_seconds > 0
    yield child
    status, log = child.end()
    assert status == 0
    assert "plaid" not in log


def test_a_run_over_the_pipe(toon_child):
    tasks = [make_task("a", keypoints=standing(), provenance={"n": 1}), make_task("b", seed=8)]
    toon_child.send(make_run(tasks))
    messages = toon_child.read_until(Finished)
    first, second = (message for message in messages if isinstance(message, Drawn))
    assert (first.task_id, second.task_id) == ("a", "b")
    assert open_picture(first.data).size == (256, 256)
    assert first.data != second.data
    assert 0 <= first.likeness <= 1
    assert first.compute_seconds > 0
    toon_child.send(make_run(tasks[:1]))
    again = next(message for message in toon_child.read_until(Finished) if isinstance(message, Drawn))
    assert again.data == first.data


def test_cancel_in_the_middle_of_a_run(toon_child):
    toon_child.send(make_run([make_task("long", steps=70), make_task("unbegun"), make_task("last", steps=1)]))
    begun = toon_child.read_until(Step) + toon_child.read_until(Step)
    assert begun[-1].task_id == "long"
    toon_child.send(Cancel(["long", "unbegun", "of no such run"]))
    rest = toon_child.read_until(Finished)
    failed = [(message.task_id, message.code) for message in rest if isinstance(message, TaskFailed)]
    assert failed == [("long", "cancelled"), ("unbegun", "cancelled")]
    steps = [
        message.step for message in begun + rest if isinstance(message, Step) and message.task_id == "long"
    ]
    assert max(steps) < 70
    assert [message.task_id for message in rest if isinstance(message, Drawn)] == ["last"]


def test_a_late_cancel_does_not_hit_the_next_run(toon_child):
    toon_child.send(make_run([make_task("again", steps=1)]))
    toon_child.read_until(Finished)
    toon_child.send(Cancel(["again"]))
    toon_child.send(make_run([make_task("again", steps=1)]))
    assert any(isinstance(message, Drawn) for message in toon_child.read_until(Finished))


def test_a_closed_pipe_ends_it_in_the_middle_of_a_run():
    child = Child(UNDERSTUDY_ENGINE="toon")
    child.read_until(Ready)
    child.send(make_run([make_task(str(number), steps=70) for number in range(200)]))
    child.read_until(Step)
    child.process.stdout.close()
    status, _ = child.end()
    assert status in (0, 1)


def test_a_worker_that_is_stuck_ends_with_its_pipe():
    """The engine never comes to its next step; what waits for its device must not wait for it."""
    code = (
        "import time, understudy.executors.inbox as inbox, understudy.worker as worker\n"
        "from understudy.engines.null import NullEngine\n"
        "NullEngine.draw = lambda self, requests, on_step: time.sleep(1000)\n"
        "inbox.EXIT_GRACE_SECONDS = 0.2\n"
        "raise SystemExit(worker.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"UNDERSTUDY_ENGINE": "null"},
    )
    process.stdin.write(encode_frame(make_run([make_task()])))
    process.stdin.flush()
    process.stdout.read(4)
    time.sleep(0.2)
    process.stdin.close()
    assert process.wait(timeout=30) == 1
    process.stdout.close()


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"UNDERSTUDY_ENGINE": "crayon"}, "engine_load_failed", "log"),
        ({"UNDERSTUDY_ENGINE": "null", "UNDERSTUDY_DEVICES": "many"}, "engine_load_failed", "log"),
    ],
)
def test_an_engine_that_cannot_be_loaded_is_told_and_ends_the_worker(environment, code, words):
    child = Child(**environment)
    failed = child.read()
    assert isinstance(failed, LoadFailed)
    assert failed.code == code
    assert words in failed.message
    assert child.end()[0] == 1


def test_a_stray_print_does_not_break_the_frames():
    code = (
        "import understudy.worker as worker\n"
        "from understudy.engines.null import NullEngine\n"
        "draw = NullEngine.draw\n"
        "NullEngine.draw = lambda *arguments: print('chatter', flush=True) or draw(*arguments)\n"
        "raise SystemExit(worker.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=encode_frame(make_run([make_task()])),
        capture_output=True,
        env=os.environ | {"UNDERSTUDY_ENGINE": "null"},
        timeout=60,
        check=False,
    )
    assert b"chatter" not in done.stdout


def test_the_worker_needs_no_torch_for_the_null_engine():
    code = "import sys, understudy.worker; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_fails_in_the_worker_is_told_in_its_log_without_the_prompt():
    code = (
        "import understudy.engines.null as null\n"
        "def draw(*arguments):\n"
        "    raise KeyError('a secret prompt')\n"
        "null.NullEngine.draw = draw\n"
        "import runpy\n"
        "runpy.run_module('understudy.worker', run_name='__main__')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"UNDERSTUDY_ENGINE": "null"},
    )
    process.stdin.write(encode_frame(make_run([make_task()])))
    process.stdin.flush()
    line = json.loads(process.stderr.readline())
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    process.stderr.close()
    assert line["level"] == "error"
    assert "KeyError" in line["event"]
    assert "in draw" in line["event"]
    assert "secret" not in str(line)


def test_a_batch_that_failed_is_let_go_before_its_halves_are_drawn():
    alive: list[bool] = []
    held: list[weakref.ref] = []

    class Memory:
        """What a drawing has in memory."""

    class Engine(NullEngine):
        def draw(self, requests, on_step):
            alive.append(any(one() is not None for one in held))
            memory = Memory()
            held.append(weakref.ref(memory))
            if len(requests) > 1:
                raise EngineError("There is not enough memory.", code="out_of_memory")
            return super().draw(requests, on_step)

    run = make_run([make_task(f"job/{number}") for number in range(4)])
    answers = list(Worker(Engine()).run(run))
    assert len([answer for answer in answers if isinstance(answer, Drawn)]) == 4
    assert len(alive) == 7
    assert not any(alive)


def test_an_idle_worker_keeps_nothing_of_its_last_run():
    worker = Worker(NullEngine())
    list(worker.run(make_run([make_task()])))
    assert [*worker._files, *worker._opened, *worker._begun, *worker._ended] == []
