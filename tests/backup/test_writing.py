"""Backups of folders: what is in them, what is lost or comes meanwhile, and those that fail."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import alembic.command
import alembic.config
import pytest
import sqlalchemy

import understudy
from data_folder import query, run
from understudy.backup import DATABASE, FEW_FILES, restore_backup, write_backup
from understudy.database import migrate_database
from understudy.errors import InvalidRequest, NotFound, UnderstudyError

from .conftest import NEEDED, PICTURES
from .deaths import die_at


def test_what_is_deleted_while_it_is_backed_up_leaves_the_backup_whole(folder, tmp_path):
    """Pictures that are pipes hold the backup up, after its snapshot, until somebody writes to them."""
    pipes = [folder / "files" / f"pipe-{number}.png" for number in (1, 2)]
    for rowid, pipe in enumerate(pipes, -len(pipes)):
        os.mkfifo(pipe)
        query(
            folder,
            "INSERT INTO files (rowid, name, account_id, kind, content_type, size, created_at, expires_at)"
            " VALUES (?, ?, 'a', 'output', 'image/png', 0, 1, 9e9)",
            *(rowid, pipe.name),
        )
    made = []
    work = threading.Thread(target=lambda: made.append(write_backup(folder, tmp_path / "backup.tar")))
    work.start()
    # Opening a pipe waits until the backup opens it: now the snapshot has been taken.
    pipes[0].write_bytes(b"")
    for name in PICTURES:
        (folder / "files" / f"{name}.png").unlink()
    for table in ("character_pictures", "characters", "files", "jobs"):
        query(folder, f"DELETE FROM {table}")
    pipes[1].write_bytes(b"")
    work.join(60)
    assert made[0].missing == (), "it was deleted, not lost"
    restored = tmp_path / "restored"
    restore_backup(tmp_path / "backup.tar", restored)
    assert query(restored, "SELECT id FROM jobs") == [("j",)]
    for name in NEEDED:
        assert (restored / "files" / f"{name}.png").read_bytes() == PICTURES[name]
    pictures = query(restored, "SELECT character_name, file_name FROM character_pictures ORDER BY number")
    assert pictures == [("Ann", "hero.png"), ("Ann", "side.png")]
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
    pictures = "SELECT file_name FROM character_pictures"
    assert query(tmp_path / "restored", pictures) == [("side.png",)]
    assert (tmp_path / "restored" / "files" / "output.png").read_bytes() == PICTURES["output"]
    (folder / "files" / "side.png").unlink()
    assert set(write_backup(folder, tmp_path / "other.tar").missing) == {"hero.png", "side.png"}
    restore_backup(tmp_path / "other.tar", tmp_path / "other")
    assert query(tmp_path / "other", pictures) == []
    assert query(tmp_path / "other", "SELECT name FROM characters") == []


def test_a_folder_of_an_earlier_version_is_backed_up(tmp_path):
    """One whose characters have one picture each; that of one is lost."""
    folder = tmp_path / "data"
    (folder / "files").mkdir(parents=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{folder / DATABASE}")
    with engine.begin() as connection:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(understudy.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0004")
    engine.dispose()
    query(folder, "INSERT INTO accounts (id, name, created_at) VALUES ('a', 'first', 1)")
    for name in ("Ann", "Bea"):
        query(folder, "INSERT INTO files VALUES (?, 'a', 'character', NULL, 'image/png', 1, 1, NULL)", name)
        query(folder, "INSERT INTO characters VALUES ('a', ?, '', ?, 1)", name, name)
    (folder / "files" / "Ann").write_bytes(b"Ann")
    assert write_backup(folder, tmp_path / "backup.tar").missing == ("Bea",)
    restore_backup(tmp_path / "backup.tar", tmp_path / "restored")
    migrate_database(tmp_path / "restored")
    assert query(tmp_path / "restored", "SELECT file_name FROM character_pictures") == [("Ann",)]
    assert query(tmp_path / "restored", "SELECT name FROM characters") == [("Ann",)]


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


def test_a_backup_that_is_killed_has_not_its_name(folder, tmp_path):
    number = 0
    while die_at(number, "write_backup", folder, tmp_path / f"{number}.tar"):
        target = tmp_path / f"{number}.tar"
        if target.exists():
            restore_backup(target, tmp_path / f"{number}")
        number += 1
    assert number == 2
    assert not (tmp_path / "0.tar").exists()
