"""Whether the service lives, whether it is ready, and its meters."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from ..executors import WorkerState
from .access import Running
from .failures import describe_errors

router = APIRouter(tags=["Operations"])

WORKER_STATES = ("stopped", "starting", "idle", "busy", "failed")
"""States of workers as the meters tell them; failed: the last start did not succeed."""


class LiveBody(BaseModel):
    """The process answers."""

    status: str


class ReadyBody(BaseModel):
    """Whether requests can be served; each check is `ok` or says what is wrong."""

    status: str
    checks: dict[str, str]
    workers: list[dict[str, Any]]


@router.get("/health/live", summary="The process answers", responses=describe_errors())
async def read_live() -> LiveBody:
    """Always `live`."""
    return LiveBody(status="live")


@router.get(
    "/health/ready",
    summary="Requests can be served",
    response_model=ReadyBody,
    responses={
        **describe_errors(),
        503: {"model": ReadyBody, "description": "Not ready; `checks` says why."},
    },
)
async def read_ready(service: Running) -> Response:
    """Ready: the database answers, files can be written, a worker can start. A loading model is ready."""
    checks = {"database": "ok", "files": "ok", "executor": "ok", "service": "ok"}
    try:
        await service.store.count_by_status()
    except Exception:
        checks["database"] = "The database does not answer."
    if service.database_is_damaged:
        checks["database"] = "The database is damaged; restore a backup."
    try:
        await service.blobs.check()
    except Exception:
        checks["files"] = "The files folder cannot be written."
    workers = service.executor.describe_workers()
    failures = [worker.failure for worker in workers if worker.failure]
    if len(failures) == len(workers):
        checks["executor"] = failures[0]
    if service.stopping.is_set():
        checks["service"] = "The service is stopping."
    ready = all(check == "ok" for check in checks.values())
    body = ReadyBody(
        status="ready" if ready else "not_ready",
        checks=checks,
        workers=[vars(worker) for worker in workers],
    )
    return JSONResponse(body.model_dump(), status_code=200 if ready else 503)


@router.get(
    "/metrics",
    summary="Prometheus meters",
    response_class=PlainTextResponse,
    responses=describe_errors(),
)
async def read_metrics(service: Running) -> Response:
    """The meters in Prometheus' text format."""
    meters = service.meters
    for status, count in (await service.store.count_by_status()).items():
        meters.jobs.labels(status).set(count)
    states = Counter(map(_name_state, service.executor.describe_workers()))
    for state in WORKER_STATES:
        meters.workers.labels(state).set(states[state])
    meters.free_bytes.set(shutil.disk_usage(service.settings.data_dir).free)
    return Response(generate_latest(meters.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _name_state(worker: WorkerState) -> str:
    return "failed" if worker.state == "stopped" and worker.failure else worker.state
