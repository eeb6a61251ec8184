"""What each format of reports has of its own."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from index.reports.readers import read_fhir, read_hl7, report_of_dataset
from index.reports.readers.hl7_text import parse_message
from index.reports.readers.markup import without_tags
from index.reports.readers.times import parse_timestamp
from index.reports.texts import ReportText
from model.errors import InputError
from tests.report_samples import Sample, bundle, code, content, fhir, fhir_resource, hl7, structured_report

SAMPLE = Sample(study="1.2.3.1")
MSH = rb"MSH|^~\&|RIS|HOSPITAL|||20240301120000+0100||ORU^R01|M1|P|2.5.1"


def oru(*segments: str, header: bytes = MSH) -> list[ReportText]:
    return list(read_hl7(b"\r".join([header, *(segment.encode() for segment in segments)]), "file"))


def one(*segments: str, header: bytes = MSH) -> ReportText:
    (report,) = oru(*segments, header=header)
    return report


# HL7 v2


@pytest.mark.parametrize("line_end", [b"\r", b"\n", b"\r\n"])
def test_messages_in_a_row_in_batches_and_in_framing(line_end: bytes) -> None:
    first, second = (hl7(SAMPLE.but(number=number)).replace(b"\r", line_end) for number in ("F1", "F2"))
    batch = line_end.join([rb"FHS|^~\&|RIS", rb"BHS|^~\&|RIS", first + second + b"BTS|2", b"FTS|1", b""])
    framed = b"".join(b"\x0b" + message + b"\x1c\r" for message in (first, second))
    for data in (first + second, b"\n\n" + first + line_end + second, b"\xef\xbb\xbf" + batch, framed):
        assert [report.number for report in read_hl7(data, "file")] == ["F1", "F2"]


def test_a_broken_message_does_not_lose_the_others() -> None:
    data = b"what is this\r" + hl7(SAMPLE) + b"MSH\r" + b"MSH|^~\\&|A|B|||1||ADT^A01|1|P|2.5\r" + hl7(SAMPLE)
    slugs = [report.refusal.slug if report.refusal else None for report in read_hl7(data, "file")]
    assert slugs == ["bad-hl7", None, "bad-hl7", "wrong-message-type", None]


def test_escape_sequences_are_what_they_stand_for() -> None:
    text = r"A\F\B \S\ \T\ \R\ \E\ 5\.br\next\.sp2\line\.in+4\in \XC3A9\\XC3\\XA9\ \H\bold\N\ \Zab\C:\x"
    report = one("OBR|1||F1", f"OBX|1|FT|1^TEXT||{text}", header=MSH + b"||||||UNICODE UTF-8")
    assert report.text == "A|B ^ & ~ \\ 5\nnext\n\nline in éé bold C:\\x"


def test_an_escape_sequence_cannot_ask_for_a_flood() -> None:
    assert len(one("OBR|1||F1", r"OBX|1|FT|1||a\.sp999999999\b\.sp99\c").text) < 10


def test_separators_of_its_own_are_those_of_the_message() -> None:
    report = one("OBR#1##F1$RIS", "OBX#1#TX#1%IMP$X##A | B", header=rb"MSH#$*!%#RIS#H###20240301##ORU$R01#M1#P#2.5")
    assert (report.number, report.impression) == ("F1", "A | B")


@pytest.mark.parametrize(
    ("name", "codec"), [("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("", "cp1252")]
)
def test_the_character_set_is_the_one_in_the_header(name: str, codec: str) -> None:
    header = MSH + b"||||||" + name.encode()
    data = b"\r".join([header, b"OBR|1||F1", "OBX|1|TX|1||Épanchement à 5 mm".encode(codec)])
    (report,) = read_hl7(data, "file")
    assert report.text == "Épanchement à 5 mm"


def test_an_unknown_character_set_is_refused_rather_than_guessed() -> None:
    report = one("OBR|1||F1", "OBX|1|TX|1||Words", header=MSH + b"||||||ISO IR87")
    assert report.refusal is not None and report.refusal.slug == "unsupported-character-set"


def test_sections_by_suffix_by_code_and_by_words() -> None:
    report = one(
        "OBR|1||F1",
        "OBX|1|TX|18785-6^Reason for study^LN||Cough.",
        "OBX|2|TX|X^COMPARISON||None.",
        "OBX|3|TX|71046&GDT^CHEST||Clear lungs.~Heart normal.",
        "OBX|4|TX|71046&GDT^CHEST||No effusion.",
        "OBX|5|TX|71046&IMP^CHEST||Normal ^ for age & sex.",
        "OBX|6|TX|X^TECHNIQUE||Two views.",
    )
    assert (report.indication, report.comparison) == ("Cough.", "None.")
    assert (report.findings, report.impression) == (
        "Clear lungs.\nHeart normal.\nNo effusion.",
        "Normal ^ for age & sex.",
    )
    assert "TECHNIQUE: Two views." in report.text


def test_headings_inside_a_bulk_text_are_sections() -> None:
    text = r"INDICATION: Cough.\.br\FINDINGS: Clear.\.br\IMPRESSION: Normal."
    report = one("OBR|1||F1", f"OBX|1|FT|71046&GDT^CHEST||{text}")
    assert (report.indication, report.findings, report.impression) == ("Cough.", "Clear.", "Normal.")


def test_a_text_with_line_ends_of_its_own_is_one_field() -> None:
    data = MSH + b"\r\nOBR|1||F1\r\nOBX|1|TX|1||IMPRESSION: Normal.\r\nHeart normal.\r\n\r\nEnd.\r\nOBX|2|TX|1||More."
    (report,) = read_hl7(data, "file")
    assert report.text == "IMPRESSION: Normal.\nHeart normal.\n\nEnd.\nMore."


def test_a_document_in_many_lines_is_read_in_one_pass() -> None:
    started = time.perf_counter()
    report = one("OBR|1||F1|||||||||||||||A1|||||||F", "OBX|1|ED|||" + "QUJD\n" * 1_000_000)
    assert report.refusal is not None and report.refusal.slug == "encapsulated-document"
    assert time.perf_counter() - started < 20  # line after line it took minutes


@pytest.mark.parametrize("separator", ["|", "^", "~", "&", "\rNTE"])
def test_a_message_of_nothing_but_separators_is_refused_before_it_is_taken_apart(separator: str) -> None:
    report = one("OBX|1|TX|||" + separator * 400_000)
    assert report.refusal is not None and report.refusal.slug == "bad-hl7"


def test_every_order_of_a_message_is_a_report_and_parts_of_one_number_are_one() -> None:
    reports = oru(
        "PID|1||P1^^^^MR",
        "ORC|RE||F1",
        "OBR|1||",
        "OBX|1|TX|1||One.",
        "OBR|2||F2",
        "OBX|1|TX|1||Two.",
        "OBR|3||F2",
        "OBX|1|TX|1||Three.",
        "PID|2||P2^^^^MR",
        "OBR|1||F3",
        "OBX|1|TX|1||Four.",
    )
    found = [(report.number, report.accession_number, report.patient_id, report.text) for report in reports]
    assert found == [("F1", "F1", "P1", "One."), ("F2", "F2", "P1", "Two.\nThree."), ("F3", "F3", "P2", "Four.")]
    assert len({report.source for report in reports}) == 3


def test_one_number_for_two_patients_is_two_reports() -> None:
    reports = oru(
        *("PID|1||P1^^^H^MR", "OBR|1||1|||||||||||||||A1|||||||F", "OBX|1|TX|||Of the one."),
        *("PID|2||P2^^^H^MR", "OBR|2||1|||||||||||||||A2|||||||F", "OBX|1|TX|||Of the other."),
    )
    assert [(report.patient_id, report.text) for report in reports] == [("P1", "Of the one."), ("P2", "Of the other.")]


@pytest.mark.parametrize(
    ("segments", "study", "accession"),
    [
        (["ZDS|1.2.3^^Application^DICOM"], "1.2.3", "F1"),
        (["IPC|A7|RP|1.2.4|SPS"], "1.2.4", "A7"),
        (["OBX|1|ST|113014^DICOM Study^DCM||1.2.5"], "1.2.5", "F1"),
        (["ZDS|no uid"], None, "F1"),
    ],
)
def test_where_a_message_names_its_study(segments: list[str], study: str | None, accession: str) -> None:
    report = one("OBR|1||F1", *segments, "OBX|2|TX|1||Words.")
    assert (report.study_instance_uid, report.accession_number, report.text) == (study, accession, "Words.")


@pytest.mark.parametrize(
    ("identifiers", "chosen"),
    [
        ("9^^^STATE^NH~P1^^^H^MR", "P1"),
        ("9^^^STATE^NH~P1^^^H^PI", "P1"),
        ("P1", "P1"),
        ("~P1^^^H", "P1"),
        ('""', None),
        ("", None),
    ],
)
def test_the_patient_is_the_medical_record_number(identifiers: str, chosen: str | None) -> None:
    assert one(f"PID|1||{identifiers}||DOE^JANE", "OBR|1||F1", "OBX|1|TX|1||Words.").patient_id == chosen


@pytest.mark.parametrize(
    ("order", "line", "expected"),
    [
        ("F", "F", "final"),
        ("C", "F", "corrected"),
        ("P", "F", "preliminary"),
        ("R", "", "preliminary"),
        ("A", "", "preliminary"),
        ("I", "", "preliminary"),
        ("X", "", "withdrawn"),
        ("", "C", "corrected"),
        ("", "W", "withdrawn"),
        ("", "", None),
        ("?", "F", "final"),
    ],
)
def test_the_status_of_the_order_else_of_its_lines(order: str, line: str, expected: str | None) -> None:
    request = f"OBR|1||F1{'|' * 22}{order}"
    report = one(request, f"OBX|1|TX|1||Words.||||||{line}")
    assert ("withdrawn" if report.withdrawn else report.stage) == expected
    assert report.refusal is None


def test_lines_that_were_deleted_are_left_out() -> None:
    report = one("OBR|1||F1", "OBX|1|TX|1||Wrong.||||||D", "OBX|2|TX|1||Right.||||||C")
    assert (report.text, report.stage) == ("Right.", "corrected")


@pytest.mark.parametrize(
    ("segments", "slug"),
    [
        (["OBR|1||F1", "OBX|1|ED|PDF^Report||^application^pdf^Base64^JVBERi0="], "encapsulated-document"),
        ([f"OBR|1||F1{'|' * 22}S"], "no-report-yet"),
        (["OBR|1||F1"], "empty-report"),
        (["PID|1||P1"], "no-report"),
    ],
)
def test_a_message_without_a_text_says_what_it_has_instead(segments: list[str], slug: str) -> None:
    report = one(*segments)
    assert report.refusal is not None and report.refusal.slug == slug


def test_a_document_beside_a_text_is_not_needed() -> None:
    report = one("OBR|1||F1", "OBX|1|ED|PDF||^application^pdf^Base64^JVBERi0=", "OBX|2|TX|1||Words.")
    assert (report.refusal, report.text) == (None, "Words.")


def test_the_time_is_that_of_the_order_in_the_zone_of_the_message() -> None:
    with_own = f"OBR|1||F1{'|' * 19}20240301100000"
    assert str(one(with_own, "OBX|1|TX|1||Words.").issued_at) == "2024-03-01 09:00:00+00:00"
    assert str(one("OBR|1||F1", "OBX|1|TX|1||Words.").issued_at) == "2024-03-01 11:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024", "2024-01-01T00:00:00+00:00"),
        ("20240229", "2024-02-29T00:00:00+00:00"),
        ("20240301120005.1234-0500", "2024-03-01T17:00:05.123400+00:00"),
        ("20230229", None),
        ("202403011260", None),
        ("0001+2300", None),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_timestamps(text: str, found: str | None) -> None:
    moment = parse_timestamp(text, "+0000")
    assert (moment.isoformat() if moment else None) == found


def test_a_time_without_a_zone_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")  # POSIX: two hours east of Greenwich
    time.tzset()
    try:
        assert str(parse_timestamp("20240301120000")) == "2024-03-01 10:00:00+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("data", [b"", b"MSH", b"GET / HTTP/1.1", b"MSH|^~\\&", b"msh|^~\\&|RIS"])
def test_what_is_no_message_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_message(data)
    assert caught.value.slug == "bad-hl7"


# FHIR

DOCUMENT = "encapsulated-document"


def fhir_report(**changes: Any) -> ReportText:
    (report,) = read_fhir(fhir(SAMPLE, **changes), "file")
    return report


def observation(number: str, name: str, text: str, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": number,
        "status": "final",
        "code": {"text": name},
        "valueString": text,
    } | changes


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("partial", "preliminary"),
        ("preliminary", "preliminary"),
        ("final", "final"),
        ("amended", "corrected"),
        ("corrected", "corrected"),
        ("appended", "corrected"),
        ("unknown", None),
        ("cancelled", "withdrawn"),
        ("entered-in-error", "withdrawn"),
    ],
)
def test_the_status_of_a_resource(status: str, expected: str | None) -> None:
    report = fhir_report(status=status)
    assert ("withdrawn" if report.withdrawn else report.stage) == expected


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"status": "registered", "presentedForm": [], "conclusion": ""}, "bad-fhir"),
        ({"status": "registered", "presentedForm": None, "conclusion": None}, "no-report-yet"),
        ({"status": "done"}, "bad-fhir"),
        ({"issued": "yesterday"}, "bad-fhir"),
        ({"contained": [{"resourceType": "Nonsense"}]}, "bad-fhir"),
        ({"conclusion": None, "presentedForm": [{"contentType": "application/pdf", "data": "JVBE"}]}, DOCUMENT),
        ({"conclusion": None, "presentedForm": [{"contentType": "text/plain", "url": "http://a"}]}, DOCUMENT),
    ],
)
def test_a_resource_that_cannot_be_used(changes: dict[str, Any], slug: str) -> None:
    resource = {name: value for name, value in fhir_resource(SAMPLE, **changes).items() if value is not None}
    (report,) = read_fhir(json.dumps(resource).encode(), "file")
    assert report.refusal is not None and report.refusal.slug == slug


def test_a_refusal_does_not_repeat_what_may_be_about_a_patient() -> None:
    report = fhir_report(subject={"display": {"JANE": "DOE"}}, issued="JANE")
    assert report.refusal is not None and "JANE" not in report.refusal.message


def test_observations_are_sections_where_there_is_no_presented_form() -> None:
    resource = fhir_resource(
        SAMPLE,
        contained=[observation("o1", "Findings", "Opacity.")],
        result=[{"reference": "#o1"}, {"reference": "Observation/o2"}, {"reference": "http://elsewhere/Observation/9"}],
    )
    del resource["presentedForm"]
    panel = observation("o2", "Panel", "", hasMember=[{"reference": "Observation/o3"}, {"reference": "Observation/o2"}])
    del panel["valueString"]
    reason = {"coding": [{"system": "http://loinc.org", "code": "18785-6", "display": "Radiology Reason"}]}
    member = observation("o3", "", "Cough.", code=reason)
    wrong = observation("o4", "Findings", "Never.", status="entered-in-error")
    resource["result"].append({"reference": "Observation/o4"})
    (report,) = read_fhir(json.dumps(bundle(resource, panel, member, wrong)).encode(), "file")
    assert report.refusal is None
    assert (report.findings, report.indication, report.impression) == ("Opacity.", "Cough.", "Pneumonia.")


def test_the_narrative_is_the_last_resort() -> None:
    said = "<h1>Chest</h1><p>Clear <b>lungs</b>.</p><p>5 &lt; 6 &amp; so on</p>"
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{said}</div>'
    resource = fhir_resource(SAMPLE, text={"status": "generated", "div": div})
    del resource["presentedForm"], resource["conclusion"]
    (report,) = read_fhir(json.dumps(resource).encode(), "file")
    assert report.text == "Chest\nClear lungs.\n5 < 6 & so on"


def test_a_conclusion_that_the_text_has_already_is_not_said_twice() -> None:
    data = base64.b64encode(b"FINDINGS: Opacity.\nIMPRESSION: Pneumonia.").decode()
    report = fhir_report(presentedForm=[{"contentType": "text/plain", "data": data}])
    assert (report.text.count("Pneumonia"), report.impression) == (1, "Pneumonia.")


def test_a_page_is_read_without_its_tags() -> None:
    data = base64.b64encode(b"<html><head><style>p {}</style></head><body><p>IMPRESSION: Clear.</body>").decode()
    report = fhir_report(presentedForm=[{"contentType": "text/html", "data": data}], conclusion="Clear.")
    assert (report.text, report.impression) == ("IMPRESSION: Clear.", "Clear.")
    assert without_tags("<" * 200_000)


def test_study_patient_and_accession_number_by_what_a_bundle_brings() -> None:
    accession = {"coding": [{"code": "ACSN"}]}
    image = {
        "resourceType": "ImagingStudy",
        "id": "i",
        "status": "available",
        "subject": {"reference": "Patient/p"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.9"}],
    }
    order = {
        "resourceType": "ServiceRequest",
        "id": "s",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "identifier": [{"value": "O1"}, {"type": accession, "value": "A9"}],
    }
    patient = {
        "resourceType": "Patient",
        "id": "p",
        "identifier": [{"value": "STATE"}, {"type": {"coding": [{"code": "MR"}]}, "value": "P9"}],
    }
    resource = fhir_resource(
        SAMPLE.but(study="", accession="", number=""),
        subject={"reference": "Patient/p"},
        basedOn=[{"reference": "ServiceRequest/s"}],
        imagingStudy=[{"reference": "http://ehr.example/fhir/ImagingStudy/i"}],
    )
    (report,) = read_fhir(json.dumps(bundle(resource, image, order, patient)).encode(), "file")
    assert (report.study_instance_uid, report.accession_number, report.patient_id) == ("1.2.9", "A9", "P9")
    # Without a number of its own the report goes by its address.
    assert (report.numbering, report.number) == ("fhir http://ehr.example/fhir/DiagnosticReport", "1")
    logical = fhir_resource(SAMPLE.but(accession="", study=""), basedOn=[{"identifier": {"value": "A8"}}])
    (report,) = read_fhir(json.dumps(logical).encode(), "file")
    assert report.accession_number == "A8"


def test_one_id_on_two_servers_is_two_patients() -> None:
    entries = []
    for server, patient in (("http://one/fhir", "P1"), ("http://two/fhir", "P2")):
        report = fhir_resource(SAMPLE, subject={"reference": "Patient/7"})
        entries += [
            {"fullUrl": f"{server}/DiagnosticReport/7", "resource": report},
            {
                "fullUrl": f"{server}/Patient/7",
                "resource": {"resourceType": "Patient", "id": "7", "identifier": [{"value": patient}]},
            },
        ]
    # A report that does not say of which server it is names neither of them.
    entries.append({"resource": fhir_resource(SAMPLE, subject={"reference": "Patient/7"})})
    data = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()
    assert [report.patient_id for report in read_fhir(data, "file")] == ["P1", "P2", None]


def test_identifiers_are_what_any_database_takes() -> None:
    data = fhir(SAMPLE).replace(SAMPLE.accession.encode(), b"A\\u00001")
    assert [report.accession_number for report in read_fhir(data, "file")] == ["A1"]


def test_an_id_alone_is_no_number() -> None:
    (report,) = read_fhir(fhir(SAMPLE.but(number="")), "file")
    assert report.number is None


def test_a_broken_resource_does_not_lose_the_others_of_its_bundle() -> None:
    whole = bundle(fhir_resource(SAMPLE), fhir_resource(SAMPLE, status=3), fhir_resource(SAMPLE))
    whole["entry"] += [7, {"resource": None}, {"resource": {"resourceType": "Patient"}}]
    reports = list(read_fhir(json.dumps(whole).encode(), "file"))
    assert [bool(report.refusal) for report in reports] == [False, True, False]


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        (b"", "bad-json"),
        (b"[" * 100_000, "bad-json"),
        (b"[]", "wrong-resource-type"),
        (b'{"resourceType": "Patient"}', "wrong-resource-type"),
        (b'{"resourceType": "Bundle", "entry": 7}', "no-report"),
    ],
)
def test_what_is_no_report_resource(data: bytes, slug: str) -> None:
    (report,) = read_fhir(data, "file")
    assert report.refusal is not None and report.refusal.slug == slug


# DICOM structured reports


def test_the_shipped_example_is_read(shared_data: Path) -> None:
    from index.reports.readers import read_reports

    (report,) = read_reports(shared_data / "dicom" / "SR_basic_text.dcm")
    assert (report.text, report.stage) == ("Enter text", "preliminary")
    assert report.study_instance_uid == "1.2.276.0.7230010.3.1.2.1787205428.166.1117461927.5"


def test_items_lie_under_the_headings_of_their_containers() -> None:
    tree = [
        content("TEXT", ("121005", "Observer"), "HAS OBS CONTEXT", TextValue="Doctor Doe"),
        content(
            "CONTAINER",
            ("X1", "History"),
            ContentSequence=Sequence([content("TEXT", ("121060", "History"), TextValue="Cough.")]),
        ),
        content(
            "CONTAINER",
            ("121070", "Findings"),
            ContentSequence=Sequence(
                [
                    content("CODE", ("121071", "Finding"), ConceptCodeSequence=code("1", "Cardiomegaly", "SCT")),
                    content("TEXT", ("121071", "Finding"), TextValue="Clear lungs."),
                    content("TEXT", ("1", "Evidence"), "INFERRED FROM", TextValue="Measured by a machine."),
                ]
            ),
        ),
        content("TEXT", ("121106", "Comment"), TextValue="IMPRESSION: Large heart."),
        content(
            "CONTAINER",
            ("121064", "Current Procedure Descriptions"),
            ContentSequence=Sequence([content("TEXT", ("121065", "Procedure Description"), TextValue="Two views.")]),
        ),
    ]
    report = report_of_dataset(structured_report(SAMPLE, ContentSequence=Sequence(tree)), "file")
    assert (report.indication, report.findings) == ("Cough.", "Cardiomegaly\nClear lungs.")
    assert report.impression == "Large heart."
    assert "Doe" not in report.text and "machine" not in report.text
    assert "PROCEDURE DESCRIPTION: Two views." in report.text


def test_the_study_that_the_evidence_names() -> None:
    def evidence(*uids: str) -> Sequence:
        items = []
        for uid in uids:
            item = Dataset()
            item.StudyInstanceUID = uid
            items.append(item)
        return Sequence(items)

    for uids, expected in (((), "1.2.3.1"), (("1.2.9",), "1.2.9"), (("1.2.9", "1.2.3.1"), "1.2.3.1")):
        dataset = structured_report(SAMPLE, CurrentRequestedProcedureEvidenceSequence=evidence(*uids))
        assert report_of_dataset(dataset, "file").study_instance_uid == expected


def test_a_tree_without_an_end_is_refused() -> None:
    inner = content("TEXT", ("1", "Deep"), TextValue="Words.")
    for _ in range(100):
        inner = content("CONTAINER", ("1", "Deep"), ContentSequence=Sequence([inner]))
    report = report_of_dataset(structured_report(SAMPLE, ContentSequence=Sequence([inner])), "file")
    assert report.refusal is not None and report.refusal.slug == "bad-structured-report"
