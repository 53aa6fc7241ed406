"""Tables on stdout: fitted to a terminal's width, one line for each row where there is no terminal."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

UNLIMITED_WIDTH = 100_000


def format_time(seconds: float) -> str:
    """A time in this machine's zone, to the minute."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def make_printable(text: str) -> str:
    """A text on one line that a terminal only shows: names are strangers' words.

    White space becomes a space, and what else is no character to be seen (escapes, which can set
    a terminal's title or its clipboard, and marks that turn words round) the replacement character.
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def print_table(table: Table) -> None:
    """Print a table; what reads it from a pipe gets every row whole, without spaces at its end.

    Cells are shown as they are: what looks like rich's markup is none.
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(make_printable(text), **options)

    console = PlainConsole(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = UNLIMITED_WIDTH
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())
