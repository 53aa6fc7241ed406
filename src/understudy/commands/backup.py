"""`understudy backup` and `understudy restore`: a data folder into one file, and back."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from .files import names_folder
from .options import DataDir, read_settings


def backup(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER",
            help="New file to write; in a folder (one that is there, or a slash at the end) it gets a name "
            "with the time.",
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Back up the data folder into one file, while the service runs or not.

    The file has every job, picture, character and key as they stood at one moment. It is readable
    for its owner alone. Its name is the last line.
    """
    from ..backup import write_backup

    folder = read_settings(data_dir=data_dir).data_dir
    file = Path(target)
    if names_folder(target):
        file.mkdir(parents=True, exist_ok=True, mode=0o700)
        file /= time.strftime("understudy-%Y%m%dT%H%M%SZ.tar", time.gmtime())
    made = write_backup(folder, file)
    for name in made.missing:
        typer.echo(f"Warning: the picture {name} is lost, and not in the backup.", err=True)
    typer.echo(f"{made.jobs} jobs and {made.files} files, {made.size_bytes / 1e6:.1f} MB.", err=True)
    typer.echo(str(file))


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="File that `understudy backup` wrote.")],
    data_dir: DataDir = None,
) -> None:
    """Restore a backup into a new or empty data folder.

    Everything in it is checked; the folder is complete or as it was.
    """
    from ..backup import restore_backup

    folder = read_settings(data_dir=data_dir).data_dir
    done = restore_backup(source, folder)
    typer.echo(
        f"Restored {done.jobs} jobs and {done.files} files of {done.made_at} into {str(folder)!r}. "
        f"Start it with: understudy serve --data-dir {shlex.quote(str(folder))}"
    )
