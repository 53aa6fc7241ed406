"""What can be seen of a service from outside: its data folder, its processes, and what must hold."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RECENT_SECONDS = 0.1
"""How long after its end a job has only just ended."""


@dataclass
class Scene:
    """A data folder at one moment."""

    jobs: list[sqlite3.Row]
    rows: dict[str, sqlite3.Row]
    on_disk: set[str]
    at: float = field(default_factory=time.time)

    @property
    def unfinished(self) -> set[str]:
        """Files that are being written."""
        return {name for name in self.on_disk if name.endswith(".unfinished")}

    @property
    def rowless(self) -> set[str]:
        """Files that are written, but no row names them."""
        return self.on_disk - self.rows.keys() - self.unfinished

    @property
    def open_jobs(self) -> list[sqlite3.Row]:
        """Jobs that have no end yet."""
        return [job for job in self.jobs if job["ended_at"] is None]

    def find_states(self) -> set[str]:
        """What jobs are at."""
        states = set()
        for job in self.open_jobs:
            if job["status"] == "PROCESSING":
                states.add("processing" if job["step"] == 0 else "processing, some steps done")
            elif job["lease_expires_at"] is None:
                states.add("waiting")
            else:
                states.add("fetching" if job["stage"] == "fetching" else "leased")
        for job in self.jobs:
            if job["ended_at"] is not None and self.at - job["ended_at"] < RECENT_SECONDS:
                states.add("cancelled" if job["error_code"] == "cancelled" else job["status"].lower())
        if self.unfinished:
            states.add("picture being written")
        if self.rowless:
            states.add("picture written, no row")
        return states


LEDGER_FAULTS = {
    "a balance is not the sum of its ledger": """
        SELECT accounts.name, balance_microcredits, sum(amount_microcredits)
        FROM accounts LEFT JOIN ledger ON ledger.account_id = accounts.id GROUP BY accounts.id
        HAVING balance_microcredits != coalesce(sum(amount_microcredits), 0)""",
    "a job is billed wrongly": """
        SELECT jobs.id, jobs.status, jobs.price_microcredits, group_concat(kind || ' ' || amount_microcredits)
        FROM jobs LEFT JOIN ledger ON ledger.job_id = jobs.id WHERE jobs.price_microcredits IS NOT NULL
        GROUP BY jobs.id
        HAVING count(*) != CASE status WHEN 'COMPLETED' THEN 3 WHEN 'FAILED' THEN 2 ELSE 1 END
        OR sum(amount_microcredits) != CASE status WHEN 'FAILED' THEN 0 ELSE -price_microcredits END""",
    "a job that is gone holds credits": """
        SELECT job_id, sum(amount_microcredits * (kind != 'charge')) AS held FROM ledger
        WHERE job_id IS NOT NULL AND job_id NOT IN (SELECT id FROM jobs) GROUP BY job_id HAVING held != 0""",
    "a request was carried out twice": """
        SELECT json_extract(parameters, '$.prompt') AS prompt, count(*) FROM jobs
        WHERE prompt LIKE 'a hero called %' GROUP BY prompt HAVING count(*) > 1""",
}
"""What must never be in the database of a service whose pictures cost credits."""


def look(data_dir: Path) -> Scene:
    """The data folder as it is now; nobody's lock is held after."""
    with closing(open_database(data_dir)) as database:
        files = data_dir / "files"
        names = set(os.listdir(files)) if files.exists() else set()
        jobs = database.execute(
            "SELECT id, status, stage, step, lease_expires_at, attempts, ended_at, error_code FROM jobs"
        ).fetchall()
        rows = {row["name"]: row for row in database.execute("SELECT * FROM files")}
    return Scene(jobs, rows, names)


def open_database(data_dir: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"file:{data_dir / 'understudy.sqlite3'}?mode=ro", uri=True, timeout=1)
    database.row_factory = sqlite3.Row
    return database


def freeze(process: psutil.Process) -> None:
    """Stop a process; every thread of it stands still when this returns."""
    process.send_signal(signal.SIGSTOP)
    while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
        time.sleep(0.0002)


def find_children(process: psutil.Process, module: str) -> list[psutil.Process]:
    """The children of a service that run a module."""
    found = []
    for child in process.children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if module in child.cmdline():
                found.append(child)
    return found


def is_ignored(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a process ignores a signal (Linux); False when it is gone."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def find_marked(mark: str) -> Iterator[psutil.Process]:
    """Every living process that was started by a service with this mark on its Python path."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            if mark in process.environ().get("PYTHONPATH", "").split(os.pathsep):
                yield process


def wait_for_no_process(mark: str, seconds: float = 30) -> list[str]:
    """What still runs with this mark after a while: nothing should."""
    deadline = time.monotonic() + seconds
    while left := list(find_marked(mark)):
        if time.monotonic() > deadline:
            return [f"process {process.pid} outlived its service: {process.cmdline()}" for process in left]
        time.sleep(0.05)
    return []


def find_crash_faults(data_dir: Path) -> list[str]:
    """What must not be, however a process has just died on the folder."""
    scene = look(data_dir)
    now = time.time()
    lost = {
        name
        for name, row in scene.rows.items()
        if name not in scene.on_disk and (row["expires_at"] is None or row["expires_at"] > now)
    }
    faults = [f"row without its file: {name} ({scene.rows[name]['kind']})" for name in sorted(lost)]
    with closing(open_database(data_dir)) as database:
        for check, good in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
            found = [tuple(row) for row in database.execute(f"PRAGMA {check}")]
            faults += [f"{check}: {found}"] if found != good else []
        for what, query in LEDGER_FAULTS.items():
            faults += [f"{what}: {tuple(row)}" for row in database.execute(query)]
    return faults


def find_faults(data_dir: Path, seconds: float = 15) -> list[str]:
    """What must not be once every job has its end and the sweeper has been by.

    A fault that goes within the time is none.
    """
    deadline = time.monotonic() + seconds
    while (faults := _find_settled_faults(data_dir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return faults


def _find_settled_faults(data_dir: Path) -> list[str]:
    scene = look(data_dir)
    faults = [f"temporary file left: {name}" for name in sorted(scene.unfinished)]
    faults += [f"file without a row: {name}" for name in sorted(scene.rowless)]
    for name, row in sorted(scene.rows.items()):
        path = data_dir / "files" / name
        if name not in scene.on_disk:
            faults.append(f"row without its file: {name} ({row['kind']})")
        elif path.stat().st_size != row["size"]:
            faults.append(f"file with another size than its row says: {name}")
        if row["expires_at"] is not None and row["expires_at"] < scene.at:
            faults.append(f"expired file not swept: {name} ({row['kind']})")
    faults += [f"job without an end: {job['id']} {job['status']} {job['stage']}" for job in scene.open_jobs]
    faults += [f"lease left: {job['id']}" for job in scene.jobs if job["lease_expires_at"] is not None]
    return faults + find_crash_faults(data_dir)
