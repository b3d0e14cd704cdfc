"""Keys of an app's sessions and cursors; an app without any gets them when it is next started."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("apps", sa.Column("sealing_keys", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("apps", "sealing_keys")
