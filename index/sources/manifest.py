"""The rows of a CSV that lists pictures or DICOM files and says what they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from ..dicom import InstanceFacts, Refusal, is_oblique, parse_age, parse_date, parse_sex, parse_view
from ..intake.examine import Source
from ..reports.texts import ReportText, derived_uid, is_uid, read_table, report_of_row, study_uid_of
from ..slots import UNKNOWN

__all__ = ["ManifestSource"]

REQUIRED: Final = ("image_path",)


class ManifestSource:
    """The JPEG, PNG or DICOM files that a CSV lists, read where they lie, and the reports in its rows.

    Columns: image_path (relative to the CSV), study_id or study_instance_uid; and where known patient_id, view,
    study_date or study_order or offset_days, sex, age, modality (CR), accession_number, institution, and a report as
    text or report, or as findings and impression, with its language. Others are ignored. A study_id that is no UID
    becomes the accession number.
    ``files`` raises InputError: no-such-file, bad-table.
    """

    store = None

    def __init__(self, csv: Path) -> None:
        self.name = str(csv)
        self._csv = csv

    def files(self) -> Iterator[Source]:
        yield from self._read.sources

    def reports(self) -> Iterator[ReportText]:
        yield from self._read.reports

    def known(self) -> int:
        return len(self._read.sources)

    @cached_property
    def _read(self) -> "_Manifest":
        return _read_manifest(self._csv)


@dataclass(frozen=True)
class _Manifest:
    sources: list[Source]
    reports: list[ReportText]


def _read_manifest(path: Path) -> _Manifest:
    sources: list[Source] = []
    texts: dict[str, list[ReportText]] = {}
    seen: dict[Path, int] = {}
    folder = path.resolve().parent
    for number, row in read_table(path, REQUIRED):
        if isinstance(row, ReportText):
            sources.append(_refused(path, number, row.refusal or Refusal("bad-json", "No JSON object.")))
            continue
        source = _source(path, folder, number, row)
        if source.path in seen:
            message = f"The image is already listed in row {seen[source.path]}."
            source = _refused(path, number, Refusal("listed-twice", message))
        seen.setdefault(source.path, number)
        sources.append(source)
        report = report_of_row(row, f"{path.resolve()}#{number}")
        if report.study_instance_uid and report.refusal is None:
            texts.setdefault(report.study_instance_uid, []).append(report)
    return _Manifest(sources, [merged for reports in texts.values() for merged in _merge(reports)])


def _source(manifest: Path, folder: Path, number: int, row: dict[str, str]) -> Source:
    image = row.get("image_path", "")
    study_id = row.get("study_instance_uid") or row.get("study_id") or ""
    if not image:
        return _refused(manifest, number, Refusal("missing-identifier", "The row has no image_path."))
    if not study_id:
        why = Refusal("missing-identifier", "The row has no study_id or study_instance_uid.")
        return Source(folder / image, refusal=why)
    if len(study_id) > 64:
        why = Refusal("bad-identifier", f"Expected a study_id of at most 64 characters, found {len(study_id)}.")
        return Source(folder / image, refusal=why)
    uid = study_uid_of(study_id)
    words = row.get("view") or row.get("view_position") or ""
    position, view = parse_view(words)
    facts = InstanceFacts(
        study_instance_uid=uid,
        sop_instance_uid=row.get("sop_instance_uid") or derived_uid("image", uid, image),
        patient_id=row.get("patient_id") or None,
        accession_number=(row.get("accession_number") or ("" if is_uid(study_id) else study_id))[:64] or None,
        study_date=parse_date(row.get("study_date")),
        study_order=_number(row.get("study_order")) if row.get("study_order") else _number(row.get("offset_days")),
        modality=(row.get("modality") or "CR")[:16].upper(),
        view_position=position,
        view=view,
        view_source="manifest" if view != UNKNOWN or is_oblique(words) else None,
        sex=parse_sex(row.get("sex") or row.get("patient_sex")),
        age=parse_age(row.get("age") or row.get("patient_age")),
        instance_number=number,
        description=row.get("description") or None,
        institution=row.get("institution", "")[:64] or None,
    )
    return Source(folder / image, given=facts)


def _merge(reports: list[ReportText]) -> Iterator[ReportText]:
    """Rows of one study repeat its report; where they differ, nothing is left out."""
    texts = list(dict.fromkeys(report.text for report in reports))
    first = reports[0]
    if len(texts) == 1:
        yield first
    else:
        ids = (first.study_instance_uid, first.accession_number, first.patient_id)
        yield ReportText(first.source, "\n\n".join(texts), *ids)


def _refused(manifest: Path, number: int, why: Refusal) -> Source:
    return Source(Path(f"{manifest.resolve()}#row {number}"), refusal=why)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None  # NaN too
