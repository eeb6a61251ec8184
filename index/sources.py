"""Where files come from: a folder, or the rows of a manifest."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.errors import InputError

from .dicom import InstanceFacts, Refusal, parse_age, parse_date, parse_sex, parse_view
from .examine import Source
from .reports import ReportText, derived_uid, is_uid, read_table, report_of_row, study_uid_of

__all__ = ["Manifest", "files_in", "is_text", "read_manifest"]

REQUIRED: Final = ("image_path",)


@dataclass(frozen=True)
class Manifest:
    sources: list[Source]
    reports: list[ReportText]


def files_in(folder: Path, besides: Path | None = None) -> list[Source]:
    """Every file under a folder, in the order of their names, without ``besides``; folders that cannot be listed too.

    Linked folders are followed and named by where they lie, each folder once: links may form loops, or lead to one
    folder several times. Raises InputError: no-such-folder.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise InputError(f"There is no folder {folder}.", "no-such-folder")
    left_out = besides.resolve() if besides else None
    found: list[Source] = []

    def unlisted(error: OSError) -> None:
        why = Refusal("unreadable", f"The folder cannot be listed: {error.strerror}.")
        found.append(Source(Path(error.filename), refusal=why))

    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        for parent, folders, names in os.walk(waiting.pop(), onerror=unlisted):
            status = os.stat(parent)
            place = (status.st_dev, status.st_ino)
            if place in visited or Path(parent) == left_out:
                folders.clear()
                continue
            visited.add(place)
            inside = (Path(parent, name) for name in folders)
            waiting += [path.resolve() for path in inside if os.path.islink(path)]
            found += [Source(Path(parent, name)) for name in names]
    return sorted((source for source in found if source.path != left_out), key=lambda source: os.fsencode(source.path))


def is_text(path: Path) -> bool:
    """Whether a file has to be read as text, going by its name unless its content is DICOM."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] != b"DICM"
    except OSError:
        return False


def read_manifest(path: Path) -> Manifest:
    """A CSV of pictures (see ``ingest_manifest``). Raises InputError: no-such-file, bad-table."""
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
    return Manifest(sources, [merged for reports in texts.values() for merged in _merge(reports)])


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
    position, view = parse_view(row.get("view") or row.get("view_position") or "")
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
        sex=parse_sex(row.get("sex") or row.get("patient_sex")),
        age=parse_age(row.get("age") or row.get("patient_age")),
        instance_number=number,
        description=row.get("description") or None,
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
