"""A backup: one file with the database of a data folder and the pictures of its rows.

It is made while a service runs, or while none does, and is a tar archive, which any tar can open:
`files/`, `understudy.sqlite3`, `weights.json` (the commits that the service draws with) where there is
one, and at its very end `manifest.json` with the SHA-256 of each, the schema's revision and the version
that made it.

Why it is consistent:

- The database is a snapshot: one read transaction, which writers neither see nor disturb.
- A file never changes, and its bytes are on disk before its row is. So every row of the snapshot
  had its bytes when the snapshot was taken; only deletion can part them.
- What a job that has no end yet needs (what it was given, what is drawn of it), or a saved character,
  is copied before it can be deleted: files without an end of their own, and those that a job names.
  It is copied ahead, while nothing is held up, again and again until few files came meanwhile.
  Then the write lock is taken: no job can end and no row can expire while the snapshot begins and
  those few are copied.
- What is deleted after that (its time was over, or somebody deleted it) may be gone before it is
  copied. Its row is marked as expired in the snapshot: the first sweep after a restore takes it.

Deleted rows are vacuumed away: what was deleted does not live on in the backup.

The archive is written under another name, put on disk (fsync) and renamed at the end. A restore
does not begin with anything that has no manifest, and while it goes on the folder's database is
a file that every command refuses as damaged: neither half is ever taken for a whole.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, BinaryIO

from . import __version__
from .errors import InvalidRequest, NotFound, UnderstudyError
from .weights import RECORD

DATABASE = "understudy.sqlite3"
LOCK = "service.lock"
MANIFEST = "manifest.json"
FORMAT = 1

LOCK_SECONDS = 60.0
"""How long to try for the write lock of a busy service."""

FEW_FILES = 8
"""So many files may be copied while nobody can write."""

MOST_PASSES = 10
"""So often is copied ahead what came meanwhile, though more come than can be copied."""

_FILE = re.compile(r"files/\w[\w.-]*", re.ASCII)
_UNFINISHED = b"A restore into this folder has not finished: empty the folder and restore again.\n"
_CHUNK = 1 << 20

_NEEDED = """
SELECT name FROM files WHERE expires_at IS NULL OR name IN (
    SELECT atom FROM jobs, json_tree(jobs.inputs)
    WHERE jobs.ended_at IS NULL AND (key = 'file' OR path LIKE '%.files'))
"""
_FORGET_WITHOUT_PICTURES = """
DELETE FROM characters WHERE NOT EXISTS (
    SELECT * FROM character_pictures AS pictures
    WHERE pictures.account_id = characters.account_id AND pictures.character_name = characters.name)
"""
_KEPT = "SELECT name FROM files WHERE expires_at IS NULL OR expires_at > ?"


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What a backup has; `missing` names files that had a row but, through damage, no bytes."""

    made_at: str
    revision: str
    jobs: int
    files: int
    size_bytes: int
    missing: tuple[str, ...] = ()


def write_backup(data_dir: Path, target: Path) -> Backup:
    """Back a data folder up into one new file, whether or not a service runs on it.

    The file is its owner's alone: prompts, pictures and the digests of keys are in it.

    Raises:
        NotFound: the folder has no database.
        InvalidRequest: the target lies within the data folder, or is there already.
        UnderstudyError: the database is damaged or stays locked (`data_dir_unusable`).
        OSError: the target cannot be written; nothing is left of it.
    """
    if not (data_dir / DATABASE).is_file():
        raise NotFound(
            f"There is no database in {str(data_dir)!r}; name the service's folder with --data-dir."
        )
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise InvalidRequest(
            f"A backup within the data folder {str(data_dir)!r} would be lost with it; choose another place."
        )
    _refuse_existing(target)
    # Beside the target, where there is room for it, in a folder that is its owner's alone.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.unfinished-") as folder:
        unfinished = Path(folder) / target.name
        with open(unfinished, "xb", opener=_open_private) as file:
            with _explain_damage(data_dir, target), tarfile.open(fileobj=file, mode="w") as tar:
                manifest, missing = _fill(_Archive(tar, data_dir), data_dir, Path(folder) / DATABASE)
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(target)
        unfinished.rename(target)
    _sync_folder(target.parent)
    return _describe(target, manifest, missing)


