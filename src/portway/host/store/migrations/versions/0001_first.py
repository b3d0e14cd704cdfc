"""Apps, their releases, variables, instances and tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "apps",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("access", sa.String, nullable=False),
        sa.Column("live", sa.Integer),
        sa.Column("last_release", sa.Integer, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
    )
    op.create_table(
        "releases",
        _of_app(primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.Column("server", sa.Text, nullable=False, server_default=""),
        sa.Column("contract", sa.Text, nullable=False, server_default=""),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "variables",
        _of_app(primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.String, primary_key=True),
        _of_app(primary_key=False),
        sa.Column("release", sa.Integer, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        _of_app(primary_key=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False, unique=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created", sa.Integer, nullable=False),
        sa.UniqueConstraint("app", "name"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for table in ("tokens", "instances", "variables", "releases", "apps"):
        op.drop_table(table)


def _of_app(*, primary_key: bool) -> sa.Column[str]:
    reference = sa.ForeignKey("apps.name", ondelete="CASCADE")
    return sa.Column("app", sa.String, reference, nullable=False, primary_key=primary_key)
