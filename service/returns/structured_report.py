"""Findings and similar studies as a DICOM structured report: Enhanced SR with TID 1500 (PS3.16), made by highdicom.

    Imaging Measurement Report           language, observer (this device), procedure
      Imaging Measurements
        Measurement Group, one a finding (TID 1501)
          algorithm, finding, source images, score, probability and decision where calibrated
      Similar past studies               ours; TID 1500 is extensible
        one a study: rank, similarity, percentile, Study Instance UID
      Comment                            what all this is and is not

Of other patients' studies it has the UID alone, as text of the content tree: they are no evidence of this study, so no
evidence sequence names them.
"""

import io
import re
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import highdicom as hd
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import DataElement, Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedSRStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from index.listeners.storage_scp import IMPLEMENTATION
from index.reports.texts import derived_uid
from index.returns.own import CODES, MANUFACTURER, MODEL

from ..schemas import PairScore
from . import codes
from .material import Material, Similar

__all__ = ["structured_report", "written"]

SERIES_NUMBER: Final = 9917  # out of the way of modalities' own
TYPE_2: Final = (  # PS3.3 C.7.1.1, C.7.2.1: present, if only empty
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
UTF_8: Final = "ISO_IR 192"
MANY_BYTES: Final = ("ISO 2022 IR 87", "ISO 2022 IR 159", "ISO 2022 IR 149", "ISO 2022 IR 58")  # never the first
CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS


def structured_report(material: Material) -> Dataset:
    """The document, in the study and of the patient that its images name.

    COMPLETE, for nothing is added to it later; PRELIMINARY and UNVERIFIED, for nobody has seen it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that came with the image
        evidence = [_evidence(header) for header in (*material.headers, *material.prior_headers)]
        moment, offset = _moment(material.made_at, evidence[0])
        document = sr.EnhancedSR(
            evidence=evidence,
            content=_content(material, evidence),
            series_instance_uid=material.series_uid,
            series_number=SERIES_NUMBER,
            series_description="ALTA: similar studies, findings",
            sop_instance_uid=material.uid(),
            instance_number=material.number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            device_serial_number=material.result.fingerprint[:16],
            software_versions=material.result.software,
            is_complete=True,
            is_final=False,
            is_verified=False,
            previous_versions=_predecessors(material) or None,
            content_date=moment.strftime("%Y%m%d"),
            content_time=moment.strftime("%H%M%S"),
            specific_character_set=_characters(evidence[0]),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            coding_schemes=[
                CodingSchemeIdentificationItem(
                    designator=codes.SCHEME, name="ALTA retrieval", uid=CODES.removeprefix("urn:oid:")
                )
            ],
        )
        document.InstanceCreationDate, document.InstanceCreationTime = document.ContentDate, document.ContentTime
        for equipment in document.get("ContributingEquipmentSequence", ()):  # highdicom names itself, and the moment
            equipment.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S")
        if offset is not None:
            document.TimezoneOffsetFromUTC = offset
        document.file_meta.ImplementationClassUID = IMPLEMENTATION
        document.file_meta.ImplementationVersionName = "ALTA"
        return document


def written(document: Dataset) -> bytes:
    """As a file (PS3.10)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _content(material: Material, evidence: Sequence[Dataset]) -> sr.MeasurementReport:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device"),
        name="ALTA retrieval",
        manufacturer_name=MANUFACTURER,
        model_name=MODEL,
        serial_number=material.result.fingerprint[:16],
    )
    observer = sr.ObserverContext(
        observer_type=sr.CodedConcept("121007", "DCM", "Device"), observer_identifying_attributes=device
    )
    images = [sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID) for image in evidence]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.PROCEDURE,
        imaging_measurements=[_group(material, finding, images) for finding in material.result.findings.findings],
    )
    items = report[0].ContentSequence
    if material.result.similar:
        container = _container(codes.SIMILAR, [_similar(one) for one in material.result.similar])
        items.append(container)
    items.append(
        sr.TextContentItem(name=Code("121106", "DCM", "Comment"), value=material.statement, relationship_type=CONTAINS)
    )
    return report


