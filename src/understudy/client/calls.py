"""What can be asked of the service, each call as one algorithm for both clients.

Here stand the routes and the meaning of their answers; sending, retrying and sleeping are
`exchange`'s.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from .. import __version__
from ..errors import (
    Conflict,
    InferenceFailed,
    InferenceTimeout,
    InvalidRequest,
    NotAuthenticated,
    ServiceError,
    UnderstudyError,
    error_from_body,
)
from .exchange import IDEMPOTENCY_KEY, TRANSIENT, Pause, Send, Steps, Work, send_once, send_patiently
from .pictures import PictureAnswer, encode_parameters, inline_picture, picture_names, picture_paths

DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"
CONNECT_SECONDS = 5.0

SYNC_SECONDS = 600.0
"""The longest wait for the synchronous route's answer; the service's own deadline is shorter."""

KEEP_ALIVE_SECONDS = 3.0
"""Idle connections are dropped before the service's 5 s, so that no POST goes down a dying one."""

FIRST_POLL_SECONDS = 0.1
POLL_GROWTH = 1.5


class JobAddress:
    """Where a submitted job can be asked for; what both kinds of handle have in common."""

    request_id: str
    status_url: str
    response_url: str
    submit_response: dict[str, Any]

    def __init__(self, submit_response: Mapping[str, Any]) -> None:
        self.submit_response = dict(submit_response)
        self.request_id = self.submit_response["request_id"]
        self.status_url = self.submit_response["status_url"]
        self.response_url = self.submit_response["response_url"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.request_id!r})"


