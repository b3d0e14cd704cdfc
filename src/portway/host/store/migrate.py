"""Brings a database to the schema of this version. Alembic, slow to import, is only when something is to do."""

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from portway.host.store.schema import HEAD


def upgrade(engine: Engine) -> None:
    """Run the migrations the database lacks, all in one transaction. Raises Alembic's own error on a newer database."""
    if _revision(engine) == HEAD:
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)
