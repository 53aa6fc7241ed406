"""Keys that share limits, turns of accounts, and indexes for what an account was given and keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UNENDED = sa.text("ended_at IS NULL")
GRANTED = sa.text("kind = 'grant'")


def upgrade() -> None:
    op.add_column("keys", sa.Column("counted_as", sa.String(length=36), nullable=True))
    op.drop_index("ix_jobs_key_turn", table_name="jobs")
    op.create_index(
        "ix_jobs_account_turn",
        "jobs",
        ["account_id", "ended_at", "turn", "key_id"],
        sqlite_where=UNENDED,
        postgresql_where=UNENDED,
    )
    op.create_index("ix_jobs_key", "jobs", ["key_id"])
    op.create_index(
        "ix_ledger_granted",
        "ledger",
        ["account_id", "amount_microcredits"],
        sqlite_where=GRANTED,
        postgresql_where=GRANTED,
    )
