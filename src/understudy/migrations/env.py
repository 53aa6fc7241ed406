"""Run by Alembic inside the connection that `migrate_database` opened."""

import sqlite3
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from understudy.accounts import tables as _accounts  # noqa: F401  registers its tables
from understudy.database import metadata
from understudy.jobs import tables as _jobs  # noqa: F401  registers its tables


def check_references(*, ctx: MigrationContext, **applied: Any) -> None:
    """Refuse a revision that leaves rows without those they name; the whole upgrade is undone.

    Foreign keys are off meanwhile. Not asked when no revision is applied: it reads every row.
    """
    broken = ctx.connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        table, _, other, _ = broken
        reason = sqlite3.IntegrityError(f"a row of {table} names one of {other} that is not there")
        raise IntegrityError("PRAGMA foreign_key_check", None, reason)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
    on_version_apply=check_references,
)
with context.begin_transaction():
    context.run_migrations()
