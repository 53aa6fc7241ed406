"""The blocking client and its job handle.

The algorithms are `calls`'; here they are only carried out, one after another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from .calls import KEEP_ALIVE_SECONDS, Calls, JobAddress
from .events import LOST, SILENCE_SECONDS, Arrivals, Listener
from .exchange import TRANSIENT, Steps, T, drive, raise_for_error
from .pictures import PictureAnswer


class Job(JobAddress):
    """A submitted request: ask how it is, wait for it, cancel it, save its pictures."""

    def __init__(self, client: Client, submit_response: dict[str, Any]) -> None:
        super().__init__(submit_response)
        self._client = client

    def status(self) -> dict[str, Any]:
        """Ask how the job is: `status`, `progress`, `queue_position`, `eta_seconds`, `metrics`.

        A FAILED job's body is returned too, with its `error` and `code`.

        Raises:
            NotFound: there is no such request, or its result has expired.
        """
        return self._client._drive(self._client._calls.state(self.status_url))

    def result(self) -> dict[str, Any]:
        """Ask for the full result; before the end it is what `status` says.

        A FAILED job's body is returned too, with its `error` and `code`.

        Raises:
            NotFound: there is no such request, or its result has expired.
        """
        return self._client._drive(self._client._calls.state(self.response_url))

    def wait(self, timeout: float = 600.0, interval: float = 1.0) -> dict[str, Any]:
        """Wait for the job's end and return the full result.

        `timeout` and `interval` are seconds. The first polls come faster than `interval`, so
        that a fast job returns fast; a poll that finds the service busy or away is repeated.

        Raises:
            InferenceFailed: the job ended FAILED; `detail` and `code` say why.
            InferenceTimeout: `timeout` ran out; the job goes on.
        """
        return self._client._drive(self._client._calls.wait(self, timeout, interval))

    def cancel(self) -> dict[str, Any]:
        """Cancel the job, between two denoising steps if it runs; return its status.

        Raises:
            Conflict: it has ended already.
        """
        return self._client._drive(self._client._calls.cancel(self))

    def events(self) -> Iterator[dict[str, Any]]:
        """Follow the job: snapshots of its state as it changes; the last is the full result.

        A lost connection is taken up again behind the last event. A FAILED end is an event
        as any other, not an exception.

        Raises:
            NotFound: there is no such request, or its result has expired.
            ConnectionFailed: the service stays away.
        """
        calls = self._client._calls
        listener = Listener(f"{self.response_url}/events", calls.headers, calls.timeout(SILENCE_SECONDS))
        while not listener.ended:
            loss: Exception | None = None
            try:
                with self._client._http.stream(**listener.request()) as response:
                    if not response.is_success:
                        response.read()
                        raise_for_error(response)
                    for event in httpx2.EventSource(response):
                        snapshot = listener.receive(event)
                        if snapshot is not None:
                            yield snapshot
                        if listener.ended:
                            return
            except (*LOST, *TRANSIENT) as error:
                loss = error
            time.sleep(listener.pause_after_loss(loss))

    def images(self) -> Iterator[dict[str, Any]]:
        """Follow the job: each of its pictures as soon as it can be had, as the result has it.

        `index` is its place among them. Pictures that cost credits can all be had at the end.

        Raises:
            InferenceFailed: the job ended FAILED; the pictures that came before are deleted.
            NotFound, ConnectionFailed: as `events` says.
        """
        arrivals = Arrivals()
        for snapshot in self.events():
            self._client._calls.refuse_failed(self, snapshot)
            yield from arrivals.take(snapshot)

    def save_image(self, image: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
        """Download one picture, as `images` or a result tells it; return the path it was written to.

        `path` is a file or a folder, as for `save`.

        Raises:
            InvalidRequest: it has no `url` yet.
            NotFound: the picture was deleted.
        """
        return self._client._drive(self._client._calls.save_images([image], path))[0]

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Download the pictures of the completed job; return the paths they were written to.

        `path` is a file, or a folder, which several pictures need; folders are made. In a folder a
        picture is named after the pose that it was asked in (`01-wave.png`), else as the service
        names it.

        Raises:
            Conflict: the job is not completed yet; `wait` for it first.
            InferenceFailed: the job ended FAILED.
            InvalidRequest: there are several pictures and `path` is a file.
        """
        return self._client._drive(self._client._calls.save(self, path))


