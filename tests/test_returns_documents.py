"""What goes back for a study, read again: the structured report, the FHIR report, the webhook."""

import io
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from pydicom.dataset import Dataset

from index import Catalog
from index.records import StudyRecord
from index.reports.readers import report_of_dataset, reports_of_resource
from model.errors import ArchiveError, InputError, UnknownStudy
from model.prompts import PROMPT_SETS
from service.returns import codes
from service.returns.diagnostic_report import diagnostic_report
from service.returns.material import Desk, Material, Result, Similar
from service.returns.message import webhook_message
from service.returns.structured_report import structured_report, written
from service.schemas import PairScore, ZeroShotFindings
from tests.conftest import chest_dataset
from tests.returning import Returning, named, returning, sr_route

STUDY = "1.2.3.1"
WHEN = datetime(2026, 3, 1, 10, 11, 12, tzinfo=UTC)


def material(*headers: Dataset, prior: tuple[Dataset, ...] = (), **changed: Any) -> Material:
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
    result = {
        "software": "0.1.0",
        "fingerprint": "f" * 64,
        "generation": 1,
        "asked": 2,
        "findings": ZeroShotFindings(score_kind="softmax", probabilities="fitted", findings=findings),
        "similar": [Similar("1.2.7.1", 1, 2.5, 99.9), Similar("1.2.7.2", 2, 1.25, None)],
    }
    of_result = {name: changed.pop(name) for name in list(changed) if name in Result.model_fields}
    found = Material(
        study=StudyRecord(STUDY, "A1", date(2024, 3, 1), "CR", ("PA",), "F", 61.0, None, None, "k" * 64),
        route="pacs",
        source_hash="s" * 64,
        headers=list(headers) or [chest_dataset(**named())],
        prior_headers=list(prior),
        result=Result.model_validate(result | of_result),
        made_at=WHEN,
        secret=b"s" * 32,
    )
    return replace(found, **changed)


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
        ("Müller^Jörg", "ISO 2022 IR 100"),
        ("Yamada=山田", "ISO 2022 IR 87"),
        ("Yamada=山田", ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        ("Secret^Patient", "ISO_IR 6"),
        ("Secret^Patient", "NO_SUCH SET"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says what is wrong with it
def test_names_come_back_as_they_were_written(name: str, characters: object) -> None:
    header = as_received(name, characters)
    document = read_again(structured_report(material(header)))
    assert str(document.PatientName) == name


def test_headers_that_lack_or_break_what_the_standard_wants_are_reported_on_all_the_same(tmp_path: Path) -> None:
    bare = chest_dataset(PatientSex="X", AccessionNumber=None, StudyDate=None)
    document = structured_report(material(bare))
    assert (document.PatientSex, document.AccessionNumber, document.StudyDate) == ("", "", "")
    odd = structured_report(material(chest_dataset(TimezoneOffsetFromUTC="JST")))
    assert "TimezoneOffsetFromUTC" not in odd


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says what is wrong with them
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientBirthDate", "19630000"),
        ("PatientBirthDate", "00000000"),
        ("PatientBirthDate", "1963"),
        ("StudyDate", "00000000"),
        ("StudyDate", "20240230"),
        ("StudyTime", "10:11:12"),
        ("StudyTime", "240000"),
    ],
)
def test_dates_and_times_that_are_none_are_left_empty(keyword: str, value: str) -> None:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, broken(keyword, value), enforce_file_format=True)
    header = pydicom.dcmread(io.BytesIO(buffer.getvalue()), stop_before_pixels=True)
    document = read_again(structured_report(material(header)))
    assert document[keyword].value == "" and str(document.PatientName) == "Secret^Patient"


def broken(keyword: str, value: str) -> Dataset:
    """An image with a value that breaks its VR's rules, as devices write them."""
    image = chest_dataset(**named())
    image[keyword] = pydicom.DataElement(
        pydicom.datadict.tag_for_keyword(keyword) or 0,
        pydicom.datadict.dictionary_VR(keyword),
        value,
        validation_mode=pydicom.config.IGNORE,
    )
    return image


def as_received(name: str, characters: object) -> Dataset:
    """The header of an image with this name, written in these characters."""
    image = chest_dataset(**named(SpecificCharacterSet=characters))
    image.PatientName = name
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()), stop_before_pixels=True)


def test_what_is_made_again_has_the_same_identity_and_other_states_have_others() -> None:
    one, again = structured_report(material()), structured_report(material())
    assert one.SOPInstanceUID == again.SOPInstanceUID and written(one) == written(again)
    changes: list[dict[str, Any]] = [
        {"fingerprint": "e" * 64},
        {"generation": 2},
        {"software": "0.2.0"},
        {"similar": []},
        {"predecessors": ("1.2.3.4",)},
        {"number": 2},
        {"made_at": WHEN + timedelta(seconds=1)},
    ]
    others = [structured_report(material(**change)) for change in changes]
    assert len({one.SOPInstanceUID, *(other.SOPInstanceUID for other in others)}) == 1 + len(changes)
    assert {other.SeriesInstanceUID for other in others} == {one.SeriesInstanceUID}


