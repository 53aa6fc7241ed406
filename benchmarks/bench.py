"""Measures this machine: the queue with an engine that costs nothing, and the embedded engine.

    make bench

Writes `benchmarks/RESULTS.md`. Every figure is the median of `ROUNDS` rounds. The load comes from
this process, on the same machine: what it costs is in the figures, in those of the bare route too.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx2
import psutil
from PIL import Image

HERE = Path(__file__).resolve().parent
CHARACTER = HERE.parent / "examples" / "young-man.png"
MODEL = "consistent-character-AI-neolemon-v3"
CLIENTS = (1, 4, 64)
REQUESTS = 256
"""Requests of one round, shared among its clients."""

ROUNDS = 3

BARE_ROUTE = """
import socket, uvicorn
from fastapi import FastAPI, Request
app = FastAPI()

@app.post("/echo")
async def echo(request: Request) -> dict:
    body = await request.json()
    return {"status": "QUEUED", "prompt": body["prompt"]}

listener = socket.create_server(("127.0.0.1", 0))
print("listens on http://127.0.0.1:%d" % listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
"""


@dataclass(frozen=True)
class Load:
    """What one round at one number of clients measured."""

    per_second: float
    p50_ms: float
    p95_ms: float


def main() -> None:
    """Measure, write, print."""
    body = {"prompt": "young man", "ip_image": small_picture(), "width": 256, "height": 256}
    lines = ["# Measurements", "", f"`make bench`, {describe_machine()}.", ""]
    lines += ["## The queue", "", *measure_queue(body), ""]
    lines += ["## The embedded engine", "", *measure_toon()]
    text = "\n".join(lines) + "\n"
    (HERE / "RESULTS.md").write_text(text)
    print(text)


def measure_queue(body: dict) -> list[str]:
    """Rows for each number of clients: a bare route, submitting, and jobs to their end."""
    rows = {clients: ([], [], []) for clients in CLIENTS}
    with tempfile.TemporaryDirectory() as data_dir, run([sys.executable, "-c", BARE_ROUTE]) as bare:
        service = serve(data_dir, "null")
        with run(service) as (url, key):
            headers = {"x-api-key": key}
            for _ in range(ROUNDS):
                for clients in CLIENTS:
                    bare_loads, submits, jobs = rows[clients]
                    bare_loads.append(asyncio.run(post_all(f"{bare[0]}/echo", body, {}, clients)))
                    started = time.perf_counter()
                    submits.append(asyncio.run(post_all(f"{url}/v2/{MODEL}", body, headers, clients)))
                    wait_until_idle(url, headers)
                    jobs.append(REQUESTS / (time.perf_counter() - started))
    lines = [
        f"`null` engine, 256 x 256 pixels, a reference of {len(body['ip_image']) // 1000} kB inline, "
        f"{REQUESTS} requests a round, median of {ROUNDS} rounds. Beside it a bare FastAPI route that "
        "reads the same JSON and keeps nothing, in the same run.",
        "",
        "| clients | bare route: answers/s | p50 | p95 | submit: answers/s | p50 | p95 | jobs completed/s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for clients, (bare_loads, submits, jobs) in rows.items():
        cells = [
            f"{clients}",
            *load_cells(bare_loads),
            *load_cells(submits),
            f"{statistics.median(jobs):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def measure_toon() -> list[str]:
    """Seconds of a cold start, and of the reference page's own request."""
    ready, first, drawing, total = [], [], [], []
    body = {"prompt": "young man", "ip_image": base64.b64encode(CHARACTER.read_bytes()).decode()}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as data_dir:
            started = time.perf_counter()
            with run(serve(data_dir, "toon")) as (url, key):
                ready.append(time.perf_counter() - started)
                with httpx2.Client(headers={"x-api-key": key}, timeout=300) as client:
                    for number in range(3):
                        asked = time.perf_counter()
                        answer = client.post(f"{url}/v1/{MODEL}", json=body).raise_for_status()
                        if number == 0:
                            first.append(time.perf_counter() - started)
                        else:
                            drawing.append(float(answer.headers["x-generation-time"]))
                            total.append(time.perf_counter() - asked)
    rows = {
        "start of the service to its first answer": ready,
        "start of the service to the first picture, the engine loaded in between": first,
        "one picture, warm: drawing (`x-generation-time`)": drawing,
        "one picture, warm: from request to answer (`POST /v1`)": total,
    }
    return [
        "The reference page's own parameters: 1024 x 1024 pixels, 10 steps, guidance 3, no pose.",
        "",
        "| | seconds |",
        "| --- | ---: |",
        *(f"| {name} | {statistics.median(values):.2f} |" for name, values in rows.items()),
    ]


async def post_all(url: str, body: dict, headers: dict[str, str], clients: int) -> Load:
    """Send `REQUESTS` requests, `clients` at a time; every one must be answered with 200."""
    seconds: list[float] = []
    left = iter(range(REQUESTS))

    async def send(client: httpx2.AsyncClient) -> None:
        for _ in left:
            started = time.perf_counter()
            (await client.post(url, json=body)).raise_for_status()
            seconds.append(time.perf_counter() - started)

    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(headers=headers, timeout=120, limits=limits) as client:
        started = time.perf_counter()
        await asyncio.gather(*(send(client) for _ in range(clients)))
        elapsed = time.perf_counter() - started
    cuts = statistics.quantiles(seconds, n=20)
    return Load(REQUESTS / elapsed, statistics.median(seconds) * 1000, cuts[18] * 1000)


def wait_until_idle(url: str, headers: dict[str, str]) -> None:
    """Return when no job waits or is drawn."""
    with httpx2.Client(headers=headers, timeout=120) as client:
        for status in ("QUEUED", "PROCESSING"):
            query = {"status": status, "limit": 1}
            while client.get(f"{url}/v1/requests", params=query).raise_for_status().json()["requests"]:
                time.sleep(0.02)


def load_cells(loads: list[Load]) -> list[str]:
    """Medians over rounds: answers a second, p50, p95."""
    return [
        f"{statistics.median(load.per_second for load in loads):.0f}",
        f"{statistics.median(load.p50_ms for load in loads):.1f} ms",
        f"{statistics.median(load.p95_ms for load in loads):.1f} ms",
    ]


def serve(data_dir: str, engine: str) -> list[str]:
    """The command of a service on a free port."""
    program = [sys.executable, "-m", "understudy.cli", "serve", "--port", "0"]
    return [*program, "--data-dir", data_dir, "--engine", engine]


@contextmanager
def run(command: list[str]) -> Iterator[tuple[str, str]]:
    """A server while the block runs: the URL and the key that it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        key = ""
        for line in process.stdout or ():
            if line.strip().startswith("us_"):
                key = line.strip()
            if "listens on" in line:
                break
        else:
            sys.exit("A server did not start; what it printed above says why.")
        yield line.split()[-1], key
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def small_picture() -> str:
    """The example character, 256 pixels wide, as base64."""
    file = io.BytesIO()
    with Image.open(CHARACTER) as picture:
        picture.convert("RGB").resize((256, 256)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def describe_machine() -> str:
    """Processor, cores, memory, system, and the versions that matter."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return (
        f"{name}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"PyTorch {version('torch')}"
    )


if __name__ == "__main__":
    main()
