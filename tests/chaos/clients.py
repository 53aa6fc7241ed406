"""Clients of a service that dies and comes back, and what they were told."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2

from receiver import Receiver
from running_service import RunningService
from service_client import SLUG

KINDS = ("inline", "uploaded", "url", "character", "new character", "sheet", "candidates")
"""Ways in which a job is asked for."""

AWAY = (httpx2.TransportError, httpx2.StreamError)
"""What a client sees of a service that dies or is not there."""

PUBLIC_URL = "http://understudy.test"
"""What addresses begin with, the same after each start."""

End = tuple[str, str | None, tuple[str, ...]]
"""A job's end: status, code, and the names of its pictures."""


@dataclass
class Told:
    """What clients know of one acknowledged job."""

    kind: str
    cancel_asked: bool = False
    delete_asked: bool = False
    deleted: bool = False
    ends: list[tuple[str, End]] = field(default_factory=list)

    def find_faults(self, job_id: str) -> list[str]:
        """Why this is no right history of a job."""
        ends = {end for _, end in self.ends}
        if len(ends) > 1:
            return [f"{job_id} ({self.kind}) has ended twice: {self.ends}"]
        if not ends and not self.delete_asked:
            return [f"{job_id} ({self.kind}) has no end"]
        if any(end[1] == "cancelled" for end in ends) and not (self.cancel_asked or self.delete_asked):
            return [f"{job_id} ({self.kind}) was cancelled, but nobody has asked for that"]
        return []


@dataclass
class Ledger:
    """Every job that was acknowledged, and how requests were answered."""

    jobs: dict[str, Told] = field(default_factory=dict)
    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    in_flight: Counter[str] = field(default_factory=Counter)

    def find_faults(self) -> list[str]:
        """What was told that cannot all be true."""
        found = [fault for job_id, told in self.jobs.items() for fault in told.find_faults(job_id)]
        return self.faults + found

    def count_ends(self) -> Counter[str]:
        """How jobs ended that nobody cancelled or deleted."""
        return Counter(
            end[0] if end[1] is None else f"{end[0]} ({end[1]})"
            for told in self.jobs.values()
            if not told.cancel_asked and not told.delete_asked
            for end in {end for _, end in told.ends}
        )


