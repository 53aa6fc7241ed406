"""`understudy keys`: make, list and revoke API keys, whether or not the service runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ..errors import NotFound
from .database import DATABASE_FILE, ask_database, find_folder
from .options import DataDir, Json, read_settings

if TYPE_CHECKING:
    from ..accounts.keys import Key, KeyStore

T = TypeVar("T")

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
) -> None:
    """Make a key and print it: alone, on the last line, and never again."""
    folder = read_settings(data_dir=data_dir).data_dir if account is None else find_folder(data_dir)
    is_new = not (folder / DATABASE_FILE).exists()
    try:
        secret, key = _with_keys(folder, lambda store: store.create(name, account))
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

    from .tables import print_table

    table = Table(
        *("Key", "Name", "Account", "Made", "State", Column("Id", overflow="fold")), box=None, pad_edge=False
    )
    for key in found:
        table.add_row(
            f"{key.prefix}...",
            key.name,
            key.account_name,
            _date(key.created_at),
            "works" if key.revoked_at is None else f"revoked {_date(key.revoked_at)}",
            key.id,
        )
    print_table(table)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's first ten characters, or its id.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key: it stops working within a second."""
    revoked: Key = _with_keys(find_folder(data_dir), lambda store: store.revoke(key))
    typer.echo(f"Revoked {revoked.prefix}... ({revoked.name}).")


def _with_keys(folder: Path, ask: Callable[[KeyStore], Awaitable[T]]) -> T:
    from ..accounts.keys import KeyStore

    return ask_database(folder, lambda database: ask(KeyStore(database)))


def _date(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
