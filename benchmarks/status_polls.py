"""How many status polls a second the service answers, beside a bare FastAPI route.

The worker is halted meanwhile, so that waiting jobs stay where they are and cost nothing else.
"""

from __future__ import annotations

import itertools
import json
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from load import Load, build_request, send_load
from service import MODEL, Server, judge, run_bare_server, run_service
from throughput import describe_job, draw_pictures, load_cells

CLIENTS = (1, 4, 64)
POLLS = 2000
"""Polls of a round."""

POLLED_JOBS = 64
"""So many different jobs are polled in turn, again and again, as those who wait for them do."""

DEEP = 2000
"""Jobs that wait before those that are polled deep in the queue."""

LIMIT = 0.5


def measure(rounds: int) -> list[str]:
    """The section's lines: a row for each state of the polled jobs and number of clients."""
    bare: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
    ours: dict[tuple[str, int], list[Load]] = {}
    settings = {"worker_hang_seconds": 3600, "worker_hang_factor": 1e6}
    with run_bare_server() as bare_server, run_service("null", settings) as service:
        asset = service.upload_picture("data:image/png;base64," + next(draw_pictures()))
        completed = submit(service, asset, POLLS)
        service.wait_until_completed(POLLS)
        with halt_worker(service):
            # The first ones may be held for the worker already; those behind them wait.
            submit(service, asset, 16)
            waiting = submit(service, asset, POLLED_JOBS)
            submit(service, asset, DEEP)
            deep = submit(service, asset, POLLED_JOBS)
            time.sleep(1)
            polled = {
                "COMPLETED, each poll another job": completed,
                "COMPLETED": completed[:POLLED_JOBS],
                "QUEUED": waiting,
                f"QUEUED, {DEEP} before": deep,
            }
            for _, clients in itertools.product(range(rounds), CLIENTS):
                request = [build_request("GET", f"{bare_server.url}/status/{completed[0]}")]
                bare[clients].append(poll(bare_server, request, clients))
                for state, ids in polled.items():
                    requests = [
                        build_request("GET", f"{service.url}/v2/requests/{one}/status", service.headers)
                        for one in ids
                    ]
                    ours.setdefault((state, clients), []).append(poll(service, requests, clients))
    return describe(bare, ours, rounds)


def submit(service: Server, asset: str, count: int) -> list[str]:
    """Submit jobs; return their ids."""
    request = build_request("POST", f"{service.url}/v2/{MODEL}", service.headers, describe_job(asset))
    bodies: list[bytes] = []
    send_load(service.url, [request] * count, 16, receive=bodies.append)
    return [json.loads(body)["request_id"] for body in bodies]


def poll(server: Server, requests: list[bytes], clients: int) -> Load:
    """Poll in turn, so many times in all."""
    return send_load(server.url, itertools.islice(itertools.cycle(requests), POLLS), clients)


@contextmanager
def halt_worker(service: Server) -> Iterator[None]:
    """Halt the process that draws while the block runs."""
    worker = next(child for child in service.process.children() if "understudy.worker" in child.cmdline())
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


def describe(bare: dict[int, list[Load]], ours: dict[tuple[str, int], list[Load]], rounds: int) -> list[str]:
    """Tables in Markdown."""
    lines = [
        f"`GET /v2/requests/{{id}}/status` of {POLLED_JOBS} different jobs in turn, beside a bare FastAPI "
        f"route that answers with JSON of the same size; {POLLS} polls a round, medians of {rounds} "
        "rounds in turn.",
        "",
        "| polled | clients | polls/s | p50 | p95 | p99 | to the bare route | at least half |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for clients, loads in bare.items():
        lines.append(f"| (bare route) | {clients} | {load_cells(loads)} | 1 | |")
    for (state, clients), loads in sorted(ours.items()):
        pairs = zip(loads, bare[clients], strict=True)
        ratio = statistics.median(one.per_second / other.per_second for one, other in pairs)
        lines.append(f"| {state} | {clients} | {load_cells(loads)} | {ratio:.2f} | {judge(ratio >= LIMIT)} |")
    return lines
