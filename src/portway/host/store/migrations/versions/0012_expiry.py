"""Tokens of apps and users may expire; one that was rotated may have a while left."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    for table in ("tokens", "users"):
        op.add_column(table, sa.Column("expires", sa.Integer))
        op.add_column(table, sa.Column("former", sa.String, nullable=False, server_default=""))
        op.add_column(table, sa.Column("former_expires", sa.Integer))
