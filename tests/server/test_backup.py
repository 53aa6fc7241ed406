"""Backup and restore of services: of one under load, of one that was killed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_folder import query, run
from service_client import SLUG, make_key, open_client, paused_worker, wait_for_end
from understudy.backup import DATABASE, LOCK, restore_backup, write_backup
from understudy.errors import UnderstudyError
from understudy.server.service import open_service
from understudy.settings import Settings


def submit(http, body, **values) -> str:
    answer = http.post(f"/v2/{SLUG}", json={**body, "width": 256, "height": 256, **values})
    assert answer.status_code == 200, answer.text
    return answer.json()["request_id"]


@contextmanager
def load(service, body, threads: int = 2) -> Iterator[list[str]]:
    """Clients that submit one job after another; the ids that were acknowledged."""
    ids: list[str] = []
    over = threading.Event()

    def submit_on() -> None:
        with open_client(service) as http:
            while not over.is_set():
                ids.append(submit(http, body))

    clients = [threading.Thread(target=submit_on) for _ in range(threads)]
    for client in clients:
        client.start()
    try:
        yield ids
    finally:
        over.set()
        for client in clients:
            client.join()


def test_a_service_under_load_is_backed_up_and_restored(start_service, body, tmp_path):
    # Swept at once, what a job was given is gone as soon as it has ended.
    service = start_service(engine="null", sweep_interval_seconds=0.02)
    other_key = make_key(service, "other")
    with open_client(service) as http:
        character = http.post("/v1/characters", json={"name": "Ann", "ip_image": body["ip_image"]}).json()
        completed = [submit(http, body, seed=seed) for seed in range(3)]
        pictures = {}
        for request_id in completed:
            wait_for_end(http, request_id)
            pictures[request_id] = http.get(http.get(f"/v2/requests/{request_id}").json()["output"]).content
    with load(service, body) as ids:
        while len(ids) < 10:
            time.sleep(0.01)
        with paused_worker(service):
            waiting = [submit(open_client(service), body, ip_image="character:Ann") for _ in range(3)]
            queued_file = Path(
                run("backup", tmp_path / "queued.tar", "--data-dir", service.data_dir).stdout.strip()
            )
            known = list(ids)
        # Now jobs end and are swept while the backup goes on.
        busy_file = Path(
            run("backup", f"{tmp_path / 'made'}/", "--data-dir", service.data_dir).stdout.strip()
        )
    service.stop()
    for number, file in enumerate((queued_file, busy_file)):
        assert file.stat().st_mode & 0o077 == 0
        folder = tmp_path / f"restored-{number}"
        run("restore", file, "--data-dir", folder)
        for path in (folder, *folder.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path
        unended = [one for (one,) in query(folder, "SELECT id FROM jobs WHERE ended_at IS NULL")]
        if file is queued_file:
            assert set(waiting) <= set(unended)
            acknowledged = [*completed, *waiting]
        else:
            acknowledged = [*completed, *waiting, *known]
        there = {one for (one,) in query(folder, "SELECT id FROM jobs")}
        assert set(acknowledged) <= there
        again = start_service(data_dir=folder, engine="null", sweep_interval_seconds=0.02)
        assert again.key == "", "it has its keys"
        with open_client(again, service.key) as http:
            for request_id, picture in pictures.items():
                result = http.get(f"/v2/requests/{request_id}").json()
                assert result["status"] == "COMPLETED"
                assert http.get(result["output"]).content == picture
            for request_id in [*unended, *acknowledged]:
                assert wait_for_end(http, request_id).json()["status"] == "COMPLETED"
                assert http.get(http.get(f"/v2/requests/{request_id}").json()["output"]).status_code == 200
            assert http.get(character["url"].replace(service.url, again.url)).status_code == 200
        with open_client(again, other_key) as http:
            assert http.get("/v1/requests").json()["requests"] == []
        again.stop()


def test_a_killed_service_is_backed_up_with_what_its_log_holds(start_service, body, tmp_path):
    service = start_service(engine="null")
    with open_client(service) as http, paused_worker(service):
        request_id = submit(http, body)
        service.kill()
    assert (service.data_dir / f"{DATABASE}-wal").stat().st_size > 0
    write_backup(service.data_dir, tmp_path / "backup.tar")
    restore_backup(tmp_path / "backup.tar", tmp_path / "restored")
    again = start_service(data_dir=tmp_path / "restored", engine="null")
    with open_client(again, service.key) as http:
        assert wait_for_end(http, request_id).json()["status"] == "COMPLETED"
    again.stop()


async def test_a_service_holds_no_lock_on_a_file_that_a_failed_restore_removed(tmp_path):
    lock = os.open(tmp_path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)

    async def open_it() -> None:
        async with open_service(Settings(data_dir=tmp_path, engine="null")):
            pass

    opening = asyncio.create_task(open_it())
    await asyncio.sleep(0.3)
    (tmp_path / LOCK).unlink()
    os.close(lock)
    with pytest.raises(UnderstudyError) as refused:
        await opening
    assert refused.value.code == "data_dir_in_use"
    await open_it()