def restore_backup(source: Path, data_dir: Path) -> Backup:
    """Unpack a backup into a data folder that is new or empty, and check all that is in it.

    Raises:
        UnderstudyError: the backup is not whole, is damaged or of a newer version
            (`backup_unusable`); the folder is in use (`data_dir_in_use`) or not empty
            (`data_dir_not_empty`). Nothing is left of what was unpacked.
        OSError: the backup cannot be read, or the folder cannot be written.
    """
    with _explain_archive(source), tarfile.open(source, "r:") as archive:
        members = {member.name: member for member in archive.getmembers()}
        manifest = _read_manifest(archive, members)
        with _claim_folder(data_dir):
            # Until the last step the database is a file that every command refuses.
            _write_file(io.BytesIO(_UNFINISHED), data_dir / DATABASE)
            _sync_folder(data_dir)
            (data_dir / "files").mkdir(mode=0o700)
            database = data_dir / f"{DATABASE}.unfinished"
            for name, digest in manifest["digests"].items():
                if (
                    _unpack(archive, members[name], database if name == DATABASE else data_dir / name)
                    != digest
                ):
                    raise _Unusable(f"{name} in it is damaged")
            _sync_folder(data_dir / "files")
            database.rename(data_dir / DATABASE)
            _sync_folder(data_dir)
    return _describe(source, manifest)


def _describe(file: Path, manifest: dict[str, Any], missing: Iterable[str] = ()) -> Backup:
    return Backup(
        made_at=manifest["made_at"],
        revision=manifest["revision"],
        jobs=manifest["jobs"],
        files=len(manifest["digests"].keys() - {DATABASE, RECORD}),
        size_bytes=file.stat().st_size,
        missing=tuple(missing),
    )


# Writing.


class _Archive:
    """A tar archive that is being written, and the digest of each thing in it."""

    def __init__(self, tar: tarfile.TarFile, data_dir: Path) -> None:
        self._tar = tar
        self._folder = data_dir / "files"
        self.digests: dict[str, str] = {}

    def add_pictures(self, names: Iterable[str]) -> list[str]:
        """Add files of the data folder, each once; return the names of those that are not there."""
        gone = []
        for name in self.list_absent(names):
            try:
                self.add(f"files/{name}", self._folder / name)
            except FileNotFoundError:
                gone.append(name)
        return gone

    def list_absent(self, names: Iterable[str]) -> list[str]:
        """Those of some files that are not in the archive."""
        return [name for name in names if f"files/{name}" not in self.digests]

    def add(self, name: str, path: Path) -> None:
        """Add a file under a name."""
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            self._add(name, file, status.st_size, status.st_mtime)

    def add_manifest(self, manifest: dict[str, Any]) -> None:
        """Add the manifest, which says that all the rest is there."""
        data = json.dumps(manifest, indent=1).encode()
        self._add(MANIFEST, io.BytesIO(data), len(data), time.time())

    def _add(self, name: str, file: BinaryIO, size: int, modified_at: float) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, modified_at, 0o600
        reader = _Reader(file)
        self._tar.addfile(member, reader)
        self.digests[name] = reader.digest.hexdigest()


