"""Report readers, and how reports find their studies."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from index import Catalog, IngestSummary, embed_pending, find_study, ingest_folder, parse_sections
from index.reports.readers import read_reports
from index.reports.texts import report_of_row, study_uid_of
from index.tables import Embedding, Instance, Report
from model.errors import InputError
from model.report_sections import last_paragraphs
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder


def test_sections_are_found_by_their_headings() -> None:
    text = "Clinical history: cough.\nCOMPARISON: None.\nFindings:\nClear lungs.\nHeart normal. IMPRESSION: No disease."
    assert parse_sections(text) == {
        "indication": "cough.",
        "comparison": "None.",
        "findings": "Clear lungs.\nHeart normal.",
        "impression": "No disease.",
    }


def test_a_sentence_that_only_mentions_findings_is_no_heading() -> None:
    assert parse_sections("There are some findings: opacity in the base.") == {}


def test_a_heading_that_comes_twice_adds_to_its_section() -> None:
    assert parse_sections("IMPRESSION: One.\nADDENDUM: read again.\nIMPRESSION: Two.") == {"impression": "One.\nTwo."}


@pytest.mark.parametrize(
    ("text", "impression"),
    [
        ("FINDINGS AND IMPRESSION: \n \n Clear.", "Clear."),
        ("Findings and impression: Clear.", "Clear."),
        ("INDICATION: Cough.\nFINDINGS/IMPRESSION: Clear.", "Clear."),
        ("INDICATION: Cough.\n\nIMPRESSION\n\n1. Clear.", "1. Clear."),
        ("IMPRESSION: Clear.\n\nNOTIFICATION:  Discussed with Dr. A at noon.", "Clear."),
        ("IMPRESSION: Clear. RECOMMENDATION(S): Repeat in a year.", "Clear."),
        ("WET READ: Something else.\n         FINAL REPORT\nIMPRESSION: Clear.", "Clear."),
    ],
)
def test_headings_as_hospitals_write_them(text: str, impression: str) -> None:
    assert parse_sections(text).get("impression") == impression and "findings" not in parse_sections(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FINAL REPORT\n\nAs before.\n\nNo change.", "As before.\n\nNo change."),
        ("FINAL REPORT\nINDICATION:  Cough.\n \nCOMPARISON:\n\nNone.\n \nClear.\n \nNOTIFICATION: Dr. A.", "Clear."),
        ("INDICATION: Cough. Clear.", ""),
        ("Clear.", ""),
    ],
)
def test_what_was_seen_where_no_heading_says_it(text: str, said: str) -> None:
    assert last_paragraphs(text) == said


def test_csv_rows_with_a_text_or_with_sections(tmp_path: Path) -> None:
    path = tmp_path / "reports.csv"
    path.write_text(
        "Accession_Number,study_id,text,findings,impression\n"
        'A1,,"IMPRESSION: Clear.",,\n'
        "A2,,,Opacity.,Pneumonia.\n"
        ",s1,Words.,,\n"
        "A3,,,,\n"
        ",,orphan,,\n",
        encoding="utf-8-sig",
    )
    first, second, third, fourth, fifth = read_reports(path)
    assert (first.accession_number, first.impression) == ("A1", "Clear.")
    assert (second.findings, second.impression) == ("Opacity.", "Pneumonia.")
    assert second.text == "FINDINGS: Opacity.\nIMPRESSION: Pneumonia."
    assert third.study_instance_uid == study_uid_of("s1")
    assert fourth.refusal is not None
    assert fourth.refusal.slug == "empty-report"
    assert fifth.refusal is not None
    assert fifth.refusal.slug == "missing-identifier"


def test_a_findings_column_beside_a_text_is_a_label() -> None:
    from index.reports.texts import report_of_row

    report = report_of_row({"study_id": "s", "text": "Opacity in the base.", "findings": "COVID-19"}, "row")
    assert (report.text, report.findings) == ("Opacity in the base.", None)


def test_a_list_where_a_text_belongs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text(json.dumps({"accession_number": "A1", "findings": [{"name": "nodule"}], "views": ["PA"]}))
    (report,) = read_reports(path)
    assert report.refusal is not None and report.refusal.slug == "bad-json"
    assert "findings" in report.refusal.message


def test_json_lines_with_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text(json.dumps({"study_instance_uid": "1.2.3", "impression": "Clear."}) + "\n{broken\n\n[1]\n")
    good, broken, no_object = read_reports(path)
    assert (good.study_instance_uid, good.impression) == ("1.2.3", "Clear.")
    assert broken.refusal is not None
    assert no_object.refusal is not None
    assert {broken.refusal.slug, no_object.refusal.slug} == {"bad-json"}


def test_text_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "A1.txt"
    path.write_bytes("Épanchement pleural.".encode("cp1252"))
    (report,) = read_reports(tmp_path)
    assert (report.accession_number, report.text) == ("A1", "Épanchement pleural.")


def test_a_missing_report_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        list(read_reports(tmp_path / "none.csv"))
    assert caught.value.slug == "no-such-file"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("reports.csv", "accession_number,befund,conclusion\nA1,Words.,More.\n"),
        ("reports.jsonl", '{"accession_number": "A1", "befund": "Words."}\n'),
    ],
)
def test_a_table_without_a_column_for_a_report_is_an_error_that_names_what_it_has(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=r"expected a column text, .* found accession_number, befund") as caught:
        list(read_reports(tmp_path / name))
    assert caught.value.slug == "bad-table"


def ingest(catalog: Catalog, archive: Path, reports: str) -> IngestSummary:
    path = archive.parent / "reports.csv"
    path.write_text(reports)
    return ingest_folder(catalog, archive, path, workers=0)


def rows(catalog: Catalog) -> list[tuple[str, str | None]]:
    with catalog.session() as session:
        return [(row.status, row.reason) for row in session.scalars(sa.select(Report).order_by(Report.id))]


def test_reports_match_by_uid_or_accession_number(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    write_dicom("b.dcm", study="1.2.3.2")
    table = "study_instance_uid,accession_number,text\n1.2.3.1,,One.\n,A2,Two.\n,A9,Nine.\n,A8,\n"
    for _ in range(2):
        summary = ingest(catalog, archive, table)
        assert (summary.reports_matched, summary.reports_unmatched) == (2, 1)
        assert summary.reports_refused == {"empty-report": 1}
        assert len(rows(catalog)) == 4
    assert find_study(catalog, "1.2.3.2").report is not None


def test_an_unmatched_report_is_matched_when_its_study_arrives(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    assert ingest(catalog, archive, "accession_number,text\nA1,One.\n").reports_unmatched == 1
    write_dicom("a.dcm", study="1.2.3.1")
    assert ingest_folder(catalog, archive, workers=0).reports_matched == 1
    report = find_study(catalog, "1.2.3.1").report
    assert report is not None
    assert report.text == "One."


def test_an_accession_number_of_two_studies_matches_neither(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    for study in ("1.2.3.1", "1.2.3.2"):
        write_dicom(f"{study}.dcm", study=study, AccessionNumber="SAME")
    assert ingest(catalog, archive, "accession_number,text\nSAME,One.\n").reports_unmatched == 1
    assert rows(catalog) == [("unmatched", "ambiguous-accession")]


def test_a_second_study_with_the_accession_number_takes_the_report_from_the_first(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    write_dicom("a.dcm", study="1.2.3.1", AccessionNumber="SAME")
    assert ingest(catalog, archive, "accession_number,text\nSAME,One.\n").reports_matched == 1
    assert embed_pending(catalog, encoder).reports == 1
    write_dicom("b.dcm", study="1.2.3.2", AccessionNumber="SAME", PatientID="P2")
    for _ in range(2):
        ingest_folder(catalog, archive, workers=0)
        assert rows(catalog) == [("unmatched", "ambiguous-accession")]
    assert find_study(catalog, "1.2.3.1").report is None
    with catalog.session() as session:
        assert set(session.scalars(sa.select(Embedding.kind))) <= {"image"}


def test_the_patient_decides_between_studies_of_one_accession_number(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    for number, issuer in ((1, None), (2, "HOSPITAL")):
        tags = {"AccessionNumber": "SAME", "PatientID": f"P{number}", "IssuerOfPatientID": issuer}
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", **tags)
    table = "accession_number,patient_id,text\nSAME,P2,Two.\nSAME,P1,One.\nSAME,P3,Three.\n"
    for _ in range(2):
        ingest(catalog, archive, table)
        reports = [find_study(catalog, f"1.2.3.{number}").report for number in (1, 2)]
        assert [report and report.text for report in reports] == ["One.", "Two."]
        assert rows(catalog)[2] == ("unmatched", "conflicting-patient")
    with catalog.session() as session:
        assert "P2" not in str(session.execute(sa.select(Report.patient_key, Report.source, Report.detail)).all())


def test_a_report_of_another_patient_is_not_matched_to_the_study_it_names(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm", study="1.2.3.1", PatientID="P1")
    write_dicom("b.dcm", study="1.2.3.2", PatientID=None)
    table = "study_instance_uid,patient_id,text\n1.2.3.1,{0},One.\n1.2.3.2,{0},Two.\n"
    for patient, first in (("P1", ("matched", None)), ("P9", ("unmatched", "conflicting-patient"))):
        ingest(catalog, archive, table.format(patient))
        assert rows(catalog) == [first, ("matched", None)]


def test_a_second_report_of_a_study_is_refused_with_its_reason(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    table = "study_instance_uid,accession_number,text\n1.2.3.1,,One.\n,A1,One.\n1.2.3.1,,Other.\n"
    for _ in range(2):
        summary = ingest(catalog, archive, table)
        assert summary.reports_matched == 1
        assert summary.reports_refused == {"duplicate-report": 1, "conflicting-report": 1}
        assert len(rows(catalog)) == 3


def test_a_report_with_new_text_replaces_the_old_one(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    ingest(catalog, archive, "accession_number,text\nA1,Old.\n")
    assert ingest(catalog, archive, "accession_number,text\nA1,New.\n").reports_matched == 1
    report = find_study(catalog, "1.2.3.1").report
    assert report is not None
    assert report.text == "New."
    assert len(rows(catalog)) == 1


def test_text_files_named_by_a_study_are_reports_and_others_are_refused(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    (archive / "A1.txt").write_text("IMPRESSION: Clear.")
    (archive / "A2.txt").write_text("IMPRESSION: Opacity.")
    (archive / "1.2.3.7.txt").write_text("A study that is not here yet.")
    (archive / "notes.txt").write_text("shopping list")
    summary = ingest_folder(catalog, archive, workers=0)
    assert (summary.reports_matched, summary.reports_unmatched) == (1, 1)
    assert summary.refused == {"not-a-report": 2}
    write_dicom("b.dcm", study="1.2.3.2")
    summary = ingest_folder(catalog, archive, workers=0)
    assert (summary.reports_matched, summary.reports_unmatched) == (2, 1)
    assert summary.refused == {"not-a-report": 1}
    with catalog.session() as session:
        refused = session.scalars(sa.select(Instance.path).where(Instance.status == "refused")).all()
    assert [Path(path).name for path in refused] == ["notes.txt"]


def test_the_indiana_reports_are_read(shared_data: Path) -> None:
    reports = list(read_reports(shared_data / "reports" / "indiana_reports.jsonl"))
    assert len(reports) > 3000
    assert {report.refusal.slug for report in reports if report.refusal} <= {"missing-identifier", "empty-report"}


def test_open_i_names_a_study_by_a_number() -> None:
    report = report_of_row({"uid": "17", "findings": "Clear lungs."}, "table#1")
    assert report.refusal is None
    assert report.study_instance_uid == study_uid_of("17")
