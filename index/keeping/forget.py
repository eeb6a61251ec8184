"""Forgetting a patient: out of the database at once, then out of every file that the archive has.

First one transaction: rows deleted, removals written for the searchers, pseudonyms kept to refuse what comes again, and
a note of what is still to be done. Then, each of which may be done twice: the archive's own copies of objects, the
index generations, the backups, the database's unused pages. Killed anywhere, the next run finds the note and goes on;
the note itself is deleted last. ``index.keeping.forget_proof`` then looks everywhere again.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from ..catalog import PATIENT_SECRET, Catalog, migrate, pseudonym
from ..engines import LOCAL_ENGINES, Engine
from ..generations.lifecycle import rebuild_live
from ..intake.ingest import ingest_received
from ..intake.received import ReceivedStore
from ..returns.listing import sent_by_route
from ..tables import Base, Secret, Setting
from .backup import list_backups
from .backup_file import open_for_change, partial_files, side_files, sqlite_url
from .forget_proof import Place, look_everywhere, not_of_others
from .forgotten import NamedPatient
from .patient_rows import KnownNames, PatientRows, erase, find_patient_rows

__all__ = ["Forgotten", "forget_patient", "preview_forget"]

logger = logging.getLogger(__name__)

NOTE: Final = "forgetting:"  # and half a pseudonym: the name of the note among the settings

Report = Callable[[str, int, int], None]


@dataclass
class _Note:
    """What is still to be done for a patient whose rows are gone."""

    found: dict[str, int] = field(default_factory=dict)
    study_ids: list[int] = field(default_factory=list)
    study_uids: list[str] = field(default_factory=list)
    sop_uids: list[str] = field(default_factory=list)
    accessions: list[str] = field(default_factory=list)
    own_files: list[str] = field(default_factory=list)
    in_place: list[str] = field(default_factory=list)
    sent_back: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Forgotten:
    """places: what was there and what is left, by place. in_place: files that lie where others keep them: theirs to
    remove. sent_back: documents of the patient's studies that receivers have, by route: theirs to remove as well."""

    places: list[Place]
    in_place: list[str]
    sent_back: dict[str, int]

    @property
    def complete(self) -> bool:
        return all(place.left == 0 for place in self.places)


def preview_forget(catalog: Catalog, patient: NamedPatient, store: ReceivedStore) -> Forgotten:
    """What forgetting would remove; nothing is written. Raises ArchiveError ambiguous-patient."""
    with catalog.session() as session:
        note = _read_note(session, _note_name(catalog, patient))
        rows = find_patient_rows(session, patient, catalog.patient_key, _known(note))
        _add(session, note, rows, store)
    places = [Place(name, count, None) for name, count in note.found.items()]
    places += [Place(f"backup {info.path}", None, None) for info in list_backups(catalog)]
    return Forgotten(places, note.in_place, note.sent_back)


def forget_patient(
    catalog: Catalog,
    patient: NamedPatient,
    *,
    store: ReceivedStore,
    generations: Path,
    engines: Mapping[str, Engine] = LOCAL_ENGINES,
    report: Report = lambda stage, done, total: None,
) -> Forgotten:
    """Remove a patient for good, and prove it. Safe to kill and to run again, which completes it.

    Searchers leave the patient out as soon as they look at the database again. report: stage, done, total.
    Raises ArchiveError: ambiguous-patient, and what building a generation raises.
    """
    name = _note_name(catalog, patient)
    with catalog.write() as session:
        _delete_securely(session)
        note = _read_note(session, name)
        rows = find_patient_rows(session, patient, catalog.patient_key, _known(note))
        _add(session, note, rows, store)
        refused = patient.refused_keys(catalog.patient_key, rows.study_uids, rows.accessions)
        erase(session, rows, refused, patient.key(catalog.patient_key))
        session.execute(sa.delete(Setting).where(Setting.name == name))
        session.add(Setting(name=name, value=json.dumps(asdict(note))))
    report("database", 1, 1)
    if store.waiting():  # received and not read yet: what is the patient's is refused and removed
        ingest_received(catalog, store, progress=lambda done, total: report("received", done, total))
    for path in note.own_files:
        Path(path).unlink(missing_ok=True)
    # A live generation without the patient, and none older: their indexes hold the vectors still.
    rebuild_live(catalog, generations, progress=lambda done, total: report("index", done, total), engines=engines)
    unreachable = _clean_backups(catalog, patient, note, report)
    with catalog.write() as session:
        _delete_securely(session)
        session.execute(sa.delete(Setting).where(Setting.name == name))
    problem = _drop_unused_pages(catalog)
    report("unused pages", 1, 1)
    places = look_everywhere(
        catalog,
        patient,
        generations=generations,
        engines=engines,
        found=note.found,
        study_ids=note.study_ids,
        known=_known(note),
        own_files=note.own_files,
        unreachable=unreachable,
        problem=problem,
    )
    outcome = Forgotten(places, note.in_place, note.sent_back)
    if not outcome.complete:
        with catalog.write() as session:  # the next run has to know what to look for
            session.add(Setting(name=name, value=json.dumps(asdict(note))))
    logger.info(
        "a patient was forgotten: %d studies, %d images, %d reports; %s",
        *(note.found.get(table, 0) for table in ("studies", "images", "reports")),
        "nothing is left" if outcome.complete else "something is left",
    )
    return outcome


