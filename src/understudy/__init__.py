"""Understudy: the same character in any pose, on your own machine.

    import understudy

    result = understudy.run(
        "consistent-character-AI-neolemon-v3", ip_image="hero.png", prompt="a knight", pose="waving"
    )
    print(result["output"])

This is the SDK; it needs a running service (`understudy serve`) and reads
UNDERSTUDY_API_KEY and UNDERSTUDY_BASE_URL. `SegmindClient`, `SegmindError` and `AsyncJob`
are the names under which programs written for the reference service know `Client`,
`UnderstudyError` and `Job`.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

from .client import AsyncClient, AwaitableJob, Client, Job, PictureAnswer
from .errors import (
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    Forbidden,
    InferenceFailed,
    InferenceTimeout,
    InvalidRequest,
    MethodNotAllowed,
    NotAcceptable,
    NotAuthenticated,
    NotFound,
    RateLimited,
    ServiceError,
    TooLarge,
    UnderstudyError,
)

SegmindClient = Client
SegmindError = UnderstudyError
AsyncJob = Job

_default_client: Client | None = None


def run(slug: str, **parameters: Any) -> dict[str, Any]:
    return _get_client().run(slug, **parameters)


def run_sync(slug: str, **parameters: Any) -> PictureAnswer:
    return _get_client().run_sync(slug, **parameters)


def submit_async(slug: str, **parameters: Any) -> Job:
    return _get_client().submit_async(slug, **parameters)


run.__doc__ = Client.run.__doc__
run_sync.__doc__ = Client.run_sync.__doc__
submit_async.__doc__ = Client.submit_async.__doc__


def _get_client() -> Client:
    global _default_client
    if _default_client is None:
        _default_client = Client()
    return _default_client


__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AwaitableJob",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Forbidden",
    "InferenceFailed",
    "InferenceTimeout",
    "InvalidRequest",
    "Job",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotAuthenticated",
    "NotFound",
    "PictureAnswer",
    "RateLimited",
    "SegmindClient",
    "SegmindError",
    "ServiceError",
    "TooLarge",
    "UnderstudyError",
    "run",
    "run_sync",
    "submit_async",
]
