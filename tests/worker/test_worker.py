"""The worker in-process: runs, batches, candidates, what fails and what is cancelled."""

from __future__ import annotations

import threading
import time
import weakref

import pytest
from PIL import Image
from worker_tasks import RecordingEngine, make_run, make_task, name_picture, open_picture, png, standing

from understudy import candidates
from understudy.engines import DrawResult, EngineError
from understudy.engines.null import NullEngine
from understudy.executors.messages import (
    Drawn,
    Finished,
    Released,
    Step,
    TaskFailed,
)
from understudy.parameters import MAX_SEED
from understudy.pictures import encode_picture, read_provenance
from understudy.worker import Worker, choose_candidate_seed


def test_a_run_is_answered_in_order():
    messages = list(Worker(RecordingEngine()).run(make_run([make_task("a"), make_task("b", steps=2)])))
    told = [(type(message).__name__, getattr(message, "task_id", None)) for message in messages]
    drawing = [one for one in told if one[0] in ("Step", "Released")]
    assert drawing == [("Step", "a")] * 5 + [("Step", "b")] * 3 + [("Released", None)]
    assert [one for one in told if one[0] != "Step"][-1] == ("Finished", None)
    assert [one for one in told if one[0] == "Drawn"] == [("Drawn", "a"), ("Drawn", "b")]
    assert told.index(("Drawn", "a")) > told.index(("Step", "a")) + 4
    steps = [message for message in messages if isinstance(message, Step) and message.task_id == "a"]
    assert [(step.step, step.steps) for step in steps] == [(number, 4) for number in range(5)]
    assert [step.step for step in steps if step.preview] == [2]
    assert open_picture(steps[2].preview).format == "JPEG"


def test_the_next_is_drawn_while_pictures_are_encoded(monkeypatch):
    may_encode = threading.Event()

    def encode(*given):
        assert may_encode.wait(30)
        return encode_picture(*given)

    monkeypatch.setattr(candidates, "encode_picture", encode)
    worker, sent = Worker(RecordingEngine()), []
    first = worker.perform(make_run([make_task("a"), make_task("b")]), lambda task_id: False, sent.append)
    assert [type(message) for message in sent if not isinstance(message, Step)] == [Released]

    second = []
    beside = threading.Thread(
        target=lambda: worker.perform(make_run([make_task("c")]), lambda task_id: False, second.append)
    )
    beside.start()
    while len(second) < 5:
        time.sleep(0.001)
    assert {message.task_id for message in second} == {"c"}, "it is drawn to its last step"
    assert not first.done()
    assert not any(isinstance(message, Drawn) for message in sent)
    may_encode.set()
    beside.join()
    assert first.done(), "a run is released only when the one before has been sent"
    assert [type(message) for message in sent[-3:]] == [Drawn, Drawn, Finished]


def test_what_cannot_be_encoded_fails_alone(monkeypatch):
    def encode(picture, *given):
        if given[1]["seed"] == 1:
            raise MemoryError
        return encode_picture(picture, *given)

    monkeypatch.setattr(candidates, "encode_picture", encode)
    run = make_run([make_task("a", seed=1), make_task("b", seed=2)])
    ends = [m for m in Worker(RecordingEngine()).run(run) if isinstance(m, Drawn | TaskFailed)]
    assert [(type(end), end.task_id) for end in ends] == [(TaskFailed, "a"), (Drawn, "b")]
    assert ends[0].code == "engine_error"


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


class Blind:
    """A classifier that blocks nothing."""

    def blocks(self, picture: Image.Image) -> bool:
        return False


def test_a_small_copy_comes_with_what_it_is_asked_for_unless_previews_are_hidden():
    run = make_run([make_task("small", preview=True), make_task("none")])
    small, none = (m for m in Worker(RecordingEngine()).run(run) if isinstance(m, Drawn))
    assert (open_picture(small.preview).format, none.preview) == ("JPEG", None)
    assert max(open_picture(small.preview).size) < max(open_picture(small.data).size)
    hidden = [m for m in Worker(RecordingEngine(), classifier=Blind()).run(run) if isinstance(m, Drawn)]
    assert [drawn.preview for drawn in hidden] == [None, None]


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

    def test_every_reference_reaches_the_engine_and_their_number_is_a_batch_s_own(self):
        engine = RecordingEngine(batch_size=4)
        several = [name_picture(png(Image.new("RGB", (9, 9), colour))) for colour in ("red", "lime", "blue")]
        tasks = [
            make_task("one"),
            make_task("three", references=several),
            make_task("two", references=several[1:]),
        ]
        list(Worker(engine).run(make_run(tasks)))
        seen = [[picture.getpixel((0, 0)) for picture in request.references] for request in engine.requests]
        red, lime, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
        assert seen[1:] == [[red, lime, blue], [lime, blue]]
        assert [[len(request.references) for request in batch] for batch in engine.batches] == [[1], [3], [2]]

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


class Unencodable(RecordingEngine):
    """What it draws of one seed cannot be written as a file."""

    def draw(self, requests, on_step):
        results = super().draw(requests, on_step)
        return [
            DrawResult(picture=result.picture.convert("L").convert("F")) if request.seed == 8 else result
            for request, result in zip(requests, results, strict=True)
        ]

    def score_likeness(self, references, picture):
        return None


def test_pictures_of_a_batch_come_in_order_and_one_that_cannot_be_encoded_fails_alone():
    tasks = [make_task(name, seed=7 + number) for number, name in enumerate("abcd")]
    messages = list(Worker(Unencodable(batch_size=4)).run(make_run(tasks)))
    ends = [message for message in messages if isinstance(message, Drawn | TaskFailed)]
    assert [(type(end).__name__, end.task_id) for end in ends] == [
        ("Drawn", "a"),
        ("TaskFailed", "b"),
        ("Drawn", "c"),
        ("Drawn", "d"),
    ]
    assert ends[1].code == "engine_error"
    assert isinstance(messages[-1], Finished)
    alone = [m for m in Worker(RecordingEngine()).run(make_run([tasks[2]])) if isinstance(m, Drawn)]
    assert alone[0].data == ends[2].data
    assert ends[2].compute_seconds > 0
