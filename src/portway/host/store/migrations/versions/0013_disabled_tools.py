"""A tool of an app may be switched off."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "disabled_tools",
        sa.Column("app", sa.String, sa.ForeignKey("apps.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("tool", sa.Text, primary_key=True),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("since", sa.Integer, nullable=False),
    )
