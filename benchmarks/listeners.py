"""A thousand event streams on one service: how soon each is told of its job's end, and what they cost.

The worker is halted while the listeners connect, so that every job still waits; then it goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop
from load import Load, LoadFailed, build_request, send_load
from service import MODEL, Server, run_service
from status_polls import halt_worker, submit
from throughput import describe_job, draw_pictures

LISTENERS = 1000
OTHER_REQUESTS = 400
"""Submits, and polls of a status, sent while nobody and while everybody listens."""

IDLE_SECONDS = 3.0
END_SECONDS = 120
SETTINGS = {"worker_hang_seconds": 3600, "worker_hang_factor": 1e6}


@dataclass
class Round:
    """What one round measured; times in seconds, memory in bytes."""

    lags: list[float] = field(default_factory=list)
    """From a job's end, as its row has it, to when its listener had read it."""

    drained: float = 0.0
    memory: float = 0.0
    idle_cpu: float = 0.0
    """Share of a core that the server uses while all listen and nothing happens."""

    submits: Load | None = None
    polls: Load | None = None

    @property
    def told_ms(self) -> tuple[float, float, float]:
        """Milliseconds until half, until 99 of 100, and until all listeners were told."""
        cuts = statistics.quantiles(self.lags, n=100, method="inclusive")
        return cuts[49] * 1000, cuts[98] * 1000, max(self.lags) * 1000


def measure(rounds: int) -> list[str]:
    """The section's lines."""
    ways = {
        f"{LISTENERS} jobs, nobody listens": (LISTENERS, 0),
        f"{LISTENERS} jobs, a listener each": (LISTENERS, LISTENERS),
        f"one job, {LISTENERS} listeners": (1, LISTENERS),
    }
    measured: dict[str, list[Round]] = {words: [] for words in ways}
    for _ in range(rounds):
        for words, (jobs, listeners) in ways.items():
            with run_service("null", SETTINGS) as service:
                measured[words].append(run_round(service, jobs, listeners))
    return describe(measured, rounds)


def run_round(service: Server, jobs: int, listeners: int) -> Round:
    """Submit jobs while the worker is halted, listen, measure, let the worker go on to the end."""
    asset = service.upload_picture("data:image/png;base64," + next(draw_pictures()))
    submit(service, asset, 100)
    service.wait_until_completed(100)
    # Only now: the service has the limit that its user gave it.
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, min(most, 2 * LISTENERS)), most))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        with halt_worker(service):
            last = service.find_last_job()
            ids = submit(service, asset, jobs)
            before = service.process.memory_info().rss
            urls = [f"{service.url}/v2/requests/{ids[number % jobs]}/events" for number in range(listeners)]
            crowd = runner.run(listen(urls, service.headers))
            done = Round()
            done.memory = service.process.memory_info().rss - before
            done.idle_cpu = runner.run(watch_idle(service))
            done.submits, done.polls = send_others(service, asset, ids)
            others = service.find_last_job() - last - jobs
        started = time.perf_counter()
        runner.run(wait_for_ends(crowd))
        service.wait_until_completed(jobs + others, after=last)
        done.drained = time.perf_counter() - started
    ended = service.find_ends(ids)
    done.lags = [listener.ended_at - ended[listener.job_id] for listener in crowd]
    return done


async def listen(urls: Sequence[str], headers: dict[str, str]) -> list[Listener]:
    """Open an event stream for each URL; all have had their first event when this returns."""
    loop = asyncio.get_running_loop()
    crowd = []
    for url in urls:
        parts = urlsplit(url)
        _, listener = await loop.create_connection(
            lambda u=url: Listener(u, headers), parts.hostname, parts.port
        )
        crowd.append(listener)
    await asyncio.wait_for(asyncio.gather(*(one.first for one in crowd)), END_SECONDS)
    return crowd


async def wait_for_ends(crowd: Sequence[Listener]) -> None:
    """Wait until each listener was told of its job's end and its stream was closed properly."""
    await asyncio.wait_for(asyncio.gather(*(one.end for one in crowd)), END_SECONDS)


async def watch_idle(service: Server) -> float:
    """The share of a core that the server uses while nothing is asked of it; events are read."""
    before = service.cpu_seconds()["server"]
    await asyncio.sleep(IDLE_SECONDS)
    return (service.cpu_seconds()["server"] - before) / IDLE_SECONDS


def send_others(service: Server, asset: str, ids: Sequence[str]) -> tuple[Load, Load]:
    """Submits, and status polls, of four other clients."""
    body = describe_job(asset)
    new = build_request("POST", f"{service.url}/v2/{MODEL}", service.headers, body)
    poll = build_request("GET", f"{service.url}/v2/requests/{ids[0]}/status", service.headers)
    submits = send_load(service.url, [new] * OTHER_REQUESTS, 4)
    return submits, send_load(service.url, [poll] * OTHER_REQUESTS, 4)


class Listener(asyncio.Protocol):
    """One event stream, read to its end."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        loop = asyncio.get_running_loop()
        self.job_id = url.split("/")[-2]
        self.first: asyncio.Future[None] = loop.create_future()
        self.end: asyncio.Future[None] = loop.create_future()
        self.ended_at = 0.0
        self._request = build_request("GET", url, {**headers, "Accept": "text/event-stream"})
        self._text = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._text += data
        if not self.first.done() and b"\ndata: " in self._text:
            self.first.set_result(None)
        if not self.ended_at and b'"status":"COMPLETED"' in self._text:
            self.ended_at = time.time()
        if self._text.endswith(b"\r\n0\r\n\r\n") and not self.end.done():
            if self.ended_at:
                self.end.set_result(None)
            else:
                self._fail(f"A stream ended without its job's end: {self._text[-300:]!r}")
        self._text = self._text[-20_000:]

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"A stream was lost ({error}): {self._text[-300:]!r}")

    def _fail(self, words: str) -> None:
        for future in (self.first, self.end):
            if not future.done():
                future.set_exception(LoadFailed(words))
                future.exception()  # Told by whoever waits; the other of the two is of no interest.


def describe(measured: dict[str, list[Round]], rounds: int) -> list[str]:
    """Tables in Markdown."""
    lines = [
        "A listener reads `GET /v2/requests/{id}/events` from before its job begins to its end; all of them "
        "are one process on this machine. Each of them was told of the end and had its stream closed. "
        f"Medians of {rounds} rounds, each on a new service. *Told* is the time from a job's end, as its row "
        f"has it, to when a listener had read of it. *All done* counts {OTHER_REQUESTS} jobs of others too.",
        "",
        "| | told p50 | told p99 | last told | memory a listener | idle server, cores | all done in |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for words, some in measured.items():
        cells = ["", "", "", ""]
        if some[0].lags:
            told = zip(*(one.told_ms for one in some), strict=True)
            memory = statistics.median(one.memory for one in some) / LISTENERS / 1000
            cells = [*(f"{statistics.median(values):.0f} ms" for values in told), f"{memory:.0f} kB"]
        drained = statistics.median(one.drained for one in some)
        idle_cpu = statistics.median(one.idle_cpu for one in some)
        cells += [f"{idle_cpu:.2f}", f"{drained:.1f} s"]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += [
        "",
        "What four other clients see meanwhile:",
        "",
        "| | submit p50 | p99 | status p50 | p99 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for words, some in measured.items():
        cells = []
        for load, percent in itertools.product(("submits", "polls"), (50, 99)):
            value = statistics.median(getattr(one, load).percentile_ms(percent) for one in some)
            cells.append(f"{value:.1f} ms")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines
