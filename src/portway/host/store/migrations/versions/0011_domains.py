"""An app may have domain names beside its own."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "domains",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("app", sa.String, sa.ForeignKey("apps.name", ondelete="CASCADE"), nullable=False),
    )