def _add(session: Session, note: _Note, rows: PatientRows, store: ReceivedStore) -> None:
    """What this run found, beside what an earlier one did."""
    counts = {
        "patients": len(rows.patients),
        "studies": len(rows.studies),
        "images": len(rows.instances),
        "reports": len(rows.reports),
        "embeddings": rows.embeddings,
    }
    for table, count in counts.items():
        note.found[table] = note.found.get(table, 0) + count
    for route, count in sent_by_route(session, rows.studies).items():
        note.sent_back[route] = note.sent_back.get(route, 0) + count
    own = {path for path in rows.paths if store.owns(Path(path))}
    note.own_files = sorted({*note.own_files, *own})
    note.in_place = sorted({*note.in_place, *rows.paths} - set(note.own_files))
    note.study_ids = sorted({*note.study_ids, *rows.studies})
    note.study_uids = sorted({*note.study_uids, *rows.study_uids})
    note.sop_uids = sorted({*note.sop_uids, *rows.sop_uids})
    note.accessions = sorted({*note.accessions, *rows.accessions})


def _known(note: _Note) -> KnownNames:
    return KnownNames(note.study_uids, note.sop_uids, note.accessions)


def _note_name(catalog: Catalog, patient: NamedPatient) -> str:
    return NOTE + patient.key(catalog.patient_key)[:32]


def _read_note(session: Session, name: str) -> _Note:
    value = session.scalar(sa.select(Setting.value).where(Setting.name == name))
    return _Note(**json.loads(value)) if value else _Note()


def _clean_backups(catalog: Catalog, patient: NamedPatient, note: _Note, report: Report) -> dict[Path, str]:
    """Erase the patient from every backup on the list; returns those that could not be, and why."""
    failed: dict[Path, str] = {}
    with catalog.session() as session:
        known = not_of_others(session, _known(note))
    backups = list_backups(catalog)
    for number, info in enumerate(backups, start=1):
        for left in partial_files(info.path):  # of a backup that was killed
            left.unlink(missing_ok=True)
        if not info.reachable:
            for left in side_files(info.path):  # of no use without it, and they hold its pages
                left.unlink(missing_ok=True)
            failed[info.path] = "not there; if it was destroyed: alta db backups --gone FILE"
        else:
            try:
                migrate(sqlite_url(info.path))
                with open_for_change(info.path, rewrite=True) as connection:
                    _clean_backup(connection, patient, known)
            except (ArchiveError, sa.exc.DatabaseError, OSError) as error:
                failed[info.path] = str(error).splitlines()[0]
        report("backups", number, len(backups))
    return failed


def _clean_backup(connection: sa.Connection, patient: NamedPatient, known: KnownNames) -> None:
    with Session(connection, join_transaction_mode="control_fully") as session:
        secret = session.scalar(sa.select(Secret.value).where(Secret.name == PATIENT_SECRET)) or b""
        own_pseudonym = partial(pseudonym, secret)
        rows = find_patient_rows(session, patient, own_pseudonym, known, whole_studies=True)
        refused = patient.refused_keys(own_pseudonym, rows.study_uids, rows.accessions)
        erase(session, rows, refused, patient.key(own_pseudonym))
        # Made while a patient was being forgotten: this one's note, or another's, whose next run comes here as well.
        session.execute(sa.delete(Setting).where(Setting.name == NOTE + patient.key(own_pseudonym)[:32]))
        session.commit()


def _delete_securely(session: Session) -> None:
    if session.get_bind().dialect.name == "sqlite":
        session.connection().exec_driver_sql("PRAGMA secure_delete = ON")  # deleted bytes become zeros


def _drop_unused_pages(catalog: Catalog) -> str:
    """Deleted rows stay in unused pages and in the log of writes until the database is told. Returns what failed."""
    try:
        if catalog.engine.dialect.name == "sqlite":
            with catalog.session() as session:
                connection = session.connection()
                connection.exec_driver_sql("COMMIT")  # no transaction may be open
                connection.exec_driver_sql("VACUUM")
                busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
            return "another process reads the database and keeps its write log alive: run this again" if busy else ""
        with catalog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in Base.metadata.sorted_tables:
                connection.exec_driver_sql(f"VACUUM {table.name}")
        return ""
    except (ArchiveError, sa.exc.OperationalError) as error:
        return str(error).splitlines()[0]
