"""`understudy webhooks`: an account's secret and deliveries, whether or not the service runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ..errors import InvalidRequest
from .database import ask_database, find_folder
from .options import DataDir, Json

if TYPE_CHECKING:
    from ..accounts.webhooks import WebhookStore
    from ..database import Database

T = TypeVar("T")

Account = Annotated[
    str | None, typer.Option(help="Account whose webhooks they are; needed where there are several.")
]

webhooks = typer.Typer(
    help="Show and rotate a webhook secret, list and replay deliveries, whether or not the service runs.",
    no_args_is_help=True,
)


@webhooks.command()
def secret(data_dir: DataDir = None, account: Account = None) -> None:
    """Print the secret that signs an account's webhooks."""
    typer.echo(_ask(data_dir, account, lambda store, account_id: store.read_secret(account_id)).secret)


@webhooks.command()
def rotate(data_dir: DataDir = None, account: Account = None) -> None:
    """Make a new secret and print it; the one before signs beside it for a day."""
    typer.echo(_ask(data_dir, account, lambda store, account_id: store.rotate_secret(account_id)).secret)


@webhooks.command("list")
def list_deliveries(
    data_dir: DataDir = None,
    account: Account = None,
    state: Annotated[str | None, typer.Option(help="pending, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """List an account's deliveries, newest first."""
    if state not in (None, "pending", "delivered", "failed"):
        raise InvalidRequest(f"--state is pending, delivered or failed, not {state!r}.")
    found = _ask(
        data_dir, account, lambda store, account_id: store.list(account_id, limit=limit, state=state)
    )
    if as_json:
        typer.echo(json.dumps([vars(delivery) for delivery in found], indent=2))
        return
    from rich.table import Column, Table

    from .tables import print_table

    table = Table(
        *("Made", "State", "Attempts", "Last error", "Request", Column("Webhook id", overflow="fold")),
        box=None,
        pad_edge=False,
    )
    for delivery in found:
        last = delivery.attempts[-1]["error"] if delivery.attempts else None
        made = datetime.fromtimestamp(delivery.created_at).astimezone().strftime("%Y-%m-%d %H:%M")
        attempts = str(len(delivery.attempts))
        table.add_row(made, delivery.state, attempts, last or "", delivery.job_id, delivery.id)
    print_table(table)


@webhooks.command()
def replay(
    webhook_id: Annotated[str, typer.Argument(help="The delivery's webhook id, as `list` shows it.")],
    data_dir: DataDir = None,
    account: Account = None,
) -> None:
    """Deliver once more: a running service does so within seconds, another when it starts."""
    _ask(data_dir, account, lambda store, account_id: store.replay(account_id, webhook_id))
    typer.echo(f"{webhook_id} is to be delivered once more.")


def _ask(data_dir: Path | None, account: str | None, ask: Callable[[WebhookStore, str], Awaitable[T]]) -> T:
    """What `ask` finds or does for the account of a name."""
    from ..accounts.webhooks import WebhookStore

    async def ask_for_account(database: Database) -> T:
        return await ask(WebhookStore(database), await _find_account(database, account))

    return ask_database(find_folder(data_dir), ask_for_account)


async def _find_account(database: Database, name: str | None) -> str:
    """The id of the account of a name; of the only one where none is given."""
    from ..accounts.accounts import AccountStore

    store = AccountStore(database)
    if name is not None:
        return (await store.find_named(name)).id
    accounts = await store.list()
    if len(accounts) != 1:
        names = ", ".join(account.name for account in accounts[:10])
        raise InvalidRequest(f"Name an account with --account: there are {names or 'none yet'}.")
    return accounts[0].id
