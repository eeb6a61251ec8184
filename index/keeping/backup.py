"""Backing up, restoring and moving a catalog, and the list of its backups."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from ..catalog import PATIENT_SECRET, Catalog, migrate, open_catalog, pseudonym
from ..progress import Progress
from ..tables import Backup, ForgottenPatient, Secret
from .backup_file import open_for_reading, partial_files, write_backup
from .copying import Copied, copy_rows, require_empty, table_counts
from .patient_rows import erase, find_forgotten_rows

__all__ = ["BackupInfo", "back_up", "copy_catalog", "drop_backup", "list_backups", "restore_backup"]


@dataclass(frozen=True)
class BackupInfo:
    """A backup that was made or restored. created_at: of the rows in it, where it was made over an older one too.
    reachable: whether its file is there now."""

    path: Path
    created_at: datetime
    reachable: bool


def list_backups(catalog: Catalog) -> list[BackupInfo]:
    """Every backup whose file has to be cleaned when a patient is forgotten, oldest first."""
    with catalog.session() as session:
        rows = session.scalars(sa.select(Backup).order_by(Backup.id)).all()
    return [BackupInfo(Path(row.path), row.created_at, os.path.isfile(row.path)) for row in rows]


def drop_backup(catalog: Catalog, file: Path) -> bool:
    """Take a backup whose file was destroyed off the list; whether it was on it. Raises ArchiveError backup-there."""
    path = file.resolve()
    if path.exists():
        raise ArchiveError(f"{path} is there still. Remove the file first.", "backup-there")
    with catalog.write() as session:
        return bool(session.execute(sa.delete(Backup).where(Backup.path == str(path))).rowcount)  # type: ignore[attr-defined]


def back_up(catalog: Catalog, file: Path, *, progress: Progress | None = None) -> Copied:
    """Write every row of the catalog, as it is at one moment, to a SQLite file, and put that on the list of backups.

    Others may go on writing to the catalog. A file of that name is replaced if it is a backup on the list. Killed, it
    leaves that one as it was. Raises ArchiveError: not-a-backup (another file has that name), backup-failed.
    """
    path = file.resolve()
    with catalog.write() as session:
        known = session.scalar(sa.select(Backup).where(Backup.path == str(path)))
        if known is None:
            if path.exists():
                message = f"{path} is there and is no backup of this archive. Choose another name."
                raise ArchiveError(message, "not-a-backup")
            session.add(Backup(path=str(path)))  # before the file is: a kill between the two must not hide it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in partial_files(path):
            left.unlink(missing_ok=True)
        began = datetime.now(UTC)
        with catalog.snapshot() as session:
            copied = write_backup(session.connection(), path, progress)
        with catalog.write() as session:  # only now: until it is whole, the older one is what there is
            session.execute(sa.update(Backup).where(Backup.path == str(path)).values(created_at=began))
        return copied
    except BaseException as error:
        if known is None and not path.exists() and not partial_files(path):
            drop_backup(catalog, path)
        if isinstance(error, OSError):
            raise ArchiveError(f"{path} cannot be written: {error.strerror or error}.", "backup-failed") from error
        raise


def restore_backup(
    url: str | sa.URL, file: Path, *, scratch: Path | None = None, progress: Progress | None = None
) -> Copied:
    """Fill the empty catalog at ``url``, made where there is none, with the rows of a backup, in one transaction.

    A backup of an older version is brought up on a copy, in ``scratch``. Patients whom this catalog has forgotten, or
    the backup had, stay forgotten. Raises ArchiveError: not-empty, no-such-backup, bad-backup, other-pseudonyms.
    """
    with open_for_reading(file, scratch) as source:
        return _fill(url, source, progress, restored_from=file)


def copy_catalog(catalog: Catalog, url: str | sa.URL, *, progress: Progress | None = None) -> Copied:
    """Write every row of the catalog into the empty one at ``url``, in one transaction.

    Raises ArchiveError: not-empty, bad-row, source-changed (someone wrote to the catalog meanwhile).
    """
    with catalog.snapshot() as session:
        copied = _fill(url, session.connection(), progress)
        before = table_counts(session.connection())
    with catalog.session() as session:
        if table_counts(session.connection()) != before:
            message = (
                "The archive changed while it was copied; the copy is as it was at the beginning."
                " Stop the service and every job, and copy into another empty database."
            )
            raise ArchiveError(message, "source-changed")
    return copied


def _fill(
    url: str | sa.URL, source: sa.Connection, progress: Progress | None, restored_from: Path | None = None
) -> Copied:
    migrate(url)
    target = open_catalog(url)
    try:
        with target.write() as session:
            require_empty(session.connection(), target.url)
            listed = {row.path: row.created_at for row in session.scalars(sa.select(Backup))}
            forgotten = {row.key: row.patient for row in session.scalars(sa.select(ForgottenPatient))}
            secrets = _secret(session.connection()), _secret(source)
            session.expunge_all()
            if forgotten and secrets[0] != secrets[1]:
                message = (
                    f"{target.url} has forgotten patients under other pseudonyms than the rows to be written, so it"
                    " cannot tell who they are. Name a new database, and forget them there again."
                )
                raise ArchiveError(message, "other-pseudonyms")
            copied = copy_rows(source, session.connection(), progress)
            if forgotten:
                rows = find_forgotten_rows(session, partial(pseudonym, secrets[1]), set(forgotten))
                erase(session, rows, (), "")
                _keep_forgotten(session, forgotten)
            if restored_from is not None:
                listed.setdefault(str(restored_from.resolve()), datetime.now(UTC))
            known = set(session.scalars(sa.select(Backup.path)))
            session.add_all(Backup(path=path, created_at=at) for path, at in listed.items() if path not in known)
    finally:
        target.close()
    return copied


def _secret(connection: sa.Connection) -> bytes:
    return connection.scalar(sa.select(Secret.value).where(Secret.name == PATIENT_SECRET)) or b""


def _keep_forgotten(session: Session, forgotten: Mapping[str, str]) -> None:
    session.execute(sa.delete(ForgottenPatient).where(ForgottenPatient.patient == ""))
    known = set(session.scalars(sa.select(ForgottenPatient.key)))
    session.add_all(ForgottenPatient(key=key, patient=deed) for key, deed in forgotten.items() if key not in known)
