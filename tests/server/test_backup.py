"""Backup and restore: of a service under load, of one that was killed, and of what is damaged."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import io
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy.exc import DatabaseError

from service_client import SLUG, make_key, open_client, wait_for_end
from understudy import backup as backup_module
from understudy.backup import DATABASE, FEW_FILES, LOCK, MANIFEST, restore_backup, write_backup
from understudy.database import migrate_database
from understudy.errors import InvalidRequest, NotFound, UnderstudyError
from understudy.server.service import open_service
from understudy.settings import Settings


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


def submit(http, body, **values) -> str:
    answer = http.post(f"/v2/{SLUG}", json={**body, "width": 256, "height": 256, **values})
    assert answer.status_code == 200, answer.text
    return answer.json()["request_id"]


def query(folder: Path, sql: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        return database.execute(sql, values).fetchall()


@contextmanager
def paused_worker(service) -> Iterator[None]:
    """Hold a service's worker, so that what is submitted stays in the queue."""
    (worker,) = [
        child
        for child in psutil.Process(service.process.pid).children()
        if "understudy.worker" in child.cmdline()
    ]
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


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


# What a folder needs, made by hand.

PICTURES = {"needed": b"what a waiting job was given", "output": b"a picture", "hero": b"a character"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data folder with a waiting job, a picture that was drawn and a character."""
    folder = tmp_path / "data"
    migrate_database(folder)
    (folder / "files").mkdir()
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', 'first', 1)")
        database.execute(
            "INSERT INTO keys (id, account_id, name, prefix, digest, created_at)"
            " VALUES ('k', 'a', 'first', 'us_1234567', 'digest', 1)"
        )
        database.execute(
            "INSERT INTO jobs (id, account_id, key_id, model, parameters, inputs, seed, warnings, status,"
            " version, stage, step, steps, turn, token, attempts, created_at) VALUES"
            " ('j', 'a', 'k', 'model', '{}', ?, 1, '[]', 'QUEUED', 1, 'waiting', 0, 1, 0, 0, 0, 1)",
            (json.dumps({"ip_image": {"file": "needed.png"}}),),
        )
        for name, data in PICTURES.items():
            (folder / "files" / f"{name}.png").write_bytes(data)
            database.execute(
                "INSERT INTO files VALUES (?, 'a', ?, ?, 'image/png', ?, 1, NULL)",
                (f"{name}.png", "output", "j", len(data)),
            )
        database.execute("INSERT INTO characters VALUES ('a', 'Ann', '', 'hero.png', 1)")
    return folder


@pytest.fixture
def backup(folder, tmp_path) -> Path:
    """A backup of that folder."""
    write_backup(folder, tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def test_what_is_deleted_while_it_is_backed_up_leaves_the_backup_whole(folder, tmp_path):
    """Pictures that are pipes hold the backup up, after its snapshot, until somebody writes to them."""
    pipes = [folder / "files" / f"pipe-{number}.png" for number in (1, 2)]
    for rowid, pipe in enumerate(pipes, -len(pipes)):
        os.mkfifo(pipe)
        query(
            folder,
            "INSERT INTO files (rowid, name, account_id, kind, content_type, size, created_at)"
            " VALUES (?, ?, 'a', 'output', 'image/png', 0, 1)",
            *(rowid, pipe.name),
        )
    made = []
    work = threading.Thread(target=lambda: made.append(write_backup(folder, tmp_path / "backup.tar")))
    work.start()
    # Opening a pipe waits until the backup opens it: now the snapshot has been taken.
    pipes[0].write_bytes(b"")
    for name in PICTURES:
        (folder / "files" / f"{name}.png").unlink()
    for table in ("characters", "files", "jobs"):
        query(folder, f"DELETE FROM {table}")
    pipes[1].write_bytes(b"")
    work.join(60)
    assert made[0].missing == (), "it was deleted, not lost"
    restored = tmp_path / "restored"
    restore_backup(tmp_path / "backup.tar", restored)
    assert query(restored, "SELECT id FROM jobs") == [("j",)]
    for name in ("needed", "hero"):
        assert (restored / "files" / f"{name}.png").read_bytes() == PICTURES[name]
    assert query(restored, "SELECT name FROM characters") == [("Ann",)]
    assert query(restored, "SELECT name FROM files WHERE expires_at = 0") == [("output.png",)]


def test_files_that_come_while_others_are_copied_hold_nobody_up(folder, tmp_path):
    """Among the pictures that are submitted together are two pipes, at which the backup waits."""

    def submit_pictures(number: int) -> tuple[Path, Path]:
        names = [f"{number}-{picture}.png" for picture in range(FEW_FILES + 2)]
        first, *pictures, last = [folder / "files" / name for name in names]
        os.mkfifo(first)
        os.mkfifo(last)
        for picture in pictures:
            picture.write_bytes(b"a picture")
        rows = ", ".join(f"('{name}', 'a', 'input', 'j', 'image/png', 9, 1, NULL)" for name in names)
        query(folder, f"INSERT INTO files VALUES {rows}")
        inputs = json.dumps([{"file": name} for name in names])
        query(folder, "UPDATE jobs SET inputs = json_insert(inputs, ?, json(?))", f"$.{number}", inputs)
        return first, last

    first, last = submit_pictures(0)
    work = threading.Thread(target=write_backup, args=(folder, tmp_path / "backup.tar"), daemon=True)
    work.start()
    for number in range(1, 4):
        # Opening a pipe waits until the backup opens it. Between the two nobody else may be held up.
        first.write_bytes(b"")
        later = submit_pictures(number)
        last.write_bytes(b"")
        first, last = later
    first.write_bytes(b"")
    last.write_bytes(b"")
    work.join(60)
    restore_backup(tmp_path / "backup.tar", tmp_path / "restored")
    assert len(list((tmp_path / "restored" / "files").iterdir())) == len(PICTURES) + 4 * (FEW_FILES + 2)


def test_a_lost_picture_is_told_and_the_rest_is_backed_up(folder, tmp_path):
    (folder / "files" / "hero.png").unlink()
    told = run("backup", tmp_path / "backup.tar", "--data-dir", folder).stderr
    assert "Warning: the picture hero.png is lost" in told
    restore_backup(tmp_path / "backup.tar", tmp_path / "restored")
    assert query(tmp_path / "restored", "SELECT name FROM characters") == []
    assert (tmp_path / "restored" / "files" / "output.png").read_bytes() == PICTURES["output"]


def test_what_was_deleted_is_not_in_the_backup(folder, tmp_path):
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        # Some builds of SQLite write over what is deleted, others leave it in the file.
        database.execute("PRAGMA secure_delete = OFF")
        rows = [(f"a-secret-prompt-{number}", number) for number in range(300)]
        database.executemany("INSERT INTO accounts (id, name, created_at) VALUES (?1, ?1, ?2)", rows)
        database.execute("DELETE FROM accounts WHERE id <> 'a'")
    assert b"a-secret-prompt" in (folder / DATABASE).read_bytes()
    write_backup(folder, tmp_path / "backup.tar")
    assert b"a-secret-prompt" not in (tmp_path / "backup.tar").read_bytes()


def test_a_backup_that_is_cut_off_is_refused(backup, tmp_path):
    whole = backup.read_bytes()
    with tarfile.open(backup) as archive:
        end = archive.getmember(MANIFEST).offset_data + archive.getmember(MANIFEST).size
    for length in {*range(0, end, end // 24), end - 1}:
        backup.write_bytes(whole[:length])
        with pytest.raises(UnderstudyError) as refused:
            restore_backup(backup, tmp_path / "restored")
        assert refused.value.code == "backup_unusable"
        assert not (tmp_path / "restored").exists()


def test_a_changed_byte_is_refused(backup, tmp_path):
    whole = backup.read_bytes()
    with tarfile.open(backup) as archive:
        members = archive.getmembers()
    assert len(members) == 5
    for member in members:
        damaged = bytearray(whole)
        damaged[member.offset_data + member.size // 2] ^= 1
        backup.write_bytes(damaged)
        with pytest.raises(UnderstudyError) as refused:
            restore_backup(backup, tmp_path / "restored")
        assert refused.value.code == "backup_unusable"
        assert not (tmp_path / "restored").exists()


def rewrite(backup: Path, change) -> None:
    """Make an archive anew; `change` gets its contents and manifest and may change both."""
    with tarfile.open(backup) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    manifest = json.loads(contents.pop(MANIFEST))
    change(contents, manifest)
    contents.setdefault(MANIFEST, json.dumps(manifest).encode())
    with tarfile.open(backup, "w") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data or b""))


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "files/../../evil.png", "evil", "files/.x"])
def test_nothing_is_unpacked_outside_the_folder(backup, tmp_path, name):
    def smuggle(contents, manifest):
        contents[name] = b"evil"
        manifest["digests"][name] = hashlib.sha256(b"evil").hexdigest()

    rewrite(backup, smuggle)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnderstudyError, match="no part of a backup"):
        restore_backup(backup, tmp_path / "new")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda contents, manifest: contents.update({"files/hero.png": None}), "no part of a backup"),
        (lambda contents, manifest: contents.pop("files/hero.png"), "not all that its manifest names"),
        (lambda contents, manifest: manifest.update(revision="9999", version="7.0"), "version 7.0"),
        (lambda contents, manifest: manifest.update(format=2, version="7.0"), "version 7.0"),
        *(
            (lambda contents, manifest, name=name: manifest.pop(name), "manifest is damaged")
            for name in ("format", "made_at", "revision", "version", "jobs", "digests")
        ),
        (lambda contents, manifest: manifest.update(digests=[DATABASE]), "manifest is damaged"),
        (lambda contents, manifest: contents.update({MANIFEST: b"[]"}), "manifest is damaged"),
        (lambda contents, manifest: contents.update({MANIFEST: b"[" * 100_000}), "manifest is damaged"),
    ],
    ids=[
        *("link", "missing file", "newer schema", "newer format"),
        *("no format", "no time", "no revision", "no version", "no jobs", "no digests"),
        *("digests are a list", "a list", "nested too deep"),
    ],
)
def test_what_is_no_backup_of_this_version_is_refused(backup, tmp_path, change, words):
    rewrite(backup, change)
    with pytest.raises(UnderstudyError, match=words):
        restore_backup(backup, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_folder_that_is_not_empty_is_left_alone(backup, tmp_path, service):
    for folder, code in ((service.data_dir, "data_dir_in_use"), (tmp_path, "data_dir_not_empty")):
        before = sorted(folder.iterdir())
        with pytest.raises(UnderstudyError) as refused:
            restore_backup(backup, folder)
        assert refused.value.code == code
        assert sorted(folder.iterdir()) == before
    (tmp_path / "empty").mkdir()
    assert restore_backup(backup, tmp_path / "empty").jobs == 1


@pytest.mark.parametrize(("stays", "code"), [(True, "data_dir_in_use"), (False, "data_dir_not_empty")])
@pytest.mark.parametrize("new", [True, False])
def test_a_service_that_starts_in_the_folder_keeps_it(backup, tmp_path, monkeypatch, new, stays, code):
    """It comes at the worst moment: the lock's file is there, the restore does not hold it yet."""
    folder, flock = tmp_path / "restored", fcntl.flock
    if not new:
        folder.mkdir()

    def start_first(lock: int, kind: int) -> None:
        if kind & fcntl.LOCK_EX:
            service = os.open(folder / LOCK, os.O_RDWR)
            flock(service, kind)
            migrate_database(folder)
            if stays:
                services.append(service)
            else:
                os.close(service)
        flock(lock, kind)

    services: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", start_first)
        with pytest.raises(UnderstudyError) as refused:
            restore_backup(backup, folder)
    for service in services:
        os.close(service)
    assert refused.value.code == code
    assert query(folder, "SELECT count(*) FROM jobs") == [(0,)]
    assert (folder / LOCK).exists()


def test_of_two_restores_one_is_refused(backup, tmp_path, monkeypatch):
    """Both find the folder empty; the other one is quicker to put its lock into it."""
    folder = tmp_path / "restored"
    folder.mkdir()
    monkeypatch.setattr(backup_module, "_refuse_full_folder", lambda data_dir: (data_dir / LOCK).touch())
    with pytest.raises(UnderstudyError) as refused:
        restore_backup(backup, folder)
    assert refused.value.code == "data_dir_in_use"
    assert [path.name for path in folder.iterdir()] == [LOCK]


def test_nothing_is_written_over_and_nothing_into_the_data_folder(backup, folder, tmp_path):
    before = backup.read_bytes()
    for target in (backup, folder / "backup.tar", folder / "files" / "backup.tar"):
        with pytest.raises(InvalidRequest):
            write_backup(folder, target)
    assert backup.read_bytes() == before
    with pytest.raises(NotFound):
        write_backup(tmp_path / "nothing", tmp_path / "other.tar")


def test_a_damaged_database_is_not_backed_up(folder, tmp_path):
    whole = (folder / DATABASE).read_bytes()
    for damaged in (b"Once upon a time. " * 400, whole[:8192] + b"\xff" * (len(whole) - 8192)):
        (folder / DATABASE).write_bytes(damaged)
        with pytest.raises(UnderstudyError) as refused:
            write_backup(folder, tmp_path / "backup.tar")
        assert refused.value.code == "data_dir_unusable"
    assert sorted(tmp_path.iterdir()) == [folder]


def test_a_full_disk_leaves_nothing(backup, folder, tmp_path):
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    before = sorted(tmp_path.iterdir())
    run("backup", tmp_path / "other.tar", "--data-dir", folder, status=1, preexec_fn=limit_files)
    run("restore", backup, "--data-dir", tmp_path / "restored", status=1, preexec_fn=limit_files)
    assert sorted(tmp_path.iterdir()) == before


DIES = """
import os, sys
from pathlib import Path
import understudy.backup as backup
left, sync = [int(sys.argv[1])], os.fsync
def sync_or_die(descriptor):
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    sync(descriptor)
os.fsync = sync_or_die
getattr(backup, sys.argv[2])(Path(sys.argv[3]), Path(sys.argv[4]))
"""


def die_at(number: int, function: str, source: Path, target: Path) -> bool:
    """Whether the process, killed when it asks the disk for the number-th time, got that far."""
    done = subprocess.run([sys.executable, "-c", DIES, str(number), function, str(source), str(target)])
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def test_a_restore_that_is_killed_leaves_a_folder_that_is_refused(backup, tmp_path):
    number = refused = 0
    while die_at(number, "restore_backup", backup, tmp_path / f"{number}"):
        folder = tmp_path / f"{number}"
        if (folder / DATABASE).read_bytes().startswith(b"SQLite"):
            assert query(folder, "PRAGMA integrity_check") == [("ok",)]
            assert {path.name for path in (folder / "files").iterdir()} == {
                f"{name}.png" for name in PICTURES
            }
        else:
            refused += 1
            with pytest.raises(DatabaseError):
                migrate_database(folder)
            with pytest.raises(UnderstudyError) as again:
                restore_backup(backup, folder)
            assert again.value.code == "data_dir_not_empty"
        number += 1
    assert (number, refused) == (9, 7)
    told = run("serve", "--port", 0, "--data-dir", tmp_path / "0", "--engine", "null", status=1).stderr
    assert "damaged" in told
    assert told.count("\n") == 1


def test_a_restore_puts_its_mark_on_disk_first_and_the_folder_last(backup, tmp_path, monkeypatch):
    """What a power cut leaves is what was on disk: a folder that is refused, or all of it."""
    synced, sync = [], os.fsync

    def sync_and_note(descriptor: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_and_note)
    restore_backup(backup, tmp_path / "new" / "data")
    assert synced[:2] == [f"new/data/{DATABASE}", "new/data"]
    assert synced[-4:] == ["new/data/files", "new/data", "new", "."]
    assert len(synced) == 10


def test_a_backup_that_is_killed_has_not_its_name(folder, tmp_path):
    number = 0
    while die_at(number, "write_backup", folder, tmp_path / f"{number}.tar"):
        target = tmp_path / f"{number}.tar"
        if target.exists():
            restore_backup(target, tmp_path / f"{number}")
        number += 1
    assert number == 2
    assert not (tmp_path / "0.tar").exists()


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
