"""Alembic's entry: runs the migrations on the connection that conclave.store.migrate hands over."""

from alembic import context
from sqlalchemy import Connection, text

from migrations import tenant_views


def _run(connection: Connection) -> None:
    """Migrates in one transaction. What stands on the tables is taken away first, and made anew of what they have become."""
    # A limit of the database's for people; this may take its time. Servers older than 17 do not know it.
    connection.execute(text("SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'"))
    tenant_views.drop(connection)
    context.run_migrations()
    tenant_views.make(connection)


connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transactional_ddl=True)
with context.begin_transaction():
    _run(connection)
