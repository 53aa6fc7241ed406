"""Candidates: the drawings of a task of which the best is kept, and which of them are drawn together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .executors.messages import Drawn, Task
from .parameters import MAX_SEED
from .pictures import encode_picture

if TYPE_CHECKING:
    from PIL import Image

    from .engines import DrawRequest

CANDIDATE_STRIDE = 1_000_003
"""From one candidate's seed to the next; a prime, so that neighbouring seeds share none."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One drawing of a task, and how good it is; scores are from 0 to 1."""

    seed: int
    picture: Image.Image
    likeness: float | None
    pose: float | None
    warnings: list[str]

    @property
    def score(self) -> float:
        """The mean of the scores that are known."""
        known = [score for score in (self.likeness, self.pose) if score is not None]
        return sum(known) / len(known) if known else 0.0


@dataclass
class Begun:
    """A task that has begun: what its candidates have in common, and how far they are.

    `seconds` is its share of the time so far, `steps` the steps done of each candidate, and
    `told_steps` what was sent of their sum.
    """

    task: Task
    request: DrawRequest
    candidates: int
    seconds: float
    steps: dict[int, int] = field(default_factory=dict)
    told_steps: int = 0
    drawn: int = 0
    best: Candidate | None = None


def choose_candidate_seed(seed: int, number: int) -> int:
    """The seed of candidate `number` (from 0) of a picture asked for with `seed`, within 0..2**53-1.

    Drawn alone, that seed gives that candidate's picture.
    """
    return (seed + CANDIDATE_STRIDE * number) % (MAX_SEED + 1)


def encode_candidate(
    begun: Begun,
    best: Candidate,
    engine: str,
    version: str,
    encode_preview: Callable[[Image.Image], bytes | None],
) -> Drawn:
    """A task's picture as a file, with its provenance inside; `engine` and `version` say what drew it."""
    started = time.perf_counter()
    task, warnings = begun.task, [*best.warnings]
    if begun.candidates < task.candidates:
        warnings.append(f"The engine {engine} cannot score pictures; candidates was ignored.")
    provenance = {**task.provenance, "seed": best.seed, "engine": engine, "version": version}
    if best.likeness is not None:
        provenance["likeness"] = best.likeness
    data, content_type = encode_picture(best.picture, task.output_format, provenance)
    preview = encode_preview(best.picture) if task.preview else None
    return Drawn(
        task_id=task.id,
        data=data,
        content_type=content_type,
        seed=best.seed,
        compute_seconds=begun.seconds + time.perf_counter() - started,
        likeness=best.likeness,
        pose=best.pose,
        warnings=warnings,
        preview=preview,
    )


def group_drawings(
    drawings: Sequence[tuple[Task, int]], batch_size: int
) -> Iterator[Sequence[tuple[Task, int]]]:
    """Neighbours that can be drawn together, at most `batch_size` of them, in their order."""
    for _, alike in groupby(drawings, key=lambda drawing: _shape(drawing[0])):
        group = list(alike)
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _shape(task: Task) -> tuple[Any, ...]:
    """What the requests of one batch have in common, as `DrawRequest` says."""
    posed = task.keypoints is not None or task.pose_picture is not None
    strengths = (task.guidance_scale, task.ip_scale, task.pose_scale)
    return task.width, task.height, task.steps, *strengths, len(task.references), posed
