"""Tasks for a worker, and an engine that keeps what it was asked for."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from understudy.engines import DrawResult
from understudy.engines.null import NullEngine
from understudy.executors.messages import (
    Run,
    Task,
)
from understudy.pictures import digest_picture

REFERENCE = (Path(__file__).parents[2] / "examples" / "young-man.png").read_bytes()


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
