"""Several engines in one worker: which are loaded, which leave, and one that cannot be loaded."""

from __future__ import annotations

import gc
import time
import weakref

import pytest
import torch
from worker_tasks import RecordingEngine, make_run, make_task

from understudy.engines import EngineError
from understudy.engines import shelf as shelf_module
from understudy.engines.null import NullEngine
from understudy.engines.shelf import EngineShelf
from understudy.executors.messages import Drawn, Finished, Loading, Ready, TaskFailed
from understudy.settings import Settings
from understudy.worker import Worker

NOWHERE = {
    "sdxl_model": "/nonexistent/model",
    "sdxl_controlnet": "/nonexistent/controlnet",
    "sdxl_ip_adapter": "/nonexistent/adapter",
    "sdxl_vae": "/nonexistent/vae",
}


class Loader:
    """Makes engines by name, counts its attempts, and cannot make one that is called `broken`."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def __call__(self, name: str) -> RecordingEngine:
        self.loaded.append(name)
        if name == "broken":
            raise OSError("the file is cut off")
        engine = RecordingEngine(batch_size=3)
        engine.name = name
        return engine


def test_who_was_used_longest_ago_leaves():
    load = Loader()
    shelf = EngineShelf("a", load, most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        shelf.take(name)
    assert load.loaded == ["a", "b", "c", "b"]
    assert shelf.names == ["a", "b"]


def test_who_leaves_is_gone_before_the_next_is_loaded():
    alive = []

    def load(name: str) -> NullEngine:
        alive.append([reference() is not None for reference in made])
        engine = NullEngine()
        # As pipelines do.
        engine.circle = engine
        made.append(weakref.ref(engine))
        return engine

    made: list[weakref.ref] = []
    gc.disable()
    try:
        worker = Worker(EngineShelf("a", load))
        for name in ("a", "b", "c"):
            list(worker.run(make_run([make_task(engine=name)])))
    finally:
        gc.enable()
    assert alive == [[], [False], [False, False]]


def list_networks() -> list[torch.nn.Module]:
    """Those that have weights: the libraries keep activations of their own."""
    modules = [thing for thing in gc.get_objects() if isinstance(thing, torch.nn.Module)]
    return [module for module in modules if next(module.parameters(), None) is not None]


def test_the_embedded_engine_gives_its_memory_back():
    """All of its networks, though its parts refer to each other in circles."""
    before = [id(network) for network in list_networks()]
    shelf = EngineShelf.from_settings(Settings(engine="toon", engines="null", device="cpu"))
    worker = Worker(shelf)
    assert any(isinstance(message, Drawn) for message in worker.run(make_run([make_task(steps=1)])))
    networks = [weakref.ref(network) for network in list_networks() if id(network) not in before]
    assert len(networks) > 100
    messages = list(worker.run(make_run([make_task(engine="null")])))
    assert [type(message) for message in messages[:2]] == [Loading, Ready]
    assert shelf.names == ["null"]
    assert [type(network()) for network in networks if network() is not None] == []


def test_a_load_that_failed_is_not_tried_again_at_once(monkeypatch):
    load = Loader()
    shelf = EngineShelf("a", load)
    shelf.take("a")
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            shelf.take("broken")
        assert (caught.value.code, "log" in caught.value.message) == ("engine_load_failed", True)
        assert "cut off" not in caught.value.message
        shelf.take("a")
    assert load.loaded == ["a", "broken", "a"], "the second time nothing has left for it"
    monkeypatch.setattr(shelf_module.time, "monotonic", lambda now=time.monotonic: now() + 61)
    with pytest.raises(EngineError):
        shelf.take("broken")
    assert load.loaded[-1] == "broken"


def test_the_engine_of_a_task_is_loaded_when_it_is_needed():
    load = Loader()
    worker = Worker(EngineShelf("a", load, most=2))
    first = list(worker.run(make_run([make_task("1"), make_task("2", engine="a")])))
    loading, ready = first[:2]
    assert (loading.engine, loading.resident) == ("a", [])
    assert (ready.engine, ready.batch_size, ready.resident) == ("a", 3, ["a"])
    tasks = [make_task("3", engine="b"), make_task("4", engine="b"), make_task("5", engine="a")]
    second = list(worker.run(make_run(tasks)))
    assert [(m.engine, m.resident) for m in second if isinstance(m, Loading)] == [("b", ["a"])]
    assert [m.task_id for m in second if isinstance(m, Drawn)] == ["3", "4", "5"]
    assert [m.resident for m in second if isinstance(m, Ready)] == [["a", "b"]]
    assert load.loaded == ["a", "b"]


def test_an_engine_that_cannot_be_loaded_fails_its_own_tasks_alone():
    settings = Settings(engine="null", engines="sdxl,flux2-klein", device="cpu", **NOWHERE).model_copy(
        update={"flux2_klein_model": "black-forest-labs/FLUX.2-klein-9B"}
    )
    worker = Worker(EngineShelf.from_settings(settings))
    tasks = [
        make_task("a", engine="sdxl"),
        make_task("b", engine="sdxl", candidates=2),
        make_task("c", engine="null"),
        make_task("d", engine="flux2-klein"),
        make_task("e"),
    ]
    messages = list(worker.run(make_run(tasks)))
    failed = {message.task_id: message for message in messages if isinstance(message, TaskFailed)}
    assert {name: message.code for name, message in failed.items()} == {
        "a": "engine_load_failed",
        "b": "engine_load_failed",
        "d": "licence_not_accepted",
    }
    assert "UNDERSTUDY_SDXL_" in failed["a"].message
    assert "UNDERSTUDY_ACCEPTED_LICENCES" in failed["d"].message
    assert [message.task_id for message in messages if isinstance(message, Drawn)] == ["c", "e"]
    assert isinstance(messages[-1], Finished)


def test_nothing_is_loaded_for_what_nobody_waits_for():
    load = Loader()
    messages = list(Worker(EngineShelf("a", load)).run(make_run([make_task()]), lambda task_id: True))
    ends = [message for message in messages if isinstance(message, TaskFailed)]
    assert [(end.task_id, end.code) for end in ends] == [("a", "cancelled")]
    assert load.loaded == []
