"""How long and from which seed: `CHAOS_MINUTES` and `CHAOS_SEED`, without them one short round."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from witness import find_marked

SEED = 1
"""The seed of the short round."""

SHARE = 0.3
"""Of the minutes, for each of the tests that repeat."""


@pytest.fixture
def rounds() -> Iterator[int]:
    """Seeds, one for each round: a single one, or new ones until the minutes are over."""

    def draw_seeds() -> Iterator[int]:
        deadline = time.monotonic() + 60 * SHARE * float(os.environ.get("CHAOS_MINUTES", "0"))
        given = os.environ.get("CHAOS_SEED")
        drawn = random.SystemRandom().randrange(10**6) if "CHAOS_MINUTES" in os.environ else SEED
        seed = int(given) if given else drawn
        while True:
            print(f"\nCHAOS_SEED={seed}", flush=True)
            yield seed
            seed += 1
            if time.monotonic() > deadline:
                return

    return draw_seeds()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder for data folders."""
    return tmp_path / "data"


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every process of the services of this test has this on its Python path.

    Their temporary files go to a folder of their own, so that what is left there is seen.
    """
    folder = tmp_path / "mark"
    temporary = tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(temporary))
    yield str(folder)
    for process in find_marked(str(folder)):
        process.kill()


@pytest.fixture
def report() -> Callable[..., None]:
    """Prints what was done in a round and what came of it; `make chaos` shows it."""

    def print_round(*counts: Counter) -> None:
        for count in counts:
            for what, number in sorted(count.items(), key=str):
                words = " / ".join(map(str, what)) if isinstance(what, tuple) else what
                print(f"  {number:6} {words}")

    return print_round
