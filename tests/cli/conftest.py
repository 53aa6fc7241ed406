"""The command line as a user runs it: a process of its own in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Understudy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def understudy(tmp_path: Path) -> Understudy:
    """Run `understudy` with arguments in a fresh folder, with settings from nowhere else."""

    def run(
        *arguments: object, status: int = 0, columns: int = 200, **environment: object
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "understudy.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "COLUMNS": str(columns),
                **{f"UNDERSTUDY_{name.upper()}": str(value) for name, value in environment.items()},
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run
