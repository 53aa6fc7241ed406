"""`understudy poses`: the library of named poses, as a table, as JSON or as one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import Json


def poses(
    category: Annotated[
        str | None, typer.Option(help="Only the poses of this category.", show_default=False)
    ] = None,
    as_json: Json = False,
    thumbnails: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw them all into this picture.", show_default=False),
    ] = None,
) -> None:
    """List the named poses that --pose takes."""
    from ..errors import NotFound
    from ..pose.library import draw_pose_thumbnail, list_poses
    from .files import check_extension, check_folder, make_folders

    if thumbnails is not None:
        check_extension("--thumbnails", thumbnails)
        check_folder(thumbnails.parent)
    library = list_poses()
    found = [pose for pose in library if category in (None, pose.category)]
    if not found:
        categories = ", ".join(dict.fromkeys(pose.category for pose in library))
        raise NotFound(f"There is no category {category!r}; there are {categories}.")
    if thumbnails is not None:
        from ..contact_sheet import draw_contact_sheet

        make_folders([thumbnails])
        pictures = [draw_pose_thumbnail(pose, 256) for pose in found]
        draw_contact_sheet(pictures, [pose.name for pose in found], columns=10, cell_width=160).save(
            thumbnails
        )
    if as_json:
        described = [
            {
                "name": pose.name,
                "title": pose.title,
                "category": pose.category,
                "description": pose.description,
                "keypoints": pose.keypoints.tolist(),
            }
            for pose in found
        ]
        typer.echo(json.dumps(described))
        return
    from rich.table import Table

    from .tables import print_table

    table = Table("Name", "Category", "Description", box=None, pad_edge=False)
    for pose in found:
        table.add_row(pose.name, pose.category, pose.description, end_section=False)
    print_table(table)
