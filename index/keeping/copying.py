"""A whole catalog, row by row, from one database into another: SQLite or PostgreSQL on either side.

One snapshot is read and one transaction written: a copy that ends early leaves the target as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from model.errors import ArchiveError

from ..progress import Progress
from ..tables import AuditEntry, Base, Embedding, Instance, Patient, Report, Study

__all__ = ["Copied", "copy_rows", "require_empty", "table_counts"]

CHUNK: Final = 500  # rows; a report may have a mebibyte
# What nothing may be written over; of the audit nothing can be deleted either.
KEPT: Final = (Patient, Study, Instance, Report, Embedding, AuditEntry)


@dataclass(frozen=True)
class Copied:
    """What one copy wrote."""

    rows: int
    studies: int


def copy_rows(source: sa.Connection, target: sa.Connection, progress: Progress | None = None) -> Copied:
    """Replace every row of the target by those of the source, and let the target give no id that either has given.

    Both have the newest schema; the source is read in the transaction it is in, which has to be a snapshot. The caller
    commits. Raises ArchiveError: bad-row (a value that the target's column cannot hold), copy-check-failed.
    """
    expected = table_counts(source)
    ids = {table.name: max(_newest_id(source, table), _newest_id(target, table)) for table in _counted()}
    for table in reversed(Base.metadata.sorted_tables):
        if table is not AuditEntry.__table__:  # empty, or the caller would not write here
            target.execute(sa.delete(table))
    done, total = 0, sum(expected.values())
    for table in Base.metadata.sorted_tables:
        query = sa.select(table).order_by(*table.primary_key.columns)
        with source.execute(query, execution_options={"yield_per": CHUNK}) as rows:
            for chunk in rows.mappings().partitions(CHUNK):
                _insert(target, table, chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    for table in _counted():
        _reserve_ids(target, table, ids[table.name])
    if (found := table_counts(target)) != expected:
        wrong = ", ".join(
            f"{name} {found[name]} of {expected[name]}" for name in found if found[name] != expected[name]
        )
        raise ArchiveError(f"The copy has not every row: {wrong}. Nothing was written.", "copy-check-failed")
    return Copied(total, expected[Study.__tablename__])


def require_empty(target: sa.Connection, where: str) -> None:
    """Raises ArchiveError not-empty when a catalog has rows of a table of ``KEPT``."""
    for table in KEPT:
        if target.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) is not None:
            message = (
                f"{where} holds rows of table {table.__tablename__} already; nothing is written over."
                " Name an empty database: ALTA_DATA_DIR or ALTA_DATABASE_URL."
            )
            raise ArchiveError(message, "not-empty")


def table_counts(connection: sa.Connection) -> dict[str, int]:
    """Rows by table."""
    tables = Base.metadata.sorted_tables
    return {table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables}


def _insert(target: sa.Connection, table: sa.Table, rows: Sequence[sa.RowMapping]) -> None:
    try:
        target.execute(sa.insert(table), [dict(row) for row in rows])
    except (sa.exc.DataError, sa.exc.IntegrityError) as error:
        cause = str(error.orig).strip().splitlines()[0]
        message = f"A row of table {table.name} cannot be written: {cause}. Nothing was written."
        raise ArchiveError(message, "bad-row") from error


def _counted() -> list[sa.Table]:
    """Tables whose ids the database counts."""
    return [t for t in Base.metadata.sorted_tables if "id" in t.columns and isinstance(t.c.id.type, sa.Integer)]


def _newest_id(connection: sa.Connection, table: sa.Table) -> int:
    """The highest id that was ever given, as far as the database remembers."""
    newest = connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
    if connection.dialect.name == "postgresql":
        sequence = connection.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, "id")))
        given = connection.exec_driver_sql(f"SELECT last_value FROM {sequence} WHERE is_called").scalar()
    else:
        query = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        given = connection.scalar(query, {"name": table.name})
    return max(newest, given or 0)


def _reserve_ids(connection: sa.Connection, table: sa.Table, newest: int) -> None:
    """Let the next id be a higher one."""
    if connection.dialect.name == "postgresql":
        if newest:
            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
            connection.execute(sa.select(sa.func.setval(sequence, newest)))
    elif table.dialect_options["sqlite"]["autoincrement"]:  # SQLite counts no other table
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        insert = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :newest)")
        connection.execute(insert, {"name": table.name, "newest": newest})
