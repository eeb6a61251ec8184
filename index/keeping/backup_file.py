"""A backup: one SQLite file with every row of a catalog, for its owner's eyes only.

It holds reports and the secret behind the pseudonyms, so it is as sensitive as the archive itself.
"""

import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from model.errors import ArchiveError

from ..catalog import migrate
from ..progress import Progress
from ..syncing import sync
from .copying import Copied, copy_rows

__all__ = ["open_for_change", "open_for_reading", "partial_files", "side_files", "sqlite_url", "write_backup"]

OWNER_ONLY: Final = 0o600
PARTIAL: Final = ".partial"


def write_backup(source: sa.Connection, file: Path, progress: Progress | None = None) -> Copied:
    """Write every row to ``file`` as a SQLite catalog: beside it, checked, synced and then renamed over it.

    Whatever ends this early leaves an older file of that name as it was. Raises ArchiveError: backup-failed (with what
    the disk said), bad-row, copy-check-failed.
    """
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY))
        migrate(sqlite_url(temporary))
        with open_for_change(temporary) as target:
            copied = copy_rows(source, target, progress)
        with open_for_reading(temporary) as written:
            _require_sound(written, temporary)
        sync(temporary)
        _settle(file)
        temporary.replace(file)
        sync(file.parent)
    except OSError as error:
        raise ArchiveError(f"{file} cannot be written: {error.strerror or error}.", "backup-failed") from error
    except sa.exc.OperationalError as error:
        if error.connection_invalidated:  # the archive's own database
            raise
        raise ArchiveError(f"{file} cannot be written: {error.orig}.", "backup-failed") from error
    finally:
        for left in (temporary, *side_files(temporary)):
            left.unlink(missing_ok=True)
    return copied


def partial_files(file: Path) -> list[Path]:
    """What a killed backup left beside ``file``."""
    return list(file.parent.glob(f"{glob.escape(file.name)}.*{PARTIAL}*"))


def side_files(file: Path) -> list[Path]:
    """SQLite's own files of ``file``. Where that is there, they undo or complete what a killed process was writing to
    it: without them it may be damaged."""
    return [path for end in ("-journal", "-wal", "-shm") if (path := file.with_name(file.name + end)).exists()]


def sqlite_url(file: Path) -> sa.URL:
    """The URL of a SQLite file, whatever characters its path has."""
    return sa.URL.create("sqlite", database=str(file.absolute()))


@contextmanager
def open_for_reading(file: Path, scratch: Path | None = None) -> Iterator[sa.Connection]:
    """A connection to a backup with the newest schema, in one snapshot. The file itself is never written.

    A backup of an older schema is copied into ``scratch`` and brought up there. Raises ArchiveError: no-such-backup,
    bad-backup (damaged, no catalog, or made by a newer version), backup-failed (no room in ``scratch``).
    """
    if not file.is_file():
        raise ArchiveError(f"There is no backup {file}.", "no-such-backup")
    with _connection(file, read_only=True) as connection:
        _require_sound(connection, file)
        if not _is_older(connection, file):
            yield connection
            return
    with ExitStack() as stack:
        try:
            if scratch is not None:
                scratch.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=scratch, prefix="restore-"))
            copy = Path(folder) / "backup.db"
            shutil.copyfile(file, copy)
        except OSError as error:
            message = f"{file} cannot be copied to be brought up: {error.strerror or error}."
            raise ArchiveError(message, "backup-failed") from error
        migrate(sqlite_url(copy))
        with _connection(copy, read_only=True) as connection:
            yield connection


@contextmanager
def open_for_change(file: Path, *, rewrite: bool = False) -> Iterator[sa.Connection]:
    """A connection to a SQLite catalog that nobody else has open, whose transaction is committed at the end.

    rewrite: leave no trace of what was deleted, then or earlier. Raises sqlalchemy's OperationalError as the disk does.
    """
    with _connection(file, read_only=False) as connection:
        yield connection
        connection.commit()
        if rewrite:
            connection.exec_driver_sql("COMMIT")  # no transaction may be open
            connection.exec_driver_sql("VACUUM")


@contextmanager
def _connection(file: Path, read_only: bool) -> Iterator[sa.Connection]:
    # Not as an archive opens its own: PRAGMA journal_mode = WAL would write to a file that is only read.
    location = file.absolute().as_uri()  # file:///… with ? and % escaped
    url = sa.URL.create("sqlite", database=location, query={"uri": "true", "mode": "ro" if read_only else "rw"})
    engine = sa.create_engine(url, poolclass=sa.NullPool)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        if not read_only:
            for pragma in ("journal_mode = DELETE", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.DatabaseError as error:
        if not read_only or isinstance(error, sa.exc.ProgrammingError):
            raise
        raise ArchiveError(f"{file} cannot be read as a backup: {error.orig}.", "bad-backup") from error
    finally:
        engine.dispose()


def _settle(file: Path) -> None:
    """Let SQLite undo what a killed process had half written to the file, which is about to be replaced: its log would
    be applied to the new one."""
    if side_files(file) and file.exists():
        try:
            with open_for_change(file):
                pass
        except sa.exc.OperationalError:
            raise
        except sa.exc.DatabaseError:  # damaged, or no database: no log brings it back
            pass
    for left in side_files(file):
        left.unlink(missing_ok=True)


def _require_sound(connection: sa.Connection, file: Path) -> None:
    """Raises ArchiveError bad-backup when SQLite finds the file damaged."""
    found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if found != ["ok"] or broken:
        what = found[0] if found != ["ok"] else f"{len(broken)} rows refer to rows that are not there"
        raise ArchiveError(f"{file} is damaged: {what}. Use another backup.", "bad-backup")


def _is_older(connection: sa.Connection, file: Path) -> bool:
    found = MigrationContext.configure(connection).get_current_revision()
    with as_file(files("migrations")) as folder:
        script = ScriptDirectory(str(folder))
        known = [revision.revision for revision in script.walk_revisions()]
        newest = script.get_current_head()
    if found is None:
        raise ArchiveError(f"{file} is no backup of an archive: it has no schema.", "bad-backup")
    if found not in known:
        message = f"{file} has schema {found}, this version knows {newest} at most. Restore it with a newer version."
        raise ArchiveError(message, "bad-backup")
    return found != newest
