"""An index for what an account keeps without having paid for it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEPT = sa.text("kind IN ('upload', 'character')")


def upgrade() -> None:
    op.create_index(
        "ix_files_kept", "files", ["account_id", "size"], sqlite_where=KEPT, postgresql_where=KEPT
    )
