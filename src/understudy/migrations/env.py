"""Run by Alembic inside the connection that `migrate_database` opened."""

from alembic import context

from understudy.accounts import tables as _accounts  # noqa: F401  registers its tables
from understudy.database import metadata
from understudy.jobs import tables as _jobs  # noqa: F401  registers its tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
