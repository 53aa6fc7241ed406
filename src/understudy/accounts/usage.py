"""Usage: what each account's jobs came to, by the day on which they ended and by model.

Counted in the transaction that ends a job, so that it outlives the job's row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from ..database import Database
from .tables import usage

DAY_SECONDS = 86_400

_SUMS = ("completed", "failed", "pictures", "inference_seconds", "charged_microcredits")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One account's day with one model; `day` is YYYY-MM-DD in UTC."""

    account_id: str
    day: str
    model: str
    completed: int
    failed: int
    pictures: int
    inference_seconds: float
    charged_microcredits: int


class UsageStore:
    """Tells what accounts have used."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def list(self, account_id: str, days: int) -> list[Usage]:
        """An account's usage of the last `days` days, today included: newest first, then by model."""
        since = format_day(time.time() - (days - 1) * DAY_SECONDS)
        query = (
            select(usage)
            .where(usage.c.account_id == account_id, usage.c.day >= since)
            .order_by(usage.c.day.desc(), usage.c.model)
        )
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [Usage(**row._mapping) for row in rows]


def format_day(seconds: float) -> str:
    """The day of a time in UTC, as YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


_ends = select(
    func.coalesce(func.sum(usage.c.completed), 0), func.coalesce(func.sum(usage.c.failed), 0)
).where(usage.c.account_id == bindparam("of_account"), usage.c.day == bindparam("of_day"))


def count_ends(connection: Connection, account_id: str, day: str) -> tuple[int, int]:
    """How many of an account's jobs were completed and failed on a day, within a transaction."""
    completed, failed = connection.execute(_ends, {"of_account": account_id, "of_day": day}).one()
    return int(completed), int(failed)


def _add_with(insert: Any) -> Any:
    new = insert(usage)
    sums = {name: usage.c[name] + new.excluded[name] for name in _SUMS}
    return new.on_conflict_do_update(index_elements=list(usage.primary_key.columns), set_=sums)


# SQLAlchemy has this statement for each database apart.
_add = {"sqlite": _add_with(sqlite.insert), "postgresql": _add_with(postgresql.insert)}


def add_usage(connection: Connection, one: Usage) -> None:
    """Add a job that has just ended to its account's day, within the transaction that ends it."""
    connection.execute(_add[connection.dialect.name], vars(one))
