"""What follows from a job's end, in the transaction that ends it, however it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from ..accounts import credits
from ..accounts.usage import Usage, add_usage, format_day
from ..accounts.webhooks import add_delivery
from . import statements


def follow_ends(connection: Connection, ended: Sequence[Any]) -> None:
    """Settle what was held for jobs that have just ended, count them, and have their webhooks told.

    `ended` has their rows, by `statements.ended_row`.
    """
    for row in ended:
        completed, price = row.status == "COMPLETED", row.price_microcredits
        if price is not None:
            credits.settle(connection, row.account_id, row.id, price, charge=completed)
            connection.execute(statements.tell_remaining, {"of_job": row.id})
        add_usage(
            connection,
            Usage(
                account_id=row.account_id,
                day=format_day(row.ended_at),
                model=row.model,
                completed=int(completed),
                failed=int(not completed),
                pictures=len(row.images or ()),
                inference_seconds=row.inference_seconds or 0.0,
                charged_microcredits=(price or 0) if completed else 0,
            ),
        )
        if row.webhook is not None:
            add_delivery(connection, row.account_id, row.id, row.webhook, row.ended_at)
