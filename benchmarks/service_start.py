"""How long a service with the embedded engine takes to its first picture, and to each one after."""

from __future__ import annotations

import base64
import statistics
import time

import httpx2
from service import CHARACTER, MODEL, run_service


def measure(rounds: int) -> list[str]:
    """Seconds of a cold start, and of the reference page's own request; a row each."""
    ready, first, drawing, total = [], [], [], []
    body = {"prompt": "young man", "ip_image": base64.b64encode(CHARACTER.read_bytes()).decode()}
    for _ in range(rounds):
        started = time.perf_counter()
        with run_service("toon") as service, httpx2.Client(headers=service.headers, timeout=300) as client:
            ready.append(time.perf_counter() - started)
            for number in range(3):
                asked = time.perf_counter()
                answer = client.post(f"{service.url}/v1/{MODEL}", json=body).raise_for_status()
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
        "The reference page's own parameters: 1024 x 1024 pixels, 10 steps, guidance 3, no pose. "
        f"Medians of {rounds} starts, each on a new data folder.",
        "",
        "| | seconds |",
        "| --- | ---: |",
        *(f"| {name} | {statistics.median(values):.2f} |" for name, values in rows.items()),
    ]