def _group(material: Material, finding: PairScore, images: Sequence[Any]) -> sr.MeasurementsAndQualitativeEvaluations:
    measured = [sr.Measurement(name=codes.SCORE, value=_short(finding.score), unit=codes.NO_UNITS)]
    if finding.probability is not None:
        measured.append(sr.Measurement(name=codes.PROBABILITY, value=_short(finding.probability), unit=codes.NO_UNITS))
    decided = []
    if finding.decision is not None:
        decided.append(sr.QualitativeEvaluation(name=codes.DECISION, value=codes.DECISIONS[finding.decision]))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=material.uid("finding", finding.name), identifier=finding.name),
        finding_type=codes.FINDINGS[finding.name],
        algorithm_id=sr.AlgorithmIdentification(
            name="ALTA zero-shot classification",
            version=material.result.software,
            parameters=[f"encoders {material.result.fingerprint}"],
            manufacturer=MANUFACTURER,
        ),
        measurements=measured,
        qualitative_evaluations=decided or None,
        source_images=images,
    )


def _similar(one: Similar) -> Any:
    items: list[Any] = [
        sr.NumContentItem(name=codes.RANK, value=one.rank, unit=codes.NO_UNITS, relationship_type=CONTAINS),
        sr.NumContentItem(
            name=codes.SIMILARITY, value=_short(one.score), unit=codes.NO_UNITS, relationship_type=CONTAINS
        ),
        sr.UIDRefContentItem(name=codes.STUDY_UID, value=one.study_instance_uid, relationship_type=CONTAINS),
    ]
    if one.percentile is not None:
        items.insert(
            2,
            sr.NumContentItem(
                name=codes.PERCENTILE, value=one.percentile, unit=codes.PERCENT, relationship_type=CONTAINS
            ),
        )
    return _container(codes.SIMILAR_STUDY, items)


def _container(name: Code, items: Sequence[Any]) -> Any:
    container = sr.ContainerContentItem(name=name, relationship_type=CONTAINS)
    container.ContentSequence = sr.ContentSequence(items)
    return container


def _short(value: float) -> float:
    return round(value, 6)  # VR DS has 16 characters


def _predecessors(material: Material) -> list[Dataset]:
    """The reports of the study that were sent by this route before, as highdicom wants them (PS3.3 C.17.2.2)."""
    found = []
    for uid in material.result.predecessors:
        before = Dataset()
        before.SOPClassUID, before.SOPInstanceUID = EnhancedSRStorage, uid
        before.StudyInstanceUID, before.SeriesInstanceUID = material.study.study_instance_uid, material.series_uid
        found.append(before)
    return found


def _evidence(header: Dataset) -> Dataset:
    """What highdicom reads of an image. A sex, date or time that is none of the standard's is left empty, as highdicom
    would refuse it, and no report would ever come of the study."""
    for keyword in TYPE_2:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(header[keyword].value)
        except Exception:  # several values, or a value that pydicom cannot read at all
            header[keyword] = DataElement(tag_for_keyword(keyword) or 0, kind.__name__, "")
    return header


def _moment(made_at: datetime, header: Dataset) -> tuple[datetime, str | None]:
    """When it was made, in the zone in which the image tells times; where it names none, in this machine's, unnamed.

    PS3.3 C.12.1.1.8: the offset is of all times in an object, and the study's are the image's.
    """
    given = re.fullmatch(r"([+-])(\d\d)(\d\d)", str(header.get("TimezoneOffsetFromUTC") or "").strip())
    if given is None or int(given[2]) > 14:
        return made_at.astimezone(), None
    away = timedelta(hours=int(given[2]), minutes=int(given[3])) * (-1 if given[1] == "-" else 1)
    return made_at.astimezone(timezone(away)), given[0]


def _characters(header: Dataset) -> Any:
    """Those of the image, in which its patient's name can be written as it was there. UTF-8 for what is none of the
    standard's or what highdicom does not write: a lone set with code extensions, which have to stand beside a first
    (PS3.3 C.12.1.1.2), and several with an empty first."""
    given = header.get("SpecificCharacterSet") or None
    known = {value.value for value in hd.SpecificCharacterSetValues}
    several = [given] if isinstance(given, str) else list(given or [])
    extended = [str(value).startswith("ISO 2022") for value in several]
    if not all(value in known for value in several) or several[:1] == ["ISO_IR 6"]:
        return UTF_8
    if len(several) > 1:
        return several if all(extended) and several[0] not in MANY_BYTES else UTF_8
    return UTF_8 if any(extended) else given and several[0]
