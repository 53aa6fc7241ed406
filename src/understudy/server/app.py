"""The HTTP service, assembled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

from fastapi import FastAPI

from .. import __version__
from ..catalog import Catalog
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
    """FastAPI's application, whose OpenAPI page tells of what every POST knows, and of its models."""

    def __init__(self, catalog: Catalog, **options: Any) -> None:
        super().__init__(**options)
        self._catalog = catalog

    def openapi(self) -> dict[str, Any]:
        """The API's description."""
        if self.openapi_schema is None:
            # Not parameters of the routes: they would cost each request FastAPI's way.
            for operations in super().openapi()["paths"].values():
                if "post" in operations:
                    operations["post"].setdefault("parameters", []).append(KEY_PARAMETER)
                for operation in operations.values():
                    self._name_models(operation)
        return super().openapi()

    def _name_models(self, operation: dict[str, Any]) -> None:
        """Say which models there are where one is named, and which parameters do not act with which."""
        models = self._catalog.list_models()
        slugs = [parameter for parameter in operation.get("parameters", []) if parameter["name"] == "slug"]
        for parameter in slugs:
            # Not an enum: a slug that is none of them is answered too, with those there are.
            parameter["schema"]["examples"] = [model.slug for model in models]
        if slugs and "requestBody" in operation:
            # A copy, for the route has it too.
            operation["requestBody"] = deepcopy(operation["requestBody"])
            for content in operation["requestBody"]["content"].values():
                for name, described in content["schema"]["properties"].items():
                    if idle := [model.slug for model in models if name in model.idle]:
                        words = described.get("description", "")
                        described["description"] = f"{words} Does not act with {', '.join(idle)}.".strip()


def create_app(settings: Settings) -> FastAPI:
    """The application of one service; it opens its data folder when it starts."""

    @asynccontextmanager
    async def run_service(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings) as service:
            app.state.service = service
            yield

    app = Api(
        Catalog(settings),
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
