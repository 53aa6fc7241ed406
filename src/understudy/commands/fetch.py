"""`understudy fetch`: the weights of an engine, from the hub onto this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..catalog import ENGINES
from ..errors import InvalidRequest, UnderstudyError
from ..weights import POSE
from .options import DataDir, read_settings

if TYPE_CHECKING:
    from ..hub import Delivery
    from ..settings import Settings
    from ..weights import Part


def fetch(
    engine: Annotated[
        str | None,
        typer.Argument(
            metavar="|".join((*ENGINES, POSE)),
            help="The engine whose weights are fetched, UNDERSTUDY_ENGINE's if not given; "
            "or pose, which finds poses in pictures.",
            show_default=False,
        ),
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Go on to the newest commit of what is at a branch or tag, as at main."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched, and fetch nothing.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Fetch an engine's weights from the hub; what was cut off goes on.

    They come into the hub's cache (HF_HOME), at commits that Understudy pins or that are recorded in the
    data folder. HF_TOKEN is sent where it is set, for repositories that need an account.
    """
    if engine is not None and engine not in (*ENGINES, POSE):
        raise InvalidRequest(f"There is no engine {engine!r}; there are {', '.join(ENGINES)}, and {POSE}.")
    settings = read_settings(data_dir=data_dir)
    engine = engine or settings.engine
    _check_licences(settings, engine)
    deliveries = _plan(settings, engine, update)
    if not deliveries:
        return
    if dry_run:
        _print_plan(deliveries)
        return
    from ..hub import check_space

    check_space(sum(delivery.missing_bytes for delivery in deliveries))
    _fetch(settings, deliveries)
    if engine == POSE:
        typer.echo("The pose detector has its weights.")
    else:
        typer.echo(f"{engine} has its weights; `understudy doctor --engine {engine}` tells the rest.")


def _check_licences(settings: Settings, engine: str) -> None:
    """Refuse weights under a licence that has to be accepted first.

    Raises:
        UnderstudyError: it is not (`licence_not_accepted`).
    """
    from ..licences import explain_unaccepted
    from ..weights import list_parts

    places = [part.place for part in list_parts(settings, engine)]
    if refusal := explain_unaccepted(engine, places, settings.accepted):
        raise UnderstudyError(refusal, code="licence_not_accepted")


def _plan(settings: Settings, engine: str, update: bool) -> list[Delivery]:
    """What is to be fetched; of what is not, a line is printed."""
    from ..hub import plan_delivery
    from ..weights import find_commit, find_part, is_commit, list_parts

    parts = list_parts(settings, engine)
    if not parts:
        typer.echo(f"The engine {engine} needs no weights but those that are installed with it.")
    deliveries = []
    for part in parts:
        if part.names_folder:
            _check_folder(settings, part)
            continue
        moves = update and not is_commit(part.revision)
        found = find_part(settings, part)
        if found.state == "whole" and not moves:
            _tell(part, f"is here, at {str(found.commit)[:12]}")
            continue
        commit = None if moves else find_commit(settings.data_dir, part)
        delivery = plan_delivery(part, commit or part.revision)
        if moves and delivery.commit == found.commit and found.state == "whole":
            _tell(part, f"is here, and {part.revision} is still at {delivery.commit[:12]}")
            continue
        deliveries.append(delivery)
    return deliveries


def _check_folder(settings: Settings, part: Part) -> None:
    from ..weights import find_part

    found = find_part(settings, part)
    if found.folder is None:
        raise UnderstudyError(f"{part.variable} names the folder {part.place!r}, which is not there.")
    _tell(part, f"is a folder of yours{f', which lacks {found.missing[0]}' if found.missing else ''}")


def _tell(part: Part, words: str) -> None:
    typer.echo(f"{part.name}: {part.place} {words}.")


def _print_plan(deliveries: list[Delivery]) -> None:
    from rich.table import Table

    from .tables import print_table

    table = Table("Part", "Repository", "Commit", "Files", "Size", "To fetch", box=None, pad_edge=False)
    for delivery in deliveries:
        table.add_row(
            delivery.part.name,
            delivery.part.place,
            delivery.commit,
            str(len(delivery.files)),
            _describe_size(delivery.size),
            _describe_size(delivery.missing_bytes),
        )
    total = sum(delivery.missing_bytes for delivery in deliveries)
    table.add_row("", "", "", "", "all", _describe_size(total))
    print_table(table)


def _fetch(settings: Settings, deliveries: list[Delivery]) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from ..hub import fetch_delivery
    from ..weights import record_commit

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        for delivery in deliveries:
            _tell(delivery.part, f"is to come: {_describe_size(delivery.missing_bytes)}")
            task = progress.add_task(delivery.part.name, total=delivery.size)
            fetch_delivery(delivery, on_bytes=lambda count, task=task: progress.advance(task, count))
            # Only what is whole is drawn with.
            record_commit(settings.data_dir, delivery.part, delivery.commit)
            _tell(delivery.part, f"is here, at {delivery.commit[:12]}")


def _describe_size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10_000_000 else f"{count / 1e6:.2f} MB"
