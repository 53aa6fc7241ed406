"""A data folder as an operator has it: the command line on it, and what its database says."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from understudy.backup import DATABASE


def run(*arguments: object, status: int = 0, **options) -> subprocess.CompletedProcess[str]:
    """The command line as an operator runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "understudy.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def query(folder: Path, sql: str, *values: object) -> list[tuple]:
    """What a folder's database answers to SQL, which may change it."""
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        return database.execute(sql, values).fetchall()
