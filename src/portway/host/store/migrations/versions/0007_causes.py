"""A release says what made it, who asked for it, and the commit of its source."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("releases", sa.Column("cause", sa.String, nullable=False, server_default="deploy"))
    op.execute("UPDATE releases SET cause = 'env' WHERE files IS NOT NULL")
    op.add_column("releases", sa.Column("detail", sa.Text, nullable=False, server_default=""))
    op.add_column("releases", sa.Column("asked_by", sa.Text, nullable=False, server_default=""))
    op.add_column("releases", sa.Column("commit", sa.String, nullable=False, server_default=""))
