"""Whether a service that has carried out very many jobs has grown: its memory over 200,000 of them."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass

from load import build_request, send_load
from service import MODEL, Server, judge, run_service
from throughput import describe_job, draw_pictures

JOBS = 200_000
STEP = 2_000
"""Jobs between two looks at the memory; so many are in the queue at most."""

WARM_UP = 20_000
CLIENTS = 16
LIMIT_MB = 5.0
"""Growth that counts as flat, for each 100,000 jobs after the warm-up: 50 bytes a job."""


@dataclass(frozen=True)
class Sample:
    """Memory after so many jobs, in bytes resident, of the server and of the worker."""

    jobs: int
    server: int
    worker: int


def measure(rounds: int) -> list[str]:
    """The section's lines: memory along the way, and its slope. One round, however many are asked for."""
    samples = []
    # History and files are kept no longer than the run's first minutes: what is swept is paid for too.
    with run_service("null", {"file_ttl_seconds": 120, "history_ttl_seconds": 3600}) as service:
        asset = service.upload_picture("data:image/png;base64," + next(draw_pictures()))
        request = build_request("POST", f"{service.url}/v2/{MODEL}", service.headers, describe_job(asset))
        started = time.perf_counter()
        done = 0
        while done < JOBS:
            last = service.find_last_job()
            send_load(service.url, [request] * STEP, CLIENTS)
            service.wait_until_completed(STEP, after=last)
            done += STEP
            samples.append(look(service, done))
            print(f"{done:,} jobs, server {samples[-1].server / 1e6:.1f} MB", file=sys.stderr, flush=True)
        seconds = time.perf_counter() - started
    return describe(samples, seconds)


def look(service: Server, jobs: int) -> Sample:
    """The memory as it is now."""
    workers = [one for one in service.process.children() if "understudy.worker" in one.cmdline()]
    return Sample(jobs, service.process.memory_info().rss, sum(one.memory_info().rss for one in workers))


def describe(samples: list[Sample], seconds: float) -> list[str]:
    """Tables in Markdown."""
    lines = [
        f"{JOBS:,} jobs through one service in {seconds / 60:.1f} minutes ({JOBS / seconds:.0f} jobs/s), "
        f"{CLIENTS} clients, `null` engine, results deleted after two minutes. Resident memory in MB.",
        "",
        "| jobs | server | worker |",
        "| ---: | ---: | ---: |",
    ]
    shown = {STEP, WARM_UP, *range(JOBS // 5, JOBS + 1, JOBS // 5)}
    for sample in samples:
        if sample.jobs in shown:
            lines.append(f"| {sample.jobs:,} | {sample.server / 1e6:.1f} | {sample.worker / 1e6:.1f} |")
    warm = [sample for sample in samples if sample.jobs >= WARM_UP]
    jobs = [sample.jobs for sample in warm]
    lines += [
        "",
        f"| at most {LIMIT_MB:.0f} MB for each 100,000 jobs after the first {WARM_UP:,} | measured | |",
        "| --- | ---: | --- |",
    ]
    for role in ("server", "worker"):
        slope = (
            statistics.linear_regression(jobs, [getattr(sample, role) / 1e6 for sample in warm]).slope * 1e5
        )
        lines.append(f"| {role} | {slope:+.1f} MB | {judge(slope <= LIMIT_MB)} |")
    return lines
