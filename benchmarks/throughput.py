"""How many jobs a second go from submit to COMPLETED, with an engine that costs nothing.

Three ways to give the reference picture: uploaded once and named by its URL; inline, each request
the same; inline, each request another picture, so that nothing can be known from before.
"""

from __future__ import annotations

import base64
import io
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from load import Load, build_request, send_load
from PIL import Image
from service import CHARACTER, MODEL, ROLES, Server, judge, run_bare_server, run_service

CLIENTS = {1: 200, 4: 600, 64: 1280}
"""How many requests a round sends at how many clients."""

FORMS = ("uploaded", "inline, the same", "inline, each another")
INLINE_PIXELS = 128
LEAST_JOBS_PER_SECOND = 500
MOST_SUBMIT_P50_MS = 10


@dataclass(frozen=True)
class Round:
    """One round at one number of clients, with one form of the reference."""

    submit: Load
    jobs_per_second: float
    cpu_ms: dict[str, float]
    """Processor milliseconds a job, by role."""


def measure(rounds: int) -> list[str]:
    """The section's lines: tables of submits and jobs, of processor time, and of the limits."""
    bare: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
    ours: dict[tuple[str, int], list[Round]] = {(form, clients): [] for form in FORMS for clients in CLIENTS}
    pictures = draw_pictures()
    with run_bare_server() as bare_server, run_service("null") as service:
        asset = service.upload_picture("data:image/png;base64," + next(pictures))
        warm_up(service, asset)
        for _ in range(rounds):
            for clients, count in CLIENTS.items():
                echo = build_request("POST", f"{bare_server.url}/echo", body=describe_job(asset))
                bare[clients].append(send_load(bare_server.url, [echo] * count, clients))
                for form in FORMS:
                    references = make_references(form, asset, pictures, count)
                    ours[form, clients].append(run_round(service, references, clients))
    return describe(bare, ours, rounds)


def run_round(service: Server, references: list[str], clients: int) -> Round:
    """Submit a job for each reference and wait until all are COMPLETED."""
    requests = [
        build_request("POST", f"{service.url}/v2/{MODEL}", service.headers, describe_job(reference))
        for reference in references
    ]
    last, before = service.find_last_job(), service.cpu_seconds()
    started = time.perf_counter()
    submit = send_load(service.url, requests, clients)
    service.wait_until_completed(len(requests), after=last)
    seconds = time.perf_counter() - started
    after = service.cpu_seconds()
    cpu_ms = {role: (after[role] - before[role]) / len(requests) * 1000 for role in ROLES}
    return Round(submit, len(requests) / seconds, cpu_ms)


def warm_up(service: Server, asset: str) -> None:
    """Some jobs beforehand: the children have started, statements are compiled."""
    for clients in CLIENTS:
        run_round(service, [asset] * 100, clients)


def describe_job(reference: str) -> dict[str, object]:
    """What is asked: small pictures, for the engine is not what is measured."""
    return {"prompt": "young man, red plaid shirt", "ip_image": reference, "width": 256, "height": 256}


def make_references(form: str, asset: str, pictures: Iterator[str], count: int) -> list[str]:
    """What the requests of a round name as their reference."""
    if form == "uploaded":
        return [asset] * count
    if form == "inline, the same":
        return [next(pictures)] * count
    return list(itertools.islice(pictures, count))


def draw_pictures() -> Iterator[str]:
    """The example character as base64 PNG, without end, no two the same in their pixels."""
    with Image.open(CHARACTER) as file:
        character = file.convert("RGB").resize((INLINE_PIXELS, INLINE_PIXELS))
    for number in itertools.count():
        character.putpixel((0, 0), (number >> 16 & 255, number >> 8 & 255, number & 255))
        data = io.BytesIO()
        character.save(data, "PNG")
        yield base64.b64encode(data.getvalue()).decode()


def describe(bare: dict[int, list[Load]], ours: dict[tuple[str, int], list[Round]], rounds: int) -> list[str]:
    """Tables in Markdown."""
    size = len(next(draw_pictures()))
    lines = [
        f"`null` engine, 256 x 256 pixels; medians of {rounds} rounds, each after one of a bare FastAPI "
        "route that reads the same JSON and keeps nothing. The time of a job's end is when another process "
        f"reads all of them COMPLETED from the database. Inline pictures have {size / 1000:.0f} kB.",
        "",
        "| reference | clients | submits/s | p50 | p95 | p99 | to the bare route | jobs COMPLETED/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for clients, loads in bare.items():
        lines.append(f"| (bare route) | {clients} | {load_cells(loads)} | 1 | |")
    for (form, clients), some in ours.items():
        ratio = rate([one.submit for one in some]) / rate(bare[clients])
        jobs = statistics.median(one.jobs_per_second for one in some)
        lines.append(
            f"| {form} | {clients} | {load_cells([one.submit for one in some])} | {ratio:.2f} | {jobs:.0f} |"
        )
    lines += [
        "",
        "Processor milliseconds a job; all of them share the machine's cores.",
        "",
        f"| reference | clients | {' | '.join(ROLES)} | sum |",
        f"| --- | ---: | {'---: | ' * len(ROLES)}---: |",
    ]
    for (form, clients), some in ours.items():
        cells = [statistics.median(one.cpu_ms[role] for one in some) for role in ROLES]
        lines.append(f"| {form} | {clients} | {' | '.join(f'{cell:.2f}' for cell in (*cells, sum(cells)))} |")
    lines += ["", "| limit | reference | measured | |", "| --- | --- | ---: | --- |"]
    for form in FORMS:
        jobs = statistics.median(one.jobs_per_second for one in ours[form, 64])
        words = f"at least {LEAST_JOBS_PER_SECOND} jobs/s COMPLETED, 64 clients"
        lines.append(f"| {words} | {form} | {jobs:.0f} | {judge(jobs >= LEAST_JOBS_PER_SECOND)} |")
    for form in FORMS:
        p50 = statistics.median(one.submit.percentile_ms(50) for one in ours[form, 4])
        words = f"submit p50 at most {MOST_SUBMIT_P50_MS} ms, 4 clients"
        lines.append(f"| {words} | {form} | {p50:.1f} ms | {judge(p50 <= MOST_SUBMIT_P50_MS)} |")
    return lines


def rate(loads: list[Load]) -> float:
    """Answers a second, the median of rounds."""
    return statistics.median(load.per_second for load in loads)


def load_cells(loads: list[Load]) -> str:
    """Cells of a row: answers a second, p50, p95, p99; each the median of rounds."""
    percentiles = [
        statistics.median(load.percentile_ms(percent) for load in loads) for percent in (50, 95, 99)
    ]
    return " | ".join([f"{rate(loads):.0f}", *(f"{value:.1f} ms" for value in percentiles)])
