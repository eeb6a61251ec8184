"""Looking everywhere for a patient who was forgotten: rows, bytes of the database, indexes, own files, backups."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from ..batches import batched
from ..catalog import PATIENT_SECRET, Catalog, pseudonym
from ..engines import Engine
from ..generations.parts import open_part, place_of
from ..generations.table import BUILDING, LIVE, RETIRED, list_generations
from ..tables import ACCEPTED, KINDS, Instance, Report, Secret, Study
from .backup import list_backups
from .backup_file import open_for_reading
from .forgotten import NamedPatient
from .patient_rows import KnownNames, find_patient_rows

__all__ = ["Place", "look_everywhere", "mentions", "not_of_others"]

CHUNK: Final = 1 << 24  # bytes read at once


@dataclass(frozen=True)
class Place:
    """found: what was there, None when it was not counted. left: what is there still, None when nobody can tell."""

    name: str
    found: int | None
    left: int | None
    note: str = ""


def look_everywhere(
    catalog: Catalog,
    patient: NamedPatient,
    *,
    generations: Path,
    engines: Mapping[str, Engine],
    found: Mapping[str, int],
    study_ids: Sequence[int],
    known: KnownNames,
    own_files: Sequence[str],
    unreachable: Mapping[Path, str],
    problem: str,
) -> list[Place]:
    """One line a place. found: rows by table before; unreachable: backups that could not be cleaned, and why; problem:
    why the database's unused pages may hold something."""
    with catalog.session() as session:
        rows = find_patient_rows(session, patient, catalog.patient_key, known)
        own = not_of_others(session, known)
    uids = {*own.study_uids, *own.sop_uids}
    left = {
        "patients": len(rows.patients),
        "studies": len(rows.studies),
        "images": len(rows.instances),
        "reports": len(rows.reports),
        "embeddings": rows.embeddings,
    }
    places = [Place(f"database: {table}", found.get(table, 0), count) for table, count in left.items()]
    places.append(_database_bytes(catalog, uids, problem))
    places += _indexes(catalog, generations, engines, study_ids)
    present = [path for path in own_files if Path(path).exists()]
    places.append(Place("received objects", len(own_files), len(present)))
    for info in list_backups(catalog):
        if info.path in unreachable:
            places.append(Place(f"backup {info.path}", None, None, unreachable[info.path]))
        else:
            places.append(_backup(info.path, patient, own))
    return places


def mentions(file: Path, uids: Collection[str], living: Callable[[str], list[str]]) -> int:
    """How often a file has the bytes of these UIDs other than within longer ones, in texts that ``living`` gives."""
    if not uids:
        return 0
    pattern = re.compile(b"|".join(re.escape(uid.encode()) for uid in sorted(uids, key=len, reverse=True)))
    longer: dict[str, list[bytes]] = {}
    left = 0
    for before, data, after in _pieces(file):
        whole = before + data + after
        for match in pattern.finditer(whole):
            if not len(before) <= match.start() < len(before) + len(data):
                continue
            uid = match.group().decode()
            if uid not in longer:
                longer[uid] = [text.encode() for text in living(uid)]
            left += not any(_is_part_of(whole, match.start(), uid.encode(), text) for text in longer[uid])
    return left


def _is_part_of(data: bytes, start: int, uid: bytes, text: bytes) -> bool:
    """Whether the bytes are those of a longer number in a text."""
    for match in re.finditer(re.escape(uid), text):
        at = match.start()
        longer = re.match(rb"\.?\d", text[match.end() :]) or re.search(rb"[\d.]$", text[:at])
        if longer and start >= at and data[start - at : start - at + len(text)] == text:
            return True
    return False


