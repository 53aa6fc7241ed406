"""The picture classifier, by a network of the default one's kind, and a worker that asks it."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from PIL import Image
from tests.hub_server import Repository, open_hub

from understudy.engines import EngineError
from understudy.engines.null import NullEngine
from understudy.engines.safety import PictureClassifier, load_classifier
from understudy.executors.messages import Drawn, Run, Step, Task, TaskFailed
from understudy.pictures import digest_picture
from understudy.settings import Settings
from understudy.worker import Worker

from .tiny_classifier import TinyClassifier, write_classifier


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyClassifier:
    return write_classifier(tmp_path_factory.mktemp("classifier"))


def load(tiny: TinyClassifier, **settings) -> PictureClassifier:
    return load_classifier(
        Settings(classifier_model=str(tiny.folder), **{"classifier_threshold": tiny.threshold, **settings}),
        "cpu",
    )


def paint(colour: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, (colour >> 16, colour >> 8 & 255, colour & 255))


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_a_score_is_the_probability_of_the_label(tiny):
    classifier = load(tiny)
    assert classifier.score(paint(0x000000)) == pytest.approx(tiny.black, abs=1e-5)
    assert classifier.score(paint(0xFFFFFF, (300, 20))) == pytest.approx(tiny.white, abs=1e-5)
    other = load(tiny, classifier_labels="Normal")
    assert other.score(paint(0)) == pytest.approx(1 - tiny.black, abs=1e-5)
    assert load(tiny, classifier_labels="nsfw, normal").score(paint(0)) == pytest.approx(1, abs=1e-5)


def test_what_was_fetched_from_a_hub_is_loaded_without_it(tiny, tmp_path, monkeypatch):
    files = {file.name: file.read_bytes() for file in tiny.folder.iterdir()}
    settings = Settings(data_dir=tmp_path / "data", block_pictures=True, classifier_model="tiny/classifier")
    with open_hub() as hub:
        hub.repositories["tiny/classifier"] = Repository({"a" * 40: files})
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        fetch = (sys.executable, "-m", "understudy.cli", "fetch", "toon")
        subprocess.run(fetch, env={**os.environ, **settings.to_environment(), **home}, check=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    assert load_classifier(settings, "cpu").score(paint(0)) == pytest.approx(tiny.black, abs=1e-5)


def test_a_picture_is_blocked_from_the_threshold_on(tiny):
    picture = paint(tiny.blocked_colour)
    score = load(tiny).score(picture)
    assert load(tiny, classifier_threshold=score).blocks(picture)
    assert not load(tiny, classifier_threshold=min(1.0, score * 1.000001)).blocks(picture)
    assert load(tiny).blocks(picture)
    assert not load(tiny).blocks(paint(tiny.harmless_colour))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classifier_model": "/nonexistent/folder"}, "UNDERSTUDY_CLASSIFIER_MODEL"),
        ({"classifier_labels": "nsfw, gore"}, "it has normal, nsfw"),
        ({"classifier_labels": ""}, "UNDERSTUDY_CLASSIFIER_LABELS"),
    ],
)
def test_a_classifier_that_cannot_judge_is_not_loaded(tiny, settings, words):
    with pytest.raises(EngineError, match="UNDERSTUDY_CLASSIFIER_") as caught:
        load_classifier(Settings(**{"classifier_model": str(tiny.folder), **settings}), "cpu")
    assert caught.value.code == "engine_load_failed"
    assert words in caught.value.message


class PreviewingEngine(NullEngine):
    """Shows what it draws at once, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.seeds = []

    def draw(self, requests, on_step):
        self.seeds += [request.seed for request in requests]
        pictures = super().draw(requests, lambda *step: True)
        for index, result in enumerate(pictures):
            on_step(index, 1, 1, result.picture)
        return pictures


def perform(worker: Worker, *tasks: dict) -> dict[str, list]:
    """What a worker says of tasks, each given as (reference colour, seed, pose picture's colour or None)."""
    files: dict[str, bytes] = {}

    def keep(colour: int) -> str:
        data = png(paint(colour))
        files[digest_picture(data)] = data
        return digest_picture(data)

    run = Run(
        [
            Task(
                id=task["id"],
                prompt=task.get("prompt", "a hero"),
                negative_prompt=task.get("negative_prompt", ""),
                references=[keep(colour) for colour in task["references"]],
                pose_picture=None if task.get("pose") is None else keep(task["pose"]),
                seed=task["seed"],
                width=64,
                height=64,
            )
            for task in tasks
        ],
        files,
    )
    messages = [message for message in worker.run(run) if hasattr(message, "task_id")]
    return {task["id"]: [m for m in messages if m.task_id == task["id"]] for task in tasks}


def read_block(messages: list) -> str:
    """The message of a task that was blocked, of which no picture was sent."""
    assert not [message for message in messages if isinstance(message, Drawn)]
    (failed,) = [message for message in messages if isinstance(message, TaskFailed)]
    assert failed.code == "content_policy_violation"
    return failed.message


def test_a_blocked_picture_never_leaves_the_worker(tiny):
    engine, bad, good = PreviewingEngine(), tiny.blocked_colour, tiny.harmless_colour
    told = perform(
        Worker(engine, classifier=load(tiny)),
        {"id": "output", "references": [good], "seed": bad},
        {"id": "fine", "references": [good], "seed": good},
        {"id": "reference", "references": [good, bad, bad], "seed": good + 256},
        {"id": "pose", "references": [good], "pose": bad, "seed": good + 512},
    )
    assert read_block(told["output"]).startswith("content_policy_violation (output): ")
    assert read_block(told["reference"]).startswith(
        "content_policy_violation (input): the picture in ip_image"
    )
    assert read_block(told["pose"]).startswith("content_policy_violation (input): the picture in input_image")
    # Which of several it is, is told by their digests.
    failures = {name: told[name][-1].pictures for name in ("output", "reference", "pose")}
    digest = digest_picture(png(paint(bad)))
    assert failures == {"output": [], "reference": [digest, digest], "pose": [digest]}
    assert [type(message).__name__ for message in told["fine"]][-1] == "Drawn"
    # What must not be drawn from is not; and nothing is shown before it is judged.
    assert sorted(engine.seeds) == sorted([bad, good])
    assert not [m for messages in told.values() for m in messages if isinstance(m, Step) and m.preview]


def test_without_a_classifier_there_are_previews(tiny):
    told = perform(Worker(PreviewingEngine()), {"id": "a", "references": [0], "seed": tiny.blocked_colour})
    assert [message for message in told["a"] if isinstance(message, Step) and message.preview]
    assert isinstance(told["a"][-1], Drawn)


def test_a_worker_judges_prompts_by_itself(tiny):
    engine = PreviewingEngine()
    asked = {"references": [0], "seed": 1}
    told = perform(
        Worker(engine),
        {**asked, "id": "a", "prompt": "a nude teenager"},
        {**asked, "id": "b", "prompt": "teen girl", "negative_prompt": "clothes"},
    )
    assert read_block(told["a"]).startswith("content_policy_violation (prompt): ")
    assert read_block(told["b"]).startswith("content_policy_violation (prompt): ")
    assert engine.seeds == []
