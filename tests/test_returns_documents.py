"""What goes back for a study, read again: the structured report, the FHIR report, the webhook."""

import io
import json
import shutil
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import highdicom as hd
import pydicom
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from pydicom.dataset import Dataset

from index import Catalog
from index.records import StudyRecord
from index.reports.readers import report_of_dataset, reports_of_resource
from model.errors import ArchiveError, UnknownStudy
from model.prompts import PROMPT_SETS
from service.returns import codes
from service.returns.diagnostic_report import diagnostic_report
from service.returns.material import Material, Similar
from service.returns.message import webhook_message
from service.returns.structured_report import structured_report, written
from service.schemas import PairScore, ZeroShotFindings
from tests.conftest import chest_dataset
from tests.returning import Returning, named, returning, sr_route

STUDY = "1.2.3.1"
WHEN = datetime(2026, 3, 1, 10, 11, 12, tzinfo=UTC)


def material(*headers: Dataset, prior: tuple[Dataset, ...] = (), fingerprint: str = "f" * 64) -> Material:
    """Of a study with these images; every other finding is calibrated."""
    findings = [
        PairScore(
            name=name,
            prompts="built-in",
            positive_cosine=0.1,
            negative_cosine=0.2,
            score=0.512345678,
            probability=0.25 if number % 2 else None,
            decision="absent" if number % 2 else None,
        )
        for number, name in enumerate(PROMPT_SETS)
    ]
    return Material(
        study=StudyRecord(STUDY, "A1", date(2024, 3, 1), "CR", ("PA",), "F", 61.0, None, None, "k" * 64),
        route="pacs",
        source_hash="s" * 64,
        fingerprint=fingerprint,
        headers=list(headers) or [chest_dataset(**named())],
        prior_headers=list(prior),
        findings=ZeroShotFindings(score_kind="softmax", probabilities="fitted", findings=findings),
        similar=[Similar("1.2.7.1", 1, 2.5, 99.9), Similar("1.2.7.2", 2, 1.25, None)],
        made_at=WHEN,
        software="0.1.0",
    )


def read_again(document: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(written(document)))


