"""Asking for pictures: POST /v1/{slug} waits for them, POST /v2/{slug} answers with an id."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ..accounts.credits import format_credits, to_credits
from ..accounts.idempotency import AnsweredBefore
from ..accounts.keys import Key
from ..accounts.limits import UNLIMITED
from ..catalog import REFERENCE_SLUG, Model
from ..content_policy import ContentBlocked
from ..errors import (
    DeadlineExceeded,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServiceError,
)
from ..jobs.job import Job, NewJob
from ..jobs.tasks import count_steps
from ..parameters import MAX_SEED, PICTURE_FIELDS, Parameters, parameters_schema
from .access import Caller, Running, check_key, check_model, refuse_while_stopping
from .bodies import FailedBody, JsonAnswer, SubmitBody, base_url, failed_body, request_not_found, submit_body
from .failures import describe_errors
from .fields import JSON_PARAMETERS
from .intake import IDEMPOTENCY_KEY, forget_files, read_request
from .key_watch import KEY_SECONDS
from .routes import DirectRoute
from .service import Service

router = APIRouter(route_class=DirectRoute, tags=["Generate"])


class DryRunBody(BaseModel):
    """What a request would cost; no job was made."""

    dry_run: bool = True
    model: str
    pictures: int
    cost: float = Field(description="In credits, for all pictures.")
    warnings: list[str]


def describe_body() -> dict[str, Any]:
    """The request body of both routes for OpenAPI, made from the parameters' schema."""
    schema = parameters_schema()
    form = {**schema, "properties": dict(schema["properties"])}
    for name in PICTURE_FIELDS:
        words = {key: schema["properties"][name][key] for key in ("title", "description")}
        form["properties"][name] = {**words, "type": "string", "format": "binary"}
    for name in JSON_PARAMETERS:
        words = {key: schema["properties"][name][key] for key in ("title", "description")}
        form["properties"][name] = {**words, "type": "string", "minLength": 1}
    # A form has no null: what is not given is left out.
    for name in ("ip_scale", "pose_scale", "webhook_url"):
        value, _ = schema["properties"][name]["anyOf"]
        form["properties"][name] = {"title": schema["properties"][name]["title"], **value}
    form.pop("examples", None)
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                "multipart/form-data": {"schema": form},
            },
        }
    }


_ERRORS = describe_errors(401, 404, 406, 409, 413)
_FAILED = {422: {"model": FailedBody, "description": "The job ended FAILED."}}
Slug = Annotated[str, Path(max_length=100, description="The model.", examples=[REFERENCE_SLUG])]
DryRun = Annotated[bool, Query(description="Validate everything and tell the price; make no job.")]


@router.post(
    "/v2/{slug}",
    summary="Submit a request to the queue",
    response_model=SubmitBody | DryRunBody,
    responses=_ERRORS,
    openapi_extra=describe_body(),
    dependencies=[Depends(refuse_while_stopping)],
)
async def submit(
    slug: Slug, request: Request, service: Running, key: Caller, dry_run: DryRun = False
) -> Response:
    """Answer at once with the id of a queued job."""
    model = service.catalog.find_model(slug)
    check_model(key, slug)
    if dry_run:
        return await _answer_dry_run(request, service, key, model)
    accepted = await _accept(request, service, key, model)
    return JsonAnswer(accepted.body)


@router.post(
    "/v1/{slug}",
    summary="Generate and wait for the picture",
    response_class=Response,
    responses={
        200: {
            "description": "The first picture's bytes; with `dry_run` the price as JSON.",
            "content": {
                **{
                    kind: {"schema": {"type": "string", "format": "binary"}}
                    for kind in ("image/png", "image/jpeg", "image/webp")
                },
                "application/json": {"schema": DryRunBody.model_json_schema()},
            },
            "headers": {
                name: {"description": words, "schema": {"type": "string"}}
                for name, words in (
                    ("x-request-id", "The job's id."),
                    ("x-generation-time", "Compute time in seconds."),
                    ("x-cost", "What was charged, in credits."),
                    ("x-remaining-credits", "What the account then had; only where credits are on."),
                    ("x-seed-value", "The first picture's seed."),
                    ("x-result-url", "The whole result, as JSON."),
                    ("x-warnings", "What was ignored, as a JSON list; only when there is something."),
                )
            },
        },
        **_ERRORS,
        **_FAILED,
        **describe_errors(504),
    },
    openapi_extra=describe_body(),
    dependencies=[Depends(refuse_while_stopping)],
)
async def generate(
    slug: Slug, request: Request, service: Running, key: Caller, dry_run: DryRun = False
) -> Response:
    """Wait for the job's end and answer with the first picture's bytes."""
    model = service.catalog.find_model(slug)
    check_model(key, slug)
    if dry_run:
        return await _answer_dry_run(request, service, key, model)
    try:
        job = (await _accept(request, service, key, model)).job
    except AnsweredBefore as before:
        # The same picture again, or the wait for it goes on.
        request_id = before.body["request_id"]
        found = await service.store.get(request_id, key.account_id)
        if found is None:
            raise request_not_found(request_id) from None
        job = found
    ended = await _wait_for_end(request, service, job)
    if ended is None:
        raise request_not_found(job.id)
    job = ended
    if job.status == "FAILED":
        return JsonAnswer(failed_body(job), status_code=422, headers={"x-request-id": job.id})
    if job.status != "COMPLETED" and service.stopping.is_set():
        raise ServiceError(
            f"The service is stopping; the request is kept, read it at /v2/requests/{job.id} after.",
            code="shutting_down",
            status=503,
            request_id=job.id,
            retry_after_seconds=5,
        )
    if job.status != "COMPLETED":
        raise DeadlineExceeded(
            f"The picture was not ready in time; the request goes on, read it at /v2/requests/{job.id}.",
            request_id=job.id,
        )
    image = (job.images or [])[0]
    data = await service.blobs.get(image["file_name"])
    if data is None:
        raise NotFound(
            "The picture has expired or was deleted; make it again.", code="file_not_found", request_id=job.id
        )
    return Response(
        data,
        media_type=image["content_type"],
        headers={
            "x-request-id": job.id,
            "x-generation-time": f"{job.inference_seconds or 0.0:.3f}",
            "x-cost": format_credits(job.price_microcredits or 0),
            "x-seed-value": str(image["seed"]),
            **_tell_the_rest(job, base_url(request, service.settings)),
        },
    )


