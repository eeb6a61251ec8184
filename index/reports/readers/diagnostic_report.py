"""FHIR R4 DiagnosticReport to reports, by itself or in a Bundle with what it refers to.

    study          identifier of system urn:dicom:uid, of the report or of its imagingStudy; else the accession number:
                   identifier of type ACSN of the report, its imagingStudy or its order (basedOn)
    patient        subject.identifier, or the Patient's identifier, of several the one of type MR
    text           presentedForm (text/plain, else text/html), else the result Observations, else text.div; the
                   conclusion is the impression
    version        status, issued
    number         the first identifier with a system that is neither of the above, else the report's absolute address

Only what comes along is read: no reference is fetched. R4 and R4B have these resources in common.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from datetime import UTC
from typing import Any, Final

from pydantic import ValidationError

from model.errors import InputError

from ...dicom import Refusal, clean
from ...returns.own import is_own_resource, own_result_refusal
from ..language import primary_language
from ..texts import ReportText, checked, decoded, is_uid
from ..versions import CORRECTED, FINAL, PRELIMINARY
from .blocks import Block, compose, section_of_concept
from .markup import without_tags

__all__ = ["read_fhir", "reports_of_resource"]

MAX_DEPTH: Final = 4  # of Observations that have members
DICOM_UID: Final = "urn:dicom:uid"

_STAGES: Final = {
    **dict.fromkeys(("partial", "preliminary"), PRELIMINARY),
    "final": FINAL,
    **dict.fromkeys(("amended", "corrected", "appended"), CORRECTED),
}
_WITHDRAWN: Final = ("cancelled", "entered-in-error")
_STATUSES: Final = (*_STAGES, *_WITHDRAWN, "registered", "unknown")


def read_fhir(data: bytes, source: str) -> Iterator[ReportText]:
    """The reports of a file. A resource that cannot be used is a refused report."""
    try:
        resource = json.loads(decoded(data))
    except (ValueError, RecursionError) as error:
        yield ReportText(source, refusal=Refusal("bad-json", f"The file is no JSON document: {error}."))
        return
    try:
        yield from reports_of_resource(resource, source)
    except InputError as error:
        yield ReportText(source, refusal=Refusal(error.slug, error.message))


def reports_of_resource(resource: Any, source: str) -> list[ReportText]:
    """The reports of a DiagnosticReport, or of those in a Bundle, in their order there.

    Raises InputError: wrong-resource-type, no-report.
    """
    kind = _kind(resource)
    if kind == "DiagnosticReport":
        return [_report(resource, "", _Beside([]), source)]
    if kind != "Bundle":
        raise InputError(
            f"Expected a DiagnosticReport or a Bundle, found {kind[:40] or 'none'!r}.", "wrong-resource-type"
        )
    given = resource.get("entry")
    entries = [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
    beside = _Beside(entries)
    reports = []
    for number, entry in enumerate(entries, start=1):
        if _kind(entry.get("resource")) == "DiagnosticReport":
            address = str(entry.get("fullUrl") or "")
            reports.append(_report(entry["resource"], address, beside.of(address), f"{source}#{number}"))
    if not reports:
        raise InputError("The Bundle has no DiagnosticReport.", "no-report")
    return reports


class _Beside:
    """The resources of a Bundle, found by reference and validated when they are used.

    A relative reference is one to the server that the report is of (R4 Bundle, "Resolving references in Bundles"): a
    Bundle may hold Patient/1 of one server and Patient/1 of another.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._given: dict[str, Any] = {}  # by fullUrl, and by type and id where that is one resource
        self._validated: dict[int, Any] = {}
        self._base = ""
        addresses: dict[str, str] = {}
        for entry in entries:
            resource, address = entry.get("resource"), str(entry.get("fullUrl") or "")
            if isinstance(resource, dict):
                name = f"{_kind(resource)}/{resource.get('id')}"
                several = addresses.setdefault(name, address) != address
                self._given[name] = None if several else self._given.get(name, resource)
                if address:
                    self._given.setdefault(address, resource)

    def of(self, address: str) -> "_Beside":
        """The same resources, as the report at this address refers to them."""
        found = copy(self)
        if address.startswith(("http://", "https://")):
            found._base = address.rpartition("/")[0].rpartition("/")[0]
        return found

    def find(self, reference: Any, kind: str, contained: Iterable[Any]) -> Any:
        """The resource of a Reference, None where it is not here. Raises ValidationError."""
        named = str(getattr(reference, "reference", None) or "")
        if named.startswith("#"):
            found = (each for each in contained if each.get_resource_type() == kind and f"#{each.id}" == named)
            return next(found, None)
        named = named.partition("/_history/")[0]
        given = self._given.get(f"{self._base}/{named}") or self._given.get(named)
        if _kind(given) != kind:
            return None
        if id(given) not in self._validated:
            self._validated[id(given)] = _validated(given, kind)
        return self._validated[id(given)]


