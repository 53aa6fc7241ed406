"""`understudy sheet`: one character in many named poses, and all of them on one contact sheet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..catalog import REFERENCE_SLUG
from ..errors import InvalidRequest
from ..parameters import MAX_PICTURES, Parameters
from .generate import print_drawing
from .options import ApiKey, BaseUrl, take_parameters

DEFAULT_POSES = ("stand", "wave", "point", "walk", "run", "jump", "sit", "kneel")


@take_parameters(but=("input_image", "pose", "poses", "num_images"))
def sheet(
    given: dict[str, Any],
    poses: Annotated[
        str,
        typer.Option(help="Names of poses, separated by commas; `understudy poses` lists them."),
    ] = ",".join(DEFAULT_POSES),
    every: Annotated[bool, typer.Option("--all", help="Every pose of the library.")] = False,
    columns: Annotated[
        int | None, typer.Option(min=1, max=12, help="Pictures in a row.", show_default=False)
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File of the contact sheet; the pictures lie beside it.")
    ] = Path("sheet.png"),
    model: Annotated[str, typer.Option(help="Which model of the service to ask.")] = REFERENCE_SLUG,
    api_key: ApiKey = None,
    base_url: BaseUrl = None,
) -> None:
    """Draw one character in many named poses, on one contact sheet.

    Asks a running service. The pictures themselves are saved in a folder named after the sheet.
    """
    from .draw import Drawing, draw_with_service
    from .files import EXTENSIONS, check_extension, check_folder
    from .progress import JobProgress

    check_extension("--output", output)
    named = _choose_poses(poses, every)
    extension = EXTENSIONS[Parameters.model_validate(given).output_format]
    files = [output.with_suffix("") / f"{pose.name}.{extension}" for pose in named]
    check_folder(files[0].parent)
    drawings: list[Drawing] = []
    with JobProgress() as progress:
        for begin in range(0, len(named), MAX_PICTURES):
            part = {**given, "poses": [pose.name for pose in named[begin : begin + MAX_PICTURES]]}
            drawings.append(
                draw_with_service(
                    part,
                    files[begin : begin + MAX_PICTURES],
                    model=model,
                    api_key=api_key,
                    base_url=base_url,
                    progress=progress,
                )
            )
    _save_sheet(output, files, [pose.title for pose in named], given["prompt"], columns)
    for drawing in drawings:
        print_drawing(drawing)
    typer.echo(f"{output}  {len(files)} pictures")


def _save_sheet(
    output: Path, files: list[Path], captions: list[str], title: str, columns: int | None
) -> None:
    from PIL import Image

    from ..contact_sheet import draw_contact_sheet

    with ExitStack() as opened:
        pictures = [opened.enter_context(Image.open(file)) for file in files]
        draw_contact_sheet(pictures, captions, title=title, columns=columns).save(output)


def _choose_poses(text: str, every: bool) -> list[Any]:
    from ..pose.library import find_pose, list_poses

    if every:
        return list_poses()
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InvalidRequest("--poses names no pose; `understudy poses` lists them.")
    try:
        return [find_pose(name) for name in names]
    except InvalidRequest as error:
        raise InvalidRequest(error.message) from None
