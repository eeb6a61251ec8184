"""A report goes to the study that it names, and to no other patient's; what waits costs nothing until it comes."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from index import Catalog, ReceivedStore
from index.intake.ingest import ingest_received
from index.reports.sent import take_reports
from index.reports.texts import ReportText
from index.tables import Report, Study
from tests.conftest import chest_dataset


@pytest.fixture
def store(tmp_path: Path) -> ReceivedStore:
    return ReceivedStore(tmp_path / "received", min_free_bytes=0)


@pytest.fixture
def loaded() -> Iterator[list[int]]:
    """The row ids of the reports that were read."""
    ids: list[int] = []

    def note(report: Report, _: object) -> None:
        ids.append(report.id)

    sa.event.listen(Report, "load", note)
    yield ids
    sa.event.remove(Report, "load", note)


def send(catalog: Catalog, store: ReceivedStore, study: str, **tags: object) -> None:
    buffer = io.BytesIO()
    chest_dataset(study=study, **tags).save_as(buffer, enforce_file_format=True)
    store.keep(buffer.getvalue())
    ingest_received(catalog, store, workers=0)


def found(catalog: Catalog) -> dict[str, str | None]:
    """By the text of each report the study that has it."""
    query = sa.select(Report.text, Study.study_instance_uid).outerjoin(Study)
    query = query.where(sa.or_(Report.status == "matched", Report.study_id.is_(None)))
    with catalog.session() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def test_a_report_follows_its_accession_number_to_another_study(catalog: Catalog, store: ReceivedStore) -> None:
    send(catalog, store, "1.2.3.1", AccessionNumber="A1")
    take_reports(catalog, [ReportText("r", "Clear.", accession_number="A1", patient_id="P1")])
    assert found(catalog) == {"Clear.": "1.2.3.1"}
    send(catalog, store, "1.2.3.1", AccessionNumber="A9")  # a corrected number
    assert found(catalog) == {"Clear.": None}
    send(catalog, store, "1.2.3.2", AccessionNumber="A1")
    assert found(catalog) == {"Clear.": "1.2.3.2"}


def test_an_accession_number_that_only_one_study_keeps_is_clear_again(catalog: Catalog, store: ReceivedStore) -> None:
    take_reports(catalog, [ReportText("r", "Clear.", accession_number="A1", patient_id="P1")])
    for study in ("1.2.3.1", "1.2.3.2"):
        send(catalog, store, study, AccessionNumber="A1")
    assert found(catalog) == {"Clear.": None}
    send(catalog, store, "1.2.3.2", AccessionNumber="A2")
    assert found(catalog) == {"Clear.": "1.2.3.1"}


def test_what_waits_or_has_its_study_is_not_read_when_something_else_comes(
    catalog: Catalog, store: ReceivedStore, loaded: list[int]
) -> None:
    waiting = [ReportText(f"w{n}", f"Waits {n}.", accession_number=f"W{n}", patient_id="P9") for n in range(50)]
    take_reports(catalog, waiting)
    send(catalog, store, "1.2.3.1", AccessionNumber="A1")
    loaded.clear()
    take_reports(catalog, [ReportText("r", "Clear.", accession_number="A1", patient_id="P1")])
    send(catalog, store, "1.2.3.2", AccessionNumber="A2")
    assert len(set(loaded)) == 1
    send(catalog, store, "1.2.3.9", AccessionNumber="W7", PatientID="P9")
    assert found(catalog)["Waits 7."] == "1.2.3.9"


def test_a_report_of_another_patient_leaves_the_right_one_where_it_is(catalog: Catalog, store: ReceivedStore) -> None:
    send(catalog, store, "1.2.3.1", PatientID="P1")
    for patient, text in (("P1", "Right."), ("P2", "Wrong.")):
        report = ReportText("r", text, study_instance_uid="1.2.3.1", patient_id=patient, stage="final")
        (outcome,) = take_reports(catalog, [report])
    assert outcome.reason == "conflicting-patient"
    assert found(catalog) == {"Right.": "1.2.3.1", "Wrong.": None}
