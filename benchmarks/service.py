"""The servers that are measured: the service as a user starts it, and a bare FastAPI route beside it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

HERE = Path(__file__).resolve().parent
DISK = HERE.parent / "build" / "bench"
"""Where the data folders are that are measured."""

CHARACTER = HERE.parent / "examples" / "young-man.png"
MODEL = "consistent-character-AI-neolemon-v3"

START_SECONDS = 60
ROLES = ("server", "worker", "decoder", "load client")
"""Who uses the processor while a service is under load."""


@dataclass
class Server:
    """A server that runs. `url` has no path; `key` is empty where none is needed."""

    url: str
    key: str
    process: psutil.Process
    data_dir: Path

    @property
    def headers(self) -> dict[str, str]:
        """What a request carries to be let in."""
        return {"x-api-key": self.key}

    def cpu_seconds(self) -> dict[str, float]:
        """Processor seconds used so far, by role; the load client is this process."""
        seconds = dict.fromkeys(ROLES, 0.0)
        for process in (self.process, *self.process.children(recursive=True)):
            times = process.cpu_times()
            seconds[_name_role(process.cmdline())] += times.user + times.system
        own = psutil.Process().cpu_times()
        return seconds | {"load client": own.user + own.system}

    def find_last_job(self) -> int:
        """The sequence of the last job there is; 0 when there is none."""
        with closing(self._connect()) as connection:
            return connection.execute("SELECT max(sequence) FROM jobs").fetchone()[0] or 0

    def find_ends(self, ids: Iterable[str]) -> dict[str, float]:
        """When each of these jobs ended, as its row has it: seconds since the epoch."""
        with closing(self._connect()) as connection:
            query = "SELECT ended_at FROM jobs WHERE id = ?"
            return {one: connection.execute(query, (one,)).fetchone()[0] for one in ids}

    def wait_until_completed(self, count: int, after: int = 0, timeout_seconds: float = 600) -> None:
        """Return when `count` jobs past the sequence `after` are COMPLETED, as another process reads it.

        Raises:
            RuntimeError: one of them failed, or the time is over.
        """
        give_up_at = time.monotonic() + timeout_seconds
        query = "SELECT status, count(*) FROM jobs WHERE sequence > ? GROUP BY status"
        with closing(self._connect()) as connection:
            while time.monotonic() < give_up_at:
                found = dict(connection.execute(query, (after,)).fetchall())
                if found.get("FAILED"):
                    raise RuntimeError(f"Jobs failed: {found}.")
                if found.get("COMPLETED", 0) == count:
                    return
                time.sleep(0.01)
        raise RuntimeError(f"Of {count} jobs only these were there in time: {found}.")

    def upload_picture(self, data_uri: str) -> str:
        """Keep a picture with the service; return its URL."""
        body = {"data_urls": [data_uri]}
        answer = httpx2.post(f"{self.url}/upload-asset", json=body, headers=self.headers, timeout=60)
        return answer.raise_for_status().json()["urls"][0]

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.data_dir / 'understudy.sqlite3'}?mode=ro", uri=True)


@contextmanager
def run_service(engine: str, settings: Mapping[str, object] | None = None) -> Iterator[Server]:
    """`understudy serve` on a new data folder while the block runs."""
    with make_folder() as folder:
        data_dir = folder / "data"
        command = [sys.executable, "-m", "understudy.cli", "serve", "--port", "0"]
        command += ["--data-dir", str(data_dir), "--engine", engine]
        environment = {f"UNDERSTUDY_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        with run_server(command, data_dir, environment) as server:
            yield server


@contextmanager
def run_bare_server() -> Iterator[Server]:
    """The bare FastAPI routes while the block runs."""
    with (
        make_folder() as folder,
        run_server([sys.executable, str(HERE / "bare_server.py")], folder) as server,
    ):
        yield server


@contextmanager
def run_server(
    command: list[str], data_dir: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server while the block runs; it says `listens on URL` when it does, and its key on a line before.

    Raises:
        RuntimeError: it did not start, or did not stop as it should.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**inherited, **(environment or {})}
        )
        try:
            url, key = _read_address(process)
            if not url:
                log.seek(0)
                raise RuntimeError(f"The server did not start:\n{log.read()[-2000:]}")
            yield Server(url, key, psutil.Process(process.pid), data_dir)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RuntimeError("The server did not stop within a minute.") from None


@contextmanager
def make_folder() -> Iterator[Path]:
    """A folder for a while, on a disk: /tmp may be memory, whose fsync costs nothing."""
    DISK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        yield Path(folder)


def judge(met: bool) -> str:
    """Whether a limit is met, in words."""
    return "met" if met else "**not met**"


def _read_address(process: subprocess.Popen[str]) -> tuple[str, str]:
    key = ""
    for line in process.stdout or ():
        if line.strip().startswith("us_"):
            key = line.strip()
        if "listens on" in line:
            return line.split()[-1], key
    return "", key


def _name_role(command: list[str]) -> str:
    for role in ("worker", "decoder"):
        if f"understudy.{role}" in command:
            return role
    return "server"
