"""One exchange with the service: what is sent, what may come back, when it is sent again.

Every call of the SDK is a generator that yields steps (send this, pause so long, do this
piece of work) and is given their outcomes; `drive` carries the steps out with a blocking
HTTP client, `drive_async` with an asynchronous one. So each algorithm is written once.
This file knows nothing of routes, jobs or parameters.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from ..errors import (
    ConnectionFailed,
    DeadlineExceeded,
    RateLimited,
    ServiceError,
    UnderstudyError,
    error_from_body,
)

ATTEMPTS = 4
"""How often one request is sent at most."""

FIRST_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0

MAX_RETRY_AFTER_SECONDS = 30.0
"""A service that asks for a longer pause than this gets it from the caller, who sees the error."""

IDEMPOTENCY_KEY = "idempotency-key"

TRANSIENT = (RateLimited, ServiceError, ConnectionFailed)
"""What may be gone at the next attempt."""

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_GATEWAY_STATUSES = (502, 503, 504)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Send:
    """A step: send this request; its outcome is a response or an `httpx2` error."""

    method: str
    url: str
    headers: Mapping[str, str]
    timeout: httpx2.Timeout
    params: Mapping[str, Any] | None = None
    content: bytes | None = None
    follow_redirects: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the service does nothing new when the same request reaches it twice.

        The one place that decides it: a POST is repeatable by the key that it carries, by which
        the service recognises the repetition.
        """
        return self.method == "GET" or IDEMPOTENCY_KEY in self.headers


@dataclass(frozen=True)
class Pause:
    """A step: wait so long."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """A step: do this; it touches the disk or takes long enough to hold up an event loop."""

    do: Callable[[], Any]


Steps = Generator[Send | Pause | Work, Any, T]
"""An algorithm: it yields steps, is sent their outcomes and returns a `T`."""


def drive(http: httpx2.Client, steps: Steps[T]) -> T:
    """Carry out the steps, blocking; return what the algorithm returns."""

    def perform(step: Send | Pause | Work) -> Any:
        match step:
            case Send():
                return http.request(**_arguments(step))
            case Pause(seconds):
                return time.sleep(seconds)
            case Work(do):
                return do()

    try:
        step = next(steps)
        while True:
            try:
                outcome = perform(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


async def drive_async(http: httpx2.AsyncClient, steps: Steps[T]) -> T:
    """Carry out the steps without blocking the event loop; return what the algorithm returns."""

    async def perform(step: Send | Pause | Work) -> Any:
        match step:
            case Send():
                return await http.request(**_arguments(step))
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Work(do):
                return await asyncio.to_thread(do)

    try:
        step = next(steps)
        while True:
            try:
                outcome = await perform(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


def send_once(send: Send) -> Steps[httpx2.Response]:
    """Send a request and return its successful answer.

    Raises:
        ConnectionFailed: no answer came.
        UnderstudyError: the answer is an error; the class tells which.
    """
    try:
        response: httpx2.Response = yield send
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise connection_failed(send.url, error) from error
    raise_for_error(response)
    return response


def send_patiently(send: Send) -> Steps[httpx2.Response]:
    """`send_once`, again after a pause where that is safe; at most `ATTEMPTS` times.

    Safe is: what was refused before anything was done (no connection, 429), and for a
    repeatable request also a lost connection and 502, 503, 504, but not the service's own
    deadline: it has the job, and the caller its id.
    """
    attempt = 1
    while True:
        try:
            return (yield from send_once(send))
        except UnderstudyError as error:
            if attempt == ATTEMPTS or not _may_send_again(send, error):
                raise
            asked_seconds = error.retry_after_seconds
        yield Pause(backoff_seconds(attempt) if asked_seconds is None else asked_seconds)
        attempt += 1


def backoff_seconds(attempt: int) -> float:
    """The pause after the `attempt`-th failure (from 1): exponential, half of it at random.

    The random half keeps many clients from coming back in step.
    """
    ceiling = min(FIRST_BACKOFF_SECONDS * 2.0 ** (attempt - 1), MAX_BACKOFF_SECONDS)
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret


def raise_for_error(response: httpx2.Response) -> None:
    """Raise the error that a read response stands for; a success passes.

    Raises:
        UnderstudyError: of the class that belongs to the HTTP status.
    """
    if response.is_success:
        return
    try:
        body = response.json()
    except ValueError:
        body = None
    raise error_from_body(
        response.status_code,
        body,
        retry_after_seconds=_parse_retry_after(response.headers.get("retry-after")),
    )


def connection_failed(url: str, error: Exception) -> ConnectionFailed:
    """The error for a request that got no answer; it names the host, never a header or a body."""
    host = _host_of(url)
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        words = f"{host} is no http(s) address; check base_url or UNDERSTUDY_BASE_URL."
    elif isinstance(error, _NEVER_SENT):
        words = f"The service at {host} cannot be reached; check that it runs and that base_url is right."
    elif isinstance(error, httpx2.TimeoutException):
        words = (
            f"The service at {host} did not answer in time; try again or give the client a longer timeout."
        )
    else:
        words = f"The connection to the service at {host} was lost ({type(error).__name__}); try again."
    return ConnectionFailed(words)


def _may_send_again(send: Send, error: UnderstudyError) -> bool:
    if isinstance(error, ConnectionFailed):
        return send.repeatable or isinstance(error.__cause__, _NEVER_SENT)
    if (error.retry_after_seconds or 0) > MAX_RETRY_AFTER_SECONDS:
        return False
    if isinstance(error, DeadlineExceeded) and error.request_id is not None:
        return False
    if isinstance(error, RateLimited):
        return send.repeatable or error.retry_after_seconds is not None
    return send.repeatable and error.status in _GATEWAY_STATUSES


def _parse_retry_after(value: str | None) -> int | None:
    """Seconds out of a Retry-After header: whole seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return int(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0, math.ceil((when - datetime.now(UTC)).total_seconds()))


def _host_of(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return "the given URL"
    return parsed.netloc.decode("ascii") or "the given URL"


def _arguments(send: Send) -> dict[str, Any]:
    return {
        "method": send.method,
        "url": send.url,
        "headers": send.headers,
        "params": send.params,
        "content": send.content,
        "timeout": send.timeout,
        "follow_redirects": send.follow_redirects,
    }
