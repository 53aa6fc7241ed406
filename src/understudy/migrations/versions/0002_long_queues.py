"""Indexes for long queues and long histories."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ENDED = sa.text("ended_at IS NOT NULL")
WAITING = sa.text("status = 'QUEUED' AND lease_expires_at IS NULL")
FAILED = sa.text("status = 'FAILED'")


def upgrade() -> None:
    # Over all rows it looked to SQLite like the way to the jobs without an end.
    op.drop_index("ix_jobs_ended", table_name="jobs")
    _create("ix_jobs_ended", ["ended_at"], ENDED)
    _create("ix_jobs_waiting_since", ["created_at"], WAITING)
    _create("ix_jobs_failed", ["account_id", "sequence"], FAILED)


def _create(name: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