def _tell_the_rest(job: Job, base: str) -> dict[str, str]:
    """Headers for what a picture's bytes cannot say: warnings, and where its other pictures are."""
    headers = {"x-result-url": f"{base}/v2/requests/{job.id}"}
    if job.remaining_microcredits is not None:
        headers["x-remaining-credits"] = format_credits(job.remaining_microcredits)
    warnings = list(job.warnings)
    if len(job.images or []) > 1:
        count = len(job.images or [])
        warnings.append(f"This is the first of {count} pictures; x-result-url has them all.")
    if warnings:
        # JSON escapes what a header cannot carry.
        headers["x-warnings"] = json.dumps(warnings)
    return headers


@dataclass(frozen=True)
class Accepted:
    """A job that is on disk, and the answer to its submit."""

    job: Job
    body: dict[str, Any]


async def _accept(request: Request, service: Service, key: Key, model: Model) -> Accepted:
    """Read a request and put its job in the queue; it is on disk when this returns.

    Raises:
        AnsweredBefore: the request was carried out before; its body is that of a submit.
    """
    await _foresee(request, service, key, model)
    bills = service.settings.credits == "on"

    async def check_price(parameters: Parameters) -> None:
        await service.credits.check_price(key.account_id, model.price(parameters))

    intake = await read_request(request, service, key, check=check_price if bills else None)
    parameters = intake.parameters
    job_id = str(uuid.uuid4())
    base = base_url(request, service.settings)
    body = submit_body(job_id, intake.warnings, base)
    try:
        submitted = await service.store.submit(
            NewJob(
                id=job_id,
                account_id=key.account_id,
                key_id=key.counted_as,
                model=model.slug,
                parameters=intake.describe(),
                inputs=intake.inputs,
                seed=secrets.randbelow(MAX_SEED + 1) if parameters.seed == -1 else parameters.seed,
                steps=count_steps(parameters),
                warnings=intake.warnings,
                webhook=parameters.webhook_url and {"url": parameters.webhook_url, "base": base},
                price_microcredits=model.price(parameters) if bills else None,
            ),
            intake.files,
            service.settings.queue_limit,
            limits=key.limits(service.usual_limits),
            once=intake.once,
            answer=body,
        )
    except BaseException:
        await forget_files(service, intake.files)
        raise
    service.meters.submitted.labels(model.slug).inc()
    # For the log's line of this HTTP request.
    request.state.job_id = job_id
    if submitted.allowance is not None:
        request.state.limit_headers = submitted.allowance.to_headers()
    return Accepted(submitted.job, body)


async def _foresee(request: Request, service: Service, key: Key, model: Model) -> None:
    """Refuse before its body is read what would be refused after; the transaction looks again.

    What is known under its idempotency key has its answer, whatever is left.

    Raises:
        RateLimited, InsufficientCredits: the key is past a limit, or no request is as cheap.
    """
    limits = key.limits(service.usual_limits)
    least_price = model.least_price if service.settings.credits == "on" else 0
    if limits == UNLIMITED and not least_price:
        return
    try:
        request.state.limit_headers = await service.store.foresee(
            key.account_id, key.counted_as, service.settings.queue_limit, limits, least_price
        )
    except (RateLimited, InsufficientCredits) as refusal:
        once = request.headers.get(IDEMPOTENCY_KEY)
        if once is None or not await service.idempotency.knows(key.account_id, once):
            raise
        request.state.limit_headers = refusal.headers


async def _answer_dry_run(request: Request, service: Service, key: Key, model: Model) -> Response:
    intake = await read_request(request, service, key, keep=False)
    try:
        service.policy.check(intake.parameters.prompt, intake.parameters.negative_prompt)
    except ContentBlocked as error:
        # No job is there to fail.
        raise InvalidRequest(error.message, code=error.code) from None
    body = DryRunBody(
        model=model.slug,
        pictures=intake.parameters.picture_count,
        cost=to_credits(model.price(intake.parameters)),
        warnings=intake.warnings,
    )
    return JsonAnswer(body.model_dump())


async def _wait_for_end(request: Request, service: Service, job: Job) -> Job | None:
    """The job at its end; as it is when the deadline passes, the client leaves or the service stops.

    None when it was deleted meanwhile.

    Raises:
        NotAuthenticated, Forbidden: the key works no more; the job goes on.
    """
    end = asyncio.create_task(service.store.wait_until_ended(job, service.settings.sync_deadline_seconds))
    left = asyncio.create_task(_wait_for_disconnect(request))
    stopping = asyncio.create_task(service.stopping.wait())
    waits = (end, left, stopping)
    try:
        while not (await asyncio.wait(waits, timeout=KEY_SECONDS, return_when=asyncio.FIRST_COMPLETED))[0]:
            await check_key(request)
        if stopping.done() and not end.done():
            # What is being drawn is still finished; what waits goes on after the restart.
            now = await service.store.get(job.id)
            if now is not None and now.status == "PROCESSING":
                grace = service.settings.shutdown_grace_seconds
                await asyncio.wait({end, left}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        return end.result() if end.done() else job
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
