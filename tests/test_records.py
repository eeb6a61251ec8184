"""Archived studies as callers see them."""

from typing import Any

import pytest
import sqlalchemy as sa

from index import Catalog, StudyRecord
from index.records import read_records
from index.tables import ACCEPTED, MATCHED, REFUSED, UNMATCHED, Instance, Patient, Report, Study

ODD = ("PA", 'L"L', "A\\B", "A,B", "A\tB", "A\x1fB", "A\x1eB\n", "Läng 胸", "[]", "null")  # as headers have them


@pytest.fixture
def studies(catalog: Catalog) -> Catalog:
    """Study 1: a view each of ``ODD``; 2: views that are only known by group, or not at all; 3: without any."""
    with catalog.write() as session:
        patient = Patient(key="p")
        session.add_all(
            Study(id=number, study_instance_uid=f"1.2.{number}", modality="CR", patient=patient) for number in (1, 2, 3)
        )
        session.flush()
        views = [(1, position, "frontal", ACCEPTED) for position in (*ODD, "PA")]
        views += [(2, None, "lateral", ACCEPTED), (2, "", "frontal", ACCEPTED), (2, None, None, ACCEPTED)]
        views += [(2, "AP", "frontal", REFUSED), (3, "AP", "frontal", REFUSED)]
        for number, (study, position, group, status) in enumerate(views):
            about = {"path_key": f"{number}", "path": f"{number}", "status": status, "study_id": study}
            session.add(Instance(**about, view_position=position, view=group))
        said = {"findings": "Edema.", "impression": "Wet.", "language": "en", "source": "", "sha256": "0"}
        session.add(Report(identity="a", status=MATCHED, study_id=1, text="Edema. Wet.", **said))
        session.add(Report(identity="b", status=UNMATCHED, study_id=2, text="Not of it.", **said))
    return catalog


def read(catalog: Catalog, *ids: int) -> dict[int, StudyRecord]:
    with catalog.session() as session:
        return read_records(session.connection(), ids)


def test_views_are_those_of_the_accepted_files_letter_by_letter(studies: Catalog) -> None:
    found = read(studies, 1, 2, 3)
    assert {study: record.views for study, record in found.items()} == {
        1: tuple(sorted(ODD)),
        2: ("frontal", "lateral", "unknown"),
        3: (),
    }


def test_a_record_has_the_report_that_was_matched_to_it(studies: Catalog) -> None:
    found = read(studies, 1, 2)
    report = found[1].report
    assert report is not None and (report.text, report.findings, report.impression) == ("Edema. Wet.", "Edema.", "Wet.")
    assert (report.indication, report.comparison, report.language) == (None, None, "en")
    assert found[2].report is None


def test_studies_that_are_gone_are_absent(studies: Catalog) -> None:
    assert list(read(studies, 3, 99)) == [3] and read(studies) == {}


def test_records_are_read_with_one_statement_and_a_row_a_study(studies: Catalog) -> None:
    executed: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: object, *_others: object) -> None:
        executed.append((statement, values))

    with studies.session() as session:
        connection = session.connection()
        sa.event.listen(connection, "before_cursor_execute", note)
        read_records(connection, [1, 2, 3])
        ((statement, values),) = executed
        assert len(connection.exec_driver_sql(statement, values).all()) == 3
