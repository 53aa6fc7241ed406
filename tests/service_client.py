"""Calls to a running service that many tests make."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import psutil

from running_service import RunningService

SLUG = "consistent-character-AI-neolemon-v3"


def open_client(service: RunningService, key: str | None = None) -> httpx2.Client:
    """A client of a service, with its first key or another."""
    return httpx2.Client(
        base_url=service.url, headers={"x-api-key": key or service.key}, timeout=60, trust_env=False
    )


def make_key(service: RunningService, name: str) -> str:
    """A key of an account of its own, made while the service runs."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "understudy.cli", "keys", "create"),
            *("--data-dir", str(service.data_dir), "--name", name),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


def wait_for_end(http: httpx2.Client, request_id: str, seconds: float = 60) -> httpx2.Response:
    """The last answer of the status route: that of an ended job."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = http.get(f"/v2/requests/{request_id}/status")
        if answer.json().get("status") not in ("QUEUED", "PROCESSING"):
            return answer
        time.sleep(0.05)
    raise AssertionError(f"The job has no end yet: {answer.text}")


@contextmanager
def paused_worker(service: RunningService) -> Iterator[None]:
    """Hold a service's worker, so that what is submitted stays in the queue."""
    (worker,) = [
        child
        for child in psutil.Process(service.process.pid).children()
        if "understudy.worker" in child.cmdline()
    ]
    worker.suspend()
    try:
        yield
    finally:
        # It dies with its service.
        with suppress(psutil.NoSuchProcess):
            worker.resume()
