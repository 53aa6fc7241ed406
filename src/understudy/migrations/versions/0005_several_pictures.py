"""Several pictures of a character, and its negative prompt."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "character_pictures",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("character_name", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("file_name", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "character_name"],
            ["characters.account_id", "characters.name"],
            name=op.f("fk_character_pictures_account_id_character_name_characters"),
            onupdate="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["file_name"], ["files.name"], name=op.f("fk_character_pictures_file_name_files")
        ),
        sa.PrimaryKeyConstraint("account_id", "character_name", "number", name=op.f("pk_character_pictures")),
        sa.UniqueConstraint("file_name", name=op.f("uq_character_pictures_file_name")),
    )
    op.execute(
        "INSERT INTO character_pictures (account_id, character_name, number, file_name)"
        " SELECT account_id, name, 0, file_name FROM characters"
    )
    with op.batch_alter_table("characters") as characters:
        characters.drop_constraint(op.f("fk_characters_file_name_files"), type_="foreignkey")
        characters.drop_column("file_name")
        characters.add_column(sa.Column("negative_prompt", sa.Text(), server_default="", nullable=False))
