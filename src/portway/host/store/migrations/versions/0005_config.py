"""A release keeps the configuration it was made with, and how its instances are started."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("releases", sa.Column("config", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("releases", sa.Column("start", sa.JSON, nullable=False, server_default="null"))
    connection = op.get_bind()
    rows = connection.execute(
        sa.text(
            "SELECT app, number, server, access, origins FROM releases JOIN apps ON name = app WHERE status = 'ready'"
        )
    )
    for app, number, server, access, origins in rows.all():
        config = {"access": "public" if access == "public" else "gate", "origins": json.loads(origins)}
        command = ["portway", "run", server, "--transport", "http"]
        start = {"command": command, "name": server, "on_socket": True}
        connection.execute(
            sa.text("UPDATE releases SET config = :config, start = :start WHERE app = :app AND number = :number"),
            {"config": json.dumps(config), "start": json.dumps(start), "app": app, "number": number},
        )
    op.drop_column("releases", "server")
    op.drop_column("apps", "access")
    op.drop_column("apps", "origins")
