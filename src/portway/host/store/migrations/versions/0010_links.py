"""An app may be linked to a branch of a repository elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "links",
        sa.Column("app", sa.String, sa.ForeignKey("apps.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("seen", sa.String, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
