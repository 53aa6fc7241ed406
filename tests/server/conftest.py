"""HTTP clients for the services under test, and what they send."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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


@pytest.fixture
def admin(billing_service: RunningService) -> Iterator[httpx2.Client]:
    """A client that may see and change every account of the billing service."""
    with open_client(billing_service) as client:
        yield client


@pytest.fixture
def open_account(
    billing_service: RunningService, admin: httpx2.Client
) -> Iterator[Callable[..., httpx2.Client]]:
    """Open accounts of the billing service: a client with a key of one, and its `account` by id."""
    with ExitStack() as stack:

        def open_one(credits: float = 0, **key: Any) -> httpx2.Client:
            made = admin.post("/v1/admin/accounts", json={"name": f"account {uuid.uuid4()}"})
            assert made.status_code == 201, made.text
            address = f"/v1/admin/accounts/{made.json()['id']}"
            if credits:
                assert admin.post(f"{address}/credits", json={"credits": credits}).status_code == 200
            key = admin.post(f"{address}/keys", json=key)
            assert key.status_code == 201, key.text
            client = stack.enter_context(open_client(billing_service, key.json()["key"]))
            client.account = address
            return client

        yield open_one
