"""Variables are encrypted and belong to apps or groups; a release keeps its own, and may share another's files."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_table("variables")  # nothing has written to it
    op.create_table(
        "variables",
        sa.Column("owner", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("source", sa.String, nullable=False),
    )
    op.add_column("releases", sa.Column("files", sa.Integer))
    op.add_column("releases", sa.Column("environment", sa.Text, nullable=False, server_default=""))
