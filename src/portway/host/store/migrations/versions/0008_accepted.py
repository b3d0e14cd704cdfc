"""The id by which someone accepted the changes of a release's contract."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("releases", sa.Column("accepted", sa.String, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("releases", "accepted")
