"""Restores: into which folders, of what is damaged, and those that are killed."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from data_folder import query, run
from understudy import backup as backup_module
from understudy.backup import DATABASE, LOCK, MANIFEST, restore_backup, write_backup
from understudy.database import migrate_database
from understudy.errors import UnderstudyError

from .conftest import PICTURES
from .deaths import die_at


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
    assert len(members) == len(PICTURES) + 2
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


def test_the_commits_of_weights_come_back(folder, tmp_path):
    (folder / "weights.json").write_text("{}")
    written = write_backup(folder, tmp_path / "weights.tar")
    assert restore_backup(tmp_path / "weights.tar", tmp_path / "restored").files == written.files
    assert written.files == len(list((folder / "files").iterdir()))
    assert (tmp_path / "restored" / "weights.json").read_text() == "{}"


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
    assert (number, refused) == (len(PICTURES) + 6, len(PICTURES) + 4)
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
    assert len(synced) == len(PICTURES) + 7
