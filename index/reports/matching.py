"""Rows of reports to their studies: by study instance UID, else by an accession number that is unique.

Accession numbers are unique to a site at best, so a second study may come with one that was matched already. A report
that names its patient is matched to a study of that patient only.

A study has one report. Of several that name it, the newest version is matched; whatever brought it, they are taken for
versions of one report, unless their sender counts them as two: then the first stands, unless it is preliminary.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload

from ..batches import batched
from ..catalog import Catalog
from ..embedding.removal import forget_embeddings
from ..intake.identity import nobody_key
from ..tables import MATCHED, REFUSED, REPORT, UNMATCHED, WITHDRAWN, Patient, Report, Study
from .rows import reopen_refused, withdraw
from .versions import PRELIMINARY, Standing, Version, compare

__all__ = ["match_all_reports", "match_reports"]


def match_reports(
    catalog: Catalog,
    session: Session,
    reports: Iterable[int] = (),
    studies: Collection[int] = (),
    accessions: Collection[str] = (),
) -> list[int]:
    """Match what just came: these reports, and those that have or name one of these studies, all by index.

    reports, studies: ids of rows. accessions: numbers that a study had until now. A report gets its study, if that has
    come, and loses one that it no longer clearly names. Returns the ids of the rows whose study was to be found.
    """
    uids, numbers = _names_of(session, studies)
    rows = {
        row.id: row
        for column, values in (
            (Report.id, reports),
            (Report.study_id, studies),
            (Report.study_instance_uid, uids),
            (Report.accession_number, {*numbers, *accessions}),
        )
        for row in _reports_where(session, column, values)
    }
    return _match(catalog, session, [rows[row_id] for row_id in sorted(rows)])


def match_all_reports(catalog: Catalog, session: Session) -> list[int]:
    """``match_reports`` of every report of the archive whose study is not beyond doubt: one pass over the tables."""
    named = sa.or_(
        sa.exists().where(Study.study_instance_uid == Report.study_instance_uid),
        sa.and_(
            Report.study_instance_uid.is_(None), sa.exists().where(Study.accession_number == Report.accession_number)
        ),
    )
    waiting = sa.select(Report).where(_without_study(), named)
    doubtful = sa.select(Report).join(Study, Study.id == Report.study_id).join(Study.patient)
    doubtful = doubtful.where(Report.status == MATCHED, sa.or_(_patient_differs(), _accession_differs()))
    rows = [*session.scalars(waiting), *session.scalars(doubtful)]
    return _match(catalog, session, sorted(rows, key=lambda row: row.id))


def _match(catalog: Catalog, session: Session, rows: Sequence[Report]) -> list[int]:
    """Bring rows, in the order of their ids, to the studies that they name."""
    candidates = _candidates(session, rows)
    possible = {report: _possible(catalog, report, found) for report, found in candidates.items()}
    chosen = {report: found[0].id for report, found in possible.items() if len(found) == 1}
    holding = _Holding(session, chosen.values())
    settled = {report for report in rows if report.status == MATCHED and chosen.get(report) == report.study_id}
    for report in rows:
        if report.status == MATCHED and report not in settled:
            holding.release(report)
    session.flush()  # before others take their place, or two matched ones meet in the unique index
    for report, found in possible.items():
        if report in chosen:
            holding.place(report, chosen[report])
        elif report.status == UNMATCHED:
            report.reason, report.detail = _why_unmatched(report, len(found))
    session.flush()
    again = holding.close()
    looked_at = [report.id for report in candidates if report not in settled]
    return looked_at + (match_reports(catalog, session, again) if again else [])


def _names_of(session: Session, studies: Collection[int]) -> tuple[set[str], set[str]]:
    """Study instance UIDs and accession numbers of studies."""
    uids: set[str] = set()
    numbers: set[str] = set()
    for batch in batched(studies, 500):
        query = sa.select(Study.study_instance_uid, Study.accession_number).where(Study.id.in_(batch))
        for uid, number in session.execute(query):
            uids.add(uid)
            numbers.update(filter(None, [number]))
    return uids, numbers


def _reports_where(session: Session, column: InstrumentedAttribute[Any], values: Iterable[Any]) -> Iterator[Report]:
    """Reports that have a study or may get one, by an indexed column."""
    for batch in batched(values, 500):
        for row in session.scalars(sa.select(Report).where(column.in_(batch))):
            # Asked of the rows: a database may take a condition on the status for the better index.
            if row.status in (MATCHED, UNMATCHED) or (row.status == WITHDRAWN and row.study_id is None):
                yield row


def _candidates(session: Session, rows: Sequence[Report]) -> dict[Report, list[Study]]:
    """The studies that each report names: by study instance UID, else by accession number; only those that have one."""
    by_uid = {row.study_instance_uid for row in rows if row.study_instance_uid}
    by_number = {row.accession_number for row in rows if not row.study_instance_uid and row.accession_number}
    found: dict[tuple[str, str | None], list[Study]] = {}
    for name, column, values in (
        ("uid", Study.study_instance_uid, by_uid),
        ("number", Study.accession_number, by_number),
    ):
        for batch in batched(values, 500):
            query = sa.select(Study).options(joinedload(Study.patient)).where(column.in_(batch)).order_by(Study.id)
            for study in session.scalars(query):
                key = study.study_instance_uid if name == "uid" else study.accession_number
                found.setdefault((name, key), []).append(study)
    named = {
        row: found.get(("uid", row.study_instance_uid) if row.study_instance_uid else ("number", row.accession_number))
        for row in rows
    }
    return {row: studies for row, studies in named.items() if studies}


@dataclass
class _Place:
    """The reports that name one study: the matched one, and those that gave way or were withdrawn."""

    rows: list[Report] = field(default_factory=list)

    @property
    def matched(self) -> Report | None:
        return next((row for row in self.rows if row.status == MATCHED), None)


class _Holding:
    """Which report each study has, while reports are placed."""

    def __init__(self, session: Session, study_ids: Iterable[int]) -> None:
        self._session = session
        self._places: dict[int, _Place] = {}
        self._had: dict[int, str] = {}  # study: hash of the report that it lost
        self._again: set[int] = set()  # rows that may be matched now that another one is gone
        ids = sorted(set(study_ids))
        for start in range(0, len(ids), 1000):
            query = sa.select(Report).where(Report.study_id.in_(ids[start : start + 1000])).order_by(Report.id)
            for row in session.scalars(query):
                assert row.study_id is not None
                self._places.setdefault(row.study_id, _Place()).rows.append(row)

    def release(self, report: Report) -> None:
        """A matched report no longer clearly names its study."""
        assert report.study_id is not None
        self._lose(report)
        place = self._places.get(report.study_id)
        if place and report in place.rows:
            place.rows.remove(report)
        study, report.study_id, report.status = report.study_id, None, UNMATCHED
        self._again.update(reopen_refused(self._session, study))
        if place:
            place.rows = [row for row in place.rows if row.study_id == study]

    def place(self, report: Report, study_id: int) -> None:
        """Bring a report and those that its study has into the order of their versions."""
        place = self._places.setdefault(study_id, _Place())
        if report.status == MATCHED:
            report.reason, report.detail = None, None
            return
        others = [row for row in place.rows if row is not report]
        report.study_id = study_id
        if report not in place.rows:
            place.rows.append(report)
        if report.status == WITHDRAWN:
            self._withdraw_older(report, others)
            return
        for held in others:
            if held.status == WITHDRAWN and _may_be_one(report, held) and _standing(report, held) < Standing.NEWER:
                withdraw(self._session, report, held.source)
                return
        matched = place.matched
        if matched is None:
            self._match(report)
        elif not _may_be_one(report, matched):
            if _is_first_final(report, matched):
                self._replace(matched, report)
            else:
                _refuse_second(report, matched)
        elif (standing := _standing(report, matched)) is Standing.NEWER:
            self._replace(matched, report)
        elif standing is Standing.OLDER:
            _supersede(report, matched)
        else:
            _refuse_second(report, matched)

    def close(self) -> set[int]:
        """Remove the embeddings of reports that their studies no longer have; returns the rows to match again."""
        changed = [study for study, had in self._had.items() if self._text_of(study) != had]
        forget_embeddings(self._session, changed, REPORT)
        return self._again

    def _match(self, report: Report) -> None:
        report.status, report.reason, report.detail = MATCHED, None, None

    def _replace(self, held: Report, report: Report) -> None:
        self._lose(held)
        _supersede(held, report)
        self._session.flush()  # before the other is matched, or two meet in the unique index
        self._match(report)

    def _withdraw_older(self, withdrawal: Report, others: list[Report]) -> None:
        for held in others:
            if held.status == WITHDRAWN:
                continue
            if _may_be_one(withdrawal, held):
                if _standing(withdrawal, held) > Standing.OLDER:
                    if held.status == MATCHED:
                        self._lose(held)
                    withdraw(self._session, held, withdrawal.source)
            elif held.status == REFUSED:  # another report of the study, which may have its turn now
                self._again.add(held.id)
                held.study_id, held.status, held.reason, held.detail = None, UNMATCHED, None, None
        study = withdrawal.study_id
        assert study is not None
        place = self._places[study]
        place.rows = [row for row in place.rows if row.study_id == study]

    def _lose(self, report: Report) -> None:
        assert report.study_id is not None
        self._had.setdefault(report.study_id, report.sha256)

    def _text_of(self, study_id: int) -> str | None:
        place = self._places.get(study_id)
        return place.matched.sha256 if place and place.matched else None


def _may_be_one(one: Report, other: Report) -> bool:
    """Whether two rows may be versions of one report: not where their sender counts them as two."""
    return one.numbering is None or one.numbering != other.numbering


def _standing(arriving: Report, held: Report) -> Standing:
    return compare(Version.of(arriving), Version.of(held))


def _is_first_final(report: Report, held: Report) -> bool:
    return held.stage == PRELIMINARY != report.stage and _standing(report, held) is Standing.NEWER


def _without_study() -> sa.ColumnElement[bool]:
    withdrawn = sa.and_(Report.status == WITHDRAWN, Report.study_id.is_(None))
    return sa.or_(Report.status == UNMATCHED, withdrawn)


def _patient_differs() -> sa.ColumnElement[bool]:
    """In a join of report and patient; NULL, which is no match, for a report that names none."""
    return sa.and_(Patient.key != Report.patient_key, sa.func.coalesce(Patient.id_key, "") != Report.patient_key)


def _accession_differs() -> sa.ColumnElement[bool]:
    """In a join of report and study: the report goes by an accession number that is not this one study's any more."""
    several = (
        sa.select(Study.accession_number)
        .where(Study.accession_number.is_not(None))
        .group_by(Study.accession_number)
        .having(sa.func.count() > 1)
    )
    other = sa.func.coalesce(Study.accession_number, "") != Report.accession_number
    return sa.and_(
        Report.study_instance_uid.is_(None), sa.or_(other, Report.accession_number.in_(several.correlate(None)))
    )


def _possible(catalog: Catalog, report: Report, candidates: list[Study]) -> list[Study]:
    """The studies of the patient whom the report names, if it names one."""
    if report.patient_key is None:
        return candidates
    of_patient = [study for study in candidates if report.patient_key in (study.patient.key, study.patient.id_key)]
    # Images without a Patient ID contradict nobody, and yield to those that have it.
    return of_patient or [s for s in candidates if s.patient.key == nobody_key(catalog, s.study_instance_uid)]


def _why_unmatched(report: Report, possible: int) -> tuple[str, str]:
    if not possible:
        return "conflicting-patient", "The study that the report names is archived under another patient."
    return "ambiguous-accession", f"{possible} studies have accession number {report.accession_number}."


def _supersede(report: Report, newer: Report) -> None:
    report.status, report.reason = REFUSED, "superseded"
    report.detail = f"The study has a newer version of the report from {newer.source}."


def _refuse_second(report: Report, holder: Report) -> None:
    same = report.sha256 == holder.sha256
    report.status, report.reason = REFUSED, "duplicate-report" if same else "conflicting-report"
    report.detail = f"The study has {'the same' if same else 'another'} report from {holder.source}."
