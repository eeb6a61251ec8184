"""Every format of reports, through the same cases."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.reports.readers import read_reports
from index.reports.texts import MAX_TEXT, ReportText
from tests.report_samples import FORMATS, NAME, Sample, bundle, fhir, fhir_resource, hl7, sr

SAMPLE = Sample(study="1.2.3.1")
VERSIONED = [kind for kind in FORMATS if kind != "table"]


def read(folder: Path, kind: str, sample: Sample) -> ReportText:
    name, write = FORMATS[kind]
    path = folder / name
    path.write_bytes(write(sample))
    (report,) = read_reports(path)
    assert report.source.startswith(str(path))
    return report


@pytest.mark.parametrize("kind", FORMATS)
def test_a_report_is_read_with_its_sections_and_whose_it_is(kind: str, tmp_path: Path) -> None:
    report = read(tmp_path, kind, SAMPLE)
    assert report.refusal is None
    assert (report.findings, report.impression) == (SAMPLE.findings, SAMPLE.impression)
    assert (report.study_instance_uid, report.accession_number, report.patient_id) == ("1.2.3.1", "A1", "P1")
    assert report.text.index(SAMPLE.findings) < report.text.index(SAMPLE.impression)
    assert NAME not in str(report) and "JANE" not in str(report)
    assert "P1" not in repr(report)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"findings": "", "impression": ""}, "empty-report"),
        ({"findings": " .\t", "impression": "-"}, "empty-report"),
        ({"findings": "word " * (MAX_TEXT // 5 + 1)}, "too-large"),
    ],
)
def test_a_report_that_cannot_be_used_is_refused_with_its_reason(
    kind: str, changes: dict[str, str], slug: str, tmp_path: Path
) -> None:
    report = read(tmp_path, kind, SAMPLE.but(**changes))
    assert report.refusal is not None and report.refusal.slug == slug
    assert len(report.text) <= MAX_TEXT


@pytest.mark.parametrize("kind", ["table", "hl7", "fhir"])  # DICOM's accession numbers are cut as those of images are
def test_an_accession_number_that_no_study_can_have_is_refused(kind: str, tmp_path: Path) -> None:
    report = read(tmp_path, kind, SAMPLE.but(accession="A" * 65))
    assert report.refusal is not None and report.refusal.slug == "bad-identifier"
    assert len(report.accession_number or "") <= 64


@pytest.mark.parametrize("kind", FORMATS)
def test_a_report_that_names_no_study_is_refused(kind: str, tmp_path: Path) -> None:
    # In HL7 the number of the order counts as accession number.
    sample = SAMPLE.but(study="", accession="", number="" if kind == "hl7" else "F1")
    report = read(tmp_path, kind, sample)
    assert report.refusal is not None and report.refusal.slug == "missing-identifier"


@pytest.mark.parametrize("kind", VERSIONED)
@pytest.mark.parametrize("status", ["preliminary", "final", "corrected"])
def test_a_version_says_how_far_it_is_and_when_it_was_issued(kind: str, status: str, tmp_path: Path) -> None:
    report = read(tmp_path, kind, SAMPLE.but(status=status))
    assert report.stage == status and not report.withdrawn
    assert report.issued_at is not None and report.issued_at.isoformat() == "2024-03-01T12:00:00+00:00"


@pytest.mark.parametrize("kind", ["hl7", "fhir"])
def test_a_withdrawn_report_has_no_text_and_may_go_by_its_number(kind: str, tmp_path: Path) -> None:
    sample = SAMPLE.but(status="withdrawn", study="", accession="")
    report = read(tmp_path, kind, sample)
    assert report.withdrawn and report.refusal is None and report.number == "F100"
    assert (report.text, report.findings, report.impression) == ("", None, None)


@pytest.mark.parametrize("kind", VERSIONED)
def test_a_cut_file_costs_itself(kind: str, tmp_path: Path) -> None:
    name, write = FORMATS[kind]
    whole = write(SAMPLE)
    (tmp_path / "A9.txt").write_text("IMPRESSION: Clear.")
    for part in (0, 3, 20, len(whole) // 2, len(whole) - 3):
        (tmp_path / name).write_bytes(whole[:part])
        reports = list(read_reports(tmp_path))
        assert [report.impression for report in reports if report.source.endswith("A9.txt")] == ["Clear."]
        assert len(reports) == 2 or part == 0


def test_a_folder_is_read_by_content_whatever_the_files_are_called(tmp_path: Path) -> None:
    (tmp_path / "2024" / "03").mkdir(parents=True)
    (tmp_path / "2024" / "03" / "dump.txt").write_bytes(b"\x0b" + hl7(SAMPLE) + b"\x1c\r")
    (tmp_path / "2024" / "object").write_bytes(sr(SAMPLE))
    (tmp_path / "export.json").write_bytes(fhir(SAMPLE))
    (tmp_path / "A1.txt").write_text("IMPRESSION: Pneumonia.")
    (tmp_path / "reports.csv").write_text("accession_number,impression\nA1,Pneumonia.\n")
    (tmp_path / "bulk.ndjson").write_bytes(fhir(SAMPLE) + b"\n" + fhir(SAMPLE) + b"\n")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "letter.docx").write_bytes(b"PK\3\4")
    reports = list(read_reports(tmp_path))
    assert [report.refusal.slug for report in reports if report.refusal] == ["not-a-report"]
    assert [report.impression for report in reports if not report.refusal] == ["Pneumonia."] * 7


def test_a_dicom_object_that_is_no_report_is_refused(tmp_path: Path, shared_data: Path) -> None:
    for path in sorted((shared_data / "dicom").glob("*.dcm")):
        (report,) = read_reports(path)
        assert (report.refusal is None) == (path.name == "SR_basic_text.dcm"), path.name


HOSTILE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with pieces cut out, doubled or overwritten."""
    piece = st.tuples(st.integers(0, len(data)), st.integers(0, 12), st.binary(max_size=6))

    def change(pieces: list[tuple[int, int, bytes]]) -> bytes:
        changed = data
        for start, length, other in pieces:
            changed = changed[:start] + other + changed[start + length :]
        return changed

    return st.lists(piece, min_size=1, max_size=6).map(change)


@pytest.mark.parametrize("kind", VERSIONED)
@HOSTILE
@given(data=st.data())
def test_nothing_that_a_file_holds_is_an_exception(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    name, write = FORMATS[kind]
    (tmp_path / name).write_bytes(data.draw(mutated(write(SAMPLE))))
    for report in read_reports(tmp_path / name):
        assert report.refusal or report.withdrawn or report.text.strip()
        assert "\0" not in report.text
        report.text.encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@HOSTILE
@given(data=st.data())
def test_no_resource_is_an_exception(tmp_path: Path, data: st.DataObject) -> None:
    resource = fhir_resource(SAMPLE)
    field = data.draw(st.sampled_from(sorted([*resource, "contained", "result", "basedOn", "text", "status"])))
    resource[field] = data.draw(JSON)
    path = tmp_path / "report.json"
    path.write_text(
        json.dumps(data.draw(st.sampled_from([resource, bundle(resource), {**bundle(), "entry": resource}])))
    )
    assert len(list(read_reports(path))) == 1
