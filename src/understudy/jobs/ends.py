"""What follows from a job's end, and from its being forgotten, in the transaction of either."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from ..accounts import credits
from ..accounts.usage import Usage, add_usage, format_day
from ..accounts.webhooks import add_delivery, forget_deliveries
from . import statements
from .tables import files, jobs


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


def forget_jobs(connection: Connection, which: Any) -> Sequence[str]:
    """Delete jobs' rows; their files expire now. Return their ids."""
    ids = connection.scalars(select(jobs.c.id).where(which)).all()
    if ids:
        connection.execute(
            update(files).where(files.c.job_id.in_(ids)).values(job_id=None, expires_at=time.time())
        )
        forget_deliveries(connection, ids)
        connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    return ids
