"""One report in every format: what a hospital's systems would send, about a patient who does not exist."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

NAME = "DOE^JANE^Q"  # must never be kept


@dataclass(frozen=True)
class Sample:
    """What a report says, whatever the format. issued: YYYYMMDDHHMMSS in UTC; "" for no time."""

    findings: str = "Opacity in the left lower zone."
    impression: str = "Pneumonia."
    study: str = ""
    accession: str = "A1"
    patient: str = "P1"
    number: str = "F100"
    status: str = "final"  # preliminary, final, corrected, withdrawn
    issued: str = "20240301120000"

    def but(self, **changes: str) -> "Sample":
        return replace(self, **changes)


HL7_STATUS = {"preliminary": "P", "final": "F", "corrected": "C", "withdrawn": "X"}
FHIR_STATUS = {"withdrawn": "entered-in-error"}


def hl7(sample: Sample, *orders: Sample, header: str = "", control_id: str = "M1", zone: str = "+0000") -> bytes:
    """An ORU^R01 as a RIS sends it: one order, or several of one message."""
    sent = f"{sample.issued}{zone}" if sample.issued else ""
    lines = [
        header
        or rf"MSH|^~\&|RIS|HOSPITAL|ALTA|ARCHIVE|{sent}||ORU^R01^ORU_R01|{control_id}|P|2.5.1||||||UNICODE UTF-8",
        f"PID|1||{sample.patient}^^^HOSPITAL^MR~999^^^STATE^NH||{NAME}||19500101|F" if sample.patient else "PID|1",
        "PV1|1|O",
    ]
    for position, order in enumerate((sample, *orders), start=1):
        fields = {
            1: str(position),
            3: f"{order.number}^RIS" if order.number else "",
            4: "71046^CHEST 2 VIEWS^C4",
            18: order.accession,
            22: f"{order.issued}{zone}" if order.issued else "",
            25: HL7_STATUS[order.status],
        }
        lines.append("OBR|" + "|".join(fields.get(place, "") for place in range(1, 26)))
        if order.study:
            lines.append(f"ZDS|{order.study}^^Application^DICOM")
        texts = [("&GDT^CHEST", order.findings), ("&IMP^CHEST", order.impression)]
        state = HL7_STATUS[order.status]
        for line, (name, text) in enumerate(texts, start=1):
            if text:
                lines.append(f"OBX|{line}|TX|71046{name}||{escaped(text)}||||||{state}")
    return "\r".join(lines).encode() + b"\r"


def escaped(text: str) -> str:
    for character, sequence in (("\\", "E"), ("|", "F"), ("^", "S"), ("&", "T"), ("~", "R")):
        text = text.replace(character, f"\\{sequence}\\")
    return text.replace("\n", "\\.br\\")


def fhir_resource(sample: Sample, **changes: Any) -> dict[str, Any]:
    """A DiagnosticReport with what it refers to inside it."""
    text = f"FINDINGS: {sample.findings}" if sample.findings.strip(" .\t") else sample.findings
    resource: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "id": "1",
        "status": FHIR_STATUS.get(sample.status, sample.status),
        "code": {"coding": [{"system": "http://loinc.org", "code": "36643-5", "display": "XR Chest 2 Views"}]},
        "subject": {"reference": "Patient/1", "identifier": {"value": sample.patient}, "display": NAME},
        "identifier": [{"system": "urn:oid:1.2.3.4.5", "value": sample.number}],
    }
    if not sample.patient:
        del resource["subject"]
    if not sample.number:
        resource["identifier"] = []
    if sample.accession:
        kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
        resource["identifier"].append({"type": kind, "value": sample.accession})
    if not resource["identifier"]:
        del resource["identifier"]
    if sample.study:
        image = {"system": "urn:dicom:uid", "value": f"urn:oid:{sample.study}"}
        resource["imagingStudy"] = [{"type": "ImagingStudy", "identifier": image}]
    if sample.issued:
        i = sample.issued
        resource["issued"] = f"{i[:4]}-{i[4:6]}-{i[6:8]}T{i[8:10]}:{i[10:12]}:{i[12:14]}Z"
    if text:
        data = base64.b64encode(text.encode()).decode()
        resource["presentedForm"] = [{"contentType": "text/plain; charset=utf-8", "data": data}]
    if sample.impression:
        resource["conclusion"] = sample.impression
    return resource | changes


def fhir(sample: Sample, **changes: Any) -> bytes:
    return json.dumps(fhir_resource(sample, **changes)).encode()


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {"fullUrl": f"http://ehr.example/fhir/{each['resourceType']}/{each.get('id', n)}", "resource": each}
        for n, each in enumerate(resources)
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def code(value: str, meaning: str, scheme: str = "DCM") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def content(kind: str, name: tuple[str, str], relation: str = "CONTAINS", **tags: Any) -> Dataset:
    """An item of a content tree."""
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    item.ConceptNameCodeSequence = code(*name)
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def structured_report(sample: Sample, **tags: Any) -> FileDataset:
    """A Basic Text SR as a reporting workstation writes it (PS3.16 TID 2000)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = BasicTextSRStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.99.{sample.issued or 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = BasicTextSRStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName, dataset.PatientID = "SR", NAME, sample.patient
    dataset.AccessionNumber = sample.accession
    if sample.study:
        dataset.StudyInstanceUID = sample.study
    if sample.issued:
        dataset.ContentDate, dataset.ContentTime = sample.issued[:8], sample.issued[8:]
        dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.CompletionFlag = "PARTIAL" if sample.status == "preliminary" else "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED" if sample.status == "preliminary" else "VERIFIED"
    if sample.status == "corrected":
        dataset.PredecessorDocumentsSequence = Sequence([Dataset()])
    dataset.ValueType, dataset.ConceptNameCodeSequence = "CONTAINER", code("18747-6", "CT Report", "LN")
    observer = content("PNAME", ("121008", "Person Observer Name"), "HAS OBS CONTEXT", PersonName=NAME)
    sections = [
        content(
            "CONTAINER",
            (number, heading),
            ContentSequence=Sequence([content("TEXT", (single, heading), TextValue=text)]),
        )
        for number, single, heading, text in (
            ("121070", "121071", "Findings", sample.findings),
            ("121072", "121073", "Impressions", sample.impression),
        )
        if text
    ]
    dataset.ContentSequence = Sequence([observer, *sections])
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def dicom_bytes(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def sr(sample: Sample) -> bytes:
    return dicom_bytes(structured_report(sample))


def table(sample: Sample) -> bytes:
    columns = "study_instance_uid,accession_number,patient_id,findings,impression"
    row = (sample.study, sample.accession, sample.patient, sample.findings, sample.impression)
    return f"{columns}\n{','.join(row)}\n".encode()


# Format: the name of a file of it, and how it is written.
FORMATS: dict[str, tuple[str, Callable[[Sample], bytes]]] = {
    "table": ("reports.csv", table),
    "hl7": ("oru.hl7", hl7),
    "fhir": ("report.json", fhir),
    "sr": ("report.dcm", sr),
}
