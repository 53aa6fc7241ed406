"""`understudy sheet`: one character in many named poses, and all of them on one contact sheet."""

from __future__ import annotations

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
    from PIL import Image

    from ..contact_sheet import draw_contact_sheet
    from .draw import EXTENSIONS, Drawing, draw_with_service
    from .progress import JobProgress

    named = _choose_poses(poses, every)
    folder = output.with_suffix("")
    extension = EXTENSIONS[Parameters.model_validate(given).output_format]
    drawings: list[Drawing] = []
    with JobProgress() as progress:
        for begin in range(0, len(named), MAX_PICTURES):
            part = {**given, "poses": [pose.name for pose in named[begin : begin + MAX_PICTURES]]}
            files = [folder / f"{name}.{extension}" for name in part["poses"]]
            drawings.append(
                draw_with_service(
                    part, files, model=model, api_key=api_key, base_url=base_url, progress=progress
                )
            )
    pictures = [Image.open(file) for drawing in drawings for file in drawing.files]
    result = draw_contact_sheet(
        pictures, [pose.title for pose in named], title=given["prompt"], columns=columns
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    result.save(output)
    for drawing in drawings:
        print_drawing(drawing)
    typer.echo(f"{output}  {len(pictures)} pictures")


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
