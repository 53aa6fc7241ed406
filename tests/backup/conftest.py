"""A data folder, and a backup of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from understudy.backup import DATABASE, write_backup
from understudy.database import migrate_database

PICTURES = {
    "given": b"what a waiting job was given",
    "held": b"what a character has no more, but a waiting job has",
    "drawn": b"the first picture of a sheet that is not drawn to its end",
    "output": b"a picture",
    "hero": b"a character",
    "side": b"a character from the side",
}
NEEDED = PICTURES.keys() - {"output"}
KINDS = {"given": "input", "held": "deleted", "drawn": "output", "output": "output"}
WITHOUT_END = {"drawn", "hero", "side"}


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
            (json.dumps({"ip_image": {"files": ["held.png"]}, "input_image": {"file": "given.png"}}),),
        )
        for name, data in PICTURES.items():
            (folder / "files" / f"{name}.png").write_bytes(data)
            database.execute(
                "INSERT INTO files VALUES (?, 'a', ?, NULL, 'image/png', ?, 1, ?)",
                (
                    f"{name}.png",
                    KINDS.get(name, "character"),
                    len(data),
                    None if name in WITHOUT_END else 9e9,
                ),
            )
        database.execute(
            "INSERT INTO characters (account_id, name, prompt, created_at) VALUES ('a', 'Ann', '', 1)"
        )
        for number, name in enumerate(("hero.png", "side.png")):
            database.execute("INSERT INTO character_pictures VALUES ('a', 'Ann', ?, ?)", (number, name))
    return folder


@pytest.fixture
def backup(folder, tmp_path) -> Path:
    """A backup of that folder."""
    write_backup(folder, tmp_path / "backup.tar")
    return tmp_path / "backup.tar"
