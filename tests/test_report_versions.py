"""Which version of a report is in force, however the versions come and through whatever door."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, find_study
from index.reports.matching import match_all_reports
from index.reports.readers import read_fhir, read_hl7, report_of_dataset
from index.reports.sent import ReportOutcome, take_reports
from index.reports.texts import ReportText
from index.reports.versions import Standing, Version, compare
from index.tables import Embedding, EmbeddingRemoval, Patient, Report, Study
from tests.report_samples import Sample, fhir, hl7, structured_report

MORNING, NOON, EVENING = "20240301080000", "20240301120000", "20240301180000"

PRELIMINARY = Sample(status="preliminary", issued=MORNING, findings="Early.", impression="Unclear.")
FINAL = Sample(status="final", issued=NOON, findings="Opacity.", impression="Pneumonia.")
CORRECTED = Sample(status="corrected", issued=EVENING, findings="Clear.", impression="Normal.")
WITHDRAWN = Sample(status="withdrawn", issued=EVENING)


def by_hl7(sample: Sample) -> ReportText:
    (report,) = read_hl7(hl7(sample), f"hl7 {sample.status}")
    return report


def by_fhir(sample: Sample) -> ReportText:
    (report,) = read_fhir(fhir(sample), f"fhir {sample.status}")
    return report


def by_sr(sample: Sample) -> ReportText:
    return report_of_dataset(structured_report(sample), f"sr {sample.status}")


def by_table(sample: Sample) -> ReportText:
    text = f"FINDINGS: {sample.findings}\nIMPRESSION: {sample.impression}"
    sections = {"findings": sample.findings, "impression": sample.impression}
    return ReportText("table", text, None, sample.accession, sample.patient, **sections)


@dataclass
class Archive:
    """One study, 1.2.3.1 of patient P1 with accession number A1, and its embeddings."""

    catalog: Catalog

    def add_study(self, uid: str = "1.2.3.1", accession: str = "A1", patient: str = "P1") -> None:
        with self.catalog.write() as session:
            key = self.catalog.patient_key(patient)
            held = session.scalar(sa.select(Patient).where(Patient.key == key)) or Patient(key=key)
            session.add(Study(study_instance_uid=uid, accession_number=accession, modality="CR", patient=held))

    def take(self, *reports: ReportText) -> list[ReportOutcome]:
        """One after the other, as they are sent."""
        return [take_reports(self.catalog, [report])[0] for report in reports]

    def embed(self, uid: str = "1.2.3.1") -> None:
        """As ``alta embed`` does for the report of a study."""
        with self.catalog.write() as session:
            report = session.scalars(sa.select(Report).join(Study).where(Report.status == "matched")).one()
            vector = np.ones(4, dtype="<f4").tobytes()
            about = {"kind": "report", "model_fingerprint": "f", "source_hash": report.sha256}
            session.add(Embedding(study_id=report.study_id, vector=vector, **about))

    def embeddings(self) -> tuple[int, int]:
        """How many there are, and how many were removed."""
        with self.catalog.session() as session:
            count = session.scalar(sa.select(sa.func.count()).select_from(Embedding)) or 0
            removed = session.scalar(sa.select(sa.func.count()).select_from(EmbeddingRemoval)) or 0
        return count, removed

    def impression(self, uid: str = "1.2.3.1") -> str | None:
        """Of the one report that the study shows."""
        report = find_study(self.catalog, uid).report
        return report.impression if report else None

    def rows(self) -> list[tuple[str, str | None, str]]:
        with self.catalog.session() as session:
            found = session.scalars(sa.select(Report).order_by(Report.id))
            return [(row.status, row.reason, row.text) for row in found]


@pytest.fixture
def archive(catalog: Catalog) -> Archive:
    """With its study in it."""
    made = Archive(catalog)
    made.add_study()
    return made


Door = Callable[[Sample], ReportText]
DOORS: dict[str, Door] = {"hl7": by_hl7, "fhir": by_fhir, "sr": by_sr}


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ((PRELIMINARY,), "Unclear."),
        ((PRELIMINARY, FINAL), "Pneumonia."),
        ((PRELIMINARY, FINAL, CORRECTED), "Normal."),
        ((FINAL, PRELIMINARY), "Pneumonia."),
        ((CORRECTED, FINAL, PRELIMINARY), "Normal."),
        ((FINAL, WITHDRAWN), None),
        ((WITHDRAWN, FINAL), None),
        ((FINAL, WITHDRAWN, FINAL), None),
        ((FINAL, WITHDRAWN, FINAL.but(issued="20240302080000")), "Pneumonia."),
        ((FINAL, WITHDRAWN.but(issued=MORNING)), "Pneumonia."),
        # Of one time, the version that had come further.
        ((FINAL, PRELIMINARY.but(issued=NOON)), "Pneumonia."),
        ((CORRECTED.but(issued=NOON), FINAL), "Normal."),
        ((FINAL, WITHDRAWN.but(issued=NOON), FINAL), None),
        # A report may be reopened.
        ((FINAL, PRELIMINARY.but(issued=EVENING)), "Unclear."),
        # Without times the later arrival, but no preliminary one after a final one.
        ((FINAL.but(issued=""), CORRECTED.but(issued="")), "Normal."),
        ((CORRECTED.but(issued=""), FINAL.but(issued="")), "Pneumonia."),
        ((FINAL.but(issued=""), PRELIMINARY.but(issued="")), "Pneumonia."),
        ((FINAL.but(issued=""), WITHDRAWN.but(issued="")), None),
        ((WITHDRAWN.but(issued=""), FINAL.but(issued="")), "Pneumonia."),
    ],
)
@pytest.mark.parametrize("door", ["hl7", "fhir"])
def test_the_newest_version_of_a_report_is_its_text(
    archive: Archive, door: str, versions: tuple[Sample, ...], expected: str | None
) -> None:
    archive.take(*(DOORS[door](version) for version in versions))
    assert archive.impression() == expected
    assert len(archive.rows()) == 1
    again = archive.take(DOORS[door](versions[-1]))
    assert archive.impression() == expected and len(again) == 1


@pytest.mark.parametrize("order", list(itertools.permutations((PRELIMINARY, FINAL, CORRECTED))))
def test_the_order_of_arrival_does_not_matter_where_there_are_times(
    archive: Archive, order: tuple[Sample, ...]
) -> None:
    for sample, door in zip(order, (by_hl7, by_fhir, by_sr), strict=True):
        archive.take(door(sample.but(study="1.2.3.1")))
    assert archive.impression() == "Normal."
    assert [status for status, _, _ in archive.rows()].count("matched") == 1


@pytest.mark.parametrize("first", DOORS)
@pytest.mark.parametrize("second", DOORS)
@pytest.mark.parametrize("study_first", [True, False])
def test_a_correction_through_another_door_ends_with_one_report(
    catalog: Catalog, first: str, second: str, study_first: bool
) -> None:
    archive = Archive(catalog)
    if study_first:
        archive.add_study()
    # HL7 names the study by accession number and patient, the others by its UID.
    versions = (PRELIMINARY, FINAL)
    for door, version in zip((first, second), versions, strict=True):
        archive.take(DOORS[door](version if door == "hl7" else version.but(study="1.2.3.1")))
    if not study_first:
        archive.add_study()
        with catalog.write() as session:
            match_all_reports(catalog, session)
    assert archive.impression() == "Pneumonia."
    assert [status for status, _, _ in archive.rows()].count("matched") == 1


@pytest.mark.parametrize("door", ["hl7", "fhir"])
@pytest.mark.parametrize("study_first", [True, False])
def test_a_withdrawal_through_another_door_reaches_the_report(catalog: Catalog, door: str, study_first: bool) -> None:
    archive = Archive(catalog)
    if study_first:
        archive.add_study()
    archive.take(by_sr(FINAL.but(study="1.2.3.1")), DOORS[door](WITHDRAWN))
    if not study_first:
        archive.add_study()
        with catalog.write() as session:
            match_all_reports(catalog, session)
    assert archive.impression() is None
    assert [(status, text) for status, _, text in archive.rows()] == [("withdrawn", "")] * 2
    assert archive.take(by_sr(FINAL.but(study="1.2.3.1")))[0].status == "outdated"
    assert archive.impression() is None


@pytest.mark.parametrize("second", ["sr", "hl7"])
def test_an_older_version_that_comes_late_through_another_door_stays_out(archive: Archive, second: str) -> None:
    old = FINAL.but(study="1.2.3.1") if second == "sr" else FINAL
    outcomes = archive.take(by_fhir(WITHDRAWN), DOORS[second](old))
    assert [outcome.status for outcome in outcomes] == ["withdrawn", "outdated"]
    assert archive.impression() is None
    assert [(status, text) for status, _, text in archive.rows()] == [("withdrawn", "")] * 2
    later = old.but(issued="20240302080000", impression="Written anew.")
    assert archive.take(DOORS[second](later))[0].status == "matched"
    assert archive.impression() == "Written anew."


def test_a_withdrawn_report_keeps_nothing_of_its_text(archive: Archive) -> None:
    archive.take(by_hl7(FINAL))
    archive.embed()
    assert archive.take(by_hl7(WITHDRAWN))[0].status == "withdrawn"
    with archive.catalog.session() as session:
        row = session.scalars(sa.select(Report)).one()
    assert (row.text, row.findings, row.impression, row.indication, row.comparison) == ("", None, None, None, None)
    assert row.issued_at == datetime(2024, 3, 1, 18, tzinfo=UTC)
    assert archive.embeddings() == (0, 1)


@pytest.mark.parametrize(("version", "removed"), [(CORRECTED, 1), (FINAL, 0), (PRELIMINARY, 0)])
def test_the_embedding_of_a_replaced_text_is_removed_at_once(archive: Archive, version: Sample, removed: int) -> None:
    archive.take(by_hl7(FINAL))
    archive.embed()
    archive.take(by_hl7(version))
    assert archive.embeddings() == (1 - removed, removed)


@pytest.mark.parametrize(("correction", "removed"), [(CORRECTED, 1), (FINAL.but(issued=EVENING), 0)])
def test_the_embedding_of_a_text_replaced_through_another_door(
    archive: Archive, correction: Sample, removed: int
) -> None:
    """The same text through another door has the same embedding."""
    same = by_sr(FINAL.but(study="1.2.3.1"))
    archive.take(same)
    archive.embed()
    archive.take(by_fhir(correction))
    text_is_the_same = removed == 0
    assert (archive.rows()[0][2] == archive.rows()[1][2]) == text_is_the_same
    assert archive.embeddings() == (1 - removed, removed)


def test_a_correction_of_the_study_moves_the_report(archive: Archive) -> None:
    archive.add_study("1.2.3.2", "A2", "P2")
    archive.take(by_table(FINAL), by_fhir(FINAL.but(issued=EVENING, impression="Of another.")))
    assert archive.impression() == "Of another."
    archive.embed()
    archive.take(by_fhir(CORRECTED.but(issued="20240302080000", accession="A2", patient="P2")))
    assert archive.impression("1.2.3.2") == "Normal."
    # The report that had given way is the study's again.
    assert archive.impression() == "Pneumonia."
    assert archive.embeddings() == (0, 1)


def test_two_reports_that_their_sender_counts_as_two(archive: Archive) -> None:
    chest, ribs = FINAL, FINAL.but(number="F200", impression="No fracture.", issued=EVENING)
    assert [outcome.status for outcome in archive.take(by_hl7(chest), by_hl7(ribs))] == ["matched", "refused"]
    assert archive.rows()[1][1] == "conflicting-report"
    # The cancelled order leaves the other's report alone; the other's cancellation gives this one its turn.
    archive.take(by_hl7(WITHDRAWN.but(number="F300")))
    assert archive.impression() == "Pneumonia."
    archive.take(by_hl7(WITHDRAWN.but(number=chest.number)))
    assert archive.impression() == "No fracture."


def test_a_final_report_takes_the_place_of_a_preliminary_one_under_another_number(archive: Archive) -> None:
    archive.take(by_hl7(PRELIMINARY), by_hl7(FINAL.but(number="F200")))
    assert archive.impression() == "Pneumonia."
    archive.take(by_hl7(PRELIMINARY))
    assert archive.impression() == "Pneumonia."


def test_a_table_that_is_read_again_changes_nothing_that_a_sender_has_dated(archive: Archive) -> None:
    table = by_table(FINAL.but(impression="From the table."))
    archive.take(table)
    assert archive.impression() == "From the table."
    archive.take(by_fhir(FINAL))
    for _ in range(2):
        archive.take(table)
        assert archive.impression() == "Pneumonia."
    archive.take(by_fhir(WITHDRAWN), table)
    assert archive.impression() is None
    assert {text for _, _, text in archive.rows()} == {""}
    archive.take(by_table(FINAL.but(impression="A new text.")))
    assert archive.impression() is None


def test_a_version_that_cannot_be_used_leaves_the_one_before(archive: Archive) -> None:
    archive.take(by_hl7(FINAL))
    outcome = archive.take(by_hl7(CORRECTED.but(findings="", impression="")))[0]
    assert (outcome.status, outcome.reason) == ("refused", "empty-report")
    assert archive.impression() == "Pneumonia."
    assert [status for status, _, _ in archive.rows()] == ["matched", "refused"]


def test_a_withdrawal_of_another_patient_s_report_is_not_applied(archive: Archive) -> None:
    archive.take(by_sr(FINAL.but(study="1.2.3.1")), by_fhir(WITHDRAWN.but(patient="P9")))
    assert archive.impression() == "Pneumonia."


def test_the_whole_feed_read_again_changes_nothing(archive: Archive) -> None:
    feed = [by_hl7(PRELIMINARY), by_hl7(FINAL), by_fhir(CORRECTED), by_hl7(FINAL.but(number="F2")), by_table(FINAL)]
    archive.take(*feed)
    archive.embed()
    first = archive.rows()
    for _ in range(2):
        archive.take(*feed)
        assert archive.rows() == first
    assert archive.embeddings() == (1, 0)


def test_a_feed_without_times_read_again_does_not_bring_back_what_gave_way(archive: Archive) -> None:
    feed = [by_hl7(FINAL.but(issued="")), by_fhir(CORRECTED.but(issued=""))]
    archive.take(*feed)
    archive.embed()
    archive.take(*feed)
    assert archive.impression() == "Normal."
    assert archive.embeddings() == (1, 0)


def test_what_became_of_each_report_is_told(archive: Archive) -> None:
    reports = [
        by_hl7(FINAL),
        by_hl7(FINAL.but(number="F9", accession="A9")),
        by_hl7(FINAL.but(patient="P9", number="F8")),
    ]
    told = [(each.status, each.reason, each.study_instance_uid) for each in take_reports(archive.catalog, reports)]
    assert told == [
        ("matched", None, "1.2.3.1"),
        ("unmatched", None, None),
        ("unmatched", "conflicting-patient", None),
    ]
    assert archive.take(by_hl7(PRELIMINARY))[0].status == "outdated"


def test_nothing_is_kept_of_reports_that_fail_together(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("index.reports.sent.match_reports", broken)
    with pytest.raises(OSError, match="full"):
        archive.take(by_hl7(FINAL))
    assert archive.rows() == []


@pytest.mark.parametrize("stage", ["preliminary", "final", "corrected", None])
@pytest.mark.parametrize("hour", [None, 8, 12])
@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_version_is_as_new_as_itself_and_of_two_dated_ones_one_is_older(
    stage: str | None, hour: int | None, withdrawn: bool
) -> None:
    def at(hour: int | None) -> datetime | None:
        return None if hour is None else datetime(2024, 3, 1, hour, tzinfo=UTC)

    version = Version(stage, at(hour), withdrawn)
    assert compare(version, version) is Standing.EQUAL
    for other in (Version("final", at(10), False), Version("corrected", at(12), False), Version("final", at(10), True)):
        if hour is not None:
            assert compare(version, other) == -compare(other, version)
