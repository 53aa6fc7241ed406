"""The asynchronous client and its job handle: the blocking ones' surface, awaited.

The algorithms are `calls`'; here they are only carried out, without blocking the event loop.
What the methods do is said in `blocking`, once for both.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from .blocking import Client, Job
from .calls import KEEP_ALIVE_SECONDS, Calls, JobAddress
from .events import LOST, SILENCE_SECONDS, Arrivals, Listener
from .exchange import TRANSIENT, Steps, T, drive_async, raise_for_error
from .pictures import PictureAnswer

ClassT = TypeVar("ClassT", bound=type)


def documented_as(model: type) -> Callable[[ClassT], ClassT]:
    """Give a class and its members the docstrings of their namesakes in `model`."""

    def copy_docstrings(cls: ClassT) -> ClassT:
        cls.__doc__ = inspect.getdoc(model)
        for name, member in vars(cls).items():
            if not name.startswith("_"):
                member.__doc__ = getattr(model, name).__doc__
        return cls

    return copy_docstrings


@documented_as(Job)
class AwaitableJob(JobAddress):
    def __init__(self, client: AsyncClient, submit_response: dict[str, Any]) -> None:
        super().__init__(submit_response)
        self._client = client

    async def status(self) -> dict[str, Any]:
        return await self._client._drive(self._client._calls.state(self.status_url))

    async def result(self) -> dict[str, Any]:
        return await self._client._drive(self._client._calls.state(self.response_url))

    async def wait(self, timeout: float = 600.0, interval: float = 1.0) -> dict[str, Any]:
        return await self._client._drive(self._client._calls.wait(self, timeout, interval))

    async def cancel(self) -> dict[str, Any]:
        return await self._client._drive(self._client._calls.cancel(self))

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        calls = self._client._calls
        listener = Listener(f"{self.response_url}/events", calls.headers, calls.timeout(SILENCE_SECONDS))
        while not listener.ended:
            loss: Exception | None = None
            try:
                async with self._client._http.stream(**listener.request()) as response:
                    if not response.is_success:
                        await response.aread()
                        raise_for_error(response)
                    async for event in httpx2.EventSource(response):
                        snapshot = listener.receive(event)
                        if snapshot is not None:
                            yield snapshot
                        if listener.ended:
                            return
            except (*LOST, *TRANSIENT) as error:
                loss = error
            await asyncio.sleep(listener.pause_after_loss(loss))

    async def images(self) -> AsyncIterator[dict[str, Any]]:
        arrivals = Arrivals()
        async for snapshot in self.events():
            self._client._calls.refuse_failed(self, snapshot)
            for image in arrivals.take(snapshot):
                yield image

    async def save_image(self, image: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
        return (await self._client._drive(self._client._calls.save_images([image], path)))[0]

    async def save(self, path: str | os.PathLike[str]) -> list[Path]:
        return await self._client._drive(self._client._calls.save(self, path))


@documented_as(Client)
class AsyncClient:
    def __init__(
        self, api_key: str | None = None, base_url: str | None = None, timeout: float = 30.0
    ) -> None:
        self._calls = Calls(api_key, base_url, timeout)
        self._http = httpx2.AsyncClient(
            headers=self._calls.agent_headers, limits=httpx2.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS)
        )

    @property
    def base_url(self) -> str:
        return f"{self._calls.root}/v1"

    async def run(self, slug: str, **parameters: Any) -> dict[str, Any]:
        job = await self.submit_async(slug, **parameters)
        return await job.wait()

    async def run_sync(self, slug: str, **parameters: Any) -> PictureAnswer:
        return await self._drive(self._calls.run_sync(slug, parameters))

    async def submit_async(self, slug: str, **parameters: Any) -> AwaitableJob:
        return AwaitableJob(self, await self._drive(self._calls.submit(slug, parameters)))

    async def dry_run(self, slug: str, **parameters: Any) -> dict[str, Any]:
        return await self._drive(self._calls.dry_run(slug, parameters))

    def job(self, request_id: str) -> AwaitableJob:
        return AwaitableJob(self, self._calls.address(request_id))

    async def models(self) -> list[dict[str, Any]]:
        return await self._drive(self._calls.read_list("/v1/models", "models"))

    async def model(self, slug: str) -> dict[str, Any]:
        return await self._drive(self._calls.read_object("/v1/models", slug))

    async def poses(self) -> list[dict[str, Any]]:
        return await self._drive(self._calls.read_list("/v1/poses", "poses"))

    async def history(
        self, limit: int = 50, cursor: str | None = None, status: str | None = None
    ) -> dict[str, Any]:
        query = {"limit": limit, "cursor": cursor, "status": status}
        return await self._drive(self._calls.read_object("/v1/requests", query=query))

    async def delete(self, request_id: str) -> None:
        await self._drive(self._calls.delete("/v1/requests", request_id))

    async def upload(self, picture: Any) -> str:
        return await self._drive(self._calls.upload(picture))

    async def characters(self) -> list[dict[str, Any]]:
        return await self._drive(self._calls.read_list("/v1/characters", "characters"))

    async def character(self, name: str) -> dict[str, Any]:
        return await self._drive(self._calls.read_object("/v1/characters", name))

    async def save_character(
        self, name: str, ip_image: Any, prompt: str = "", negative_prompt: str = ""
    ) -> dict[str, Any]:
        fields = {"name": name, "ip_image": ip_image, "prompt": prompt, "negative_prompt": negative_prompt}
        return await self._drive(self._calls.save_character(fields))

    async def update_character(
        self,
        name: str,
        *,
        new_name: str | None = None,
        ip_image: Any = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
    ) -> dict[str, Any]:
        fields = {
            "name": new_name,
            "ip_image": ip_image,
            "prompt": prompt,
            "negative_prompt": negative_prompt,
        }
        return await self._drive(self._calls.update_character(name, fields))

    async def delete_character(self, name: str) -> None:
        await self._drive(self._calls.delete("/v1/characters", name))

    async def credits(self) -> float:
        return await self._drive(self._calls.read_credits())

    async def ledger(self, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
        query = {"limit": limit, "cursor": cursor}
        return await self._drive(self._calls.read_object("/v1/credits", query=query))

    async def usage(self, days: int = 30) -> list[dict[str, Any]]:
        return await self._drive(self._calls.read_list("/v1/usage", "usage", {"days": days}))

    async def keys(self) -> list[dict[str, Any]]:
        return await self._drive(self._calls.read_pages("/v1/keys", "keys"))

    async def create_key(
        self,
        name: str,
        scopes: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        expires_in_seconds: float | None = None,
    ) -> dict[str, Any]:
        return await self._drive(self._calls.create_key(name, scopes, models, expires_in_seconds))

    async def revoke_key(self, key_id: str) -> None:
        await self._drive(self._calls.delete("/v1/keys", key_id))

    async def webhook_secret(self) -> str:
        return await self._drive(self._calls.read_webhook_secret())

    async def rotate_webhook_secret(self) -> str:
        return await self._drive(self._calls.rotate_webhook_secret())

    async def webhooks(
        self, limit: int = 50, cursor: str | None = None, state: str | None = None
    ) -> dict[str, Any]:
        query = {"limit": limit, "cursor": cursor, "state": state}
        return await self._drive(self._calls.read_object("/v1/webhooks/deliveries", query=query))

    async def replay_webhook(self, webhook_id: str) -> dict[str, Any]:
        return await self._drive(self._calls.replay_webhook(webhook_id))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    async def _drive(self, steps: Steps[T]) -> T:
        return await drive_async(self._http, steps)