def test_other_installations_and_what_is_only_looked_at_have_uids_of_their_own() -> None:
    """Of one study in a PACS, a test system and the production system never make the same instance."""
    found = [material(), material(secret=b"t" * 32), material(trial=True)]
    documents = [structured_report(one) for one in found]
    assert len({one.SOPInstanceUID for one in documents}) == len({one.SeriesInstanceUID for one in documents}) == 3
    assert len({diagnostic_report(one)["id"] for one in found}) == 3
    assert "secret" not in repr(found[0])


def test_a_report_names_those_that_were_sent_before_it(tmp_path: Path) -> None:
    document = structured_report(material(predecessors=("1.2.3.4", "1.2.3.5")))
    (study,) = document.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (STUDY, document.SeriesInstanceUID)
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence] == ["1.2.3.4", "1.2.3.5"]
    assert "PredecessorDocumentsSequence" not in structured_report(material())
    file = tmp_path / "sr.dcm"
    file.write_bytes(written(document))
    assert complaints(file) == []


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
    newer = replace(material(image), source_hash="t" * 64, number=2)
    assert diagnostic_report(newer)["id"] == found["id"]  # the next version of one resource
    displays = {one["device"]["display"] for one in found["contained"]}
    assert displays == {f"ALTA retrieval 0.1.0, encoders {'f' * 64}"}


@pytest.mark.parametrize(
    ("kind", "value", "system"),
    [
        ("ISO", "1.2.840.99", "urn:oid:1.2.840.99"),
        ("URI", "https://hospital.example/mrn", "https://hospital.example/mrn"),
        ("UUID", "0A1B2C3D-0000-1111-2222-333344445555", "urn:uuid:0a1b2c3d-0000-1111-2222-333344445555"),
        ("DNS", "hospital.example", None),
        ("ISO", "hospital", None),
    ],
)
def test_identifiers_in_fhir_say_in_what_they_are_unique(kind: str, value: str, system: str | None) -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = value, kind
    named_by = {"IssuerOfPatientIDQualifiersSequence": [issuer], "IssuerOfAccessionNumberSequence": [issuer]}
    made = material(chest_dataset(**named(AccessionNumber="A1", **named_by)))
    found = diagnostic_report(made)
    assert found["subject"]["identifier"].get("system") == system
    assert found["basedOn"][0]["identifier"].get("system") == system
    given = diagnostic_report(made, patient_system="urn:oid:1.2.3", accession_system="urn:oid:1.2.4")
    assert given["subject"]["identifier"]["system"] == "urn:oid:1.2.3"
    assert given["basedOn"][0]["identifier"]["system"] == "urn:oid:1.2.4"


def test_several_ids_of_a_patient_are_refused_and_not_written_as_a_list() -> None:
    with pytest.raises(InputError) as caught:
        diagnostic_report(material(chest_dataset(**named(PatientID=["P1", "P2"]))))
    assert caught.value.slug == "several-values"


def test_an_image_of_several_issuers_goes_where_the_route_tells_the_system() -> None:
    made = material(chest_dataset(**named(IssuerOfPatientID=["A", "B"])))
    with pytest.raises(InputError) as caught:
        diagnostic_report(made)
    assert caught.value.slug == "several-values"
    patient = diagnostic_report(made, patient_system="urn:oid:1.2.3")["subject"]["identifier"]
    assert patient["system"] == "urn:oid:1.2.3" and "assigner" not in patient
    one = material(chest_dataset(**named(IssuerOfPatientID="A")))
    patient = diagnostic_report(one, patient_system="urn:oid:1.2.3")["subject"]["identifier"]
    assert patient["assigner"] == {"display": "A"}


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
    assert {one.study_instance_uid for one in found.result.similar} == {f"1.2.7.{number}" for number in range(5)}
    assert [one.rank for one in found.result.similar] == [1, 2, 3, 4, 5]
    assert [header.StudyInstanceUID for header in found.headers] == [STUDY]
    assert [header.StudyInstanceUID for header in found.prior_headers] == ["1.2.3.9"]
    assert len(found.result.findings.findings) == len(PROMPT_SETS)
    bare = archive_of.desk.material(STUDY, "pacs", 0, WHEN).result
    assert (bare.similar, bare.generation, found.result.generation) == ([], None, 1)


def test_a_result_that_was_made_before_holds_unless_something_of_it_changed(
    archive_of: Returning, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of.arrive(chest_dataset(study=STUDY, seed=1, **named()))
    archive_of.embed()
    first = archive_of.desk.material(STUDY, "pacs", 5, WHEN, predecessors=("1.2.3.4",))
    made = first.result.model_dump_json()
    archive_of.arrive(chest_dataset(study="1.2.3.8", seed=8, **named(PatientID="P8")))
    archive_of.embed()
    archive_of.index()  # another generation

    desk = archive_of.desk

    def again(desk: Desk, similar: int = 5) -> Material:
        return desk.material(STUDY, "pacs", similar, WHEN, made=made)

    assert again(desk).result == first.result and again(desk).uid() == first.uid()
    assert desk.material(STUDY, "pacs", 5, WHEN).result.generation == 2
    assert again(desk, similar=0).result.similar == []  # a route that names others no more
    monkeypatch.setattr("service.returns.material.SOFTWARE", "99")
    assert again(desk).result.software == "99"
    assert desk.material(STUDY, "pacs", 5, WHEN, made='{"of": "another release"}').result.software == "99"


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
