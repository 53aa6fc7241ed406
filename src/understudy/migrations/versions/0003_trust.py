"""Scopes and limits of keys, the ledger of credits, usage, and idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("disabled_at", sa.Double(), nullable=True))
    op.add_column(
        "accounts", sa.Column("balance_microcredits", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "keys", sa.Column("scopes", sa.String(length=100), server_default="generate read", nullable=False)
    )
    op.add_column("keys", sa.Column("models", sa.JSON(), nullable=True))
    op.add_column("keys", sa.Column("expires_at", sa.Double(), nullable=True))
    op.add_column("keys", sa.Column("submits_per_minute", sa.Integer(), nullable=True))
    op.add_column("keys", sa.Column("concurrent_jobs", sa.Integer(), nullable=True))
    op.add_column("keys", sa.Column("submits_spent_until", sa.Double(), nullable=True))
    op.create_index(op.f("ix_keys_prefix"), "keys", ["prefix"], unique=False)
    op.add_column("jobs", sa.Column("price_microcredits", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("remaining_microcredits", sa.BigInteger(), nullable=True))
    op.create_table(
        "ledger",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("amount_microcredits", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_ledger_account_id_accounts")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_ledger")),
        sa.UniqueConstraint("job_id", "kind", name=op.f("uq_ledger_job_id_kind")),
    )
    op.create_index("ix_ledger_account", "ledger", ["account_id", "sequence"], unique=False)
    op.create_table(
        "usage",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("pictures", sa.Integer(), nullable=False),
        sa.Column("inference_seconds", sa.Double(), nullable=False),
        sa.Column("charged_microcredits", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_usage_account_id_accounts")),
        sa.PrimaryKeyConstraint("account_id", "day", "model", name=op.f("pk_usage")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_idempotency_keys_account_id_accounts")
        ),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"], unique=False)
