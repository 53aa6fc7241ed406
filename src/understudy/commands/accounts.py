"""`understudy accounts`: open, list, disable and enable accounts, whether or not the service runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .database import ask_database, find_folder
from .options import DataDir, Json, read_settings

if TYPE_CHECKING:
    from ..accounts.accounts import AccountStore

T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="The account's name.")]

accounts = typer.Typer(
    help="Open, list, disable and enable accounts, whether or not the service runs.", no_args_is_help=True
)


@accounts.command()
def create(name: Name, data_dir: DataDir = None) -> None:
    """Open an account, which has no key and no credits yet."""
    from ..accounts.accounts import new_account

    account = new_account(name)
    _with_accounts(read_settings(data_dir=data_dir).data_dir, lambda store: store.create(account))
    typer.echo(f"Opened the account {name!r}; `understudy keys create --account` makes a key of it.")


@accounts.command("list")
def list_accounts(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List every account with its credits."""
    found = _with_accounts(find_folder(data_dir), lambda store: store.list())
    if as_json:
        typer.echo(json.dumps([asdict(account) for account in found], indent=2))
        return
    from rich.table import Column, Table

    from ..accounts.credits import format_credits
    from .tables import format_time, print_table

    table = Table(
        *("Account", "Credits", "Opened", "State", Column("Id", overflow="fold")), box=None, pad_edge=False
    )
    for account in found:
        disabled_at = account.disabled_at
        table.add_row(
            account.name,
            format_credits(account.balance_microcredits),
            format_time(account.created_at),
            "works" if disabled_at is None else f"disabled {format_time(disabled_at)}",
            account.id,
        )
    print_table(table)


@accounts.command()
def disable(name: Name, data_dir: DataDir = None) -> None:
    """Let an account's keys do nothing, within a second; its jobs go on."""
    _disable(name, data_dir, True)
    typer.echo(f"Disabled the account {name!r}.")


@accounts.command()
def enable(name: Name, data_dir: DataDir = None) -> None:
    """Let a disabled account's keys do again what they may."""
    _disable(name, data_dir, False)
    typer.echo(f"Enabled the account {name!r}.")


def _disable(name: str, data_dir: Path | None, disabled: bool) -> None:
    async def change(store: AccountStore) -> None:
        await store.disable((await store.find_named(name)).id, disabled)

    _with_accounts(find_folder(data_dir), change)


def _with_accounts(folder: Path, ask: Callable[[AccountStore], Awaitable[T]]) -> T:
    from ..accounts.accounts import AccountStore

    return ask_database(folder, lambda database: ask(AccountStore(database)))
