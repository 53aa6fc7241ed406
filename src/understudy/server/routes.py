"""How a request reaches its endpoint without detours."""

from __future__ import annotations

import inspect
from typing import Any

from annotated_types import MaxLen
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from .access import authenticate, authenticate_admin, get_service, refuse_while_stopping

NEED_REQUEST_ALONE = (authenticate, authenticate_admin, get_service, refuse_while_stopping)
"""Dependencies that are had from a request without FastAPI's help."""

LONGEST_NAME = 100
"""Characters that a part of a path may have as every route declares it."""


class DirectRoute(APIRoute):
    """A route that calls its endpoint with the path's parts, the request and its dependencies.

    FastAPI resolves each parameter and dependency anew for each request, which costs more than
    submitting a job or reading its status. Where there is something to validate (a query string,
    headers, a long name) the request goes FastAPI's way. The endpoint answers with a `Response`.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        told = self.dependant
        self._dependencies = [(one.name, one.call) for one in told.dependencies]
        self._takes_request = "request" in inspect.signature(endpoint).parameters
        self._is_direct = (
            not (told.header_params or told.cookie_params or told.body_params)
            and not any(one.field_info.is_required() for one in told.query_params)
            and all(one.field_info.metadata == [MaxLen(LONGEST_NAME)] for one in told.path_params)
            and all(call in NEED_REQUEST_ALONE for _, call in self._dependencies)
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that this route matches."""
        names: dict[str, Any] = scope["path_params"]
        if (
            not self._is_direct
            or scope["query_string"]
            or scope["method"] not in self.methods
            or any(len(name) > LONGEST_NAME for name in names.values())
        ):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        values = dict(names)
        if self._takes_request:
            values["request"] = request
        for name, resolve in self._dependencies:
            value = await resolve(request)
            if name is not None:
                values[name] = value
        response = await self.endpoint(**values)
        await response(scope, receive, send)
