"""Opening the catalog: SQLite (WAL) by default, PostgreSQL by URL, one schema kept by Alembic."""

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from .tables import Secret

__all__ = [
    "ACCESS_LOCK",
    "JOBS_LOCK",
    "PATIENT_SECRET",
    "Catalog",
    "create_schema",
    "migrate",
    "open_catalog",
    "pseudonym",
    "sqlite_file",
]

logger = logging.getLogger(__name__)

NEWER = "a newer release made it. Use that one, or a backup of before it."
WHICH = "Is it the right one? ALTA_DATA_DIR (data/demo for the demo's) or ALTA_DATABASE_URL names it."
BUSY_TIMEOUT_MS = 60_000  # writers wait for each other rather than fail
MOST_CONNECTIONS = 128  # to a SQLite file: two descriptors each, of the 1,024 that a process usually has
PATIENT_SECRET = "patient-key"
# Any fixed number: PostgreSQL's advisory lock that lets one writer in at a time, as SQLite does by itself.
WRITER_LOCK = 0x414C5441
BUILDER_LOCK = WRITER_LOCK + 1  # and the one that lets one builder of generations in
ACCESS_LOCK = WRITER_LOCK + 2  # of keys, usage and audit: a long ingest holds no answer up
JOBS_LOCK = WRITER_LOCK + 3  # of jobs and webhooks: nor any heartbeat


class Catalog:
    """The database of one archive. Thread-safe; sessions are not."""

    def __init__(self, url: str | sa.URL) -> None:
        self.url = sa.make_url(url).render_as_string(hide_password=True)
        self.engine = _engine(url)
        self._writing = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self._secrets: dict[str, bytes] = {}

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for reading. Nothing is committed at the end. Raises ArchiveError database-unavailable."""
        with _unbroken(self), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A session for reading whose queries all see the archive as it is at the first of them."""
        with self.session() as session:
            if self.engine.dialect.name == "postgresql":  # SQLite in WAL mode reads so in any transaction
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def one_builder(self) -> Iterator[bool]:
        """Lets one builder of generations in at a time, over all hosts. False on SQLite, which has no such lock.

        PostgreSQL gives the lock back when the process or its host dies.
        """
        if self.engine.dialect.name != "postgresql":
            yield False
            return
        with (
            _unbroken(self),
            self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            connection.execute(sa.select(sa.func.pg_advisory_lock(BUILDER_LOCK)))
            try:
                yield True
            finally:
                connection.invalidate()  # a pooled connection would keep the lock

    @contextmanager
    def write(self, lock: int = WRITER_LOCK) -> Iterator[Session]:
        """A session of one transaction: committed at the end, rolled back on an error.

        One writer at a time on both databases, so a writer may read, decide and write without a race.
        lock: writers of another one are not waited for on PostgreSQL; SQLite has one for all.
        Raises ArchiveError database-unavailable: whether the transaction was committed is then unknown.
        """
        with _unbroken(self), Session(self._writing, expire_on_commit=False) as session, session.begin():
            if self.engine.dialect.name == "postgresql":
                session.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
            yield session

    def patient_key(self, patient_id: str, issuer: str = "") -> str:
        """The pseudonym of a patient: 64 hexadecimal digits, HMAC-SHA256 under this catalog's own secret."""
        return pseudonym(self.secret(PATIENT_SECRET), patient_id, issuer)

    def secret(self, name: str) -> bytes:
        """This catalog's own secret of a name: 32 random bytes, made when first asked for."""
        if name not in self._secrets:
            self._secrets[name] = self._read_secret(name)
        return self._secrets[name]

    def close(self) -> None:
        """Give every pooled connection back."""
        self.engine.dispose()

    def _read_secret(self, name: str) -> bytes:
        with self.session() as session:
            row = session.get(Secret, name)
        if row is None:
            with self.write() as session:
                row = session.get(Secret, name)
                if row is None:
                    row = Secret(name=name, value=secrets.token_bytes(32))
                    session.add(row)
        return row.value


def pseudonym(secret: bytes, patient_id: str, issuer: str = "") -> str:
    """What stands for a patient in the catalog that has this secret."""
    text = f"{issuer.strip()}\x1f{patient_id.strip()}"
    return hmac.new(secret, text.encode("utf-8", "backslashreplace"), hashlib.sha256).hexdigest()


def open_catalog(url: str | sa.URL) -> Catalog:
    """Open the catalog at a SQLAlchemy URL, such as ``sqlite:///data/alta.db``.

    Raises ArchiveError: database-unavailable, schema-outdated (``migrate`` was not run). A SQLite file that is not
    there is not created.
    """
    catalog = Catalog(url)
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise ArchiveError(
            f"There is no catalog {catalog.url}. {WHICH} A new one: `alta db upgrade`.", "schema-outdated"
        )
    try:
        with _reported(catalog), catalog.engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except ArchiveError:
        catalog.close()
        raise
    with as_file(files("migrations")) as folder:
        script = ScriptDirectory(str(folder))
        expected = script.get_current_head()
    if found != expected:
        catalog.close()
        state = f"The catalog {catalog.url} has schema {found or 'none'}, expected {expected}"
        known = found in [entry.revision for entry in script.walk_revisions()]
        older = f"{state}: back it up with the release that made it, then run `alta db upgrade`."
        newer = f"{state}: {NEWER}"
        message = (older if known else newer) if found else f"{state}. {WHICH} If so: `alta db upgrade`."
        raise ArchiveError(message, "schema-outdated")
    catalog.patient_key("")  # makes the secret now: a writer that needs it later would wait for itself
    return catalog


def create_schema(url: str | sa.URL) -> None:
    """``migrate`` where there is no schema yet. One of another release stays as it is, for ``open_catalog`` to refuse:
    bringing it up has no way back but a backup, and is for ``alta db upgrade`` alone.

    Raises ArchiveError: database-unavailable.
    """
    file = sqlite_file(url)
    if file is None or file.exists():
        catalog = Catalog(url)
        try:
            with _reported(catalog), catalog.engine.connect() as connection:
                if MigrationContext.configure(connection).get_current_revision() is not None:
                    return
        finally:
            catalog.close()
    migrate(url)


def migrate(url: str | sa.URL, revision: str = "head") -> None:
    """Bring the schema at ``url`` to ``revision``, creating the database file and its folder where needed, for this
    user alone: reports and secrets are in them.

    Safe to run by several processes at once: one works, the others wait and find it done.
    Raises ArchiveError: database-unavailable; schema-outdated, where a newer release made what is there.
    """
    if file := sqlite_file(url):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):  # SQLite says why it cannot be
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))  # its WAL gets the same mode
    catalog = Catalog(url)
    try:
        with as_file(files("migrations")) as folder, _reported(catalog), catalog.write() as session:
            _run_alembic(session.connection(), folder, revision, catalog.url)
    finally:
        catalog.close()


