"""The worker as a child process, over a real pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from worker_tasks import make_run, make_task, open_picture, standing

from understudy.executors.messages import (
    Cancel,
    Drawn,
    Finished,
    LoadFailed,
    Ready,
    Run,
    Step,
    TaskFailed,
    decode_from_worker,
    encode_frame,
)


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
