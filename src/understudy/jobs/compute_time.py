"""How long jobs take to draw, by those that were completed last."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..database import Database
from . import statements

MEAN_JOBS = 20
"""Completed jobs whose compute time tells how long the next will take."""

MEAN_SECONDS = 1.0
"""How long their mean is good for."""


@dataclass(frozen=True)
class MeanSeconds:
    """Means in seconds: of a job of whatever model, and of a denoising step by model."""

    of_job: float
    of_step: Mapping[str, float]


class ComputeTime:
    """The compute time of the last completed jobs, looked at once a second at most."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read_at = float("-inf")
        self._known: MeanSeconds | None = None

    async def read(self) -> MeanSeconds | None:
        """What jobs and steps took of late; None when no job was completed yet."""
        now = time.monotonic()
        if now - self._read_at > MEAN_SECONDS:
            rows = await self._database.read(lambda c: c.execute(statements.last_completed).all())
            self._known = _average(rows) if rows else None
            self._read_at = now
        return self._known

    def take_completed(self, model: str) -> None:
        """A job of a model was completed; the first of its model is looked at at once."""
        if self._known is None or model not in self._known.of_step:
            self._read_at = float("-inf")


def _average(rows: Sequence[Any]) -> MeanSeconds:
    """The means of completed jobs, the last one first; of each model as many count as of all together."""
    by_model: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_model[row.model].append(row)
    newest = rows[:MEAN_JOBS]
    of_step = {}
    for model, of_model in by_model.items():
        some = of_model[:MEAN_JOBS]
        of_step[model] = sum(row.inference_seconds for row in some) / sum(row.steps for row in some)
    return MeanSeconds(sum(row.inference_seconds for row in newest) / len(newest), of_step)
