"""The origins of the web pages that may call an app, as a JSON list."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("apps", sa.Column("origins", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("apps", "origins")