def _report(resource: Mapping[str, Any], address: str, beside: _Beside, source: str) -> ReportText:
    try:
        report = _validated(resource, "DiagnosticReport")
        if report.status not in _STATUSES:
            message = f"Expected a status of FHIR R4, found {str(report.status)[:40]!r}."
            return ReportText(source, refusal=Refusal("bad-fhir", message))
        if is_own_resource(report.code):
            return ReportText(source, refusal=own_result_refusal())
        return _converted(report, address, beside, source)
    except ValidationError as error:
        # Without pydantic's ``input``: a refusal is shown, and the value may be about a patient.
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))[:80]}: {e['msg'][:120]}" for e in error.errors()[:3])
    except Exception as error:  # the library raises other kinds too, such as for a resource of no known type
        wrong = type(error).__name__
    return ReportText(source, refusal=Refusal("bad-fhir", f"A resource of the report is not FHIR R4: {wrong}."))


def _converted(report: Any, address: str, beside: _Beside, source: str) -> ReportText:
    contained = report.contained or []
    own = report.identifier or []
    studies = [beside.find(reference, "ImagingStudy", contained) for reference in report.imagingStudy or []]
    orders = [beside.find(reference, "ServiceRequest", contained) for reference in report.basedOn or []]
    images = [*own, *_identifiers(studies), *_logical(report.imagingStudy)]
    uids = [_oid(each.value) for each in images if each.system == DICOM_UID]
    accessions = [each.value for each in [*images, *_identifiers(orders)] if _type_of(each) == "ACSN"]
    accessions += [each.value for each in _logical(report.basedOn) if _type_of(each) in ("ACSN", "")]
    numbering, number = _number(own, address)
    issued = report.issued
    about = ReportText(
        source,
        study_instance_uid=next((uid for uid in uids if is_uid(uid)), None),
        accession_number=next((clean(str(value)) for value in accessions if value), None),
        patient_id=_patient_id(report, beside, contained),
        numbering=numbering,
        number=number,
        stage=_STAGES.get(report.status),
        issued_at=issued.astimezone(UTC) if issued else None,
        withdrawn=report.status in _WITHDRAWN,
        language=primary_language(str(report.language or "")),
    )
    if about.withdrawn:
        return checked(about)
    found = compose(_blocks(report, beside, contained), about)
    if found.refusal and found.refusal.slug == "empty-report":
        if report.status == "registered":
            return replace(found, refusal=Refusal("no-report-yet", "The status is registered: there is no text yet."))
        if report.presentedForm and not _presented(report.presentedForm):
            message = "The report is a document such as a PDF, or only its address. Have it sent as text/plain."
            return replace(found, refusal=Refusal("encapsulated-document", message))
    return found