class Client:
    """The service, seen from a program.

    `api_key` and `base_url` are read from UNDERSTUDY_API_KEY and UNDERSTUDY_BASE_URL where
    they are not given; the address may end in `/v1`. `timeout` is seconds for each HTTP call.

    Wherever a parameter is a picture, a URL, a data URI, a path, bytes, a binary file or a
    Pillow picture will do. Nothing else is checked here: the service knows its parameters.
    """

    def __init__(
        self, api_key: str | None = None, base_url: str | None = None, timeout: float = 30.0
    ) -> None:
        self._calls = Calls(api_key, base_url, timeout)
        self._http = httpx2.Client(
            headers=self._calls.agent_headers, limits=httpx2.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS)
        )

    @property
    def base_url(self) -> str:
        """The address of the service's first version, without a slash at the end."""
        return f"{self._calls.root}/v1"

    def run(self, slug: str, **parameters: Any) -> dict[str, Any]:
        """Submit a request, wait for its end and return the full result.

        Every keyword goes to the model as it stands, `timeout` and `interval` too; to choose
        them, use `submit_async` and `wait`.

        Raises:
            InferenceFailed: the job ended FAILED.
            InferenceTimeout: ten minutes were not enough; the job goes on.
            InvalidRequest: a parameter is wrong; `field` names it.
        """
        return self.submit_async(slug, **parameters).wait()

    def run_sync(self, slug: str, **parameters: Any) -> PictureAnswer:
        """Make one picture in one HTTP call: `content` is the file, `save(path)` writes it.

        Raises:
            InferenceFailed: the job ended FAILED.
            DeadlineExceeded: the service's deadline ran out; the job goes on under `request_id`.
            InvalidRequest: a parameter is wrong; `field` names it.
        """
        return self._drive(self._calls.run_sync(slug, parameters))

    def submit_async(self, slug: str, **parameters: Any) -> Job:
        """Submit a request and return its handle at once.

        Raises:
            InvalidRequest: a parameter is wrong; `field` names it.
            RateLimited: the queue is full.
        """
        return Job(self, self._drive(self._calls.submit(slug, parameters)))

    def dry_run(self, slug: str, **parameters: Any) -> dict[str, Any]:
        """Have a request checked and its `cost` in credits told; no job is made.

        Raises:
            InvalidRequest: a parameter is wrong; `field` names it.
        """
        return self._drive(self._calls.dry_run(slug, parameters))

    def job(self, request_id: str) -> Job:
        """The handle of a request that was submitted before; nothing is sent."""
        return Job(self, self._calls.address(request_id))

    def models(self) -> list[dict[str, Any]]:
        """The catalogue: every model with its parameters, price, engine and licence."""
        return self._drive(self._calls.read_list("/v1/models", "models"))

    def model(self, slug: str) -> dict[str, Any]:
        """One model of the catalogue; `parameters` is their JSON Schema.

        Raises:
            NotFound: there is no such model.
        """
        return self._drive(self._calls.read_object("/v1/models", slug))

    def poses(self) -> list[dict[str, Any]]:
        """The library of named poses."""
        return self._drive(self._calls.read_list("/v1/poses", "poses"))

    def history(
        self, limit: int = 50, cursor: str | None = None, status: str | None = None
    ) -> dict[str, Any]:
        """One page of the account's `requests`, newest first.

        `limit` is 1 to 200, `cursor` the `next` of the page before, `status` one of QUEUED,
        PROCESSING, COMPLETED, FAILED.
        """
        query = {"limit": limit, "cursor": cursor, "status": status}
        return self._drive(self._calls.read_object("/v1/requests", query=query))

    def delete(self, request_id: str) -> None:
        """Delete a request from the history, with its files.

        Raises:
            NotFound: there is no such request.
        """
        self._drive(self._calls.delete("/v1/requests", request_id))

    def upload(self, picture: Any) -> str:
        """Upload a picture (a path, bytes, a binary file or a Pillow picture); return its URL.

        Raises:
            InvalidRequest: it is no readable picture.
        """
        return self._drive(self._calls.upload(picture))

    def characters(self) -> list[dict[str, Any]]:
        """The account's saved characters."""
        return self._drive(self._calls.read_list("/v1/characters", "characters"))

    def character(self, name: str) -> dict[str, Any]:
        """One saved character: `name`, `prompt`, `negative_prompt`, `urls` of its pictures.

        Raises:
            NotFound: there is no character of this name.
        """
        return self._drive(self._calls.read_object("/v1/characters", name))

    def save_character(
        self, name: str, ip_image: Any, prompt: str = "", negative_prompt: str = ""
    ) -> dict[str, Any]:
        """Save a character; from then on `ip_image="character:<name>"` means its pictures.

        `ip_image` is one picture or a list of 1 to 8, which are used together. A request that has no
        prompt or negative prompt of its own takes the character's.

        Raises:
            Conflict: the name is taken.
            InvalidRequest: the name or a picture is wrong.
        """
        fields = {"name": name, "ip_image": ip_image, "prompt": prompt, "negative_prompt": negative_prompt}
        return self._drive(self._calls.save_character(fields))

    def update_character(
        self,
        name: str,
        *,
        new_name: str | None = None,
        ip_image: Any = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
    ) -> dict[str, Any]:
        """Change a saved character; what is None stays as it is. Return the character.

        `ip_image` is all pictures that it has from then on: those of its own that are to stay are
        given by their URLs. Requests that were submitted before keep the pictures that it had then.

        Raises:
            NotFound: there is no character of this name.
            Conflict: the new name is taken.
            InvalidRequest: the new name or a picture is wrong.
        """
        fields = {
            "name": new_name,
            "ip_image": ip_image,
            "prompt": prompt,
            "negative_prompt": negative_prompt,
        }
        return self._drive(self._calls.update_character(name, fields))

    def delete_character(self, name: str) -> None:
        """Delete a saved character.

        Raises:
            NotFound: there is no character of this name.
        """
        self._drive(self._calls.delete("/v1/characters", name))

    def credits(self) -> float:
        """What the account has left, in credits; what is held for requests under way is not in it."""
        return self._drive(self._calls.read_credits())

    def ledger(self, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
        """One page of the `entries` that the account's credits are the sum of, newest first.

        `limit` is 1 to 200, `cursor` the `next` of the page before.
        """
        query = {"limit": limit, "cursor": cursor}
        return self._drive(self._calls.read_object("/v1/credits", query=query))

    def usage(self, days: int = 30) -> list[dict[str, Any]]:
        """What the account's requests came to, by `day` (in UTC) and `model`, the newest first.

        `days` is 1 to 366, today included. Each entry has `completed`, `failed`, `pictures`,
        `inference_seconds` and `cost` in credits.
        """
        return self._drive(self._calls.read_list("/v1/usage", "usage", {"days": days}))

    def keys(self) -> list[dict[str, Any]]:
        """The account's keys, oldest first, revoked ones too; none tells the key itself."""
        return self._drive(self._calls.read_pages("/v1/keys", "keys"))

    def create_key(
        self,
        name: str,
        scopes: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        expires_in_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Make a key of the account; its `key` is told only now.

        `scopes` are some of generate, read and admin, the first two if none are given; `models`
        are slugs, None for every model. It can do no more than the key that asks for it.

        Raises:
            Forbidden: it would.
            Conflict: the account has as many keys as it may have.
        """
        return self._drive(self._calls.create_key(name, scopes, models, expires_in_seconds))

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key of the account by its `id`; it stops working within a second.

        Raises:
            NotFound: there is no such key.
            Forbidden: it can do more than the key that asks.
        """
        self._drive(self._calls.delete("/v1/keys", key_id))

    def webhook_secret(self) -> str:
        """What the account's webhooks are signed with: give it to a library of Standard Webhooks."""
        return self._drive(self._calls.read_webhook_secret())

    def rotate_webhook_secret(self) -> str:
        """Make a new secret and return it; the one before signs beside it for a day."""
        return self._drive(self._calls.rotate_webhook_secret())

    def webhooks(
        self, limit: int = 50, cursor: str | None = None, state: str | None = None
    ) -> dict[str, Any]:
        """One page of the account's webhook `deliveries` with their attempts, newest first.

        `limit` is 1 to 200, `cursor` the `next` of the page before, `state` one of pending,
        delivered, failed.
        """
        query = {"limit": limit, "cursor": cursor, "state": state}
        return self._drive(self._calls.read_object("/v1/webhooks/deliveries", query=query))

    def replay_webhook(self, webhook_id: str) -> dict[str, Any]:
        """Deliver a webhook once more, now, under the same id; return the delivery.

        Raises:
            NotFound: there is no such delivery.
        """
        return self._drive(self._calls.replay_webhook(webhook_id))

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def _drive(self, steps: Steps[T]) -> T:
        return drive(self._http, steps)