def complaints(file: Path) -> list[str]:
    """Errors that dciodvfy finds; warnings are of our private codes, and of values that came with the images."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is absent (Debian package dicom3tools)")
    found = subprocess.run([program, str(file)], capture_output=True, check=False, timeout=60)
    return [line for line in found.stderr.decode("utf-8", "replace").splitlines() if line.startswith("Error")]


def test_the_report_is_in_the_study_and_of_the_patient_of_its_images() -> None:
    image = chest_dataset(**named(AccessionNumber="A1", TimezoneOffsetFromUTC="+0900"))
    document = read_again(structured_report(material(image)))
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"):
        assert document[keyword].value == image[keyword].value
    assert (document.AccessionNumber, document.StudyDate, document.StudyTime) == ("A1", "20240301", "101112")
    assert document.SeriesInstanceUID != image.SeriesInstanceUID and document.Modality == "SR"
    assert (document.VerificationFlag, document.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert document.CompletionFlag == "COMPLETE"
    times = (document.ContentDate, document.ContentTime, document.TimezoneOffsetFromUTC)
    assert times == ("20260301", "191112", "+0900")  # as the study's times, which are the image's
    assert document.SOPClassUID == pydicom.uid.EnhancedSRStorage


def test_the_findings_are_measurement_groups_with_codes_and_source_images() -> None:
    image, prior = chest_dataset(**named()), chest_dataset(study="1.2.3.0", seed=3, **named())
    report = hd.sr.EnhancedSR.from_dataset(read_again(structured_report(material(image, prior=(prior,)))))
    groups = report.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == list(PROMPT_SETS)
    by_name = {group.tracking_identifier: group for group in groups}
    found = by_name["Pneumothorax"]
    assert found.finding_type == codes.FINDINGS["Pneumothorax"]
    measured = {one.name.meaning: one.value for one in found.get_measurements()}
    assert measured[codes.SCORE.meaning] == 0.512346
    assert {image.referenced_sop_instance_uid for image in found.source_images} == {
        image.SOPInstanceUID,
        prior.SOPInstanceUID,
    }
    calibrated = by_name["Enlarged Cardiomediastinum"]
    assert calibrated.get_measurements(name=codes.PROBABILITY)[0].value == 0.25
    assert calibrated.get_qualitative_evaluations(name=codes.DECISION)[0].value == codes.DECISIONS["absent"]
    assert not by_name["No Finding"].get_measurements(name=codes.PROBABILITY)


def test_evidence_has_the_images_of_the_patient_and_nothing_of_others() -> None:
    image, prior = chest_dataset(**named()), chest_dataset(study="1.2.3.0", seed=3, **named())
    document = read_again(structured_report(material(image, prior=(prior,))))
    (current,) = document.CurrentRequestedProcedureEvidenceSequence
    assert current.StudyInstanceUID == STUDY
    (other,) = document.PertinentOtherEvidenceSequence
    assert other.StudyInstanceUID == "1.2.3.0"


def test_similar_studies_are_named_by_uid_rank_similarity_and_percentile() -> None:
    document = read_again(structured_report(material()))
    (similar,) = (
        item for item in document.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == codes.SIMILAR.value
    )
    first, second = similar.ContentSequence
    values = {item.ConceptNameCodeSequence[0].CodeValue: item for item in first.ContentSequence}
    assert values[codes.STUDY_UID.value].UID == "1.2.7.1"
    numbers = [values[code.value].MeasuredValueSequence[0].NumericValue for code in (codes.RANK, codes.PERCENTILE)]
    assert numbers == [1, 99.9]
    assert len(second.ContentSequence) == 3  # a percentile that was not measured is absent
    comment = document.ContentSequence[-1]
    assert "not for diagnosis" in comment.TextValue and "softmax" in comment.TextValue


@pytest.mark.parametrize(
    ("name", "characters"),
    [
        ("Secret^Patient", None),
        ("Müller^Jörg", "ISO_IR 100"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        ("Wang^XiaoDong=王^小东", "GB18030"),
        ("Ивановъ^Иванъ", "ISO_IR 192"),
    ],
)
def test_names_come_back_as_they_were_written(name: str, characters: object) -> None:
    image = chest_dataset(**named(SpecificCharacterSet=characters))
    image.PatientName = name
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    header = pydicom.dcmread(io.BytesIO(buffer.getvalue()), stop_before_pixels=True)
    document = read_again(structured_report(material(header)))
    assert str(document.PatientName) == name


def test_headers_that_lack_or_break_what_the_standard_wants_are_reported_on_all_the_same(tmp_path: Path) -> None:
    bare = chest_dataset(PatientSex="X", AccessionNumber=None, StudyDate=None)
    document = structured_report(material(bare))
    assert (document.PatientSex, document.AccessionNumber, document.StudyDate) == ("", "", "")
    odd = structured_report(material(chest_dataset(TimezoneOffsetFromUTC="JST")))
    assert "TimezoneOffsetFromUTC" not in odd


def test_what_is_made_again_has_the_same_identity_and_other_states_have_others() -> None:
    one, again = structured_report(material()), structured_report(material())
    assert one.SOPInstanceUID == again.SOPInstanceUID and written(one) == written(again)
    other = structured_report(material(fingerprint="e" * 64))
    assert other.SOPInstanceUID != one.SOPInstanceUID and other.SeriesInstanceUID == one.SeriesInstanceUID


def test_a_validator_of_dicom_objects_finds_no_error(tmp_path: Path) -> None:
    image, prior = chest_dataset(**named()), chest_dataset(study="1.2.3.0", seed=3, **named())
    file = tmp_path / "sr.dcm"
    file.write_bytes(written(structured_report(material(image, prior=(prior,)))))
    assert complaints(file) == []


def test_the_fhir_report_is_valid_and_names_study_patient_and_order() -> None:
    image = chest_dataset(**named(IssuerOfPatientID="NORTH", AccessionNumber="A1"))
    found = diagnostic_report(material(image))
    report = DiagnosticReport.model_validate(found)
    assert (report.status, len(report.result)) == ("preliminary", len(PROMPT_SETS) + 2)
    assert found["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}
    assert found["subject"]["identifier"]["value"] == "P1"
    assert found["subject"]["identifier"]["assigner"] == {"display": "NORTH"}
    assert found["basedOn"][0]["identifier"]["value"] == "A1"
    assert len(found["id"]) <= 64
    similar = [one for one in found["contained"] if one["id"].startswith("similar-")]
    assert [one["focus"][0]["identifier"]["value"] for one in similar] == ["urn:oid:1.2.7.1", "urn:oid:1.2.7.2"]
    assert found == diagnostic_report(material(image))
    assert "Secret" not in json.dumps(found)


def test_our_own_results_are_recognised_when_they_come_back() -> None:
    resource = reports_of_resource(diagnostic_report(material()), "x")
    assert [report.refusal.slug if report.refusal else None for report in resource] == ["own-result"]
    assert report_of_dataset(structured_report(material()), "x").refusal is None  # the door refuses it before that


@pytest.fixture
def archive_of(sqlite_catalog: Catalog, tmp_path: Path) -> Returning:
    return returning(sqlite_catalog, tmp_path / "data")


def test_material_is_of_the_study_and_finds_others_than_its_patients_own(archive_of: Returning) -> None:
    prior = chest_dataset(study="1.2.3.0", seed=1, **named(StudyDate="20230101"))
    other = chest_dataset(study="1.2.3.9", seed=1, **named(StudyDate="20230601"))
    archive_of.arrive(chest_dataset(study=STUDY, seed=1, **named()), prior, other)
    archive_of.embed()
    found = archive_of.desk.material(STUDY, "pacs", 5, WHEN)
    assert {one.study_instance_uid for one in found.similar} == {f"1.2.7.{number}" for number in range(5)}
    assert [one.rank for one in found.similar] == [1, 2, 3, 4, 5]
    assert [header.StudyInstanceUID for header in found.headers] == [STUDY]
    assert [header.StudyInstanceUID for header in found.prior_headers] == ["1.2.3.9"]
    assert len(found.findings.findings) == len(PROMPT_SETS)
    assert archive_of.desk.material(STUDY, "pacs", 0, WHEN).similar == []


def test_material_that_cannot_be_had_says_why(archive_of: Returning) -> None:
    with pytest.raises(UnknownStudy):
        archive_of.desk.material("1.2.3.77", "pacs", 5, WHEN)
    archive_of.arrive(chest_dataset(study=STUDY, **named()))
    with pytest.raises(ArchiveError) as caught:
        archive_of.desk.material(STUDY, "pacs", 5, WHEN)
    assert caught.value.slug == "not-embedded"
    archive_of.embed()
    for file in archive_of.store.folder.rglob("*.dcm"):
        file.unlink()
    with pytest.raises(ArchiveError) as caught:
        archive_of.desk.material(STUDY, "pacs", 5, WHEN)
    assert caught.value.slug == "source-missing"


def test_a_webhook_tells_what_its_route_names_and_nothing_else(archive_of: Returning) -> None:
    archive_of.arrive(chest_dataset(study=STUDY, **named()))
    told = {"kind": "webhook", "to": "https://ris.example/alta"}
    link = sr_route(**told, link="https://alta.example/#study={study_instance_uid}")  # type: ignore[arg-type]
    data = json.loads(webhook_message(archive_of.catalog, link, STUDY, "s", WHEN)[0])["data"]
    assert data == {"route": "pacs", "link": f"https://alta.example/#study={STUDY}"}
    number = sr_route(**told, tells=["accession_number"])  # type: ignore[arg-type]
    text, first = webhook_message(archive_of.catalog, number, STUDY, "s", WHEN)
    assert json.loads(text)["data"] == {"route": "pacs", "accession_number": "A1"} and STUDY not in text + first
    assert webhook_message(archive_of.catalog, number, STUDY, "s", WHEN)[1] == first
    assert webhook_message(archive_of.catalog, number, STUDY, "t", WHEN)[1] != first
