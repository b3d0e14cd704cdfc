"""Groups of an identity provider may have a role on the host."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "user_groups",
        sa.Column("issuer", sa.String, primary_key=True),
        sa.Column("claim", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("apps", sa.JSON, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
    )
