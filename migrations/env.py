"""Alembic's entry: runs the revisions on the connection the caller opened (``index.catalog.migrate``)."""

from alembic import context

from index.tables import Base

connection = context.config.attributes["connection"]
# SQLite cannot ALTER most things; batch mode copies the table instead.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
