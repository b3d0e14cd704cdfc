"""How often a release's instance was restarted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("releases", sa.Column("restarts", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("releases", "restarts")
