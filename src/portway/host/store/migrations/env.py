"""Alembic's entry: the connection comes from `portway.host.store.migrate`."""

from alembic import context

from portway.host.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
