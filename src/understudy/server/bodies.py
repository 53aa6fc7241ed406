"""What the routes answer about a job: the wire contract's bodies, made from a job's row."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace
from typing import Any, Literal

import msgspec
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ..accounts.credits import to_credits
from ..errors import NotFound
from ..jobs.job import Job
from ..jobs.store import Store
from ..jobs.tasks import list_asked
from ..pose.library import find_pose
from ..settings import Settings

PLACE_AGE_SECONDS = 0.25
"""How old a job's place in the queue may be: those who ask meanwhile share one look at it."""


class JsonAnswer(JSONResponse):
    """An answer in JSON, encoded in a tenth of the time that the standard library takes."""

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class SubmitBody(BaseModel):
    """The answer to a submit."""

    request_id: str
    status: str
    poll_url: str
    status_url: str
    response_url: str
    warnings: list[str]


class PendingImage(BaseModel):
    """One of several pictures of a job that has no end yet.

    One that is drawn has its `url` at once where the job costs nothing. Where it costs credits, the
    pictures are handed out when the job is COMPLETED, and what is charged is told with them: until
    then there is a `preview`.
    """

    index: int = Field(description="Its place in the result's images, from 0.")
    state: Literal["waiting", "drawing", "done"]
    step: int
    steps: int = Field(description="Denoising steps of this picture, over all its candidates.")
    seed: int = Field(description="Until it is done, that of its first candidate.")
    asked_pose: str | None = Field(default=None, description="The name of the pose that was asked for.")
    likeness: float | None = None
    pose: float | None = Field(default=None, description="How well the figure stands as asked, 0 to 1.")
    url: str | None = None
    content_type: str | None = None
    file_name: str | None = None
    file_size: int | None = None
    preview: str | None = Field(default=None, description="URL of a small JPEG, until the job's end.")


class StatusBody(BaseModel):
    """Where a job stands."""

    status: str
    request_id: str
    status_url: str
    response_url: str
    metrics: dict[str, Any] = Field(description="Empty while the job is pending.")
    progress: float = Field(ge=0, le=1)
    stage: str = Field(description="waiting, fetching, loading, drawing or done.")
    step: int
    steps: int = Field(description="Denoising steps over all pictures of the job.")
    queue_position: int | None = Field(description="1 for the next job; null when it waits no more.")
    eta_seconds: float | None
    images: list[PendingImage] | None = Field(
        default=None,
        description="Of several pictures each, in their order, as it is now; not there for a single one, "
        "nor once the job has its end.",
    )


class FailedBody(BaseModel):
    """A job that ended FAILED; served with HTTP 422."""

    status: str
    request_id: str
    error: str
    code: str
    metrics: dict[str, Any]


class ImageBody(BaseModel):
    """One picture of a result."""

    url: str
    content_type: str
    file_name: str
    file_size: int
    seed: int
    likeness: float | None = None
    pose: float | None = Field(default=None, description="How well the figure stands as asked, 0 to 1.")
    asked_pose: str | None = Field(default=None, description="The name of the pose that was asked for.")


class ResultBody(BaseModel):
    """A job that ended COMPLETED."""

    status: str
    request_id: str
    output: str = Field(description="The first picture's URL.")
    images: list[ImageBody]
    seed: int
    prompt: str
    warnings: list[str]
    metrics: dict[str, Any]


class HistoryEntry(BaseModel):
    """One job in the account's history."""

    request_id: str
    model: str
    status: str
    created_at: float
    ended_at: float | None
    prompt: str
    seed: int
    parameters: dict[str, Any]
    images: list[ImageBody]
    error: str | None = None
    code: str | None = None
    metrics: dict[str, Any]


