"""What the doctor finds in the data folder: whether it can be used, the database, the pictures."""

from __future__ import annotations

import errno
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ...backup import DATABASE, is_in_use, list_revisions
from .finding import FAIL, OK, WARN, Finding, describe_size

if TYPE_CHECKING:
    from ...settings import Settings

LEAST_DISK_BYTES = 1_000_000_000
"""Below this much free space the doctor warns: pictures and the database grow."""

LEFTOVER_SECONDS = 60.0
"""A file younger than this may be about to get its row."""

ANOTHER_FOLDER = "name another folder with --data-dir or UNDERSTUDY_DATA_DIR"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_NAMELESS_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


def check_folder(settings: Settings) -> Iterator[Finding]:
    """Whether the folder can be written, by us, and read by nobody else."""
    folder = settings.data_dir.absolute()
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not existing.is_dir():
        yield _fail(f"{existing} is no folder", ANOTHER_FOLDER)
        return
    for place in (existing, folder / "files"):
        if (place == existing or place.exists()) and (problem := find_obstacle(place)) is not None:
            yield problem
            return
    if folder.exists():
        yield from check_owner(folder, os.geteuid())
        words = "a service runs on it" if is_in_use(folder) else "no service runs on it"
    else:
        words = "made by the first start"
    yield Finding(name="Data folder", state=OK, detail=f"{folder}, {words}")
    yield from _check_room(existing)


def find_obstacle(folder: Path) -> Finding | None:
    """Why a folder cannot be written; a file without a name is written, which leaves no trace."""
    if not folder.is_dir():
        return _fail(f"{folder} is no folder", f"move it away, or {ANOTHER_FOLDER}")
    try:
        _write_nameless(folder)
    except OSError as error:
        if error.errno in _NO_ROOM:
            remedy = "make room on its disk; jobs wait meanwhile and none is lost"
        elif error.errno == errno.EROFS:
            remedy = f"mount it so that it can be written, or {ANOTHER_FOLDER}"
        else:
            remedy = f"let the service's user own it (chown -R), or {ANOTHER_FOLDER}"
        return _fail(f"{folder} cannot be written ({error.strerror})", remedy)
    return None


def _write_nameless(folder: Path) -> None:
    if hasattr(os, "O_TMPFILE"):
        try:
            file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as error:
            if error.errno not in _NO_NAMELESS_FILES:
                raise
        else:
            try:
                os.write(file, bytes(4096))
                os.fsync(file)
            finally:
                os.close(file)
            return
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_owner(folder: Path, user: int) -> Iterator[Finding]:
    """Whether a folder and what is in it are this user's alone."""
    foreign = [path for path in (folder, folder / DATABASE) if path.exists() and path.stat().st_uid != user]
    if foreign:
        owner = foreign[0].stat().st_uid
        yield Finding(
            name="Data folder",
            state=WARN,
            detail=f"{foreign[0]} belongs to the user {owner}, and this is the user {user}",
            remedy=f"ask as the service's user: sudo -u '#{owner}' understudy doctor",
        )
    shared = [path for path in (folder, folder / DATABASE) if path.exists() and path.stat().st_mode & 0o077]
    if folder / DATABASE in shared or (folder in shared and (folder / DATABASE).exists()):
        yield Finding(
            name="Data folder",
            state=WARN,
            detail=f"others of this machine may read {shared[0]}, where prompts and pictures are",
            remedy=f"chmod -R go= {shlex.quote(str(folder))}",
        )


def _check_room(folder: Path) -> Iterator[Finding]:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_files and not disk.f_favail:
        yield Finding(
            name="Disk",
            state=FAIL,
            detail="no file more can be made on it (no inode is free)",
            remedy="delete files",
        )
    elif free > LEAST_DISK_BYTES:
        yield Finding(name="Disk", state=OK, detail=f"{describe_size(free)} free")
    else:
        yield Finding(
            name="Disk",
            state=WARN,
            detail=f"{describe_size(free)} free",
            remedy="make room, or keep pictures for less long (UNDERSTUDY_FILE_TTL_SECONDS)",
        )


