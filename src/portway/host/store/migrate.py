"""Runs the migrations that a database lacks (Alembic), and refuses that of a newer Portway."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from portway.host.store.tables import HEAD


def upgrade(engine: Engine) -> None:
    """Run the migrations the database lacks, in one transaction. Raises `SQLAlchemyError`, also for a newer one."""
    found = _revision(engine)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise SQLAlchemyError("a newer Portway wrote it; upgrade portway, or choose another --data")
    with engine.begin() as connection:
        run(connection, HEAD)


def run(connection: Connection, revision: str) -> None:
    """Run the migrations that lead to `revision`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)
