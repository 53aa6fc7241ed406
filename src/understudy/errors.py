"""Everything that can go wrong, as one tree.

    UnderstudyError
    ├── InvalidRequest            400  invalid_request, missing_parameter, invalid_parameter, invalid_picture,
    │                                  picture_refused, picture_unreachable, character_not_found,
    │                                  content_policy_violation
    ├── NotAuthenticated          401  not_authenticated
    ├── Forbidden                 403  forbidden, account_disabled
    ├── NotFound                  404  not_found, model_not_found, route_not_found, file_not_found,
    │                                  character_not_found, account_not_found, key_not_found,
    │                                  delivery_not_found
    ├── MethodNotAllowed          405  method_not_allowed
    ├── NotAcceptable             406  unsupported_content_type
    ├── InsufficientCredits       406  insufficient_credits
    ├── Conflict                  409  already_ended, already_exists, too_many_keys, too_many_pictures,
    │                                  idempotency_key_reused, ambiguous_key, not_completed
    ├── TooLarge                  413  too_large
    ├── InferenceFailed           422  whatever ended the job: cancelled, engine_error, ...
    ├── RateLimited               429  queue_full, rate_limited
    ├── ServiceError              5xx  internal_error, shutting_down, storage_unavailable,
    │   │                              data_dir_in_use, data_dir_unusable
    │   └── DeadlineExceeded      504  deadline_exceeded
    ├── InferenceTimeout               the caller's own wait ran out; the job goes on
    └── ConnectionFailed               no answer from the service

Every code, with what to do: `docs/errors.md`.
The server turns each into its JSON body with `to_body`; the SDK turns a body back into
the same class with `error_from_body`. A message is one sentence that says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class UnderstudyError(Exception):
    """Base of every error that Understudy raises on purpose.

    `code` is stable and made for programs; `message` is one sentence for people.
    """

    http_status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field
        self.request_id = request_id
        self.status = status or self.http_status
        self.retry_after_seconds = retry_after_seconds
        self.headers = dict(headers or {})
        self.body = dict(body) if body is not None else None

    @property
    def detail(self) -> str:
        """The message, under the name the reference service's SDK uses."""
        return self.message

    def to_body(self, request_id: str | None = None) -> dict[str, Any]:
        """The JSON body that the service answers with."""
        body: dict[str, Any] = {
            "error": self.message,
            "code": self.code,
            "request_id": self.request_id or request_id,
        }
        if self.field is not None:
            body["field"] = self.field
        return body


class InvalidRequest(UnderstudyError):
    """The request cannot be understood or a parameter is out of range."""

    http_status = 400
    default_code = "invalid_request"


class NotAuthenticated(UnderstudyError):
    """There is no key, or it is unknown, revoked or expired."""

    http_status = 401
    default_code = "not_authenticated"


class Forbidden(UnderstudyError):
    """The key is good but may not do this."""

    http_status = 403
    default_code = "forbidden"


class NotFound(UnderstudyError):
    """There is no such model, request or file (or it is somebody else's)."""

    http_status = 404
    default_code = "not_found"


class MethodNotAllowed(UnderstudyError):
    """The route exists but not with this verb."""

    http_status = 405
    default_code = "method_not_allowed"


class NotAcceptable(UnderstudyError):
    """The Content-Type is none that is read."""

    http_status = 406
    default_code = "unsupported_content_type"


class InsufficientCredits(UnderstudyError):
    """The account's credits are below the price of this call; the message names both."""

    http_status = 406
    default_code = "insufficient_credits"


class Conflict(UnderstudyError):
    """The state of things forbids it: the job has ended, the name is taken."""

    http_status = 409
    default_code = "already_ended"


class TooLarge(UnderstudyError):
    """The body or a picture in it is over the limit."""

    http_status = 413
    default_code = "too_large"


class InferenceFailed(UnderstudyError):
    """The job ended FAILED; `code` says why and `status_body` is the server's body."""

    http_status = 422
    default_code = "engine_error"

    @property
    def status_body(self) -> dict[str, Any]:
        """The body of the status route, as the reference service's SDK names it."""
        return self.body or {}


class RateLimited(UnderstudyError):
    """Too many requests, or the queue is full; try again after `retry_after_seconds`."""

    http_status = 429
    default_code = "rate_limited"


class ServiceError(UnderstudyError):
    """The service's own fault."""

    http_status = 500
    default_code = "internal_error"


class DeadlineExceeded(ServiceError):
    """The synchronous route's deadline ran out; the job goes on under `request_id`."""

    http_status = 504
    default_code = "deadline_exceeded"


class InferenceTimeout(UnderstudyError):
    """`wait()` ran out of its own time; the job goes on under `request_id`."""

    default_code = "wait_timeout"

    def __init__(self, message: str, *, request_id: str, elapsed_s: float) -> None:
        super().__init__(message, request_id=request_id)
        self.elapsed_s = elapsed_s


class ConnectionFailed(UnderstudyError):
    """The service could not be reached or hung up."""

    default_code = "connection_failed"


_BY_STATUS: dict[int, type[UnderstudyError]] = {
    error.http_status: error
    for error in (
        InvalidRequest,
        NotAuthenticated,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        NotAcceptable,
        Conflict,
        TooLarge,
        InferenceFailed,
        RateLimited,
        DeadlineExceeded,
    )
}


def error_from_body(status: int, body: object, *, retry_after_seconds: int | None = None) -> UnderstudyError:
    """The exception for an answer of the service: its HTTP status and its parsed body."""
    fields = body if isinstance(body, Mapping) else {}
    message = fields.get("error")
    if not isinstance(message, str) or not message:
        message = f"The service answered HTTP {status} without saying why."
    error_class = _BY_STATUS.get(status, ServiceError if status >= 500 else UnderstudyError)
    if status == 406 and fields.get("code") == InsufficientCredits.default_code:
        error_class = InsufficientCredits

    def text(name: str) -> str | None:
        value = fields.get(name)
        return value if isinstance(value, str) else None

    return error_class(
        message,
        code=text("code"),
        field=text("field"),
        request_id=text("request_id"),
        status=status,
        retry_after_seconds=retry_after_seconds,
        body=fields,
    )