class Calls:
    """The service's calls for one address and one key."""

    def __init__(self, api_key: str | None, base_url: str | None, timeout_seconds: float) -> None:
        api_key = (api_key or os.environ.get("UNDERSTUDY_API_KEY") or "").strip()
        if not (api_key.isascii() and api_key.isprintable()):
            raise NotAuthenticated("The API key holds characters that no key has; copy it again.")
        base_url = (base_url or os.environ.get("UNDERSTUDY_BASE_URL") or DEFAULT_BASE_URL).strip()
        if not re.match(r"https?://[^/]", base_url):
            raise InvalidRequest(
                f"base_url must begin with http:// or https://, not {base_url[:80]!r}.", field="base_url"
            )
        self.root = re.sub(r"/v\d+$", "", base_url.rstrip("/"))
        self.timeout_seconds = timeout_seconds
        self.headers = {"x-api-key": api_key} if api_key else {}
        self.agent_headers = {"user-agent": f"understudy-python/{__version__}"}

    def timeout(self, read_seconds: float) -> httpx2.Timeout:
        """The client's timeout, but for the answer `read_seconds`."""
        connect_seconds = min(CONNECT_SECONDS, self.timeout_seconds)
        return httpx2.Timeout(self.timeout_seconds, connect=connect_seconds, read=read_seconds)

    # Models and jobs

    def submit(self, slug: str, parameters: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """POST /v2/{slug}: the answer that names the job."""
        body = yield Work(lambda: encode_parameters(parameters))
        response = yield from send_patiently(self._post(f"/v2/{_quoted(slug)}", body))
        answer = _read_object(response)
        if not all(
            isinstance(answer.get(name), str) for name in ("request_id", "status_url", "response_url")
        ):
            raise _unexpected(response)
        return answer

    def dry_run(self, slug: str, parameters: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """POST /v2/{slug}?dry_run=true: what the request would cost."""
        body = yield Work(lambda: encode_parameters(parameters))
        response = yield from send_patiently(self._post(f"/v2/{_quoted(slug)}?dry_run=true", body))
        return _read_object(response)

    def run_sync(self, slug: str, parameters: Mapping[str, Any]) -> Steps[PictureAnswer]:
        """POST /v1/{slug}: the picture itself."""
        body = yield Work(lambda: encode_parameters(parameters))
        read_seconds = max(SYNC_SECONDS, self.timeout_seconds)
        response = yield from send_patiently(self._post(f"/v1/{_quoted(slug)}", body, read_seconds))
        return PictureAnswer(response.content, response.headers, response.status_code)

    def address(self, request_id: str) -> dict[str, Any]:
        """What the submit route answered for this job: its id and its URLs."""
        response_url = f"{self.root}/v2/requests/{_quoted(request_id)}"
        return {
            "request_id": request_id,
            "status_url": f"{response_url}/status",
            "response_url": response_url,
        }

    def state(self, url: str) -> Steps[dict[str, Any]]:
        """GET a status or response URL; a FAILED body is an answer, not an error."""
        return (yield from _state(send_patiently(self._get(url))))

    def wait(self, job: JobAddress, timeout_seconds: float, interval_seconds: float) -> Steps[dict[str, Any]]:
        """Poll until the job's end; the full result.

        A poll that fails for a passing reason is only a poll that told nothing.

        Raises:
            InferenceFailed: the job ended FAILED.
            InferenceTimeout: `timeout_seconds` ran out; the job goes on.
        """
        started = time.monotonic()
        interval_seconds = max(interval_seconds, 0.0)
        pause_seconds = min(FIRST_POLL_SECONDS, interval_seconds)
        url = job.status_url
        while True:
            remaining_seconds = timeout_seconds - (time.monotonic() - started)
            trouble: UnderstudyError | None = None
            try:
                # At the very end a poll still gets a moment: it may bring the end itself.
                read_seconds = min(max(remaining_seconds, 1.0), self.timeout_seconds)
                body = yield from _state(send_once(self._send("GET", url, read_seconds)))
            except TRANSIENT as error:
                trouble = error
            else:
                self.refuse_failed(job, body)
                if body.get("status") == "COMPLETED":
                    if url == job.response_url:
                        return body
                    url = job.response_url
                    continue
            elapsed_seconds = time.monotonic() - started
            if elapsed_seconds >= timeout_seconds:
                raise InferenceTimeout(
                    f"Request {job.request_id} has not ended within {elapsed_seconds:.1f} s; "
                    "it goes on, wait() again to go on waiting.",
                    request_id=job.request_id,
                    elapsed_s=elapsed_seconds,
                ) from trouble
            asked_seconds = (trouble and trouble.retry_after_seconds) or 0
            yield Pause(min(max(pause_seconds, asked_seconds), timeout_seconds - elapsed_seconds))
            pause_seconds = min(pause_seconds * POLL_GROWTH, interval_seconds)

    def cancel(self, job: JobAddress) -> Steps[dict[str, Any]]:
        """DELETE the job's URL: its status body."""
        return (yield from _state(send_patiently(self._send("DELETE", job.response_url))))

    def save(self, job: JobAddress, path: str | os.PathLike[str]) -> Steps[list[Path]]:
        """Download a completed job's pictures; the paths they were written to.

        Raises:
            InferenceFailed: the job ended FAILED.
            Conflict: it has not ended yet (`not_completed`).
            InvalidRequest: there are several pictures and `path` is a file.
        """
        result = yield from self.state(job.response_url)
        self.refuse_failed(job, result)
        if result.get("status") != "COMPLETED":
            raise Conflict(
                f"Request {job.request_id} is not completed yet; wait() for it before saving.",
                code="not_completed",
                request_id=job.request_id,
            )
        images = result.get("images") or [{"url": result["output"]}]
        return (yield from self.save_images(images, path))

    def save_images(
        self, images: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
    ) -> Steps[list[Path]]:
        """Download pictures that have a URL; the paths they were written to.

        Raises:
            InvalidRequest: there are several pictures and `path` is a file, or one has no `url` yet.
            NotFound: one was deleted, as those of a job that failed are.
        """
        if not all(image.get("url") for image in images):
            raise InvalidRequest("The picture has no url yet: it can be had when it has.", field="image")
        paths: list[Path] = yield Work(lambda: picture_paths(path, picture_names(images)))
        for image, file in zip(images, paths, strict=True):
            # The picture's URL needs no key, and may lead to another host.
            download = self._send("GET", image["url"], headers={}, follow_redirects=True)
            response = yield from send_patiently(download)
            answer = PictureAnswer(response.content, response.headers)
            yield Work(partial(answer.save, file))
        return paths

    def refuse_failed(self, job: JobAddress, snapshot: Mapping[str, Any]) -> None:
        """Raise what a snapshot of a FAILED job stands for.

        Raises:
            InferenceFailed: it has failed.
        """
        if snapshot.get("status") == "FAILED":
            raise _failure(snapshot, job.request_id)

    # Everything else

    def read_object(
        self, path: str, name: str | None = None, query: Mapping[str, Any] | None = None
    ) -> Steps[dict[str, Any]]:
        """GET a route, or one thing of it by name: a JSON object."""
        params = {key: value for key, value in (query or {}).items() if value is not None}
        response = yield from send_patiently(self._get(self._url(path, name), params))
        return _read_object(response)

    def read_list(
        self, path: str, name: str, query: Mapping[str, Any] | None = None
    ) -> Steps[list[dict[str, Any]]]:
        """GET a route that answers with a list under `name`."""
        response = yield from send_patiently(self._get(self._url(path), query))
        return _read_field(response, name, list)

    def read_pages(self, path: str, name: str) -> Steps[list[dict[str, Any]]]:
        """GET all pages of a list under `name`."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            query = {"limit": 200} if cursor is None else {"limit": 200, "cursor": cursor}
            response = yield from send_patiently(self._get(self._url(path), query))
            found += _read_field(response, name, list)
            cursor = _read_object(response).get("next")
            if cursor is None:
                return found

    def delete(self, path: str, name: str) -> Steps[None]:
        """DELETE one thing of a route by its name."""
        yield from send_patiently(self._send("DELETE", self._url(path, name)))

    def read_credits(self) -> Steps[float]:
        """GET /v1/get-user-credits: what the account has left."""
        response = yield from send_patiently(self._get(self._url("/v1/get-user-credits")))
        return float(_read_field(response, "credits", int | float))

    def create_key(
        self,
        name: str,
        scopes: Sequence[str] | None,
        models: Sequence[str] | None,
        expires_in_seconds: float | None,
    ) -> Steps[dict[str, Any]]:
        """POST /v1/keys: the new key; what is None is the service's to choose."""
        asked = {"name": name, "scopes": scopes, "models": models, "expires_in_seconds": expires_in_seconds}
        body = json.dumps({field: value for field, value in asked.items() if value is not None})
        return _read_object((yield from send_patiently(self._post("/v1/keys", body.encode()))))

    def read_webhook_secret(self) -> Steps[str]:
        """GET the secret that signs the account's webhooks."""
        response = yield from send_patiently(self._get(self._url("/v1/webhooks/secret")))
        return _read_field(response, "secret", str)

    def rotate_webhook_secret(self) -> Steps[str]:
        """POST /v1/webhooks/secret/rotate: the new secret."""
        response = yield from send_patiently(self._post("/v1/webhooks/secret/rotate", b""))
        return _read_field(response, "secret", str)

    def replay_webhook(self, webhook_id: str) -> Steps[dict[str, Any]]:
        """POST a delivery's replay route: the delivery."""
        path = f"/v1/webhooks/deliveries/{_quoted(webhook_id)}/replay"
        return _read_object((yield from send_patiently(self._post(path, b""))))

    def upload(self, picture: Any) -> Steps[str]:
        """POST /upload-asset: the URL of the uploaded picture."""
        data_uri = yield Work(lambda: inline_picture("picture", picture))
        if not isinstance(data_uri, str) or not data_uri.startswith("data:"):
            raise InvalidRequest(
                "There is no such picture file to upload; give a path, bytes or a file.",
                code="invalid_picture",
                field="picture",
            )
        body = yield Work(lambda: encode_parameters({"data_urls": [data_uri]}))
        response = yield from send_patiently(self._post("/upload-asset", body))
        urls = _read_field(response, "file_urls", list)
        if not (urls and isinstance(urls[0], str)):
            raise _unexpected(response)
        return urls[0]

    def save_character(self, fields: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """POST /v1/characters: the saved character."""
        body = yield Work(lambda: encode_parameters(fields))
        response = yield from send_patiently(self._post("/v1/characters", body))
        return _read_object(response)

    def update_character(self, name: str, fields: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """PATCH /v1/characters/{name}: the character after the change; what is None stays."""
        given = {key: value for key, value in fields.items() if value is not None}
        body = yield Work(lambda: encode_parameters(given))
        url = self._url("/v1/characters", name)
        response = yield from send_patiently(self._change("PATCH", url, body))
        return _read_object(response)

    # Requests

    def _url(self, path: str, name: str | None = None) -> str:
        return self.root + path if name is None else f"{self.root}{path}/{_quoted(name)}"

    def _get(self, url: str, params: Mapping[str, Any] | None = None) -> Send:
        return self._send("GET", url, params=params or None)

    def _post(self, path: str, body: bytes, read_seconds: float | None = None) -> Send:
        return self._change("POST", self._url(path), body, read_seconds)

    def _change(self, method: str, url: str, body: bytes, read_seconds: float | None = None) -> Send:
        headers = self.headers | {"content-type": "application/json", IDEMPOTENCY_KEY: str(uuid.uuid4())}
        return self._send(method, url, read_seconds, content=body, headers=headers)

    def _send(self, method: str, url: str, read_seconds: float | None = None, **kwargs: Any) -> Send:
        timeout = self.timeout(read_seconds or self.timeout_seconds)
        return Send(method=method, url=url, timeout=timeout, **({"headers": self.headers} | kwargs))


def _state(steps: Steps[httpx2.Response]) -> Steps[dict[str, Any]]:
    try:
        response = yield from steps
    except InferenceFailed as error:
        if error.status_body.get("status") != "FAILED":
            raise
        return error.status_body
    return _read_object(response)


def _failure(body: Mapping[str, Any], request_id: str) -> UnderstudyError:
    return error_from_body(422, {"request_id": request_id, **body})


def _read_object(response: httpx2.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        raise _unexpected(response) from None
    if not isinstance(body, dict):
        raise _unexpected(response)
    return body


def _read_field(response: httpx2.Response, name: str, kind: Any) -> Any:
    value = _read_object(response).get(name)
    if not isinstance(value, kind):
        raise _unexpected(response)
    return value


def _unexpected(response: httpx2.Response) -> ServiceError:
    host = response.request.url.netloc.decode("ascii")
    return ServiceError(
        f"What answers at {host} does not answer as Understudy does; check base_url.",
        code="unexpected_answer",
        status=response.status_code,
    )


def _quoted(segment: str) -> str:
    return quote(segment.strip("/"), safe="")