def _run_alembic(connection: sa.Connection, folder: Path, revision: str, shown: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    revisions = [entry.revision for entry in script.walk_revisions()]
    target = script.get_current_head() if revision == "head" else revision
    newer_first = [*revisions, None]
    if current not in newer_first:
        message = f"The catalog {shown} has schema {current}, expected {script.get_current_head()}: {NEWER}"
        raise ArchiveError(message, "schema-outdated")
    if current is not None and newer_first.index(target if target != "base" else None) > newer_first.index(current):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


@contextmanager
def _unbroken(catalog: Catalog) -> Iterator[None]:
    """A database that stops, restarts or has no room left ends a job with one clear error."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)) and not error.connection_invalidated:
            raise
        cause = str(error.orig).strip().splitlines()
        message = (
            f"The database {catalog.url} cannot be used: {cause[0] if cause else type(error.orig).__name__}."
            " What was committed is kept: once it answers, do the same again."
        )
        raise ArchiveError(message, "database-unavailable") from error
    except sa.exc.TimeoutError as error:
        message = f"Every connection to the database {catalog.url} is in use, and none came free. Do the same again."
        raise ArchiveError(message, "database-unavailable") from error


@contextmanager
def _reported(catalog: Catalog) -> Iterator[None]:
    try:
        yield
    except (sa.exc.DatabaseError, ModuleNotFoundError) as error:
        if isinstance(error, (sa.exc.ProgrammingError, sa.exc.IntegrityError)):
            raise  # a mistake of ours, not the database's state
        cause = getattr(error, "orig", None) or error
        named = "ALTA_DATA_DIR or ALTA_DATABASE_URL" if catalog.engine.dialect.name == "sqlite" else "ALTA_DATABASE_URL"
        message = f"The database {catalog.url} cannot be used: {cause}. Check {named}."
        raise ArchiveError(message, "database-unavailable") from error


def sqlite_file(url: str | sa.URL) -> Path | None:
    """None for another database, or one in memory."""
    parsed = sa.make_url(url)
    name = parsed.database or ""
    if parsed.get_backend_name() != "sqlite" or name in ("", ":memory:") or name.startswith("file:"):
        return None
    return Path(name)


def _engine(url: str | sa.URL) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    pool: dict[str, Any] = {"pool_pre_ping": parsed.get_backend_name() != "sqlite"}
    if sqlite_file(parsed) is not None:
        # As many as there are threads at once, for no request to open one, within reason; those used last first.
        pool |= {"pool_size": MOST_CONNECTIONS, "max_overflow": 0, "pool_use_lifo": True}
    try:
        # Errors are logged: what was to be written is about patients.
        engine = sa.create_engine(parsed, hide_parameters=True, **pool)
    except ModuleNotFoundError as error:
        message = f"{error}. PostgreSQL needs the extra: pip install 'alta-retrieval[postgres]'."
        raise ArchiveError(message, "database-unavailable") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes late and skips DDL; with None every BEGIN is ours (_begin_sqlite).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
