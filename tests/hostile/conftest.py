"""The service that everything hostile is sent to; it must be well, and no larger, after each."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from memory_watch import MemoryWatch
from running_service import RunningService

from .raw_http import exchange, make_head, post

FETCH_SECONDS = 3.0

GROWTH_BYTES = 400_000_000
"""What a request may make the service and its children take while it lasts: a few times the largest body."""


@pytest.fixture(scope="session")
def shared_service(start_service: Callable[..., RunningService]) -> RunningService:
    """A service with the null engine that may fetch from 127.0.0.1, but by no other name of it.

    The environment names a proxy where nobody is: whatever is fetched was fetched without it.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            environment.setenv(name, "http://127.0.0.1:1")
        return start_service(
            engine="null", fetch_allowed_hosts="127.0.0.1", fetch_timeout_seconds=FETCH_SECONDS
        )


@pytest.fixture(scope="session")
def good_body(picture_path: Path) -> dict[str, object]:
    """A request that nothing is wrong with."""
    picture = base64.b64encode(picture_path.read_bytes()).decode()
    return {"prompt": "a hero", "ip_image": picture, "width": 256, "height": 256, "seed": 7}


@pytest.fixture
def hostile(shared_service: RunningService, good_body: dict[str, object]) -> Iterator[RunningService]:
    """The shared service; it is well after the test: answers, has logged no failure and has not grown."""
    process = psutil.Process(shared_service.process.pid)
    logged = len(shared_service.output)

    def find() -> list[int]:
        return [process.pid, *(child.pid for child in process.children())]

    with MemoryWatch(find) as memory:
        before = memory.peak_bytes
        yield shared_service
    assert memory.peak_bytes - before < GROWTH_BYTES
    assert exchange(shared_service, make_head(shared_service)).status == 200
    assert post(shared_service, json.dumps(good_body).encode()).status == 200
    for line in shared_service.output[logged:]:
        assert "request_failed" not in line
        assert "Traceback" not in line
