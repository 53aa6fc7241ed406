"""Listeners for the fetcher's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from listener import Serve, open_listeners


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts listeners that end with the test."""
    async with open_listeners() as start:
        yield start
