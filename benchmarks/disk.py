"""What this disk allows: how many commits and files a second it makes durable, with nothing else to do."""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from other_queues import PAYLOAD
from service import make_folder

SECONDS = 2.0
"""How long each is done in a round."""

FILE = bytes(1000)


def measure(rounds: int) -> list[str]:
    """The section's lines: a row for each thing that is flushed to disk."""
    rates: dict[str, list[float]] = {}
    with make_folder() as folder:
        for _ in range(rounds):
            for rows in (1, 16, 64):
                words = f"SQLite: commits, {rows} row{'s' if rows > 1 else ''} each"
                rates.setdefault(words, []).append(count_commits(folder, rows))
            rates.setdefault("files: written, flushed, renamed, folder flushed", []).append(
                write_files(folder)
            )
    lines = [
        "One thread with nothing else to do; a row is a kilobyte of JSON, SQLite in WAL mode with "
        f"`synchronous = FULL` as the service has it. Medians of {rounds} rounds.",
        "",
        "| durable | a second | rows a second |",
        "| --- | ---: | ---: |",
    ]
    for words, some in rates.items():
        rate = statistics.median(some)
        rows = rate * int(words.split()[2]) if words.startswith("SQLite") else None
        lines.append(f"| {words} | {rate:.0f} | {'' if rows is None else f'{rows:.0f}'} |")
    return lines


def count_commits(folder: Path, rows: int) -> float:
    """Commits a second, each of so many rows."""
    payload = json.dumps({**PAYLOAD, "padding": "x" * (1000 - len(json.dumps(PAYLOAD)))})
    with closing(sqlite3.connect(folder / "commits.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS jobs (sequence INTEGER PRIMARY KEY, payload TEXT)")

        def commit() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO jobs (payload) VALUES (?)", [(payload,)] * rows)
            connection.execute("COMMIT")

        return repeat(commit)


def write_files(folder: Path) -> float:
    """Files a second, each on disk with its name."""

    def write() -> None:
        with open(folder / "unfinished", "wb") as file:
            file.write(FILE)
            file.flush()
            os.fsync(file.fileno())
        (folder / "unfinished").rename(folder / f"{time.monotonic_ns()}.png")
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    return repeat(write)


def repeat(act: Callable[[], None]) -> float:
    """How often a second something can be done."""
    started = time.perf_counter()
    count = 0
    while (seconds := time.perf_counter() - started) < SECONDS:
        act()
        count += 1
    return count / seconds
