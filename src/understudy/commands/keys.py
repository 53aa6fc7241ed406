"""`understudy keys`: make, list and revoke API keys, whether or not the service runs."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import InvalidRequest, NotFound
from .database import DATABASE_FILE, ask_database, find_folder
from .options import DataDir, Json, read_settings

if TYPE_CHECKING:
    from ..accounts.keys import Key, KeyStore

T = TypeVar("T")

MOST_DAYS = 100_000
"""A key whose end lies so far ahead has none."""

keys = typer.Typer(
    help="Make, list and revoke API keys, whether or not the service runs.", no_args_is_help=True
)


@keys.command()
def create(
    data_dir: DataDir = None,
    name: Annotated[str, typer.Option(help="What to know the key by.")] = "key",
    account: Annotated[
        str | None,
        typer.Option(
            help="Account that it belongs to, which is there; without one it opens an account of its own, "
            "named as the key."
        ),
    ] = None,
    scopes: Annotated[
        str, typer.Option(help="What it may do, with commas between: generate, read, admin.")
    ] = "generate,read",
    models: Annotated[
        str | None,
        typer.Option(help="Slugs of the models it may use, with commas between; every one if not given."),
    ] = None,
    expires_in_days: Annotated[
        float | None, typer.Option(help="When it stops working; never if not given.")
    ] = None,
    submits_per_minute: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Requests it may submit in a minute; 0 is no limit (else the settings').",
            show_default=False,
        ),
    ] = None,
    concurrent_jobs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Jobs without an end it may have; 0 is no limit (else the settings').",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a key and print it: alone, on the last line, and never again."""
    from ..accounts.keys import parse_scopes
    from ..catalog import list_slugs

    # Written so that what is no number (nan) is refused too: a key with it would have no end.
    if expires_in_days is not None and not 0 < expires_in_days < MOST_DAYS:
        raise InvalidRequest(
            f"--expires-in-days must be more than 0 and less than {MOST_DAYS:,}; leave it out for a key "
            "without an end."
        )
    if unknown := sorted(set(_split(models or "")) - set(list_slugs())):
        raise InvalidRequest(f"There is no model {unknown[0]!r}; there are {', '.join(list_slugs())}.")
    options: dict[str, Any] = {
        "scopes": parse_scopes(_split(scopes)),
        "models": None if models is None else _split(models),
        "expires_at": None if expires_in_days is None else time.time() + expires_in_days * 86400,
        "submits_per_minute": submits_per_minute,
        "concurrent_jobs": concurrent_jobs,
    }
    folder = read_settings(data_dir=data_dir).data_dir if account is None else find_folder(data_dir)
    is_new = not (folder / DATABASE_FILE).exists()
    try:
        secret, key = _with_keys(folder, lambda store: store.create(name, account, **options))
    except NotFound:
        raise NotFound(
            f"No account is named {account!r}: `understudy keys create --name {shlex.quote(account or '')}` "
            "opens one with its first key, `understudy keys list` shows those there are."
        ) from None
    typer.echo(f"In the data folder {str(folder.absolute())!r}.", err=True)
    if is_new:
        typer.echo(
            "Warning: it had no database before. A service that runs on another folder will not know "
            "this key; name the service's own with --data-dir.",
            err=True,
        )
    typer.echo(f"Key {key.name!r} of the account {key.account_name!r}; it is shown only now:", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List every key by its beginning, revoked ones too."""
    found = _with_keys(find_folder(data_dir), lambda store: store.list())
    if as_json:
        typer.echo(json.dumps([asdict(key) for key in found], indent=2))
        return
    from rich.table import Column, Table

    from .tables import format_time, print_table

    columns = ("Key", "Name", "Account", "Scopes", "Made", "State", Column("Id", overflow="fold"))
    table = Table(*columns, box=None, pad_edge=False)
    for key in found:
        table.add_row(
            f"{key.prefix}...",
            key.name,
            key.account_name,
            ", ".join(key.scopes),
            format_time(key.created_at),
            _describe_state(key, format_time),
            key.id,
        )
    print_table(table)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's first ten characters, or its id.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key: it stops working within a second."""
    from .tables import make_printable

    revoked: Key = _with_keys(find_folder(data_dir), lambda store: store.revoke(key))
    typer.echo(f"Revoked {revoked.prefix}... ({make_printable(revoked.name)}).")


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _describe_state(key: Key, format_time: Callable[[float], str]) -> str:
    if key.revoked_at is not None:
        return f"revoked {format_time(key.revoked_at)}"
    if key.account_disabled:
        return "account disabled"
    if key.expires_at is not None:
        return f"{'expired' if key.expired else 'expires'} {format_time(key.expires_at)}"
    return "works"


def _with_keys(folder: Path, ask: Callable[[KeyStore], Awaitable[T]]) -> T:
    from ..accounts.keys import KeyStore

    return ask_database(folder, lambda database: ask(KeyStore(database)))
