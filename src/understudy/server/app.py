"""The HTTP service, assembled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from .. import __version__
from ..settings import Settings
from . import account, admin, characters, files, generations, health, models, requests, webhooks
from .failures import BodyLimit, RequestId, install_failures
from .intake import KEY_PARAMETER
from .service import open_service

ROUTERS = (
    health.router,
    requests.router,
    models.router,
    characters.router,
    files.router,
    webhooks.router,
    account.router,
    admin.router,
    # Last: its routes take any name where the others have fixed ones.
    generations.router,
)


class Api(FastAPI):
    """FastAPI's application, whose OpenAPI page tells of what every POST knows."""

    def openapi(self) -> dict[str, Any]:
        """The API's description."""
        if self.openapi_schema is None:
            # Not parameters of the routes: they would cost each request FastAPI's way.
            for operations in super().openapi()["paths"].values():
                if "post" in operations:
                    operations["post"].setdefault("parameters", []).append(KEY_PARAMETER)
        return super().openapi()


def create_app(settings: Settings) -> FastAPI:
    """The application of one service; it opens its data folder when it starts."""

    @asynccontextmanager
    async def run_service(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings) as service:
            app.state.service = service
            yield

    app = Api(
        title="Understudy",
        version=__version__,
        summary="One reference, any pose: the same character, again and again.",
        lifespan=run_service,
        docs_url=None,
        redoc_url=None,
        # A slash too many is no route: never a redirect to whatever Host the client named.
        redirect_slashes=False,
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestId)
    install_failures(app)
    app.state.routes = [route for router in ROUTERS for route in router.routes]
    # Not included as routers, which would look each request's route up twice.
    app.router.routes.extend(app.state.routes)
    return app
