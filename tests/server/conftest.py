"""HTTP clients for the services under test, and what they send."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from running_service import RunningService
from service_client import make_key, open_client


@pytest.fixture
def http(service: RunningService) -> Iterator[httpx2.Client]:
    """A client of the null service."""
    with open_client(service) as client:
        yield client


@pytest.fixture
def stranger(service: RunningService) -> Iterator[httpx2.Client]:
    """A client of the null service with a key of another account."""
    with open_client(service, make_key(service, "stranger")) as client:
        yield client


@pytest.fixture(scope="session")
def body(picture_path: Path) -> dict[str, Any]:
    """A good request."""
    picture = base64.b64encode(picture_path.read_bytes()).decode()
    return {"prompt": "a hero in a red coat", "ip_image": f"data:image/png;base64,{picture}", "seed": 7}
