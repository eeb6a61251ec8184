"""Rows of reports to their studies: by study instance UID, else by an accession number that is unique.

Accession numbers are unique to a site at best, so a second study may come with one that was matched already. A report
that names its patient is matched to a study of that patient only.

A study has one report. Of several that name it, the newest version is matched; whatever brought it, they are taken for
versions of one report, unless their sender counts them as two: then the first stands, unless it is preliminary.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from .catalog import Catalog
from .record import nobody_key
from .removal import forget_embeddings
from .report_rows import reopen_refused, withdraw
from .report_versions import PRELIMINARY, Standing, Version, compare
from .tables import MATCHED, REFUSED, REPORT, UNMATCHED, WITHDRAWN, Patient, Report, Study

__all__ = ["match_reports"]


def match_reports(catalog: Catalog, session: Session, only: Collection[int] | None = None) -> list[int]:
    """Give every unmatched report its study, if it has come, and take it from one that it no longer clearly names.

    only: the ids of the rows to look at. Returns the ids of the rows looked at that name a study of the archive.
    """
    candidates: dict[Report, list[Study]] = {}
    for query in (_by_uid(), _by_accession()):
        if only is not None:
            query = query.where(Report.id.in_(only))
        for report, study in session.execute(query.order_by(Report.id)):
            candidates.setdefault(report, []).append(study)
    possible = {report: _possible(catalog, report, found) for report, found in candidates.items()}
    chosen = {report: found[0].id for report, found in possible.items() if len(found) == 1}
    holding = _Holding(session, chosen.values())
    for report in candidates:
        if report.status == MATCHED and report.study_id is not None and chosen.get(report) != report.study_id:
            holding.release(report)
    session.flush()  # before others take their place, or two matched ones meet in the unique index
    for report, found in possible.items():
        if report in chosen:
            holding.place(report, chosen[report])
        elif report.status == UNMATCHED:
            report.reason, report.detail = _why_unmatched(report, len(found))
    session.flush()
    again = holding.close()
    return [report.id for report in candidates] + (match_reports(catalog, session, again) if again else [])


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
                withdraw(report, held.source)
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
                    withdraw(held, withdrawal.source)
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


def _by_uid() -> sa.Select[Report, Study]:
    """Reports without a study, and matched ones whose study now is of another patient than they name."""
    return (
        sa.select(Report, Study)
        .join(Study, Study.study_instance_uid == Report.study_instance_uid)
        .join(Study.patient)
        .options(contains_eager(Study.patient))
        .where(sa.or_(_without_study(), sa.and_(Report.status == MATCHED, _patient_differs())))
    )


def _by_accession() -> sa.Select[Report, Study]:
    """Reports without a study, and matched ones whose accession number is not one study's or whose patient differs."""
    several = (
        sa.select(Study.accession_number)
        .where(Study.accession_number.is_not(None))
        .group_by(Study.accession_number)
        .having(sa.func.count() > 1)
    )
    doubtful = sa.and_(Report.status == MATCHED, sa.or_(_patient_differs(), Report.accession_number.in_(several)))
    return (
        sa.select(Report, Study)
        .join(Study, Study.accession_number == Report.accession_number)
        .join(Study.patient)
        .options(contains_eager(Study.patient))
        .where(Report.study_instance_uid.is_(None), sa.or_(_without_study(), doubtful))
    )


def _without_study() -> sa.ColumnElement[bool]:
    withdrawn = sa.and_(Report.status == WITHDRAWN, Report.study_id.is_(None))
    return sa.or_(Report.status == UNMATCHED, withdrawn)


def _patient_differs() -> sa.ColumnElement[bool]:
    """In a join of report and patient; NULL, which is no match, for a report that names none."""
    return sa.and_(Patient.key != Report.patient_key, sa.func.coalesce(Patient.id_key, "") != Report.patient_key)


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
