"""Our queue beside others that do the same work on the same machine: Procrastinate and DBOS.

Each takes the same payload by the same bare FastAPI route, and once more without HTTP; beside them
stands the whole service, which checks the key and the parameters and draws in another process.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import httpx2
from load import Load, build_request, send_load
from postgres import find_postgres, run_postgres, tell_version
from service import HERE, Server, make_folder, run_server, run_service
from throughput import draw_pictures, run_round

CLIENTS = {4: 160, 64: 640}
"""How many jobs a round submits at how many clients."""

OURS = "Understudy, the store alone"
SERVICE = "Understudy, the whole service"
PAYLOAD = {
    "prompt": "young man, red plaid shirt",
    "ip_image": "http://127.0.0.1:8000/files/0123456789abcdef0123456789abcdef.png",
    "negative_prompt": "",
    "guidance_scale": 3.0,
    "steps": 10,
    "width": 256,
    "height": 256,
    "seed": 4898558797,
    "num_images": 1,
    "output_format": "png",
}


@dataclass(frozen=True)
class Round:
    """One round of one queue at one number of clients."""

    submit: Load
    jobs_per_second: float


Rounds = dict[tuple[str, int], list[Round]]


def measure(rounds: int) -> list[str]:
    """The section's lines: a table over HTTP and one without."""
    names, missing = find_queues()
    with_http: Rounds = defaultdict(list)
    without: Rounds = defaultdict(list)
    for _ in range(rounds):
        for label, name in names.items():
            with run_queue(name) as server:
                submit_within(server, 64, 16)
                for clients, jobs in CLIENTS.items():
                    with_http[label, clients].append(submit_by_http(server, jobs, clients))
                    without[label, clients].append(submit_within(server, jobs, clients))
        with run_service("null") as service:
            asset = service.upload_picture("data:image/png;base64," + next(draw_pictures()))
            run_round(service, [asset] * 64, 16)
            for clients, jobs in CLIENTS.items():
                one = run_round(service, [asset] * jobs, clients)
                with_http[SERVICE, clients].append(Round(one.submit, one.jobs_per_second))
    return [
        "The work of a job: its payload is on disk when the submit returns; a worker writes a result of "
        "a kilobyte, flushed to disk with its name, and marks the job as done. The store alone, "
        "Procrastinate and DBOS stand behind the same bare FastAPI route; the whole service also checks "
        "key, parameters and picture, and draws in another process. PostgreSQL as it comes (every commit "
        "flushed), two worker processes for Procrastinate; DBOS in SQLite's WAL mode, its queue looked at "
        "every 20 ms. Medians of "
        f"{rounds} rounds in turn, each with a new database.",
        *missing,
        "",
        "Over HTTP:",
        "",
        *describe(with_http, SERVICE),
        "",
        "Without HTTP, submitted from within the process:",
        "",
        *describe(without, OURS),
    ]


def find_queues() -> tuple[dict[str, str], list[str]]:
    """The queues that can be measured here, by what they are called; and a line for each that cannot."""
    names, missing = {OURS: "store"}, []
    programs = find_postgres()
    for package, name in (("procrastinate", "procrastinate"), ("dbos", "dbos")):
        try:
            label = f"{package.capitalize() if package != 'dbos' else 'DBOS'} {version(package)}"
        except PackageNotFoundError:
            missing += ["", f"Not measured: {package} is not installed (`pip install -e '.[bench]'`)."]
            continue
        if name == "procrastinate" and programs is None:
            missing += ["", f"Not measured: {label}, for PostgreSQL is not installed."]
        elif name == "procrastinate":
            names[f"{label}, {tell_version(programs)}"] = name
        else:
            names[f"{label}, SQLite"] = name
    return names, missing


@contextmanager
def run_queue(name: str) -> Iterator[Server]:
    """A queue on a new database behind its route while the block runs."""
    with ExitStack() as stack:
        programs = find_postgres() if name == "procrastinate" else None
        database_url = stack.enter_context(run_postgres(programs)) if programs else "none"
        folder = stack.enter_context(make_folder())
        command = [sys.executable, str(HERE / "queue_server.py"), name, str(folder), database_url]
        yield stack.enter_context(run_server(command, folder))


def submit_by_http(server: Server, jobs: int, clients: int) -> Round:
    """Submit by the route and wait until all are done."""
    before = count_done(server)
    request = build_request("POST", f"{server.url}/submit", body=PAYLOAD)
    started = time.perf_counter()
    submit = send_load(server.url, [request] * jobs, clients)
    while count_done(server) - before < jobs:
        time.sleep(0.02)
    return Round(submit, jobs / (time.perf_counter() - started))


def count_done(server: Server) -> int:
    """How many jobs are done."""
    return httpx2.get(f"{server.url}/done", timeout=60).raise_for_status().json()["done"]


def submit_within(server: Server, jobs: int, clients: int) -> Round:
    """Let the queue's process submit, and wait until all are done."""
    asked = {"jobs": jobs, "clients": clients}
    answer = httpx2.post(f"{server.url}/submit_many", params=asked, json=PAYLOAD, timeout=300)
    told = answer.raise_for_status().json()
    return Round(Load(told["submitted"], told["latencies"]), jobs / told["done"])


def describe(rounds: Rounds, yardstick: str) -> list[str]:
    """A table in Markdown; the last column is how many times faster the yardstick's jobs are done."""
    lines = [
        f"| queue | submitters | submits/s | p50 | p95 | jobs done/s | {yardstick}: times as fast |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (label, clients), some in sorted(rounds.items(), key=lambda item: item[0][1]):
        jobs = statistics.median(one.jobs_per_second for one in some)
        ours = statistics.median(one.jobs_per_second for one in rounds[yardstick, clients])
        cells = [
            f"{statistics.median(one.submit.per_second for one in some):.0f}",
            *(
                f"{statistics.median(one.submit.percentile_ms(percent) for one in some):.1f} ms"
                for percent in (50, 95)
            ),
            f"{jobs:.0f}",
            f"{ours / jobs:.1f}",
        ]
        lines.append(f"| {label} | {clients} | {' | '.join(cells)} |")
    return lines