def _blocks(report: Any, beside: _Beside, contained: list[Any]) -> list[Block]:
    blocks = [Block(text) for text in _presented(report.presentedForm or [])]
    if not blocks:
        seen: set[int] = set()
        for reference in report.result or []:
            blocks += _observed(reference, beside, contained, seen)
    conclusion = str(report.conclusion or "").strip()
    if conclusion and conclusion not in "\n".join(block.text for block in blocks):
        blocks.append(Block(conclusion, "impression"))
    if not blocks and report.text and report.text.div:
        blocks.append(Block(without_tags(str(report.text.div))))
    return blocks


def _presented(forms: Iterable[Any]) -> list[str]:
    """The texts of the first kind that is there; forms of one kind may be pages, of two they are one text twice."""
    texts: dict[str, list[str]] = {"text/plain": [], "text/html": []}
    for form in forms:
        kind, _, parameters = str(form.contentType or "").lower().partition(";")
        if form.data is None or kind.strip() not in texts:
            continue
        data, charset = bytes(form.data), parameters.strip().removeprefix("charset=").strip('"')
        try:
            text = data.decode(charset) if charset else decoded(data)
        except (LookupError, UnicodeDecodeError):
            text = decoded(data)
        texts[kind.strip()].append(text)
    return texts["text/plain"] or [without_tags(text) for text in texts["text/html"]]


def _observed(reference: Any, beside: _Beside, contained: list[Any], seen: set[int], depth: int = 0) -> list[Block]:
    """The text of an Observation and of its members, each of them once."""
    observation = beside.find(reference, "Observation", contained)
    if observation is None or observation.status in _WITHDRAWN or id(observation) in seen or depth == MAX_DEPTH:
        return []
    seen.add(id(observation))
    coded = observation.valueCodeableConcept
    text = str(observation.valueString or (_words(coded) if coded else ""))
    names = [(str(each.code or ""), str(each.display or "")) for each in observation.code.coding or []]
    names.append(("", str(observation.code.text or "")))
    sections = [section_of_concept(code, meaning) for code, meaning in names]
    section = next((found for found in sections if found is not None), None)
    blocks = [Block(text, section, names[-1][1] or names[0][1])] if text else []
    for member in observation.hasMember or []:
        blocks += _observed(member, beside, contained, seen, depth + 1)
    return blocks


def _words(concept: Any) -> str:
    return str(concept.text or next((each.display for each in concept.coding or [] if each.display), ""))


def _number(own: Iterable[Any], address: str) -> tuple[str | None, str | None]:
    for each in own:
        if each.system and each.value and each.system != DICOM_UID and _type_of(each) != "ACSN":
            return f"fhir {each.system}", str(each.value)
    base, slash, identifier = address.rpartition("/")
    if slash and base.startswith(("http://", "https://")):  # an id alone is not unique: every server counts from one
        return f"fhir {base}", identifier
    return None, None


def _patient_id(report: Any, beside: _Beside, contained: list[Any]) -> str | None:
    given = [*_logical([report.subject] if report.subject else [])]
    given += _identifiers([beside.find(report.subject, "Patient", contained)])
    first = sorted((each for each in given if each.value), key=lambda each: _type_of(each) != "MR")
    return str(first[0].value).strip() or None if first else None


def _identifiers(resources: Iterable[Any]) -> list[Any]:
    return [each for resource in resources if resource is not None for each in resource.identifier or []]


def _logical(references: Iterable[Any] | None) -> list[Any]:
    return [each.identifier for each in references or [] if each.identifier is not None]


def _type_of(identifier: Any) -> str:
    """HL7 table 0203: ACSN accession, MR medical record; "" for none."""
    codes = (identifier.type.coding or []) if identifier.type else []
    return next((str(each.code) for each in codes if each.code), "")


def _oid(value: Any) -> str:
    return str(value or "").strip().removeprefix("urn:oid:")


def _kind(resource: Any) -> str:
    return str(resource.get("resourceType") or "") if isinstance(resource, dict) else ""


def _validated(resource: Any, kind: str) -> Any:
    # Here, because their models take a moment to import that the rest of the archive need not wait for.
    from fhir.resources.R4B import get_fhir_model_class

    return get_fhir_model_class(kind).model_validate(resource)