class _Reader:
    """A file whose bytes are digested as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _fill(archive: _Archive, data_dir: Path, copy_path: Path) -> tuple[dict[str, Any], list[str]]:
    """Put a snapshot into an archive; return its manifest and the files that damage has lost."""
    with closing(_connect(data_dir)) as database:
        _copy_ahead(archive, database)
        with _hold_writers(data_dir):
            database.execute("BEGIN")
            archive.add_pictures(_names(database, _NEEDED))
        with closing(sqlite3.connect(copy_path, isolation_level=None)) as copy:
            database.backup(copy)
            database.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode = DELETE")
            _check_database(copy)
            gone = archive.add_pictures(_names(copy, _KEPT, time.time()))
            _forget(copy, gone)
            copy.execute("VACUUM")
            (revision,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
            (jobs,) = copy.execute("SELECT count(*) FROM jobs").fetchone()
        # A file that is gone though its row still holds was not deleted: it was lost.
        lost = set(_names(database, _KEPT, time.time())).intersection(gone)
    archive.add(DATABASE, copy_path)
    if (data_dir / RECORD).is_file():
        archive.add(RECORD, data_dir / RECORD)
    manifest = {
        "format": FORMAT,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": __version__,
        "revision": revision,
        "jobs": jobs,
        "digests": archive.digests.copy(),
    }
    archive.add_manifest(manifest)
    return manifest, sorted(lost)


def _forget(copy: sqlite3.Connection, names: list[str]) -> None:
    """Have files swept after a restore; a character that has no picture left is none."""
    several = copy.execute("SELECT * FROM sqlite_master WHERE name = 'character_pictures'").fetchone()
    # Before revision 0005 a character had one picture.
    table = "character_pictures" if several else "characters"
    for name in names:
        copy.execute("UPDATE files SET expires_at = 0 WHERE name = ?", (name,))
        copy.execute(f"DELETE FROM {table} WHERE file_name = ?", (name,))  # noqa: S608 - one of two
    if several:
        copy.execute(_FORGET_WITHOUT_PICTURES)


def _copy_ahead(archive: _Archive, database: sqlite3.Connection) -> None:
    """Copy what is needed now, then what came meanwhile, until that is little."""
    for _ in range(MOST_PASSES):
        archive.add_pictures(_names(database, _NEEDED))
        if len(archive.list_absent(_names(database, _NEEDED))) <= FEW_FILES:
            return


@contextmanager
def _hold_writers(data_dir: Path) -> Iterator[None]:
    """Keep everybody else from changing the database."""
    with closing(_connect(data_dir)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def _connect(data_dir: Path) -> sqlite3.Connection:
    address = f"{(data_dir / DATABASE).absolute().as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=LOCK_SECONDS)


def _names(database: sqlite3.Connection, query: str, *values: float) -> list[str]:
    return [name for (name,) in database.execute(query, values)]


def _check_database(database: sqlite3.Connection) -> None:
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


@contextmanager
def _explain_damage(data_dir: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from None
        raise UnderstudyError(
            f"The database in {str(data_dir)!r} cannot be backed up ({error}); "
            "`understudy doctor` says more.",
            code="data_dir_unusable",
        ) from None


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise InvalidRequest(f"{str(target)!r} is there already; choose another name for the backup.")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Restoring.


class _Unusable(Exception):
    """Why a backup cannot be restored, as the end of a sentence."""


@contextmanager
def _explain_archive(source: Path) -> Iterator[None]:
    try:
        yield
    except (_Unusable, tarfile.TarError) as error:
        reason = error if isinstance(error, _Unusable) else "it is no whole archive"
        raise UnderstudyError(
            f"The backup {str(source)!r} cannot be restored: {reason}; use another one.",
            code="backup_unusable",
        ) from None


def _read_manifest(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> dict[str, Any]:
    """The manifest of a whole backup that this version can read.

    Raises:
        _Unusable: it is none.
    """
    member = members.get(MANIFEST)
    file = None if member is None else archive.extractfile(member)
    if file is None:
        raise _Unusable("it is no whole backup (it has no manifest)")
    try:
        told = json.loads(file.read())
        manifest = {name: told[name] for name in ("format", "made_at", "revision", "version", "jobs")}
        digests = manifest["digests"] = dict(told["digests"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _Unusable("its manifest is damaged") from None
    if manifest["format"] != FORMAT or manifest["revision"] not in list_revisions():
        raise _Unusable(
            f"it was made by version {manifest['version']}, which is newer than this one; install that one"
        )
    if members.keys() - {MANIFEST} != digests.keys() or DATABASE not in digests:
        raise _Unusable("not all that its manifest names is there")
    for name in digests:
        if not members[name].isreg() or not (name in (DATABASE, RECORD) or _FILE.fullmatch(name)):
            raise _Unusable(f"{name!r} in it is no part of a backup")
    return manifest


def list_revisions() -> list[str]:
    """Every revision of the schema that this version knows, the newest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(files("understudy") / "migrations"))
    return [script.revision for script in scripts.walk_revisions()]


@contextmanager
def _claim_folder(data_dir: Path) -> Iterator[None]:
    """Make a folder, or take an empty one, and keep services away; empty it again on a failure."""
    new = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    if not new:
        _refuse_full_folder(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        lock = os.open(data_dir / LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        raise _in_use(data_dir) from None
    try:
        _lock_empty_folder(lock, data_dir)
        try:
            yield
            for folder in new:
                _sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(data_dir / "files", ignore_errors=True)
            for name in (DATABASE, f"{DATABASE}.unfinished", RECORD, LOCK):
                (data_dir / name).unlink(missing_ok=True)
            with suppress(OSError):
                for folder in new:
                    folder.rmdir()
            raise
    finally:
        os.close(lock)


def _lock_empty_folder(lock: int, data_dir: Path) -> None:
    """Take the lock; a service that came between the look and the lock keeps what it made."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(data_dir) from None
    if os.listdir(data_dir) != [LOCK]:
        raise _not_empty(data_dir)


def _refuse_full_folder(data_dir: Path) -> None:
    if is_in_use(data_dir):
        raise _in_use(data_dir)
    if any(data_dir.iterdir()):
        raise _not_empty(data_dir)


def _in_use(data_dir: Path) -> UnderstudyError:
    return UnderstudyError(
        f"A service or another restore uses the folder {str(data_dir)!r}; "
        "restore into a new one with --data-dir.",
        code="data_dir_in_use",
    )


def _not_empty(data_dir: Path) -> UnderstudyError:
    return UnderstudyError(
        f"The folder {str(data_dir)!r} is not empty; restore into a new one with --data-dir.",
        code="data_dir_not_empty",
    )


def is_in_use(data_dir: Path) -> bool:
    """Whether a service holds a data folder."""
    try:
        lock = os.open(data_dir / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, and given back at once: two who ask do not see each other.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Write a member to a new file, on disk when this returns; its SHA-256."""
    source = archive.extractfile(member)
    assert source is not None
    return _write_file(source, path)


def _write_file(source: IO[bytes], path: Path) -> str:
    """Write a new file that is its owner's alone, on disk when this returns; its SHA-256."""
    reader = _Reader(source)
    with open(path, "xb", opener=_open_private) as file:
        shutil.copyfileobj(reader, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    return reader.digest.hexdigest()
