"""Accounts that are looked at from one another: what each is told, and every route that names something.

Routes are found in the API's own description, so that a new one is asked like the others.
"""

from __future__ import annotations

import base64
import io
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
from PIL import Image

from running_service import RunningService
from service_client import SLUG, open_client

OWNED = {"requests", "characters", "keys", "deliveries", "accounts"}
"""What stands before a name in a path and is an account's own."""

NOBODYS = {
    "files": "A file's address is its key: who has it may see the picture.",
    "models": "The catalogue is everybody's.",
    "v1": "A model of the catalogue.",
    "v2": "A model of the catalogue.",
}
"""What else stands before a name in a path, and why it is no account's own."""

OPEN = {"/files/{name}", "/health/live", "/health/ready", "/metrics"}
"""Routes that want no key."""

# Ids, keys, secrets, names of files, and the words that tests make: whatever cannot be guessed.
_UNGUESSABLE = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|us_[\w-]{7,}|whsec_[\w+/=]+|[\w-]{22,}"
)
# A picture is told by its digest, and shown small as a data URI: the same for the same picture.
_PICTURES = re.compile(r"sha256:[0-9a-f]{64}|data:image/[^\"]*")


@dataclass(frozen=True)
class Operation:
    """A verb on a path; `noun` and `parameter` of the one thing that the path names, if it names one.

    `fields` are those of a body that may have no others; None where it may.
    """

    method: str
    path: str
    noun: str | None
    parameter: str | None
    query: frozenset[str]
    fields: frozenset[str] | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_admin(self) -> bool:
        return self.path.startswith("/v1/admin/")

    @property
    def is_owned(self) -> bool:
        return self.noun in OWNED

    def address(self, name: str) -> str:
        """The path to what has this name; a model stands for itself."""
        if self.parameter is None:
            return self.path
        return self.path.replace(f"{{{self.parameter}}}", name if self.is_owned else SLUG)


def read_operations(description: dict[str, Any]) -> list[Operation]:
    """Every operation of an OpenAPI description."""
    return list(_list_operations(description))


def _list_operations(description: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in description["paths"].items():
        # Two names in one path would need more than this: let it be seen.
        ((noun, parameter),) = re.findall(r"/([^/{]+)/\{(\w+)\}", path) or [(None, None)]
        for method, operation in methods.items():
            query = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
            fields = _find_only_fields(operation)
            yield Operation(method.upper(), path, noun, parameter, frozenset(query), fields)


def _find_only_fields(operation: dict[str, Any]) -> frozenset[str] | None:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    return frozenset(schema["properties"]) if schema.get("additionalProperties") is False else None


def find_marks(text: str) -> set[str]:
    """What in a text cannot be guessed."""
    return set(_UNGUESSABLE.findall(_PICTURES.sub("", text)))


def make_word() -> str:
    """A word that nobody else has."""
    return f"w{uuid.uuid4().hex}"


def draw_picture(word: str) -> str:
    """A small picture, another one for each word, as a data URI."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), f"#{word[1:7]}").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


class Tenant:
    """An account with a key: what it has, what it was told, and who must not be told of it.

    Whatever `ask` is answered must hold nothing that another tenant was told.
    """

    def __init__(self, service: RunningService, admin: httpx2.Client, common: set[str]) -> None:
        self.word = make_word()
        self.marks: set[str] = {self.word}
        self.things: dict[str, list[str]] = defaultdict(list)
        self.strangers: list[Tenant] = []
        self._common = common
        opened = self._read(admin.post("/v1/admin/accounts", json={"name": f"account {self.word}"}))
        address = f"/v1/admin/accounts/{opened['id']}"
        self._read(admin.post(f"{address}/credits", json={"credits": 1000, "note": self.word}))
        key = self._read(admin.post(f"{address}/keys", json={"name": self.word}))["key"]
        self.things["accounts"].append(opened["id"])
        self.http = open_client(service, key)

    def ask(self, method: str, path: str, *, asks_for: str = "", **values: Any) -> httpx2.Response:
        """A request; `asks_for` is a name that the answer may say again.

        Raises:
            AssertionError: the answer tells of another tenant, or that the service has failed.
        """
        answer = self.http.request(method, path, **values)
        told = f"{answer.headers}\n{answer.content.decode('latin-1')}"
        words = told.replace(asks_for, "?") if asks_for else told
        seen = {mark for stranger in self.strangers for mark in stranger.marks if mark in words}
        assert not seen, f"{method} {path} of one account tells of another: {seen}"
        assert answer.status_code < 500, answer.text
        if not answer.headers["content-type"].startswith("image/"):
            self.marks |= find_marks(words) - self._common
        return answer

    def make(self, path: str, fields: dict[str, Any], once: str | None = None) -> httpx2.Response:
        """A POST that makes something, which is the tenant's from then on."""
        headers = {} if once is None else {"idempotency-key": once}
        answer = self.ask("POST", path, json=fields, headers=headers)
        assert answer.is_success, f"{path}: {answer.text}"
        self.keep(path, answer)
        return answer

    def keep(self, path: str, answer: httpx2.Response) -> None:
        """Remember what an answer says was made."""
        is_json = answer.headers["content-type"] == "application/json"
        body = answer.json() if is_json else {"request_id": answer.headers["x-request-id"]}
        names = {"/v1/characters": ("characters", "name"), "/v1/keys": ("keys", "id")}
        noun, field = names.get(path, ("requests", "request_id"))
        if field in body:
            self.things[noun].append(body[field])

    def settle(self) -> None:
        """Wait until nothing of the account changes any more by itself; know its deliveries."""
        deadline = time.monotonic() + 60
        while any(self._list_unsettled()):
            assert time.monotonic() < deadline, "the account does not come to rest"
            time.sleep(0.02)
        deliveries = self.ask("GET", "/v1/webhooks/deliveries?limit=200").json()["deliveries"]
        self.things["deliveries"] = [one["webhook_id"] for one in reversed(deliveries)]

    def _list_unsettled(self) -> Iterator[Any]:
        for status in ("QUEUED", "PROCESSING"):
            yield self.ask("GET", f"/v1/requests?status={status}").json()["requests"]
        yield self.ask("GET", "/v1/webhooks/deliveries?state=pending").json()["deliveries"]

    def _read(self, answer: httpx2.Response) -> dict[str, Any]:
        assert answer.status_code in (200, 201), answer.text
        self.marks |= find_marks(answer.text) - self._common
        return answer.json()
