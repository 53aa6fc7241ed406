"""Jobs, the files that belong to them, and saved characters, as tables.

A job's row is the queue, the status, the history and the bill: there is no second truth.
Times are seconds since the epoch.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    and_,
    literal_column,
)

from ..database import metadata

# SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("account_id", String(36), ForeignKey("accounts.id"), nullable=False),
    # The key whose limits it counts against.
    Column("key_id", String(36), ForeignKey("keys.id"), nullable=False),
    Column("model", String(100), nullable=False),
    # What was asked.
    Column("parameters", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("warnings", JSON, nullable=False),
    # Where it stands. `version` grows with every change that a client can see.
    Column("status", String(10), nullable=False),
    Column("version", Integer, nullable=False),
    Column("stage", String(20), nullable=False),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("preview", LargeBinary),
    # The queue: fair turn, lease and fencing token.
    Column("turn", BigInteger, nullable=False),
    Column("token", Integer, nullable=False),
    Column("lease_expires_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    # How it ended.
    Column("images", JSON),
    Column("inference_seconds", Double),
    Column("error_code", String(64)),
    Column("error", Text),
    # Who is told of its end: a URL, and what the URLs in the body begin with.
    Column("webhook", JSON(none_as_null=True)),
    # What was held for it, null where credits are off; the account's balance at its end.
    Column("price_microcredits", BigInteger),
    Column("remaining_microcredits", BigInteger),
)

# In the words of the statement and not as a bound value: a planner that does not know the value
# cannot see that a partial index has the rows.
queued = jobs.c.status == literal_column("'QUEUED'")
processing = jobs.c.status == literal_column("'PROCESSING'")
failed = jobs.c.status == literal_column("'FAILED'")

waiting = and_(queued, jobs.c.lease_expires_at.is_(None))
"""Jobs that nobody holds."""

unended = jobs.c.ended_at.is_(None)
"""Jobs that have no end yet: waiting, held or running."""

ended = jobs.c.ended_at.is_not(None)
"""Jobs that have their end."""

Index("ix_jobs_waiting", jobs.c.turn, jobs.c.sequence, sqlite_where=waiting, postgresql_where=waiting)
Index("ix_jobs_turn", jobs.c.turn, sqlite_where=unended, postgresql_where=unended)
Index(
    "ix_jobs_account_turn",
    jobs.c.account_id,
    # Null in every entry: named for SQLite, which would else look at each row for it.
    jobs.c.ended_at,
    jobs.c.turn,
    # By which an account's jobs are counted.
    jobs.c.key_id,
    sqlite_where=unended,
    postgresql_where=unended,
)
# A key that ended long ago can be deleted without a look at every job.
Index("ix_jobs_key", jobs.c.key_id)
Index(
    "ix_jobs_status",
    jobs.c.status,
    sqlite_where=unended,
    postgresql_where=unended,
)
Index(
    "ix_jobs_leased",
    jobs.c.lease_expires_at,
    sqlite_where=jobs.c.lease_expires_at.is_not(None),
    postgresql_where=jobs.c.lease_expires_at.is_not(None),
)
Index("ix_jobs_account", jobs.c.account_id, jobs.c.sequence)
Index("ix_jobs_ended", jobs.c.ended_at, sqlite_where=ended, postgresql_where=ended)
Index("ix_jobs_waiting_since", jobs.c.created_at, sqlite_where=waiting, postgresql_where=waiting)
Index(
    "ix_jobs_failed",
    jobs.c.account_id,
    jobs.c.sequence,
    sqlite_where=failed,
    postgresql_where=failed,
)

files = Table(
    "files",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("account_id", String(36), ForeignKey("accounts.id"), nullable=False),
    # output: a job's picture; input: what a job was given; upload: an asset; character: a saved one.
    Column("kind", String(10), nullable=False),
    Column("job_id", String(36), ForeignKey("jobs.id"), index=True),
    Column("content_type", String(40), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Index("ix_files_expires_at", "expires_at"),
)

kept = files.c.kind.in_([literal_column("'upload'"), literal_column("'character'")])
"""Files that an account keeps without having paid for them."""

Index("ix_files_kept", files.c.account_id, files.c.size, sqlite_where=kept, postgresql_where=kept)

characters = Table(
    "characters",
    metadata,
    Column("account_id", String(36), ForeignKey("accounts.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("prompt", Text, nullable=False),
    Column("negative_prompt", Text, nullable=False, server_default=""),
    Column("created_at", Double, nullable=False),
)

character_pictures = Table(
    "character_pictures",
    metadata,
    Column("account_id", String(36), primary_key=True),
    Column("character_name", String(64), primary_key=True),
    # Their order, from 0: the first is what the character is shown by.
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("file_name", String(64), ForeignKey("files.name"), nullable=False, unique=True),
    ForeignKeyConstraint(
        ["account_id", "character_name"],
        ["characters.account_id", "characters.name"],
        onupdate="CASCADE",
    ),
)
