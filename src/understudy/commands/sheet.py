"""`understudy sheet`: one character in many poses, and all of them on one contact sheet."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..catalog import REFERENCE_SLUG
from ..errors import InvalidRequest
from ..parameters import MAX_PICTURES, Parameters, Pose, parse_parameters
from .generate import print_drawing
from .options import POSES_WORDS, ApiKey, BaseUrl, Model, read_poses, take_parameters

if TYPE_CHECKING:
    from .draw import Drawing

DEFAULT_POSES = ("stand", "wave", "point", "walk", "run", "jump", "sit", "kneel")


@take_parameters(but=("input_image", "pose", "poses", "num_images"))
def sheet(
    given: dict[str, Any],
    poses: Annotated[
        str, typer.Option(help=f"The poses; `understudy poses` lists those with a name.{POSES_WORDS}")
    ] = ",".join(DEFAULT_POSES),
    every: Annotated[bool, typer.Option("--all", help="Every pose of the library.")] = False,
    columns: Annotated[
        int | None, typer.Option(min=1, max=12, help="Pictures in a row.", show_default=False)
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|FOLDER",
            help="File of the contact sheet, or a folder for it; the pictures lie in a folder beside it.",
        ),
    ] = "sheet.png",
    model: Model = REFERENCE_SLUG,
    api_key: ApiKey = None,
    base_url: BaseUrl = None,
) -> None:
    """Draw one character in many poses, on one contact sheet.

    Asks a running service. The pictures themselves are saved in a folder named after the sheet.
    """
    from .draw import draw_with_service
    from .files import EXTENSIONS, check_extension, check_folder, keep_given, names_folder
    from .progress import JobProgress

    file = Path(output, "sheet.png") if names_folder(output) else Path(output)
    check_extension("--output", file)
    named = _choose_poses(poses, every)
    extension = EXTENSIONS[Parameters.model_validate(given).output_format]
    files = [file.with_suffix("") / f"{name}.{extension}" for name in named]
    keep_given([file, *files], given)
    check_folder(files[0].parent)
    drawings: list[Drawing] = []
    with JobProgress() as progress:
        for begin in range(0, len(named), MAX_PICTURES):
            end = begin + MAX_PICTURES
            part = {**given, "poses": list(named.values())[begin:end]}
            drawings.append(
                draw_with_service(
                    part,
                    files[begin:end],
                    model=model,
                    api_key=api_key,
                    base_url=base_url,
                    progress=progress,
                )
            )
    _save_sheet(file, given, files, list(named), columns)
    print_drawing(_join(drawings))
    typer.echo(f"{file}  {len(files)} picture{'s' if len(files) > 1 else ''}")


def _choose_poses(text: str, every: bool) -> dict[str, Pose]:
    """The poses by what they are called on the sheet and in the folder."""
    from ..pose.library import find_pose, list_poses

    if every:
        return {pose.name: pose.name for pose in list_poses()}
    listed = read_poses("poses", text)
    if not listed:
        raise InvalidRequest("--poses names no pose; `understudy poses` lists them.")
    named: dict[str, Pose] = {}
    for pose in listed:
        if isinstance(pose, str):
            name = find_pose(pose).name
            named[name] = name
        else:
            parse_parameters({"ip_image": "x", "prompt": "x", "poses": [pose]})
            number = sum(not isinstance(other, str) for other in named.values()) + 1
            named[f"keypoints-{number}"] = pose
    return named


def _join(drawings: list[Drawing]) -> Drawing:
    """The drawings of one sheet's requests, which were carried out one after another, as one."""
    from .draw import Drawing

    results = [drawing.result for drawing in drawings]
    metrics = [result["metrics"] for result in results]
    return Drawing(
        files=[file for drawing in drawings for file in drawing.files],
        result={
            "images": [image for result in results for image in result["images"]],
            "warnings": list(dict.fromkeys(words for result in results for words in result["warnings"])),
            "metrics": {
                name: sum(part[name] for part in metrics)
                for name in ("inference_time", "queue_time", "total_time")
                if all(name in part for part in metrics)
            },
        },
    )


def _save_sheet(
    output: Path, given: dict[str, Any], files: list[Path], captions: list[str], columns: int | None
) -> None:
    """The contact sheet; its first cell is the character given, where that is a file."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    from ..contact_sheet import draw_contact_sheet
    from .files import find_file

    with ExitStack() as opened:
        pictures = [opened.enter_context(Image.open(file)) for file in files]
        if character := find_file(given["ip_image"]):
            # There may be formats that only the service reads.
            with suppress(UnidentifiedImageError):
                pictures.insert(0, ImageOps.exif_transpose(opened.enter_context(Image.open(character))))
                captions = ["the character given", *captions]
        draw_contact_sheet(pictures, captions, title=given.get("prompt", ""), columns=columns).save(output)
