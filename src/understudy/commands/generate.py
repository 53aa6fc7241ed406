"""`understudy generate`: one request, its progress, its pictures as files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..catalog import REFERENCE_SLUG, find_engine
from .options import ApiKey, BaseUrl, Json, Model, read_settings, take_parameters

if TYPE_CHECKING:
    from .draw import Drawing


@take_parameters()
def generate(
    given: dict[str, Any],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|FOLDER",
            help="File of the picture (.png, .jpg, .jpeg, .webp) or, with a slash at its end, a folder, "
            "which several pictures need.",
            show_default=False,
        ),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Draw here, without a service; the model's engine is loaded anew.")
    ] = False,
    as_json: Json = False,
    model: Model = REFERENCE_SLUG,
    api_key: ApiKey = None,
    base_url: BaseUrl = None,
) -> None:
    """Draw a character in a pose and save the picture.

    Asks a running service, or draws here with --local. Ctrl-C cancels the request.
    """
    from .draw import draw_alone, draw_with_service
    from .files import check_folder, choose_files
    from .progress import JobProgress

    files = choose_files(given, output)
    check_folder(files[0].parent)
    with JobProgress() as progress:
        if local:
            settings = read_settings()
            only = {"engine": find_engine(settings, model), "engines": ""}
            settings = settings.model_copy(update=only)
            drawing = draw_alone(given, files, model=model, settings=settings, progress=progress)
        else:
            drawing = draw_with_service(
                given, files, model=model, api_key=api_key, base_url=base_url, progress=progress
            )
    if as_json:
        typer.echo(json.dumps({**drawing.result, "files": [str(file) for file in drawing.files]}, indent=2))
    else:
        print_drawing(drawing)


def print_drawing(drawing: Drawing) -> None:
    """Print a line for each picture (file, seed, scores), the times, and the warnings."""
    images, metrics = drawing.result["images"], drawing.result["metrics"]
    for file, image in zip(drawing.files, images, strict=True):
        words = [str(file), f"seed {image['seed']}"]
        words += [f"{name} {image[name]:.2f}" for name in ("likeness", "pose") if image.get(name) is not None]
        typer.echo("  ".join(words))
    times = [
        f"{metrics[name]:.2f} s {words}"
        for name, words in (
            ("inference_time", "drawing"),
            ("queue_time", "in the queue"),
            ("total_time", "in all"),
        )
        if metrics.get(name) is not None
    ]
    typer.echo(", ".join(times))
    for warning in drawing.result.get("warnings", []):
        typer.echo(f"Warning: {warning}", err=True)