def check_database(settings: Settings) -> Iterator[Finding]:
    """Whether the database is whole, and of a revision that this version can use."""
    path = settings.data_dir / DATABASE
    if not os.path.lexists(path):
        yield from _check_absence(settings.data_dir)
        return
    try:
        with closing(_open_unchanged(settings.data_dir)) as database:
            (damage,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if damage != "ok":
                raise sqlite3.DatabaseError(damage)
            if broken := database.execute("PRAGMA foreign_key_check").fetchone():
                raise sqlite3.DatabaseError(
                    f"a row of {broken[0]} names one of {broken[2]} that is not there"
                )
            (current,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.DatabaseError, TypeError) as error:
        yield Finding(
            name="Database",
            state=FAIL,
            detail=f"{path} cannot be read ({error})",
            remedy=f"restore a backup into a new folder (understudy restore), or {ANOTHER_FOLDER}",
        )
        return
    known = list_revisions()
    if current == known[0]:
        yield Finding(name="Database", state=OK, detail=f"revision {current}, whole")
    elif current in known:
        yield Finding(
            name="Database",
            state=WARN,
            detail=f"revision {current}, this version writes {known[0]}",
            remedy="understudy backup, then understudy serve, which brings it up to date",
        )
    else:
        yield Finding(
            name="Database",
            state=FAIL,
            detail=f"revision {current} is of a newer version, this one knows {known[0]} at most",
            remedy="install the version that wrote it, or restore a backup from before",
        )


def _check_absence(folder: Path) -> Iterator[Finding]:
    pictures = len(_list_files(folder))
    if pictures:
        yield Finding(
            name="Database",
            state=WARN,
            detail=f"none, though there are {pictures} pictures: a start makes a new one and deletes them",
            remedy=f"restore a backup into a new folder (understudy restore), or {ANOTHER_FOLDER}",
        )
    else:
        yield Finding(name="Database", state=OK, detail="none yet; the first start makes it")


def check_pictures(settings: Settings) -> Iterator[Finding]:
    """Whether each row of a picture has its file and each file its row."""
    folder = settings.data_dir
    if not os.path.isfile(folder / DATABASE):
        return
    # Files before rows: bytes are there before their row, so that none is taken for a leftover.
    sizes = _list_files(folder)
    try:
        with closing(_open_unchanged(folder)) as database:
            every = {name for (name,) in database.execute("SELECT name FROM files")}
            lost = _list_kept(database) - sizes.keys()
            # What is gone now may have been swept since its row was read.
            if lost:
                lost = {
                    name for name in lost & _list_kept(database) if not (folder / "files" / name).exists()
                }
    except sqlite3.DatabaseError:
        return
    leftovers = [name for name in sizes if name not in every and _is_old(folder / "files" / name)]
    if lost:
        yield Finding(
            name="Pictures",
            state=WARN,
            detail=f"{len(lost)} of {len(every)} are lost: their rows have no file",
            remedy="restore a backup into a new folder (understudy restore), or let them expire",
        )
    if leftovers:
        yield Finding(
            name="Pictures",
            state=WARN,
            detail=f"{len(leftovers)} files have no row: a service died while it wrote them",
            remedy="start the service anew, which removes them",
        )
    if not lost and not leftovers:
        total = describe_size(sum(sizes.values()))
        yield Finding(name="Pictures", state=OK, detail=f"{len(sizes)}, {total}, each with its row")


def _open_unchanged(folder: Path) -> sqlite3.Connection:
    """The database, read without leaving a trace in its folder.

    A reader of a database that nobody has open would leave an empty log beside it, unless SQLite
    is told that nothing writes to it.
    """
    log = folder / f"{DATABASE}-wal"
    has_log = log.exists() and log.stat().st_size > 0
    mode = "mode=ro" if has_log or is_in_use(folder) else "mode=ro&immutable=1"
    path = (folder / DATABASE).absolute()
    return sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None)


def _list_kept(database: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM files WHERE expires_at IS NULL OR expires_at > ?"
    return {name for (name,) in database.execute(query, (time.time(),))}


def _list_files(folder: Path) -> dict[str, int]:
    """The sizes of the pictures in a data folder, by their names."""
    sizes = {}
    try:
        for entry in os.scandir(folder / "files"):
            try:
                sizes[entry.name] = entry.stat().st_size
            except FileNotFoundError:
                continue  # swept meanwhile
    except OSError:
        return {}
    return sizes


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > LEFTOVER_SECONDS
    except FileNotFoundError:
        return False


def _fail(detail: str, remedy: str) -> Finding:
    return Finding(name="Data folder", state=FAIL, detail=detail, remedy=remedy)


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (check_folder, check_database, check_pictures)
