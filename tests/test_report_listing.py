"""What an operator sees of the reports, and structured reports among a folder's files."""

import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from index import Catalog, embed_pending, find_study, ingest_folder, migrate, open_catalog
from index.intake.ingest import ingest_received
from index.intake.received import ReceivedStore
from index.reports.listing import listed_reports, report_counts
from index.tables import Embedding, Instance, Report
from service.cli import app
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.report_samples import Sample, dicom_bytes, fhir, hl7, sr, structured_report

SAMPLE = Sample(study="1.2.3.1", accession="A1")


def write_reports(folder: Path) -> Path:
    """One that is matched, one that waits, one refused and one withdrawn."""
    folder.mkdir()
    (folder / "a.hl7").write_bytes(hl7(SAMPLE))
    (folder / "b.json").write_bytes(fhir(SAMPLE.but(study="1.2.3.9", accession="A9", number="F9")))
    (folder / "c.hl7").write_bytes(hl7(SAMPLE.but(number="F8", findings="", impression="")))
    (folder / "d.json").write_bytes(fhir(SAMPLE.but(number="F7", study="1.2.3.7", status="withdrawn")))
    return folder


def test_reports_are_counted_and_those_without_a_study_are_listed(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, tmp_path: Path
) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    summary = ingest_folder(catalog, archive, write_reports(tmp_path / "reports"), workers=0)
    assert (summary.reports_matched, summary.reports_unmatched, summary.reports_withdrawn) == (1, 1, 1)
    assert summary.reports_refused == {"empty-report": 1}
    assert report_counts(catalog) == {
        ("matched", ""): 1,
        ("unmatched", "no-study-yet"): 1,
        ("refused", "empty-report"): 1,
        ("withdrawn", ""): 1,
    }
    listed = listed_reports(catalog)
    assert [(row.status, row.reason) for row in listed] == [
        ("refused", "empty-report"),
        ("unmatched", "no-study-yet"),
        ("withdrawn", ""),
    ]
    assert listed[1].detail == "No study of UID 1.2.3.9 and accession number A9 is archived."
    assert listed_reports(catalog, status="refused") == listed_reports(catalog, reason="empty-report") == listed[:1]
    assert listed_reports(catalog, reason="no-study-yet") == listed[1:2]
    assert len(listed_reports(catalog, limit=1)) == 1


def test_the_command_shows_what_waits_and_what_was_refused(
    tmp_path: Path, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "250")
    write_dicom("a.dcm", study="1.2.3.1")
    folder = write_reports(tmp_path / "reports")
    taken = CliRunner().invoke(app, ["ingest", str(archive), "--reports", str(folder)])
    assert taken.exit_code == 0, taken.output
    assert "reports withdrawn by their sender" in taken.output
    shown = CliRunner().invoke(app, ["archive", "reports"]).output
    assert "no-study-yet" in shown and "empty-report" in shown and "withdrawn" in shown
    refused = CliRunner().invoke(app, ["archive", "reports", "--status", "refused"]).output.partition("In all")[0]
    assert "empty-report" in refused and "no-study-yet" not in refused


def report_states(catalog: Catalog) -> tuple[list[str], list[str]]:
    """Of the files and of the reports."""
    with catalog.session() as session:
        files = session.scalars(sa.select(Instance.status).order_by(Instance.path)).all()
        return list(files), list(session.scalars(sa.select(Report.status).order_by(Report.id)))


def test_a_structured_report_among_the_files_is_the_report_of_its_study(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    write_dicom("image.dcm", study="1.2.3.1")
    (archive / "report.dcm").write_bytes(sr(SAMPLE))
    summary = ingest_folder(catalog, archive, workers=0)
    assert (summary.accepted, summary.refused.total(), summary.reports_matched) == (1, 0, 1)
    assert report_states(catalog) == (["accepted", "report"], ["matched"])
    assert embed_pending(catalog, encoder).reports == 1
    again = ingest_folder(catalog, archive, workers=0)
    assert (again.unchanged, again.reports_matched) == (2, 0)
    later = SAMPLE.but(status="corrected", impression="Normal.", issued="20240302080000")
    (archive / "report.dcm").write_bytes(sr(later))
    assert ingest_folder(catalog, archive, workers=0).reports_matched == 1
    report = find_study(catalog, "1.2.3.1").report
    assert report is not None and report.impression == "Normal."
    with catalog.session() as session:
        assert session.scalars(sa.select(Embedding.kind)).all() == ["image"]


def test_a_structured_report_waits_for_its_study(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    (archive / "report.dcm").write_bytes(sr(SAMPLE))
    assert ingest_folder(catalog, archive, workers=0).reports_unmatched == 1
    write_dicom("image.dcm", study="1.2.3.1")
    assert ingest_folder(catalog, archive, workers=0).reports_matched == 1


def test_a_structured_report_that_cannot_be_used_is_listed_and_not_read_again(
    catalog: Catalog, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive / "report.dcm").write_bytes(dicom_bytes(structured_report(SAMPLE.but(findings="", impression=""))))
    assert ingest_folder(catalog, archive, workers=0).reports_refused == {"empty-report": 1}
    assert report_states(catalog) == (["report"], ["refused"])
    assert ingest_folder(catalog, archive, workers=0).unchanged == 1
    assert ingest_folder(catalog, archive, workers=0, retry_refused=True).reports_refused == {"empty-report": 1}


def test_a_report_and_the_row_of_its_file_are_one_transaction(
    catalog: Catalog, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive / "report.dcm").write_bytes(sr(SAMPLE))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("index.intake.ingest.record_reports", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest_folder(catalog, archive, workers=0)
    assert report_states(catalog) == ([], [])
    assert ingest_folder(catalog, archive, workers=0).reports_unmatched == 1


def test_received_structured_reports_are_reports(catalog: Catalog, tmp_path: Path) -> None:
    store = ReceivedStore(tmp_path / "received", min_free_bytes=0)
    for sample in (SAMPLE, SAMPLE.but(status="corrected", impression="Normal.", issued="20240302080000")):
        store.keep(sr(sample))
    summary = ingest_received(catalog, store, workers=0)
    assert (summary.reports_unmatched, store.waiting()) == (1, [])
    assert report_states(catalog) == (["report"] * 2, ["unmatched"])
    with catalog.session() as session:
        assert session.scalars(sa.select(Report.impression)).all() == ["Normal."]


@pytest.mark.skipif(os.fsencode("é") != "é".encode(), reason="the file system's names are not UTF-8")
def test_a_report_whose_file_has_a_name_in_another_encoding(catalog: Catalog, tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.hl7")).write_bytes(hl7(SAMPLE))
    assert ingest_folder(catalog, archive, folder, workers=0).reports_unmatched == 1


def test_migrated_archives_have_no_reports_to_list(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'alta.db'}"
    migrate(url)
    catalog = open_catalog(url)
    assert (report_counts(catalog), listed_reports(catalog)) == ({}, [])
    catalog.close()
