"""A PostgreSQL server of our own for a while, with its settings as they come: every commit flushed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service import make_folder

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian puts the programs, by version, outside of the PATH."""


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs; None when it is not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    folders = sorted(INSTALLED.glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


def tell_version(programs: Path) -> str:
    """`PostgreSQL 17.2`, say."""
    answer = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    return f"PostgreSQL {answer.stdout.split()[2]}"


@contextmanager
def run_postgres(programs: Path) -> Iterator[str]:
    """A server on a Unix socket in a folder of its own while the block runs; yields its address."""
    with make_folder() as folder:
        data_dir = folder / "data"
        # It refuses to run as root: then it runs as the user that its package made for it.
        user = "postgres" if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(folder, user)
            folder.chmod(0o755)
        options = {"user": user, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
        subprocess.run(
            [programs / "initdb", "--pgdata", data_dir, "--username", "bench", "--auth", "trust"], **options
        )
        control = [programs / "pg_ctl", "--pgdata", data_dir, "--log", folder / "log", "--wait"]
        # A Unix socket's path may have 107 bytes only: the folder's may be longer, the socket is in /tmp.
        subprocess.run(
            [*control, "--options", f"-c listen_addresses= -c unix_socket_directories={folder}", "start"],
            **options,
        )
        try:
            yield f"postgresql:///postgres?host={folder}&user=bench"
        finally:
            subprocess.run([*control, "--mode", "fast", "stop"], **options)
