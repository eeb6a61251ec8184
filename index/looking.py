"""A catalog that is looked at without changing anything, whatever state it is in: for whoever has to say what is wrong.

``open_catalog`` turns on SQLite's write-ahead log and makes the pseudonyms' secret; this writes nothing at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any, Final

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from .catalog import Catalog, sqlite_file
from .tables import (
    ApiKey,
    AuditEntry,
    Base,
    DeletedStudy,
    Embedding,
    EmbeddingFailure,
    ForgottenPatient,
    Instance,
    Report,
    Study,
)

__all__ = ["Facts", "Looking", "Revisions", "holds_older_rows", "look_at", "read_facts", "read_revisions", "undamaged"]

PATIENCE_SECONDS: Final = 5
SLOWEST_QUERY_SECONDS: Final = 60
WAL_VERSION: Final = b"\x02\x02"  # bytes 18 and 19 of a SQLite file: read and written with a write-ahead log
# Tables whose rows nothing makes again; an installation that has none yet may be brought up without a backup.
TO_LOSE: Final[tuple[type[Base], ...]] = (Study, Report, ApiKey, AuditEntry, ForgottenPatient, DeletedStudy)


@dataclass(frozen=True)
class Revisions:
    """Of the schema. found: None in a database without one; known: those of this release, newest first."""

    found: str | None
    known: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What the database says of itself, and how much is in it.

    server: PostgreSQL's version as ``17.2``, empty for SQLite. clock: its time as of ``asked_at`` here. newest: when
    the newest study or embedding was written. failures: of embedding.
    """

    server: str
    superuser: bool
    wal: bool
    clock: datetime
    asked_at: datetime
    newest: datetime | None
    studies: int
    accepted: int
    refused: int
    failures: int


class Looking(Catalog):
    """Reads only: SQLite by ``mode=ro``, PostgreSQL by the session's default."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        parsed = self.engine.url
        self.engine.dispose()
        self.file = sqlite_file(parsed)
        if self.file is not None:
            # Without a log beside it nobody has it open; with ``immutable`` SQLite then makes none to read.
            alone = not self.file.with_name(f"{self.file.name}-wal").exists()
            query = {"uri": "true", "mode": "ro", **({"immutable": "1"} if alone else {})}
            parsed = parsed.set(database=self.file.absolute().as_uri(), query=query)
            arguments: dict[str, Any] = {"timeout": PATIENCE_SECONDS}
        else:
            slowest = SLOWEST_QUERY_SECONDS * 1000
            options = f"-c default_transaction_read_only=on -c statement_timeout={slowest}"
            arguments = {"connect_timeout": PATIENCE_SECONDS, "options": options}
        self.engine = sa.create_engine(parsed, poolclass=sa.NullPool, hide_parameters=True, connect_args=arguments)

    @property
    def wal(self) -> bool:
        """Whether a SQLite file has a write-ahead log, as its header says."""
        if self.file is None:
            return False
        with self.file.open("rb") as stream:
            return stream.read(20)[18:20] == WAL_VERSION

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Raises ArchiveError database-unavailable whatever the database says, of damage as well."""
        try:
            with super().session() as session:
                yield session
        except sa.exc.DatabaseError as error:
            raise ArchiveError(str(error.orig).strip(), "database-unavailable") from error

    @contextmanager
    def write(self, lock: int = 0) -> Iterator[Session]:
        raise AssertionError("whoever looks writes nothing")
        yield  # a generator, as the method of Catalog is


@contextmanager
def look_at(url: str) -> Iterator[Looking]:
    """A catalog to read from, whatever its schema. Raises ArchiveError database-unavailable."""
    try:
        catalog = Looking(url)
        if catalog.file is not None and not catalog.file.exists():
            raise ArchiveError(f"There is no file {catalog.file}.", "database-unavailable")
        with catalog.engine.connect():
            pass
    except (sa.exc.DBAPIError, sa.exc.ArgumentError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).strip()
        raise ArchiveError(cause, "database-unavailable") from error
    try:
        yield catalog
    finally:
        catalog.close()


def read_revisions(catalog: Looking) -> Revisions:
    """Which schema is there, and which this release has."""
    with catalog.session() as session:
        found = MigrationContext.configure(session.connection()).get_current_revision()
    with as_file(files("migrations")) as folder:
        known = tuple(entry.revision for entry in ScriptDirectory(str(folder)).walk_revisions())
    return Revisions(found, known)


def holds_older_rows(url: str) -> str:
    """The revision of an older release's schema in which ``TO_LOSE`` has a row; empty where there is nothing to lose.

    Raises ArchiveError database-unavailable.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return ""
    with look_at(url) as catalog:
        revisions = read_revisions(catalog)
        if revisions.found is None or revisions.found not in revisions.known[1:]:
            return ""
        with catalog.session() as session:
            there = sa.inspect(session.connection()).get_table_names()  # that release may lack some
            tables = [row.__table__ for row in TO_LOSE if row.__tablename__ in there]
            kept = any(session.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) for table in tables)
            return revisions.found if kept else ""


def read_facts(catalog: Looking) -> Facts:
    """Of a catalog with the newest schema."""
    with catalog.session() as session:
        server, superuser, clock = "", False, datetime.now(UTC)
        if catalog.engine.dialect.name == "postgresql":
            server = str(session.scalar(sa.text("SHOW server_version")))
            superuser = session.scalar(sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")) is True
            clock = session.scalars(sa.select(sa.func.clock_timestamp())).one()
        asked_at = datetime.now(UTC)
        newest = [
            session.scalar(sa.select(row.created_at).order_by(row.id.desc()).limit(1)) for row in (Study, Embedding)
        ]
        by_status = sa.select(Instance.status, sa.func.count()).group_by(Instance.status)
        states = dict(session.execute(by_status).all())
        return Facts(
            server=server,
            superuser=superuser,
            wal=catalog.wal,
            clock=clock,
            asked_at=asked_at,
            newest=max((time for time in newest if time is not None), default=None),
            studies=session.scalar(sa.select(sa.func.count()).select_from(Study)) or 0,
            accepted=states.get("accepted", 0),
            refused=states.get("refused", 0),
            failures=session.scalar(sa.select(sa.func.count()).select_from(EmbeddingFailure)) or 0,
        )


def undamaged(catalog: Looking) -> str:
    """Empty, or the first thing that SQLite finds wrong with its file; PostgreSQL keeps checksums of its own."""
    if catalog.engine.dialect.name != "sqlite":
        return ""
    with catalog.session() as session:
        found = str(session.scalar(sa.text("PRAGMA quick_check(1)")))
    return "" if found == "ok" else found
