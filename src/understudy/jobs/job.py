"""A job as its row tells it, and what a new one is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENDED = ("COMPLETED", "FAILED")
"""The statuses that never change again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job's row.

    `images` has an entry for each picture, in their order: at the end each with its file, before
    that, where there are several, those that are drawn with theirs, of others the `step` they are at.
    """

    sequence: int
    id: str
    account_id: str
    key_id: str
    model: str
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    seed: int
    warnings: list[str]
    status: str
    version: int
    stage: str
    step: int
    steps: int
    preview: bytes | None
    turn: int
    token: int
    lease_expires_at: float | None
    attempts: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    images: list[dict[str, Any]] | None
    inference_seconds: float | None
    error_code: str | None
    error: str | None
    webhook: dict[str, str] | None
    price_microcredits: int | None
    remaining_microcredits: int | None

    @property
    def ended(self) -> bool:
        """Whether the job has its end."""
        return self.status in ENDED

    @property
    def owns_inputs(self) -> bool:
        """Whether pictures were kept for this job alone; they have a digest, others an address."""
        return any("sha256" in source for source in self.inputs.values())

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing, completed or not: credits are off, or its price is 0."""
        return not self.price_microcredits

    @property
    def asked_poses(self) -> list[Any]:
        """The poses asked for, one for each row of the sheet; `[None]` when none is named."""
        return self.parameters.get("poses") or [self.parameters.get("pose")]

    @property
    def picture_count(self) -> int:
        """How many pictures it asks for."""
        return len(self.asked_poses) * self.parameters.get("num_images", 1)


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a job is submitted with; `steps` is the number of denoising steps over all its pictures.

    `price_microcredits` is held for it; None where credits are off. `webhook` is who is told of its
    end: the `url`, and the `base` of the URLs in what is sent there.
    """

    id: str
    account_id: str
    key_id: str
    model: str
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    seed: int
    steps: int
    warnings: list[str] = field(default_factory=list)
    price_microcredits: int | None = None
    webhook: dict[str, str] | None = None


def list_files(source: Mapping[str, Any]) -> list[str]:
    """The names of the files that an input is in; none where it comes from elsewhere."""
    if "url" in source:
        return []
    return source["files"] if "files" in source else [source["file"]]
