"""Where a command saves its pictures: names, extensions, folders."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from ..parameters import PICTURE_FIELDS, Parameters

EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}
"""`output_format` -> how a file's name ends."""

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""How a file's name ends -> `output_format`."""


def choose_files(given: dict[str, Any], output: str | None) -> list[Path]:
    """Where the pictures that `given` parameters ask for are to be saved, one path for each.

    A single picture goes to `output`, or into it when it is a folder, which a slash at its end
    says too; several need a folder. Without `output` a new name is found here. An extension that
    names another format than asked for is refused; without a format asked for, it decides
    (`given` is changed). A file that is one of the given pictures is refused.
    """
    files = _choose_files(given, None if output is None else Path(output), names_folder(output or ""))
    keep_given(files, given)
    return files


def _choose_files(given: dict[str, Any], output: Path | None, into_folder: bool) -> list[Path]:
    suffix = "" if output is None or into_folder else output.suffix.lower()
    told = FORMATS.get(suffix)
    if told is not None and given.setdefault("output_format", told) != told:
        raise InvalidRequest(f"--output ends in {suffix}, but --output-format is {given['output_format']}.")
    parameters = Parameters.model_validate(given)
    extension = EXTENSIONS[parameters.output_format]
    if parameters.picture_count == 1:
        if output is None:
            return [_free(Path(f"picture.{extension}"))]
        if into_folder:
            return [output / f"picture.{extension}"]
        if suffix:
            check_extension("--output", output)
        return [output]
    if output is not None and (suffix or output.is_file()):
        raise InvalidRequest(
            f"{parameters.picture_count} pictures need a folder, and --output names a file; "
            "the name of a folder may end in a slash to say so."
        )
    folder = output or _free(Path("pictures"))
    poses = [pose for pose in parameters.asked_poses for _ in range(parameters.num_images)]
    return [
        folder / (f"{number:02}-{name_pose(pose)}.{extension}" if pose else f"{number:02}.{extension}")
        for number, pose in enumerate(poses, 1)
    ]


def names_folder(output: str) -> bool:
    """Whether a path is a folder's: one that is there, or one that ends in a slash."""
    return output.endswith(("/", os.sep)) or (output != "" and Path(output).is_dir())


def keep_given(files: Iterable[Path], given: Mapping[str, Any]) -> None:
    """Refuse to write over a picture that was given."""
    for name in PICTURE_FIELDS:
        picture = find_file(given.get(name))
        if picture is None:
            continue
        for file in files:
            if file.exists() and file.samefile(picture):
                raise InvalidRequest(
                    f"--output would write over {str(file)!r}, which is --{name.replace('_', '-')}; "
                    "choose another name."
                )


def find_file(text: str | None) -> Path | None:
    """The file that a picture's text names; None when it is an address or there is none."""
    if not text:
        return None
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None  # no possible path: a data URI is too long for one


def check_extension(option: str, file: Path) -> None:
    """Refuse a name for a picture that does not tell its format."""
    if file.suffix.lower() not in FORMATS or file.is_dir():
        raise InvalidRequest(
            f"{option} must name a file that ends in {', '.join(FORMATS)}; {str(file)!r} does not."
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written or made, so that nothing is drawn in vain.

    Raises:
        OSError: what it lies in is no folder, or may not be written.
    """
    while not folder.exists():
        folder = folder.absolute().parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def make_folders(files: Iterable[Path]) -> None:
    """Make the folders of files that do not exist yet."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)


def _free(path: Path) -> Path:
    """The path, or the first of its kind with a number that is not taken."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def name_pose(pose: object) -> str:
    """A pose as a part of a file's name."""
    return re.sub(r"[^\w-]+", "-", pose).strip("-") if isinstance(pose, str) else "keypoints"
