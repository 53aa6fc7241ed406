"""Accounts, their keys, credits, usage, idempotency keys and webhooks, as tables.

Credits are kept in integer micro-credits, so that no sum of them is ever rounded. Times are
seconds since the epoch.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

from ..database import metadata

# SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
    # The sum of the account's ledger, changed only together with it.
    Column("balance_microcredits", BigInteger, nullable=False, server_default="0"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account_id", String(36), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    # What people recognise a key by; the key itself is kept nowhere.
    Column("prefix", String(16), nullable=False, index=True),
    Column("digest", String(64), nullable=False, unique=True),
    # The key whose limits its requests count against: the one that it was made with, however many
    # were between; null: itself. No reference, or what an operator revoked could not be forgotten.
    Column("counted_as", String(36)),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    # What the key may do: words with a space between them; slugs, or null for every model.
    Column("scopes", String(100), nullable=False, server_default="generate read"),
    Column("models", JSON(none_as_null=True)),
    Column("expires_at", Double),
    # Its limits; null: those of the settings. The last is when its submits are all there again.
    Column("submits_per_minute", Integer),
    Column("concurrent_jobs", Integer),
    Column("submits_spent_until", Double),
)

ledger = Table(
    "ledger",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("account_id", String(36), ForeignKey("accounts.id"), nullable=False),
    # grant, hold, release or charge; a job has each of them once at most.
    Column("kind", String(10), nullable=False),
    Column("amount_microcredits", BigInteger, nullable=False),
    # No reference: an entry outlives the job's row.
    Column("job_id", String(36)),
    Column("note", String(200)),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("job_id", "kind"),
    Index("ix_ledger_account", "account_id", "sequence"),
)

granted = ledger.c.kind == literal_column("'grant'")
"""Entries of what was given or taken back; in the statement's own words, for the index below."""

Index(
    "ix_ledger_granted",
    ledger.c.account_id,
    ledger.c.amount_microcredits,
    sqlite_where=granted,
    postgresql_where=granted,
)

usage = Table(
    "usage",
    metadata,
    Column("account_id", String(36), ForeignKey("accounts.id"), primary_key=True),
    # In UTC, as YYYY-MM-DD: the day on which the jobs ended.
    Column("day", String(10), primary_key=True),
    Column("model", String(100), primary_key=True),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("pictures", Integer, nullable=False),
    Column("inference_seconds", Double, nullable=False),
    Column("charged_microcredits", BigInteger, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", String(36), ForeignKey("accounts.id"), primary_key=True),
    Column("key", String(255), primary_key=True),
    # Of the request, and what it was answered with.
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("account_id", String(36), ForeignKey("accounts.id"), primary_key=True),
    # As they are, for a digest cannot sign. The one before signs too until its time is over.
    Column("secret", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("previous_secret", String(80)),
    Column("previous_until", Double),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    # The webhook id: the same in every attempt.
    Column("id", String(40), nullable=False, unique=True),
    Column("account_id", String(36), ForeignKey("accounts.id"), nullable=False),
    # No reference, as in the ledger; the row goes with its job's.
    Column("job_id", String(36), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    # The URL's host and port: who shares a target shares its attempts.
    Column("target", String(300), nullable=False),
    # What the URLs in the body begin with.
    Column("base", Text, nullable=False),
    # pending, delivered or failed; a pending one has its next attempt.
    Column("state", String(10), nullable=False),
    Column("next_attempt_at", Double),
    Column("give_up_at", Double, nullable=False),
    Column("lease_expires_at", Double),
    # Attempts since it began or was replayed, and what came of every one.
    Column("tries", Integer, nullable=False),
    Column("attempts", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_webhook_deliveries_account", "account_id", "sequence"),
)

_pending = webhook_deliveries.c.next_attempt_at.is_not(None)
Index(
    "ix_webhook_deliveries_due",
    webhook_deliveries.c.next_attempt_at,
    sqlite_where=_pending,
    postgresql_where=_pending,
)
