"""The time to refuse a wrong key does not tell how much of a right one it shares."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncIterator

import pytest

from understudy.accounts.keys import PREFIX_LENGTH, KeyStore, draw_secret
from understudy.database import Database, migrate_database

ROUNDS = 300
MOST = 0.05
"""By so much of the time to refuse a key that shares nothing the others may differ."""

TRIES = 6
"""A machine that is busy elsewhere may be measured again; a real difference is there each time."""


@pytest.fixture
async def keys(tmp_path) -> AsyncIterator[KeyStore]:
    migrate_database(tmp_path)
    database = Database.open(tmp_path)
    yield KeyStore(database)
    await database.close()


async def measure_differences(keys: KeyStore, secret: str) -> dict[int, float]:
    """How much longer keys that share so much take than those that share nothing, as a share of that."""
    shares = (0, PREFIX_LENGTH, len(secret) // 2, len(secret) - 8)
    seconds: dict[int, list[float]] = {shared: [] for shared in shares}
    for _ in range(ROUNDS):
        for shared in random.sample(shares, len(shares)):
            # No key is asked for twice, and none is the right one.
            wrong = f"{secret[:shared]}{draw_secret()[::-1]}"[: len(secret)]
            begun = time.perf_counter()
            found = await keys.find(wrong)
            seconds[shared].append(time.perf_counter() - begun)
            assert found is None
    usual = statistics.median(seconds[0])
    return {
        shared: statistics.median(one - other for one, other in zip(seconds[shared], seconds[0], strict=True))
        / usual
        for shared in shares[1:]
    }


async def test_a_key_that_is_nearly_right_is_refused_as_fast_as_any_other(keys):
    secret, _ = await keys.create("somebody")
    assert (await keys.find(secret)) is not None
    measured = []
    for _ in range(TRIES):
        measured.append(await measure_differences(keys, secret))
        if all(abs(difference) < MOST for difference in measured[-1].values()):
            return
    pytest.fail(f"refused keys take longer or shorter by what they share: {measured}")
