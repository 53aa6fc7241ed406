"""The commands of `understudy`, one file for each.

A command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from .accounts import accounts
from .backup import backup, restore
from .characters import characters
from .credits import credits
from .doctor import doctor
from .fetch import fetch
from .generate import generate
from .keys import keys
from .poses import poses
from .serve import serve
from .sheet import sheet
from .webhooks import webhooks

app = typer.Typer(
    name="understudy",
    help="One reference, any pose: the same character, again and again, on your own machine.",
    epilog="Begin with: understudy serve. Every setting is read from UNDERSTUDY_<NAME> too.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"understudy {__version__}")
        raise typer.Exit


@app.callback()
def _understudy(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def _join_lines(docstring: str | None) -> str:
    """Each paragraph on one line, for the terminal to break; typer does so of the first alone."""
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


for command in (serve, generate, sheet, poses, doctor, fetch, backup, restore):
    app.command(help=_join_lines(command.__doc__))(command)
app.add_typer(characters, name="characters")
app.add_typer(keys, name="keys")
app.add_typer(accounts, name="accounts")
app.add_typer(credits, name="credits")
app.add_typer(webhooks, name="webhooks")