# RFC 9110, 7.2; whatever else a client names as the host gets into no answer.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def base_url(request: Request, settings: Settings) -> str:
    """What every absolute URL in an answer begins with."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = request.headers.get("host", "")
    if _HOST.fullmatch(host) is None:
        return str(request.base_url).rstrip("/")
    return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}".rstrip("/")


def check_retained(job: Job | None, request_id: str, settings: Settings) -> Job:
    """The job, if there is one whose result is still kept.

    Raises:
        NotFound: there is none, or its time is over; which of the two is not told.
    """
    if job is None or (job.ended_at is not None and job.ended_at + settings.result_ttl_seconds < time.time()):
        raise request_not_found(request_id)
    return job


def request_not_found(request_id: str) -> NotFound:
    """The error for a request that does not exist for the caller."""
    return NotFound(f"Request {request_id[:100]} not found", request_id=request_id[:100])


def submit_body(request_id: str, warnings: list[str], base: str) -> dict[str, Any]:
    """The answer to a submit."""
    return SubmitBody(
        request_id=request_id,
        status="QUEUED",
        poll_url=f"{base}/v1/requests/{request_id}",
        status_url=f"{base}/v2/requests/{request_id}/status",
        response_url=f"{base}/v2/requests/{request_id}",
        warnings=warnings,
    ).model_dump()


async def status_body(job: Job, base: str, store: Store, slots: int) -> dict[str, Any]:
    """Where a job stands; of an ended one what its end was, without pictures."""
    if job.status == "FAILED":
        return failed_body(job)
    images = _pending_images(job, base) if job.picture_count > 1 and not job.ended else None
    if images is not None:
        # A row in the queue again has no step, but pictures that are drawn stay.
        job = replace(job, step=sum(image["step"] for image in images))
    position = await _queue_position(job, store)
    body = StatusBody(
        status=job.status,
        request_id=job.id,
        status_url=f"{base}/v2/requests/{job.id}/status",
        response_url=f"{base}/v2/requests/{job.id}",
        metrics=_metrics(job) if job.ended else {},
        progress=_progress(job),
        stage=job.stage,
        step=job.step,
        steps=job.steps,
        queue_position=position,
        eta_seconds=await _estimate_seconds(job, position, store, slots),
    ).model_dump(exclude={"images"})
    if images is not None:
        body["images"] = images
    return body


def failed_body(job: Job) -> dict[str, Any]:
    """The body of a FAILED job."""
    return FailedBody(
        status="FAILED",
        request_id=job.id,
        error=job.error or "The request failed.",
        code=job.error_code or "engine_error",
        metrics=_metrics(job),
    ).model_dump()


def result_body(job: Job, base: str) -> dict[str, Any]:
    """The body of a COMPLETED job."""
    images = _images(job, base)
    return ResultBody(
        status=job.status,
        request_id=job.id,
        output=images[0].url,
        images=images,
        seed=images[0].seed,
        prompt=job.parameters["prompt"],
        warnings=job.warnings,
        metrics=_metrics(job),
    ).model_dump(exclude_none=True)


def end_body(job: Job, base: str) -> dict[str, Any]:
    """The body that the result route answers with for an ended job: what its webhook is told."""
    return result_body(job, base) if job.status == "COMPLETED" else failed_body(job)


async def event_body(job: Job, base: str, store: Store, slots: int) -> dict[str, Any]:
    """A snapshot of the job for its event stream: the end is the full result."""
    if job.status == "COMPLETED":
        return result_body(job, base)
    body = await status_body(job, base, store, slots)
    if job.preview is not None:
        body["preview"] = f"data:image/jpeg;base64,{base64.b64encode(job.preview).decode()}"
    return body


def history_entry(job: Job, base: str) -> dict[str, Any]:
    """A job as the account's history shows it."""
    return HistoryEntry(
        request_id=job.id,
        model=job.model,
        status=job.status,
        created_at=job.created_at,
        ended_at=job.ended_at,
        prompt=job.parameters["prompt"],
        seed=job.seed,
        parameters=job.parameters,
        images=_images(job, base),
        error=job.error,
        code=job.error_code,
        metrics=_metrics(job) if job.ended else {},
    ).model_dump(exclude_none=True)


def _images(job: Job, base: str) -> list[ImageBody]:
    if job.status != "COMPLETED":
        return []
    return [ImageBody(url=f"{base}/files/{image['file_name']}", **image) for image in job.images or []]


def _pending_images(job: Job, base: str) -> list[dict[str, Any]]:
    """Each picture of a job without an end: what was asked, and how far it is."""
    asked = list_asked(job.asked_poses, job.parameters.get("num_images", 1), job.seed)
    steps = job.steps // len(asked)
    known = job.images or [{}] * len(asked)
    images = []
    for index, ((pose, seed), image) in enumerate(zip(asked, known, strict=True)):
        told = PendingImage(index=index, state="waiting", step=0, steps=steps, seed=seed)
        if isinstance(pose, str):
            told.asked_pose = find_pose(pose).name
        if "file_name" in image:
            told.state, told.step = "done", steps
            told.seed, told.likeness, told.pose = image["seed"], image["likeness"], image["pose"]
            if job.is_free:
                told.url = f"{base}/files/{image['file_name']}"
                told.content_type, told.file_name = image["content_type"], image["file_name"]
                told.file_size = image["file_size"]
            elif "preview" in image:
                told.preview = f"{base}/files/{image['preview']}"
        elif "step" in image and job.status == "PROCESSING":
            # Of one that is in the queue again, the step is that of a worker that is gone.
            told.state, told.step = "drawing", image["step"]
        images.append(told.model_dump(exclude_none=True))
    return images


def _metrics(job: Job) -> dict[str, Any]:
    """Timing, and for a completed job its cost and scores; seconds."""
    ended_at = job.ended_at or time.time()
    metrics: dict[str, Any] = {
        "queue_time": round((job.started_at or ended_at) - job.created_at, 3),
        "total_time": round(ended_at - job.created_at, 3),
        "retry_count": job.attempts,
    }
    if job.status == "COMPLETED":
        metrics["inference_time"] = round(job.inference_seconds or 0.0, 3)
        metrics["cost"] = to_credits(job.price_microcredits or 0)
        if job.remaining_microcredits is not None:
            metrics["remaining_credits"] = to_credits(job.remaining_microcredits)
        for score in ("likeness", "pose"):
            known = [image[score] for image in job.images or [] if image.get(score) is not None]
            if known:
                metrics[score] = round(sum(known) / len(known), 4)
    return metrics


def _progress(job: Job) -> float:
    return 1.0 if job.ended else round(min(job.step / job.steps, 1.0), 4)


async def _queue_position(job: Job, store: Store) -> int | None:
    if job.status != "QUEUED":
        return None
    return 1 if job.lease_expires_at is not None else await store.count_ahead(job, PLACE_AGE_SECONDS) + 1


async def _estimate_seconds(job: Job, position: int | None, store: Store, slots: int) -> float | None:
    """Seconds until the end: its own steps that are left, and the jobs before it.

    By the compute time of its model's last steps, and of the last jobs of all models, which those before
    it may be of; None before its model has drawn one.
    """
    if job.ended:
        return 0.0
    means = await store.compute_time.read()
    if means is None or job.model not in means.of_step:
        return None
    own_seconds = means.of_step[job.model] * max(job.steps - job.step, 0)
    return round(own_seconds + means.of_job * (position or 0) / max(slots, 1), 2)