def _pieces(file: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """A file piece by piece, each with what is before and after it, as far as a path or a reason may reach."""
    reach = 1 << 16
    before, data = b"", b""
    with file.open("rb") as reading:
        data = reading.read(CHUNK)
        while data:
            following = reading.read(CHUNK)
            yield before, data, following[:reach]
            before, data = data[-reach:], following


def _database_bytes(catalog: Catalog, uids: set[str], problem: str) -> Place:
    name = "database: bytes of its file"
    if catalog.engine.dialect.name != "sqlite":
        note = problem or "PostgreSQL: tables vacuumed; its own write-ahead log and backups are the server's"
        return Place("database: unused pages", None, None if problem else 0, note)
    database = catalog.engine.url.database or ""
    left = 0
    with catalog.session() as session:
        for file in (Path(database), Path(f"{database}-wal")):
            if file.exists():
                left += mentions(file, uids, lambda uid: _texts_with(session, uid))
    return Place(name, None, left, problem if left else "")


def _indexes(catalog: Catalog, folder: Path, engines: Mapping[str, Engine], study_ids: Sequence[int]) -> list[Place]:
    """The vectors of these study rows in what is kept of generations, and folders of others."""
    with catalog.session() as session:
        reused = {
            row_id
            for batch in batched(study_ids, 500)
            for row_id in session.scalars(sa.select(Study.id).where(Study.id.in_(batch)))
        }
    gone = sorted(set(study_ids) - reused)  # a new study may have been given the number of an old one
    places = []
    kept = list_generations(catalog, LIVE, RETIRED, BUILDING)
    for info in kept:
        if info.state == BUILDING:
            places.append(Place(f"generation {info.id}", None, None, "being built: run this again when it is done"))
            continue
        left: int | None = 0
        note = ""
        for kind in KINDS:
            if info.rows(kind):
                try:
                    part = open_part(engines, info.engine_of(kind), place_of(folder, info.id, kind), info.token(kind))
                    left = None if left is None else left + sum(_holds(part.index, row_id) for row_id in gone)
                except ArchiveError as error:
                    left, note = (left, note) if error.slug == "index-file-missing" else (None, error.message)
        places.append(Place(f"generation {info.id}", None, left, note))
    numbers = {str(info.id) for info in kept}
    strays = [path.name for path in folder.glob("[0-9]*") if path.is_dir() and path.name not in numbers]
    return [*places, Place("removed generations", None, len(strays), ", ".join(sorted(strays)))]


def _holds(index: object, row_id: int) -> bool:
    try:
        index.vectors(np.array([row_id], dtype=np.int64))  # type: ignore[attr-defined]
    except KeyError:
        return False
    return True


def _backup(file: Path, patient: NamedPatient, known: KnownNames) -> Place:
    name = f"backup {file}"
    try:
        with open_for_reading(file) as connection, Session(connection) as session:
            secret = session.scalar(sa.select(Secret.value).where(Secret.name == PATIENT_SECRET)) or b""
            rows = find_patient_rows(session, patient, partial(pseudonym, secret), known, whole_studies=True)
            left = mentions(file, {*known.study_uids, *known.sop_uids}, lambda uid: _texts_with(session, uid))
    except ArchiveError as error:
        return Place(name, None, None, error.message)
    return Place(name, None, rows.count() + left)


def not_of_others(session: Session, known: KnownNames) -> KnownNames:
    """Without the UIDs that another patient's study or image has now, such as after a correction."""
    studies = set(known.study_uids)
    images = set(known.sop_uids)
    for batch in batched(sorted(studies), 500):
        query = sa.select(Study.study_instance_uid).where(Study.study_instance_uid.in_(batch))
        studies.difference_update(session.scalars(query))
    for batch in batched(sorted(images), 500):
        accepted = sa.select(Instance.sop_instance_uid).where(Instance.status == ACCEPTED)
        found = session.scalars(accepted.where(Instance.sop_instance_uid.in_(batch)))
        images.difference_update(uid for uid in found if uid)
    return KnownNames(studies, images, known.accessions)


def _texts_with(session: Session, uid: str) -> list[str]:
    """Texts of rows that may have a UID within a longer one, such as 1.2.3 in 1.2.34."""
    columns = (
        Study.study_instance_uid,
        Instance.sop_instance_uid,
        Instance.path,
        Instance.detail,
        Report.study_instance_uid,
        Report.source,
        Report.detail,
    )
    return [
        text for column in columns for text in session.scalars(sa.select(column).where(column.contains(uid))) if text
    ]