class Client:
    """Asks a service for jobs and follows each to its end, whatever happens to the service."""

    def __init__(
        self,
        service: RunningService,
        ledger: Ledger,
        seed: object,
        picture: bytes,
        host: str,
        receiver: Receiver | None = None,
        key: str | None = None,
    ) -> None:
        """`host` has pictures; `receiver` is told of every job's end; `key` else is the service's first."""
        self.service = service
        self.receiver = receiver
        self.ledger = ledger
        self.random = random.Random(repr(seed))
        self.picture = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        self.host = host
        self.http = httpx2.AsyncClient(
            headers={"x-api-key": key or service.key}, timeout=httpx2.Timeout(30), trust_env=False
        )

    async def ask(self, method: str, path: str, *, what: str, **values: Any) -> httpx2.Response | None:
        """One request; None when the service died on it or cannot take it now."""
        self.ledger.in_flight[what] += 1
        try:
            answer = await self.http.request(method, f"{self.service.url}{path}", **values)
        except AWAY:
            await asyncio.sleep(0.05)
            return None
        finally:
            self.ledger.in_flight[what] -= 1
        said = answer.json().get("code", "") if answer.is_error else ""
        self.ledger.answers[what, answer.status_code, said] += 1
        if answer.status_code in (500, 503):
            if said not in ("storage_unavailable", "shutting_down"):
                self.ledger.faults.append(f"{what} was answered {answer.text}")
            await asyncio.sleep(0.05)
            return None
        return answer

    async def insist(self, method: str, path: str, *, what: str, **values: Any) -> httpx2.Response:
        """The same, again and again until there is an answer."""
        while (answer := await self.ask(method, path, what=what, **values)) is None:
            pass
        return answer

    async def submit(self, kind: str, *, insists: bool = False, **parameters: Any) -> str | None:
        """A new job's id; None when nobody has acknowledged it.

        No two requests are alike, so that a job that is there twice is found. Who insists sends
        his again, under its idempotency key, until there is an answer, and once more.
        """
        once = f"{self.random.getrandbits(64):x}"
        body = {
            "prompt": f"a hero called {once}",
            "width": 256,
            "height": 256,
            "ip_image": self.picture,
            **parameters,
        }
        if self.receiver is not None:
            body["webhook_url"] = self.receiver.url
        match kind:
            case "uploaded":
                upload = {"data_urls": [self.picture]}
                answer = await self.ask("POST", "/upload-asset", what="upload", json=upload)
                if answer is None:
                    return None
                assert answer.status_code == 200, answer.text
                body["ip_image"] = answer.json()["urls"][0]
            case "url":
                body["ip_image"] = f"{self.host}/hero.png"
            case "character":
                await self.save_character("hero")
                body["ip_image"] = "character:hero"
            case "new character":
                name = f"{self.random.getrandbits(64):x}"
                await self.save_character(name)
                body["ip_image"] = f"character:{name}"
            case "sheet":
                body |= {"poses": ["stand"] * 12, "width": 1024, "height": 1024}
            case "candidates":
                body |= {"candidates": 3, "num_images": 2, "output_format": "jpeg"}
        send = partial(
            self.insist if insists else self.ask,
            *("POST", f"/v2/{SLUG}"),
            what="submit",
            json=body,
            headers={"idempotency-key": once},
        )
        answer = await send()
        again = await send() if insists else None
        if kind == "new character":
            await self.insist("DELETE", f"/v1/characters/{name}", what="delete character")
        if answer is None:
            return None
        assert answer.status_code == 200, answer.text
        job_id = answer.json()["request_id"]
        assert again is None or again.json() == answer.json(), again.text
        self.ledger.jobs[job_id] = Told(kind)
        return job_id

    async def open_account(self, name: str, credits: float) -> str:
        """Open an account with credits; return a key of it. For a key that may do so."""
        account = "/v1/admin/accounts"
        for path, fields in (("", {"name": name}), ("/credits", {"credits": credits}), ("/keys", {})):
            answer = await self.insist("POST", f"{account}{path}", what="account", json=fields)
            assert answer.is_success, answer.text
            if not path:
                account += f"/{answer.json()['id']}"
        return answer.json()["key"]

    async def save_character(self, name: str) -> None:
        body = {"name": name, "ip_image": self.picture}
        saved = await self.insist("POST", "/v1/characters", what="save character", json=body)
        # One that was saved by a service that died before it could say so is there already.
        assert saved.status_code in (201, 409), saved.text

    async def cancel(self, job_id: str) -> None:
        self.ledger.jobs[job_id].cancel_asked = True
        answer = await self.insist("DELETE", f"/v2/requests/{job_id}", what="cancel")
        assert answer.status_code in (200, 404, 409), answer.text

    async def delete(self, job_id: str) -> None:
        self.ledger.jobs[job_id].delete_asked = True
        answer = await self.insist("DELETE", f"/v1/requests/{job_id}", what="delete")
        # One that was deleted by a service that died before it could say so is not there.
        assert answer.status_code in (200, 404), answer.text
        self.ledger.jobs[job_id].deleted = True

    async def follow(self, job_id: str) -> None:
        """Read a job's events until its end, or until it is deleted."""
        told = self.ledger.jobs[job_id]
        while True:
            try:
                async with self.http.stream(
                    "GET", f"{self.service.url}/v2/requests/{job_id}/events"
                ) as answer:
                    if answer.status_code == 404:
                        assert told.delete_asked, f"the acknowledged job {job_id} is not known"
                        return
                    async for body in read_events(answer):
                        if body["status"] in ("COMPLETED", "FAILED"):
                            told.ends.append(("event", read_end(body)))
                            return
            except AWAY:
                pass
            await asyncio.sleep(0.05)

    async def confirm(self, job_id: str) -> None:
        """Ask once more how a job ends, by its events and by its result."""
        told = self.ledger.jobs[job_id]
        await self.follow(job_id)
        answer = await self.insist("GET", f"/v2/requests/{job_id}", what="result")
        if answer.status_code == 404:
            assert told.delete_asked, f"the acknowledged job {job_id} is lost"
            return
        assert not told.deleted, f"the deleted job {job_id} is back"
        assert answer.status_code in (200, 422), answer.text
        told.ends.append(("result", read_end(answer.json())))

    async def find_untold(self) -> list[str]:
        """What the receiver was not told, or told otherwise than once under one id, when all is delivered."""
        assert self.receiver is not None
        pending = "/v1/webhooks/deliveries?state=pending"
        while True:
            answer = await self.insist("GET", pending, what="deliveries")
            if not answer.json()["deliveries"]:
                break
            await asyncio.sleep(0.05)
        ids: dict[str, set[str]] = {}
        ends: dict[str, set[End]] = {}
        for received in list(self.receiver.received):
            body = json.loads(received.body)
            ids.setdefault(body["request_id"], set()).add(received.id)
            ends.setdefault(body["request_id"], set()).add(read_end(body))
        faults = [f"{job_id} was told under {len(some)} ids" for job_id, some in ids.items() if len(some) > 1]
        for job_id, told in self.ledger.jobs.items():
            known = {end for _, end in told.ends} | ends.get(job_id, set())
            if len(known) > 1:
                faults.append(f"{job_id} ({told.kind}) was told otherwise to its webhook: {known}")
            if job_id not in ids and not told.delete_asked:
                faults.append(f"{job_id} ({told.kind}) was never told to its webhook")
        return faults

    async def live_through_a_job(self) -> None:
        """Ask for a job and follow it; cancel or delete it now and then, at any moment."""
        kind = self.random.choice((*KINDS, "uploaded"))
        job_id = await self.submit(kind, insists=self.random.random() < 0.5)
        if job_id is None:
            return
        also = self.random.choices(("", "cancel", "delete", "delete after"), weights=(70, 18, 6, 6))[0]
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self.follow(job_id))
            if also in ("cancel", "delete"):
                await asyncio.sleep(self.random.uniform(0, 0.3))
            if also == "delete after":
                await asyncio.wait({following})
            if also == "cancel":
                await self.cancel(job_id)
            elif also:
                await self.delete(job_id)

    async def close(self) -> None:
        await self.http.aclose()


def read_end(body: dict[str, Any]) -> End:
    names = tuple(image["file_name"] for image in body.get("images", ()))
    return body["status"], body.get("code"), names


async def read_events(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@asynccontextmanager
async def serve_slowly(picture: bytes, seconds: float) -> AsyncIterator[str]:
    """A host that takes its time for a picture."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(seconds)
            head = f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {len(picture)}\r\n"
            writer.write(f"{head}connection: close\r\n\r\n".encode() + picture)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"
