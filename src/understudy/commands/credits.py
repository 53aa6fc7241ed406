"""`understudy credits`: grant and show credits, and check the ledger, whether or not the service runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UnderstudyError
from .database import ask_database, find_folder
from .options import DataDir, Json

if TYPE_CHECKING:
    from ..accounts.credits import Entry
    from ..database import Database

ENTRIES = 50
"""Entries of the ledger that are shown."""

Name = Annotated[str, typer.Argument(help="The account's name.")]

credits = typer.Typer(
    help="Grant and show credits, and check the ledger, whether or not the service runs.",
    no_args_is_help=True,
)


# An amount below 0 looks like an option.
@credits.command(context_settings={"ignore_unknown_options": True})
def grant(
    account: Name,
    amount: Annotated[str, typer.Argument(help="How many credits, 12.5 for example; -2 takes two back.")],
    note: Annotated[str | None, typer.Option(help="What for; the ledger keeps it.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Give an account credits, or take some back."""
    from ..accounts.accounts import AccountStore
    from ..accounts.credits import CreditStore, format_credits, parse_credits

    microcredits = parse_credits(amount)

    async def change(database: Database) -> int:
        found = await AccountStore(database).find_named(account)
        return await CreditStore(database).grant(found.id, microcredits, note)

    balance = ask_database(find_folder(data_dir), change)
    typer.echo(f"The account {account!r} has {format_credits(balance)} credits.")


@credits.command()
def show(account: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show an account's credits and the last entries of its ledger."""
    from ..accounts.accounts import AccountStore
    from ..accounts.credits import CreditStore, format_credits

    async def read(database: Database) -> tuple[int, list[Entry]]:
        found = await AccountStore(database).find_named(account)
        entries = await CreditStore(database).list_entries(found.id, limit=ENTRIES)
        return found.balance_microcredits, entries

    balance, entries = ask_database(find_folder(data_dir), read)
    if as_json:
        told = {"balance_microcredits": balance, "entries": [asdict(entry) for entry in entries]}
        typer.echo(json.dumps(told, indent=2))
        return
    from rich.table import Table

    from .tables import format_time, print_table

    typer.echo(f"{format_credits(balance)} credits")
    table = Table(*("When", "Entry", "Credits", "Request", "Note"), box=None, pad_edge=False)
    for entry in entries:
        amount = format_credits(entry.amount_microcredits)
        table.add_row(format_time(entry.created_at), entry.kind, amount, entry.job_id or "", entry.note or "")
    print_table(table)


@credits.command()
def check(data_dir: DataDir = None) -> None:
    """Check that every account's balance is the sum of its ledger."""
    from ..accounts.credits import CreditStore, format_credits

    unbalanced = ask_database(find_folder(data_dir), lambda database: CreditStore(database).find_unbalanced())
    for name, (balance, total) in unbalanced.items():
        typer.echo(f"{name}: {format_credits(balance)} credits, but {format_credits(total)} by the ledger.")
    if unbalanced:
        raise UnderstudyError("The ledger does not add up; restore a backup.", code="data_dir_unusable")
    typer.echo("Every balance is the sum of its ledger.")
