"""Tables on stdout: fitted to a terminal's width, one line for each row where there is no terminal."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

UNLIMITED_WIDTH = 100_000


def format_time(seconds: float) -> str:
    """A time in this machine's zone, to the minute."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def print_table(table: Table) -> None:
    """Print a table; what reads it from a pipe gets every row whole, without spaces at its end."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = UNLIMITED_WIDTH
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())
