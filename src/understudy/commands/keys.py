"""`understudy keys`: make, list and revoke API keys, whether or not the service runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import NotFound, ServiceError
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
        typer.Option(help="Account that it belongs to; without one it opens an account of its own."),
    ] = None,
) -> None:
    """Make a key and print it: alone, on the last line, and never again."""
    folder = read_settings(data_dir=data_dir).data_dir
    secret, key = _with_keys(folder, lambda store: store.create(name, account))
    typer.echo(f"Key {key.name!r} of the account {key.account_name!r}; it is shown only now:", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List every key by its beginning, revoked ones too."""
    found = _with_keys(_existing(data_dir), lambda store: store.list())
    if as_json:
        typer.echo(json.dumps([asdict(key) for key in found], indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("Key", "Name", "Account", "Made", "State", Column("Id", overflow="fold"), box=None)
    for key in found:
        table.add_row(
            f"{key.prefix}...",
            key.name,
            key.account_name,
            _date(key.created_at),
            "works" if key.revoked_at is None else f"revoked {_date(key.revoked_at)}",
            key.id,
        )
    Console().print(table)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's first ten characters, or its id.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key: it stops working within a second."""
    revoked: Key = _with_keys(_existing(data_dir), lambda store: store.revoke(key))
    typer.echo(f"Revoked {revoked.prefix}... ({revoked.name}).")


def _existing(data_dir: Path | None) -> Path:
    folder = read_settings(data_dir=data_dir).data_dir
    if not (folder / "understudy.sqlite3").exists():
        raise NotFound(f"There is no database in {str(folder)!r}; name the service's folder with --data-dir.")
    return folder


def _with_keys(folder: Path, ask: Callable[[KeyStore], Awaitable[T]]) -> T:
    from sqlalchemy.exc import DatabaseError

    from ..accounts.keys import KeyStore
    from ..database import Database, migrate_database

    async def run() -> Any:
        database = Database.open(folder)
        try:
            return await ask(KeyStore(database))
        finally:
            await database.close()

    try:
        migrate_database(folder)
        return asyncio.run(run())
    except DatabaseError as error:
        raise ServiceError(
            f"The database in {str(folder)!r} cannot be used ({error.orig}); choose another with --data-dir.",
            code="data_dir_unusable",
        ) from None


def _date(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
